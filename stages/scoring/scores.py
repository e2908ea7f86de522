"""Predictions -> numbers. Loads no model and draws nothing.

Every score is computed for many weightings of the images at once: row b of `weights` says how often each image counts.
A row of ones gives the score itself, a bootstrap's rows give its interval (intervals.py): computed the same way.
"""

import numpy as np
from sklearn import metrics

from core import contract

BINS = 15
"""Bins of the calibration error, as in Guo et al. 2017, section 5."""
SMALLEST = 1e-12
"""Probability below which the logarithm is not taken: one image costs at most 27.6 nats."""


def scores(labels: np.ndarray, probabilities: np.ndarray) -> dict:
    """Score one network's predictions, every image once.

    Args:
        labels: int [n], indices into contract.CLASSES, each class at least once.
        probabilities: float [n, K], rows sum to 1.

    Returns:
        what `measure` returns, as floats, and for each class the number of `images`.
    """
    result = first(measure(labels, probabilities, np.ones((1, len(labels)))))
    for index, label in enumerate(contract.CLASSES):
        result["classes"][label]["images"] = int((labels == index).sum())
    return result


def first(tree):
    """Return nested dicts of arrays [b] with the first number in place of each array; None for one that is NaN."""
    if isinstance(tree, dict):
        return {key: first(value) for key, value in tree.items()}
    return None if np.isnan(tree[0]) else float(tree[0])


