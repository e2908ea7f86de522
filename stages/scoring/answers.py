"""What networks answer to a split, and how these answers are calibrated, averaged and scored."""

from dataclasses import dataclass

import keras
import numpy as np

from stages.common import command
from stages.data import counting, dataset
from stages.layers import answer
from stages.scoring import calibration, intervals, scores
from stages.scoring.params import Evaluate

DUPLICATES, OF_PATIENTS = "test_duplicates", "test_patients"
"""The splits of test images that copy training pictures, and of others that show training patients; `prepare` writes
them when prepare.test_source is given."""
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
        """The images' groups, int [n]: what intervals draw."""
        return np.array([row.group for row in self.rows])

    @property
    def votes(self) -> np.ndarray:
        """How much each image counts, float [n]: see counting.votes."""
        return counting.votes(self.rows)

    def only(self, inside: np.ndarray) -> "Answers":
        """Return the answers for the images where inside, bool [n], is true."""
        rows = [row for row, kept in zip(self.rows, inside, strict=True) if kept]
        return Answers(rows, self.labels[inside], self.raw[inside])

    def with_more(self, other: "Answers") -> "Answers":
        """Return these answers followed by others."""
        return Answers(self.rows + other.rows, np.append(self.labels, other.labels), np.append(self.raw, other.raw, 0))


def counts(rows: list[dataset.Row]) -> dict[str, int]:
    """Count images; pictures, copies of one together; groups; patients; and picture_groups, those of no known patient.
    """
    known = {row.group for row in rows if row.patient}
    groups = {row.group for row in rows}
    return {"images": len(rows), "pictures": len(set(counting.pictures(rows).tolist())), "groups": len(groups),
            "patients": len({row.patient for row in rows if row.patient}), "picture_groups": len(groups - known)}


Splits = dict[str, tuple[list[dataset.Row], dataset.Images]]


def read_splits(size: int) -> Splits:
    """Read the validation and test images, and those that are known from training if there are any.

    Args:
        size: of the images in pixels.

    Raises:
        StageError: the test split is empty.
    """
    rows = {name: dataset.read_manifest(name) for name in (CHOSEN_ON, SCORED_ON, DUPLICATES, OF_PATIENTS)
            if name in (CHOSEN_ON, SCORED_ON) or (dataset.FOLDER / f"{name}.csv").is_file()}
    if not rows[SCORED_ON]:
        raise command.StageError(
            "Expected a test image that is neither a copy of a training picture nor of a training patient. Received: "
            f"none; {', '.join(f'{len(part)} in {name}' for name, part in rows.items() if name != CHOSEN_ON)}. Give "
            "prepare.test_source a folder of other patients, or null for a share of prepare.source.")
    return {name: (part, dataset.load(name, size)) for name, part in rows.items() if part}


def answered(network: keras.Model, splits: Splits, params: Evaluate) -> dict[str, Answers]:
    """Return what a network answers for each split.

    Unless it averages over mirror images anyway, also for the mirror images of the validation and test splits if these
    are among them.
    """
    splits = dict(splits)
    if not params.average_flip:
        splits |= {f"{MIRRORED}{name}": (splits[name][0], mirrored(splits[name][1])) for name in (CHOSEN_ON, SCORED_ON)
                   if name in splits}
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
    temperatures = [calibration.fit_temperature(one.labels, one.raw, one.votes) for one in chosen_on]
    return {split: averaged([one[split] for one in networks], temperatures) for split in networks[0]}


def with_tta(validation: Answers, test: Answers, params: Evaluate) -> tuple[float, dict]:
    """Return the review threshold for averaged() answers, chosen on validation, and their scores, see judged().

    They are calibrated already: there is no second temperature, and no scores from before one.
    """
    confidence, correct = validation.raw.max(axis=1), validation.raw.argmax(axis=1) == validation.labels
    threshold, _ = calibration.review_threshold(confidence, correct, params.accepted_error, validation.votes)
    result = judged(test, {"temperature": 1.0, "review_threshold": threshold}, params)
    for one in (result, result.get(intervals.NAME, {})):
        one.pop("uncalibrated", None)
    return threshold, result


