"""Predictions -> numbers. Loads no model and draws nothing."""

import numpy as np
from sklearn import metrics

from imaging import contract


def scores(labels: np.ndarray, probabilities: np.ndarray) -> dict:
    """Score one network's predictions.

    Args:
        labels: int [n], indices into contract.CLASSES.
        probabilities: float [n, 4], rows sum to 1.

    Returns:
        accuracy; macro averages of precision, recall, F1 and one-vs-rest ROC-AUC; per class precision, recall, F1,
        ROC-AUC and the number of images. All but the number lie in [0, 1]. A precision without predictions is 0
        (scikit-learn's zero_division); ROC-AUC is one against the rest
        (Fawcett 2006, doi:10.1016/j.patrec.2005.10.010).
    """
    everything = range(len(contract.CLASSES))
    predicted = probabilities.argmax(axis=1)
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        labels, predicted, labels=list(everything), zero_division=0)
    auc = np.array([metrics.roc_auc_score(labels == index, probabilities[:, index]) for index in everything])
    columns = {"precision": precision, "recall": recall, "f1": f1, "roc_auc": auc}
    return {
        "accuracy": float((predicted == labels).mean()),
        **{f"macro_{name}": float(values.mean()) for name, values in columns.items()},
        "classes": {
            label: {name: float(values[index]) for name, values in columns.items()} | {"images": int(support[index])}
            for index, label in enumerate(contract.CLASSES)
        },
    }


def confusion(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Count images by true class (rows) and predicted class (columns): int [4, 4]."""
    return metrics.confusion_matrix(labels, probabilities.argmax(axis=1), labels=range(len(contract.CLASSES)))


def roc_curves(labels: np.ndarray, probabilities: np.ndarray, points: int = 101) -> tuple[np.ndarray, dict]:
    """Return one-vs-rest ROC curves on a shared axis.

    Args:
        labels: int [n].
        probabilities: float [n, 4].
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
