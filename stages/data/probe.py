"""The shortcut baseline: how well brightness, border and file size alone, without the brain, tell the classes apart.

Classes of public sets come from different sources. What a linear model reads off such trivial features, a network can
learn as well, and then its score says little about tumours (shortcut learning: Geirhos et al. 2020,
doi:10.1038/s42256-020-00257-z; in chest X-rays: DeGrave et al. 2021, doi:10.1038/s42256-021-00338-7).
"""

import io

import numpy as np
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix, f1_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from core import contract

BINS = 16
BLACK = 10 / 255
"""A thumbnail's pixel below it counts as black: the noise of air stays below."""
NAMES = (*(f"level_{number}" for number in range(BINS)), "black", "border", "width", "height", "aspect", "bytes")
HEALTHY = contract.CLASSES.index(contract.HEALTHY)


def features(thumbnail: np.ndarray, encoded: bytes, file_bytes: int) -> np.ndarray:
    """Return what says nothing about anatomy.

    Args:
        thumbnail: float32 [32, 32], grey in [0, 1].
        encoded: the image's canonical bytes; only the header is read.
        file_bytes: size of the original file.

    Returns:
        float32 [22], in the order of NAMES: a histogram of grey levels, the fraction of black pixels, the border's
        mean, width and height in pixels, their ratio, and the size of the file.
    """
    histogram = np.histogram(thumbnail, BINS, (0.0, 1.0))[0] / thumbnail.size
    border = np.concatenate([thumbnail[[0, -1]].ravel(), thumbnail[1:-1, [0, -1]].ravel()])
    with Image.open(io.BytesIO(encoded)) as image:
        width, height = image.size
    rest = [(thumbnail < BLACK).mean(), border.mean(), width, height, width / height, file_bytes]
    return np.concatenate([histogram, rest]).astype(np.float32)


def probe(train: tuple[np.ndarray, np.ndarray], validation: tuple[np.ndarray, np.ndarray]) -> dict:
    """Fit a linear model on trivial features of the training split and score it on the validation split.

    Args:
        train, validation: features float32 [n, 22], and labels int [n]; each holds every class.

    Returns:
        floats in [0, 1]: accuracy, macro_f1, recall of each class, majority_accuracy (always answering the most
        frequent training class), and <HEALTHY>_roc_auc, of its probability of contract.HEALTHY against the tumours.

    Raises:
        ValueError: a class is missing, so that a score would be undefined.
    """
    for name, (_, labels) in {"training": train, "validation": validation}.items():
        if missing := set(range(len(contract.CLASSES))) - set(labels.tolist()):
            raise ValueError(f"Expected every class in the {name} split. Received: none of "
                             f"{', '.join(contract.CLASSES[label] for label in sorted(missing))}. Add images of it.")
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000)).fit(train[0].astype(float), train[1])
    return scores(model.predict_proba(validation[0].astype(float)), validation[1], int(np.bincount(train[1]).argmax()))


def scores(probabilities: np.ndarray, labels: np.ndarray, majority: int) -> dict:
    """Score the probe.

    Args:
        probabilities: float [n, K], K = len(CLASSES).
        labels: int [n]; holds every class.
        majority: the most frequent class of the training split.

    Returns:
        as `probe`.
    """
    predicted = probabilities.argmax(axis=1)
    counts = confusion_matrix(labels, predicted, labels=range(len(contract.CLASSES)))
    return {
        "accuracy": float((predicted == labels).mean()),
        "majority_accuracy": float((labels == majority).mean()),
        "macro_f1": float(f1_score(labels, predicted, average="macro", zero_division=0)),
        f"{contract.HEALTHY}_roc_auc": float(roc_auc_score(labels == HEALTHY, probabilities[:, HEALTHY])),
        "recall": dict(zip(contract.CLASSES, (counts.diagonal() / counts.sum(axis=1)).tolist(), strict=True)),
    }
