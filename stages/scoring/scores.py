"""Predictions -> numbers. Loads no model and draws nothing.

Every score is computed for many weightings of the images at once: row b of `weights` says how often each image counts.
The row of the images' votes (answers.Answers.votes: copies of one picture have one together) gives the score itself,
a bootstrap's rows times the votes give its interval (intervals.py): computed the same way.
"""

import numpy as np
from sklearn import metrics

from core import contract

BINS = 15
"""Bins of the calibration error, as in Guo et al. 2017, section 5."""
ROC_POINTS = 101
SMALLEST = 1e-12
"""Probability below which the logarithm is not taken: one image costs at most 27.6 nats."""


HEALTHY = contract.CLASSES.index(contract.HEALTHY)


def scores(labels: np.ndarray, probabilities: np.ndarray, votes: np.ndarray | None = None) -> dict:
    """Score one network's predictions.

    Args:
        labels: int [n], indices into contract.CLASSES.
        probabilities: float [n, K], rows sum to 1.
        votes: float [n], how much each image counts; 1 unless given.

    Returns:
        what `measure` returns, as floats or None where a score is not defined, and for each class the number of
        `images`.
    """
    result = first(measure(labels, probabilities, one_row(len(labels), votes)))
    for index, label in enumerate(contract.CLASSES):
        result["classes"][label]["images"] = int((labels == index).sum())
    return result


def one_row(count: int, votes: np.ndarray | None) -> np.ndarray:
    """Return weights float [1, count]: the votes float [count], or ones without any."""
    return np.ones((1, count)) if votes is None else votes[None]


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
        weights: float [b, n], how often each image counts.

    Returns:
        arrays [b]: accuracy; balanced_accuracy, the mean recall (Brodersen et al. 2010, doi:10.1109/ICPR.2010.764);
        macro averages of what is given for each class, over the classes that there are images of, NaN for fewer than
        two; brier, nll and ece, see `probabilistic`. Under `classes`, each class against the rest: precision, recall
        (sensitivity), specificity, f1, roc_auc and pr_auc; NaN but for the specificity where it has no image. All but
        brier and nll lie in [0, 1]. The precision of a class that is never predicted is 0.
    """
    columns = from_confusion(confusions(labels, probabilities, weights)) | areas(labels, probabilities, weights)
    return {
        "accuracy": mean(probabilities.argmax(axis=1) == labels, weights),
        "balanced_accuracy": macro(labels, columns["recall"]),
        **{f"macro_{name}": macro(labels, values) for name, values in columns.items() if name != "specificity"},
        **probabilistic(labels, probabilities, weights),
        "classes": {label: {name: values[:, index] for name, values in columns.items()}
                    for index, label in enumerate(contract.CLASSES)},
    }


def macro(labels: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the mean of values [b, K] over the classes in labels [n]: float [b], NaN for fewer than two classes."""
    present = np.unique(labels)
    return values[:, present].mean(axis=1) if len(present) > 1 else np.full(len(values), np.nan)


def tumour(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray, prevalence: float) -> dict:
    """Score the first question: tumour or not. Called a tumour is an image whose most probable class is one.

    Args:
        labels: int [n], indices into contract.CLASSES, or dataset.UNKNOWN: of a tumour whose type is not known.
        probabilities: float [n, K], rows sum to 1; that of a tumour is 1 - that of contract.HEALTHY.
        weights: float [b, n], how often each image counts.
        prevalence: share of tumours in [0, 1] among those who are imaged, which a collected test set does not tell.

    Returns:
        arrays [b] in [0, 1], NaN where a side has no image: sensitivity, the share of tumours called one; missed, the
        rest of them; specificity, the share of tumour-free images called so; balanced_accuracy, the mean of
        sensitivity and specificity; positive_predictive_value and negative_predictive_value, see predictive_values;
        roc_auc of the probability of a tumour; ece, that probability's calibration error (Naeini et al. 2015,
        doi:10.1609/aaai.v29i1.9602).
    """
    has, called, probability = labels != HEALTHY, probabilities.argmax(axis=1) != HEALTHY, 1 - probabilities[:, HEALTHY]
    sensitivity, specificity = share(called, has, weights), share(~called, ~has, weights)
    positive, negative = predictive_values(sensitivity, specificity, prevalence)
    return {"sensitivity": sensitivity, "missed": share(~called, has, weights), "specificity": specificity,
            "balanced_accuracy": (sensitivity + specificity) / 2,
            "positive_predictive_value": positive, "negative_predictive_value": negative,
            "roc_auc": area(has, probability, weights)[0], "ece": binned_gap(has, probability, weights)}