def measure(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> dict:
    """Score predictions under each weighting of the images.

    Args:
        labels: int [n], indices into contract.CLASSES.
        probabilities: float [n, K], rows sum to 1.
        weights: float [b, n], how often each image counts; a class without weight gets NaN areas.

    Returns:
        arrays [b]: accuracy; balanced_accuracy, the mean recall (Brodersen et al. 2010, doi:10.1109/ICPR.2010.764);
        macro averages of what is given for each class; brier, nll and ece, see `probabilistic`. Under `classes`, each
        class against the rest: precision, recall (sensitivity), specificity, f1, roc_auc and pr_auc. All but brier
        and nll lie in [0, 1]. A ratio without a denominator, such as a precision without predictions, is 0.
    """
    columns = from_confusion(confusions(labels, probabilities, weights)) | areas(labels, probabilities, weights)
    return {
        "accuracy": mean(probabilities.argmax(axis=1) == labels, weights),
        "balanced_accuracy": columns["recall"].mean(axis=1),
        **{f"macro_{name}": values.mean(axis=1) for name, values in columns.items() if name != "specificity"},
        **probabilistic(labels, probabilities, weights),
        "classes": {label: {name: values[:, index] for name, values in columns.items()}
                    for index, label in enumerate(contract.CLASSES)},
    }


def mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the weighted mean of values [n] under each row of weights [b, n]: float [b]."""
    return weights @ values.astype(float) / weights.sum(axis=1)


def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Return above / below, and 0 where below is 0 (scikit-learn's zero_division)."""
    return np.divide(above, below, out=np.zeros(np.broadcast_shapes(above.shape, below.shape)), where=below != 0)


def confusions(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return a confusion matrix for each row of weights: float [b, K, K], true classes in rows."""
    count = len(contract.CLASSES)
    cells = np.eye(count**2)[labels * count + probabilities.argmax(axis=1)]
    return (weights @ cells).reshape(-1, count, count)


def from_confusion(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Return what depends on the predicted classes only.

    Args:
        counts: float [b, K, K], true classes in rows.

    Returns:
        precision, recall, specificity and f1: float [b, K] in [0, 1].
    """
    hits, actual, predicted = np.diagonal(counts, axis1=1, axis2=2), counts.sum(axis=2), counts.sum(axis=1)
    negatives = counts.sum(axis=(1, 2))[:, None] - actual
    return {
        "precision": ratio(hits, predicted),
        "recall": ratio(hits, actual),
        "specificity": ratio(negatives - (predicted - hits), negatives),
        "f1": ratio(2 * hits, actual + predicted),
    }


def areas(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Return each class's areas against the rest: roc_auc and pr_auc, float [b, K], NaN without both sorts of images.

    roc_auc is Fawcett 2006 (doi:10.1016/j.patrec.2005.10.010), section 7; pr_auc is the average precision, without
    interpolation between its steps (Davis & Goadrich 2006, doi:10.1145/1143844.1143874).
    """
    pairs = [area(labels == index, probabilities[:, index], weights) for index in range(len(contract.CLASSES))]
    roc, precision = (np.stack(one, axis=1) for one in zip(*pairs, strict=True))
    return {"roc_auc": roc, "pr_auc": precision}


def area(positive: np.ndarray, score: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the areas under the ROC curve and under the precision-recall curve; equal scores make one step.

    Args:
        positive: bool [n].
        score: float [n], higher for positive.
        weights: float [b, n].

    Returns:
        two arrays float [b] in [0, 1]; NaN where the weights leave no positive or no negative image.
    """
    order = np.argsort(-score, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
    sorted_weights, sorted_positive = weights[:, order], positive[order]
    hits = np.cumsum(sorted_weights * sorted_positive, axis=1)[:, ends]
    alarms = np.cumsum(sorted_weights * ~sorted_positive, axis=1)[:, ends]
    new_hits, new_alarms = np.diff(hits, prepend=0.0, axis=1), np.diff(alarms, prepend=0.0, axis=1)
    undefined = np.where((hits[:, -1] > 0) & (alarms[:, -1] > 0), 0.0, np.nan)
    roc = ratio((new_alarms * (hits - new_hits / 2)).sum(axis=1), hits[:, -1] * alarms[:, -1])
    precision = ratio((new_hits * ratio(hits, hits + alarms)).sum(axis=1), hits[:, -1])
    return roc + undefined, precision + undefined


def probabilistic(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Return what judges the probabilities themselves; lower is better.

    Args:
        labels: int [n].
        probabilities: float [n, K].
        weights: float [b, n].

    Returns:
        arrays [b]. brier: squared differences from the one-hot label, summed over the classes, in [0, 2] (Brier 1950,
        doi:10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2, page 1). nll: mean negative logarithm of the true class's
        probability, in nats, from 0 to 27.6 (SMALLEST). ece: expected calibration error of the highest probability in
        BINS equally wide bins, in [0, 1] (Guo et al. 2017, arXiv:1706.04599, eq. 3).
    """
    squares = ((probabilities - np.eye(len(contract.CLASSES))[labels]) ** 2).sum(axis=1)
    truth = probabilities[np.arange(len(labels)), labels].astype(float)
    return {"brier": mean(squares, weights),
            "nll": mean(-np.log(np.maximum(truth, SMALLEST)), weights),
            "ece": calibration_error(labels, probabilities, weights)}


def bins_of(confidence: np.ndarray) -> np.ndarray:
    """Return the bin of each confidence, int [n] from 0 to BINS - 1: bin m holds (m / BINS, (m + 1) / BINS]."""
    return np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)


def calibration_error(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the expected calibration error float [b], see `probabilistic`."""
    confidence, correct = probabilities.max(axis=1).astype(float), probabilities.argmax(axis=1) == labels
    members = np.eye(BINS)[bins_of(confidence)]
    # Eq. 3 weights each bin's gap with its share of the images, so that the bin's size cancels.
    gaps = weights @ (members * (correct - confidence)[:, None])
    return np.abs(gaps).sum(axis=1) / weights.sum(axis=1)


def reliability(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, np.ndarray]:
    """Return the reliability diagram (Guo et al. 2017, arXiv:1706.04599, section 2).

    Args:
        labels: int [n].
        probabilities: float [n, K].

    Returns:
        arrays [BINS]: images (int), and the bin's mean confidence and accuracy (float, NaN for an empty bin).
    """
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    bins = bins_of(confidence)
    images = np.bincount(bins, minlength=BINS)
    means = {name: np.where(images > 0, np.bincount(bins, values, BINS) / np.maximum(images, 1), np.nan)
             for name, values in (("confidence", confidence), ("accuracy", correct))}
    return {"images": images, **means}


def confusion(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Count images by true class (rows) and predicted class (columns): int [K, K]."""
    return metrics.confusion_matrix(labels, probabilities.argmax(axis=1), labels=range(len(contract.CLASSES)))


def roc_curves(labels: np.ndarray, probabilities: np.ndarray, points: int = 101) -> tuple[np.ndarray, dict]:
    """Return one-vs-rest ROC curves on a shared axis.

    Args:
        labels: int [n].
        probabilities: float [n, K].
        points: number of false positive rates.

    Returns:
        false positive rates float [points] from 0 to 1, and for each class the true positive rates float [points],
        interpolated between the curve's corners.
    """
    axis = np.linspace(0.0, 1.0, points)
    curves = {}
    for index, label in enumerate(contract.CLASSES):
        fpr, tpr, _ = metrics.roc_curve(labels == index, probabilities[:, index])
        curves[label] = np.interp(axis, fpr, tpr)
        curves[label][0] = tpr[fpr == 0].max()
    return axis, curves


def text_report(labels: np.ndarray, probabilities: np.ndarray) -> str:
    """Return scikit-learn's classification report as text."""
    return metrics.classification_report(labels, probabilities.argmax(axis=1), labels=range(len(contract.CLASSES)),
                                         target_names=contract.CLASSES, digits=4, zero_division=0)
