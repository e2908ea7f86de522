"""Probabilities -> probabilities that mean what they say, and the confidence below which a person looks.

Temperature and threshold are chosen on the validation split and judged on the test split. The validation split also
chose the networks' epochs, so that it flatters them a little: what the threshold really lets through is the test's
`error_of_accepted`. Copies of one picture have one vote together in both (answers.Answers.votes).
"""

import numpy as np
from scipy import optimize, special

from stages.layers import answer
from stages.scoring import scores

LOWEST, HIGHEST = 0.05, 20.0
"""Range of the temperature: a fit at its end says that the network is useless or the split too small."""
DIGITS = 6
"""Digits that JSON and Triton's configuration keep: the scores are those of the rounded numbers, which are served."""


def with_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Return softmax(log p / temperature): float64 [n, K].

    Args:
        probabilities: float [n, K]; below answer.TINIEST they count as that.
        temperature: above 1 less sure, below 1 surer; the order of the classes stays (Guo et al. 2017,
            arXiv:1706.04599, section 4.2, with log p for the logits, from which it differs by a constant).
    """
    return special.softmax(np.log(np.maximum(probabilities.astype(np.float64), answer.TINIEST)) / temperature, axis=1)


def fit_temperature(labels: np.ndarray, probabilities: np.ndarray, votes: np.ndarray | None = None) -> float:
    """Return the temperature in [LOWEST, HIGHEST] of the lowest negative log-likelihood, rounded to DIGITS.

    Args:
        labels: int [n] of the validation split.
        probabilities: float [n, K] of the network.
        votes: float [n], how much each image counts; 1 unless given.
    """
    weights = scores.one_row(len(labels), votes)

    def loss(log_temperature: float) -> float:
        calibrated = with_temperature(probabilities, np.exp(log_temperature))
        return scores.probabilistic(labels, calibrated, weights)["nll"][0]

    best = optimize.minimize_scalar(loss, bounds=np.log([LOWEST, HIGHEST]), method="bounded",
                                    options={"xatol": 1e-7})
    return round(float(np.exp(best.x)), DIGITS)


def risk_coverage(confidence: np.ndarray, correct: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Return how often a network errs on its most confident answers (El-Yaniv & Wiener 2010, JMLR 11, section 2).

    Args:
        confidence: float [n], the highest probability.
        correct: bool [n].
        weights: float [b, n], see stages/scoring/scores.py.

    Returns:
        for the m different confidences, highest first: threshold [m]; coverage [b, m], the share of images with at
        least this confidence; risk [b, m], the share of errors among them. Equal confidences are accepted together.
    """
    order = np.argsort(-confidence, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(confidence[order]) != 0, True))
    accepted = np.cumsum(weights[:, order], axis=1)[:, ends]
    errors = np.cumsum(weights[:, order] * ~correct[order], axis=1)[:, ends]
    return {"threshold": confidence[order][ends], "coverage": accepted / accepted[:, -1:],
            "risk": scores.ratio(errors, accepted)}


def area_under_risk(curve: dict[str, np.ndarray]) -> np.ndarray:
    """Return the mean risk over all images' own confidences as thresholds: AURC, float [b] in [0, 1], lower is better.

    Geifman, Uziel & El-Yaniv 2019, arXiv:1805.08206; equal confidences share the risk of accepting them all.
    """
    return (np.diff(curve["coverage"], prepend=0.0, axis=1) * curve["risk"]).sum(axis=1)


def review_threshold(confidence: np.ndarray, correct: np.ndarray, accepted_error: float,
                     votes: np.ndarray | None = None) -> tuple[float, bool]:
    """Return the lowest threshold at which the accepted images' error rate is at most `accepted_error`.

    Selection with guaranteed risk as in Geifman & El-Yaniv 2017, arXiv:1705.08500, but for the empirical rate: there
    is no guarantee for other images.

    Args:
        confidence: float [n] of the validation split, after the temperature.
        correct: bool [n].
        accepted_error: in [0, 1].
        votes: float [n], how much each image counts; 1 unless given.

    Returns:
        the threshold, a confidence of the split rounded down to DIGITS, and true; accepted is confidence >= threshold.
        1.0 and false when no threshold reaches the rate.
    """
    scale = 10**DIGITS
    # Rounded down before choosing: the recorded threshold accepts exactly the images that it was chosen for.
    rounded = np.floor(confidence * scale) / scale
    curve = risk_coverage(rounded, correct, scores.one_row(len(rounded), votes))
    good = np.flatnonzero(curve["risk"][0] <= accepted_error)
    return (float(curve["threshold"][good[-1]]), True) if len(good) else (1.0, False)


def review(labels: np.ndarray, probabilities: np.ndarray, threshold: float, weights: np.ndarray) -> dict:
    """Return what a threshold does.

    Args:
        labels: int [n].
        probabilities: float [n, K] after the temperature.
        threshold: accepted is a highest probability >= threshold; the rest goes to a person.
        weights: float [b, n], see stages/scoring/scores.py.

    Returns:
        arrays [b] in [0, 1]: coverage, the share of accepted images; error_of_accepted, NaN when none is accepted;
        error_of_all.
    """
    accepted, wrong = probabilities.max(axis=1) >= threshold, probabilities.argmax(axis=1) != labels
    coverage = scores.mean(accepted, weights)
    errors = scores.ratio(scores.mean(accepted & wrong, weights), coverage)
    return {"coverage": coverage, "error_of_accepted": np.where(coverage > 0, errors, np.nan),
            "error_of_all": scores.mean(wrong, weights)}


def decide(labels: np.ndarray, probabilities: np.ndarray, accepted_error: float,
           votes: np.ndarray | None = None) -> dict:
    """Choose temperature and review threshold on the validation split.

    Args:
        labels: int [n].
        probabilities: float [n, K] of the network.
        accepted_error: wanted error rate of the answers that no person looks at.
        votes: float [n], how much each image counts; 1 unless given.

    Returns:
        temperature, review_threshold, accepted_error, reached (bool), and what the threshold does on these images:
        validation_coverage and validation_error_of_accepted (None when nothing is accepted).
    """
    temperature = fit_temperature(labels, probabilities, votes)
    calibrated = with_temperature(probabilities, temperature)
    threshold, reached = review_threshold(calibrated.max(axis=1), calibrated.argmax(axis=1) == labels, accepted_error,
                                          votes)
    found = scores.first(review(labels, calibrated, threshold, scores.one_row(len(labels), votes)))
    return {"temperature": temperature, "review_threshold": threshold, "accepted_error": accepted_error,
            "reached": reached, "validation_coverage": found["coverage"],
            "validation_error_of_accepted": found["error_of_accepted"]}