def predictive_values(sensitivity: np.ndarray, specificity: np.ndarray, prevalence: float) -> tuple:
    """Return how often a called tumour is one, and how often no called tumour is none: two arrays like the first.

    By Bayes' theorem for a share of tumours in [0, 1] (Altman & Bland 1994, doi:10.1136/bmj.309.6947.102). NaN where
    nothing is called that.
    """
    found, missed = sensitivity * prevalence, (1 - sensitivity) * prevalence
    left, alarms = specificity * (1 - prevalence), (1 - specificity) * (1 - prevalence)
    return defined(found, found + alarms), defined(left, left + missed)


def share(values: np.ndarray, members: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the weighted share of true values bool [n] among members bool [n]: float [b], NaN without members."""
    return defined(weights @ (values & members), weights @ members)


def mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the weighted mean of values [n] under each row of weights [b, n]: float [b]."""
    return weights @ values.astype(float) / weights.sum(axis=1)


def defined(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Return above / below, and NaN where below is not above 0."""
    return np.where(below > 0, ratio(above, below), np.nan)


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
        precision, recall, specificity and f1: float [b, K] in [0, 1]; NaN for a class without images, the specificity
            for one without others.
    """
    hits, actual, predicted = np.diagonal(counts, axis1=1, axis2=2), counts.sum(axis=2), counts.sum(axis=1)
    negatives = actual @ (1 - np.eye(counts.shape[1]))  # a difference of sums of fractions would not be exactly 0
    return {
        "precision": np.where(actual > 0, ratio(hits, predicted), np.nan),
        "recall": defined(hits, actual),
        "specificity": defined(np.maximum(negatives - (predicted - hits), 0), negatives),
        "f1": np.where(actual > 0, ratio(2 * hits, actual + predicted), np.nan),
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
    return binned_gap(probabilities.argmax(axis=1) == labels, probabilities.max(axis=1).astype(float), weights)


def binned_gap(outcome: np.ndarray, probability: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return how far probabilities lie from how often it is so, in BINS equally wide bins: float [b] in [0, 1].

    Args:
        outcome: bool [n], whether it is so.
        probability: float [n] in [0, 1] that it is.
        weights: float [b, n].
    """
    # Eq. 3 weights each bin's gap with its share of the images, so that the bin's size cancels.
    gaps = weights @ (np.eye(BINS)[bins_of(probability)] * (outcome - probability)[:, None])
    return np.abs(gaps).sum(axis=1) / weights.sum(axis=1)


def reliability(labels: np.ndarray, probabilities: np.ndarray, votes: np.ndarray | None = None) -> dict:
    """Return the reliability diagram (Guo et al. 2017, arXiv:1706.04599, section 2).

    Args:
        labels: int [n].
        probabilities: float [n, K].
        votes: float [n], how much each image counts; 1 unless given.

    Returns:
        arrays [BINS]: images (int, without votes), and the bin's mean confidence and accuracy (float, NaN for an empty
        bin).
    """
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    bins, weights = bins_of(confidence), one_row(len(labels), votes)[0]
    total = np.bincount(bins, weights, BINS)
    return {"images": np.bincount(bins, minlength=BINS),
            "confidence": defined(np.bincount(bins, weights * confidence, BINS), total),
            "accuracy": defined(np.bincount(bins, weights * correct, BINS), total)}


def confusion(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Count images by true class (rows) and predicted class (columns): int [K, K]."""
    return metrics.confusion_matrix(labels, probabilities.argmax(axis=1), labels=range(len(contract.CLASSES)))


def roc_curves(labels: np.ndarray, probabilities: np.ndarray, votes: np.ndarray | None = None) -> tuple:
    """Return one-vs-rest ROC curves on a shared axis.

    Args:
        labels: int [n].
        probabilities: float [n, K].
        votes: float [n], how much each image counts; 1 unless given.

    Returns:
        false positive rates float [ROC_POINTS] from 0 to 1, and for each class the true positive rates float
        [ROC_POINTS], interpolated between the curve's corners; NaN for a class without images, or without others.
    """
    axis = np.linspace(0.0, 1.0, ROC_POINTS)
    return axis, {label: roc_curve(labels == index, probabilities[:, index], axis, votes)
                  for index, label in enumerate(contract.CLASSES)}


def roc_curve(positive: np.ndarray, score: np.ndarray, axis: np.ndarray, votes: np.ndarray | None) -> np.ndarray:
    """Return the true positive rates float [m] at false positive rates float [m], see roc_curves."""
    if positive.all() or not positive.any():
        return np.full(len(axis), np.nan)
    fpr, tpr, _ = metrics.roc_curve(positive, score, sample_weight=votes)
    curve = np.interp(axis, fpr, tpr)
    curve[0] = tpr[fpr == 0].max()
    return curve
