"""What networks answer to a split, and how these answers are calibrated, averaged and scored."""

from dataclasses import dataclass

import keras
import numpy as np

from stages.data import dataset
from stages.layers import answer
from stages.scoring import calibration, intervals, scores
from stages.scoring.params import Evaluate

DUPLICATES = "test_duplicates"
"""The split of test images that duplicate training images; `prepare` writes it when prepare.test_source is given."""
CHOSEN_ON, SCORED_ON = "validation", "test"
MIRRORED = "mirrored "
"""Stands before a split's name for the mirror images of it."""


@dataclass(frozen=True)
class Answers:
    """What a network answered for images: rows, labels int [n], and probabilities float [n, K] before temperature."""

    rows: list[dataset.Row]
    labels: np.ndarray
    raw: np.ndarray

    @property
    def groups(self) -> np.ndarray:
        """The images' groups, int [n]."""
        return np.array([row.group for row in self.rows])

    def with_more(self, other: "Answers") -> "Answers":
        """Return these answers followed by others."""
        return Answers(self.rows + other.rows, np.append(self.labels, other.labels), np.append(self.raw, other.raw, 0))


Splits = dict[str, tuple[list[dataset.Row], dataset.Images]]


def read_splits(size: int) -> Splits:
    """Read the validation and test images, and the test's duplicates if there are any.

    Args:
        size: of the images in pixels.
    """
    rows = {name: dataset.read_manifest(name) for name in (CHOSEN_ON, SCORED_ON)}
    if (dataset.FOLDER / f"{DUPLICATES}.csv").is_file():
        rows[DUPLICATES] = dataset.read_manifest(DUPLICATES)
    return {name: (part, dataset.load(name, size)) for name, part in rows.items() if part}


def answered(network: keras.Model, splits: Splits, params: Evaluate) -> dict[str, Answers]:
    """Return what a network answers for each split.

    Unless it averages over mirror images anyway, also for the mirror images of the validation and test splits.
    """
    splits = dict(splits)
    if not params.average_flip:
        splits |= {f"{MIRRORED}{name}": (splits[name][0], mirrored(splits[name][1])) for name in (CHOSEN_ON, SCORED_ON)}
    return {name: Answers(rows, images.labels, answer.predict(
        network, dataset.batches(images, params.batch_size), params.average_flip))
        for name, (rows, images) in splits.items()}


def mirrored(images: dataset.Images) -> dataset.Images:
    """Return the images with left and right exchanged."""
    return dataset.Images(np.ascontiguousarray(images.pixels[:, :, ::-1]), images.labels)


def averaged(parts: list[Answers], temperatures: list[float]) -> Answers:
    """Return the mean of several answers for the same images, each after a temperature.

    That is of all networks, or of one for images and their mirror images (test-time augmentation as clients may ask for
    it).
    """
    calibrated = [calibration.with_temperature(one.raw, temperature)
                  for one, temperature in zip(parts, temperatures, strict=True)]
    return Answers(parts[0].rows, parts[0].labels, np.mean(calibrated, axis=0))


def ensemble(networks: list[dict[str, Answers]]) -> dict[str, Answers]:
    """Return the mean of what networks answer to each split, each after its temperature, as answer.together serves it.

    Args:
        networks: see answered().
    """
    chosen_on = [one[CHOSEN_ON] for one in networks]
    temperatures = [calibration.fit_temperature(one.labels, one.raw) for one in chosen_on]
    return {split: averaged([one[split] for one in networks], temperatures) for split in networks[0]}


def with_tta(validation: Answers, test: Answers, params: Evaluate) -> tuple[float, dict]:
    """Return the review threshold for averaged() answers, chosen on validation, and their scores, see judged().

    They are calibrated already: there is no second temperature, and no scores from before one.
    """
    confidence, correct = validation.raw.max(axis=1), validation.raw.argmax(axis=1) == validation.labels
    threshold, _ = calibration.review_threshold(confidence, correct, params.accepted_error)
    result = judged(test, {"temperature": 1.0, "review_threshold": threshold}, params)
    for one in (result, result.get(intervals.NAME, {})):
        one.pop("uncalibrated", None)
    return threshold, result


def judged(answers: Answers, decision: dict, params: Evaluate) -> dict:
    """Score a network's answers as they are served.

    Args:
        answers: of the test split.
        decision: its temperature and review_threshold.
        params: the number and seed of the bootstrap's resamples.

    Returns:
        the scores of scoring/scores.py after the temperature; aurc, the area under the risk-coverage curve; review,
        what the threshold does; uncalibrated, the probabilistic scores before the temperature; and unless
        params.bootstrap is 0 their 95 % intervals, with the same keys, under `intervals`.
    """
    labels, probabilities = answers.labels, calibration.with_temperature(answers.raw, decision["temperature"])
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels

    def more(weights: np.ndarray) -> dict:
        curve = calibration.risk_coverage(confidence, correct, weights)
        return {"aurc": calibration.area_under_risk(curve),
                "review": calibration.review(labels, probabilities, decision["review_threshold"], weights),
                "uncalibrated": scores.probabilistic(labels, answers.raw, weights)}

    result = scores.scores(labels, probabilities) | scores.first(more(np.ones((1, len(labels)))))
    if params.bootstrap:
        result[intervals.NAME] = intervals.intervals(
            lambda weights: scores.measure(labels, probabilities, weights) | more(weights),
            labels, answers.groups, params.bootstrap, params.seed)
    return result


def decided(answers: dict[str, Answers], params: Evaluate) -> tuple[dict, dict]:
    """Choose a network's temperature and threshold on the validation split, and score it on the test split.

    Args:
        answers: see answered(), or of the mean of several networks. Mirror images and duplicates may be missing.
        params: the accepted error, and what judged() needs.

    Returns:
        the decision, see calibration.decide; with the review threshold of averages over mirror images if these are
            there. The scores, see judged(); with those of the averages under `tta`, and under `as_published` those of
            the test split together with the duplicates of training images.
    """
    test, validation = answers[SCORED_ON], answers[CHOSEN_ON]
    decision = calibration.decide(validation.labels, validation.raw, params.accepted_error)
    decision["average_flip"] = params.average_flip
    result = judged(test, decision, params) | {"temperature": decision["temperature"]}
    if DUPLICATES in answers:
        result["as_published"] = judged(test.with_more(answers[DUPLICATES]), decision, params)
    if MIRRORED + SCORED_ON in answers:
        chosen, scored = (averaged([answers[split], answers[MIRRORED + split]], [decision["temperature"]] * 2)
                          for split in (CHOSEN_ON, SCORED_ON))
        decision["tta_review_threshold"], result["tta"] = with_tta(chosen, scored, params)
    return decision, result


def most_confident_errors(labels: np.ndarray, probabilities: np.ndarray, limit: int) -> np.ndarray:
    """Return the indices int [m] of wrong answers, the most confident first, at most `limit`.

    Args:
        labels: int [n].
        probabilities: float [n, K].
        limit: the largest m.
    """
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    return wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")][:limit]
