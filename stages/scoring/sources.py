"""Answers -> scores source by source: whether a network holds up where it was not trained.

A source may hold one side only, tumours or none, and tumours of unknown type: what cannot be told of it is None.
"""

import numpy as np

from stages.data import dataset
from stages.scoring import answers, calibration, intervals, scores
from stages.scoring.answers import Answers
from stages.scoring.params import Evaluate

EXTERNAL = "source "
"""Stands before the name of a source of its own where answers go by the name of a split."""
HOLDS_FROM = 0.8
"""A network works on a source where the lower ends of sensitivity and specificity reach this."""
OF_TUMOUR = ("missed", "sensitivity", "specificity", "balanced_accuracy", "roc_auc")


def by_source(given: dict[str, Answers], decision: dict, params: Evaluate) -> dict[str, dict]:
    """Score a network's answers to each source, see scored().

    Args:
        given: by split, see answers.answered; sources of their own are called EXTERNAL and their name.
        decision, params: see answers.judged.
    """
    return {name: scored(one, decision, params) for name, one in parts(given).items()}


def parts(given: dict[str, Answers]) -> dict[str, Answers]:
    """Return the answers by source: each one of its own, and what comes together in it or the test split by origin.

    Images of unknown origin are `unknown` beside those of known ones.
    """
    found = {}
    for name, one in given.items():
        title = name.removeprefix(EXTERNAL)
        origins = np.array([row.origin for row in one.rows])
        if title != name:
            found[title] = one
        if len(set(origins)) > 1 and title != name or name == answers.SCORED_ON and any(origins):
            found |= {f"{title}/{origin or 'unknown'}": one.only(origins == origin) for origin in sorted(set(origins))}
    return found


def scored(given: Answers, decision: dict, params: Evaluate) -> dict:
    """Score a network's answers to one source as they are served.

    Args:
        given: labels may be dataset.UNKNOWN.
        decision, params: see answers.judged.

    Returns:
        answers.counts, and how many of the images are tumours. accuracy and ece of the class, None with tumours of
        unknown type; macro_f1 over the classes that there are, None for fewer than two. OF_TUMOUR and tumour_ece: see
        scores.tumour, None where a side is missing. reviewed: share sent to a person. Their intervals as in
        answers.judged.
    """
    labels, probabilities = given.labels, calibration.with_temperature(given.raw, decision["temperature"])
    reviewed = probabilities.max(axis=1) < decision["review_threshold"]

    def measure(weights: np.ndarray) -> dict:
        tumour = scores.tumour(labels, probabilities, weights, params.prevalence)
        return (of_class(labels, probabilities, weights) | {name: tumour[name] for name in OF_TUMOUR}
                | {"tumour_ece": tumour["ece"], "reviewed": scores.mean(reviewed, weights)})

    result = scores.first(measure(given.votes[None]))
    if params.bootstrap:
        found = intervals.intervals(lambda drawn: measure(drawn * given.votes), labels, given.groups, params.bootstrap,
                                    params.seed)
        groups = dict.fromkeys(("accuracy", "reviewed"), len(np.unique(given.groups)))
        result[intervals.NAME] = intervals.of_shares(result, found, groups | answers.sides(labels, given.groups))
    return answers.counts(given.rows) | {"tumours": int((labels != scores.HEALTHY).sum())} | result


def of_class(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Return accuracy, macro_f1 and ece, see scores.measure; NaN where the type of a tumour is unknown."""
    names = ("accuracy", "macro_f1", "ece")
    if (labels == dataset.UNKNOWN).any():
        return dict.fromkeys(names, np.full(len(weights), np.nan))
    found = scores.measure(labels, probabilities, weights)
    return {name: found[name] for name in names}


def holding(found: dict[str, dict]) -> list[str]:
    """Return the sources on which a network works: on each side that a source has, it is right beyond doubt.

    Args:
        found: by source what scored() returns, with intervals.

    Returns:
        their names; of one that shows one side only, with which, as that proves nothing for the other: what sees
        tumours everywhere is right on every tumour.
    """
    only = {"sensitivity": " (tumours only)", "specificity": " (tumour-free only)",
            "sensitivity specificity": ""}
    names = []
    for name, one in found.items():
        ends = {side: one.get(intervals.NAME, {}).get(side) for side in ("sensitivity", "specificity")
                if one[side] is not None}
        if ends and all(end and end[0] >= HOLDS_FROM for end in ends.values()):
            names.append(name + only[" ".join(ends)])
    return names
