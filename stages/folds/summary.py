"""The answers of all folds -> scores: of all images together, and how they differ from fold to fold.

All images together are judged by answers that each come from the one network that was not trained on their group,
after the temperature of its fold. The interval is over groups: it tells how far the score may move with other patients
of the same sources. The spread over the folds also holds what another training moves, but folds share most of their
training images, so that it is no standard error (Bengio & Grandvalet 2004, JMLR 5, 1089-1105).
"""

import csv
import io
from dataclasses import replace
from functools import reduce

import numpy as np

from core import files
from stages.scoring import answers, calibration, intervals
from stages.scoring.answers import CHOSEN_ON, SCORED_ON, Answers
from stages.scoring.params import Evaluate

SHOWN = {"accuracy": "accuracy", "macro_f1": "macro F1", "ece": "calibration error"}
"""Scores of the printed sentence, and what they are called there."""
TUMOUR = ("sensitivity", "specificity")
"""What a fold's scores say of the first question, tumour or not."""


def results(given: list[dict[str, Answers]], params: Evaluate) -> dict:
    """Score one network's answers.

    Args:
        given: of each fold, to its validation and test images.
        params: the accepted error, and what answers.judged needs.

    Returns:
        answers.judged of all test images together; by_fold, for each fold the numbers of its test images and groups,
        its temperature and review threshold, and the overall scores; and over_folds, the mean, min and max of these.
    """
    decisions = [decided(one[CHOSEN_ON], params) for one in given]
    tests = [one[SCORED_ON] for one in given]
    result = answers.judged(reduce(Answers.with_more, tests), together(decisions, tests), params)
    by_fold = {str(number): of_fold(test, decision, params)
               for number, (test, decision) in enumerate(zip(tests, decisions, strict=True), start=1)}
    names = [name for name, value in by_fold["1"].items() if isinstance(value, float)]
    columns = {name: [one[name] for one in by_fold.values()] for name in names}
    over = {name: {"mean": float(np.mean(values)), "min": min(values), "max": max(values)}
            for name, values in columns.items()}
    return result | {"by_fold": by_fold, "over_folds": over}


def decided(validation: Answers, params: Evaluate) -> dict:
    """Return temperature and review threshold of a fold, see calibration.decide."""
    return calibration.decide(validation.labels, validation.raw, params.accepted_error, validation.votes)


def together(decisions: list[dict], tests: list[Answers]) -> dict:
    """Return the decision for the test images of all folds: each image's own temperature [n, 1] and threshold [n]."""
    fold = np.repeat(np.arange(len(tests)), [len(test.rows) for test in tests])
    temperatures, thresholds = (np.array([one[name] for one in decisions])[fold]
                                for name in ("temperature", "review_threshold"))
    return {"temperature": temperatures[:, None], "review_threshold": thresholds}


def of_fold(test: Answers, decision: dict, params: Evaluate) -> dict:
    """Return the overall scores of one fold's test images, without intervals."""
    scores = answers.judged(test, decision, replace(params, bootstrap=0))  # type: ignore[type-var]  # of pydantic
    return {"images": len(test.rows), "groups": len(set(test.groups.tolist())),
            "temperature": decision["temperature"], "review_threshold": decision["review_threshold"],
            **{name: value for name, value in scores.items() if isinstance(value, float)},
            **{f"tumour_{name}": scores["tumour"][name] for name in TUMOUR}}


def folds_csv(found: dict[str, dict]) -> str:
    """Return a line for each network and fold.

    Args:
        found: results() by the network's name.
    """
    lines = [{"network": name, "fold": number, **scores} for name, one in found.items()
             for number, scores in one["by_fold"].items()]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(files.rounded(lines))
    return text.getvalue()


def sentence(name: str, result: dict) -> str:
    """Return a network's scores in a line: of all images with the interval, and from fold to fold."""
    parts = [f"{title} {intervals.shown(result, score)}, in the folds {result['over_folds'][score]['min']:.3f} to "
             f"{result['over_folds'][score]['max']:.3f}" for score, title in SHOWN.items()]
    return f"{name}: {'; '.join(parts)}."