def judged(answers: Answers, decision: dict, params: Evaluate) -> dict:
    """Score a network's answers as they are served; copies of one picture have one vote.

    Args:
        answers: for any images.
        decision: its temperature and review_threshold.
        params: the number and seed of the bootstrap's resamples, and the prevalence.

    Returns:
        the scores of scoring/scores.py after the temperature; tumour, those of tumour or not; aurc, the area under the
        risk-coverage curve; review, what the threshold does; uncalibrated, the probabilistic scores before the
        temperature; and unless params.bootstrap is 0 their 95 % intervals, with the same keys, under `intervals`. What
        is not defined, such as the recall of a class without images, is None.
    """
    labels, probabilities = answers.labels, calibration.with_temperature(answers.raw, decision["temperature"])
    confidence, correct, votes = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels, answers.votes

    def more(weights: np.ndarray) -> dict:
        curve = calibration.risk_coverage(confidence, correct, weights)
        return {"tumour": scores.tumour(labels, probabilities, weights, params.prevalence),
                "aurc": calibration.area_under_risk(curve),
                "review": calibration.review(labels, probabilities, decision["review_threshold"], weights),
                "uncalibrated": scores.probabilistic(labels, answers.raw, weights)}

    result = scores.scores(labels, probabilities, votes) | scores.first(more(votes[None]))
    if params.bootstrap:
        found = intervals.intervals(
            lambda drawn: scores.measure(labels, probabilities, drawn * votes) | more(drawn * votes),
            labels, answers.groups, params.bootstrap, params.seed)
        found["tumour"] = intervals.of_shares(result["tumour"], found["tumour"], sides(labels, answers.groups))
        result[intervals.NAME] = found
    return result


def sides(labels: np.ndarray, groups: np.ndarray) -> dict[str, int]:
    """Return behind each share of scores.tumour how many groups stand: int by its name."""
    tumours, healthy = (len(np.unique(groups[side])) for side in (labels != scores.HEALTHY, labels == scores.HEALTHY))
    return {"sensitivity": tumours, "missed": tumours, "specificity": healthy}


def decided(answers: dict[str, Answers], params: Evaluate) -> tuple[dict, dict]:
    """Choose a network's temperature and threshold on the validation split, and score it on the test split.

    Args:
        answers: see answered(), or of the mean of several networks. Mirror images and duplicates may be missing.
        params: the accepted error, and what judged() needs.

    Returns:
        the decision, see calibration.decide; with the review threshold of averages over mirror images if these are
            there. The scores, see judged(); with those of the averages under `tta`; under `without_copies` those of
            the test split together with further images of training patients, and under `as_published` with copies of
            training pictures as well.
    """
    test, validation = answers[SCORED_ON], answers[CHOSEN_ON]
    decision = calibration.decide(validation.labels, validation.raw, params.accepted_error, validation.votes)
    decision["average_flip"] = params.average_flip
    result = judged(test, decision, params) | {"temperature": decision["temperature"]}
    result |= {name: judged(one, decision, params) for name, one in published(answers).items()}
    if MIRRORED + SCORED_ON in answers:
        chosen, scored = (averaged([answers[split], answers[MIRRORED + split]], [decision["temperature"]] * 2)
                          for split in (CHOSEN_ON, SCORED_ON))
        decision["tta_review_threshold"], result["tta"] = with_tta(chosen, scored, params)
    return decision, result


def published(answers: dict[str, Answers]) -> dict[str, Answers]:
    """Return the answers to a published test set as a whole, and without copies of training pictures, if it has any."""
    without = answers[SCORED_ON].with_more(answers[OF_PATIENTS]) if OF_PATIENTS in answers else answers[SCORED_ON]
    whole = without.with_more(answers[DUPLICATES]) if DUPLICATES in answers else without
    found = {"without_copies": without, "as_published": whole}
    return {name: one for name, one in found.items() if one is not answers[SCORED_ON]}


def most_confident_errors(labels: np.ndarray, probabilities: np.ndarray, limit: int) -> np.ndarray:
    """Return the indices int [m] of wrong answers, the most confident first, at most `limit`.

    Args:
        labels: int [n].
        probabilities: float [n, K].
        limit: the largest m.
    """
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    return wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")][:limit]
