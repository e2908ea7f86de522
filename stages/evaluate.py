"""Scores both networks on the test split, which nothing before has seen.

    python -m stages.evaluate          (or: dvc repro evaluate)

Reads models/, data/prepared and the reports of the stages before. On the validation split it chooses each network's
temperature and review threshold (reports/evaluate/decision.json, which export serves). All test scores are those after
the temperature, as served, with 95 % intervals. Writes reports/evaluate: metrics.json, a text report, and for each
network predictions, curves and figures; and MODEL_CARD.md. About a minute for 1,000 images.

When prepare.test_source was given, `as_published` scores its images together with those that duplicate training
images: what others report on that test set. Beside the clean score it shows how much of that may be memory.
"""

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from core import contract, files
from stages.common import command, params
from stages.data import dataset
from stages.layers import answer
from stages.networks.registry import NETWORKS
from stages.reporting import card, figures
from stages.scoring import calibration, intervals, pointing, scores
from stages.scoring.params import Evaluate

REPORTS = Path("reports/evaluate")
DECISIONS = REPORTS / "decision.json"
"""What was chosen on the validation split for each network; export serves it."""
CARD = Path("MODEL_CARD.md")
DUPLICATES = "test_duplicates"
"""The split of test images that duplicate training images; `prepare` writes it when prepare.test_source is given."""
FAILURES = 24
"""Errors shown in the failure gallery."""


@dataclass(frozen=True)
class Answers:
    """What a network answered for images: rows, labels int [n], and probabilities float32 [n, 4] before temperature."""

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


def predictions_csv(rows: list[dataset.Row], probabilities: np.ndarray) -> str:
    """Return one line an image: its digest, actual and predicted class, and the four probabilities.

    Args:
        rows: the test split.
        probabilities: float [n, 4], after the temperature.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["digest", "actual", "predicted", *contract.CLASSES])
    for row, one in zip(rows, probabilities, strict=True):
        writer.writerow([row.digest[:16], row.label, contract.CLASSES[one.argmax()], *(f"{p:.6f}" for p in one)])
    return text.getvalue()


def columns_csv(columns: dict[str, np.ndarray], digits: int = 4) -> str:
    """Return arrays of equal length as the columns of a CSV, floats with so many digits."""
    texts = [[f"{value:.{digits}f}" if isinstance(value, float) else str(value) for value in values.tolist()]
             for values in columns.values()]
    lines = [",".join(line) for line in [list(columns), *zip(*texts, strict=True)]]
    return "\n".join(lines) + "\n"


def worst_errors(labels: np.ndarray, probabilities: np.ndarray, limit: int = FAILURES) -> np.ndarray:
    """Return the indices int [m] of wrong answers, the surest first, at most `limit`.

    Args:
        labels: int [n].
        probabilities: float [n, 4].
        limit: the largest m.
    """
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    return wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")][:limit]


def read_splits(size: int) -> dict[str, tuple[list[dataset.Row], dataset.Images]]:
    """Read the validation and test images, and the test's duplicates if there are any.

    Args:
        size: side of the images in pixels.
    """
    rows = {name: dataset.read_manifest(name) for name in ("validation", "test")}
    if (dataset.FOLDER / f"{DUPLICATES}.csv").is_file():
        rows[DUPLICATES] = dataset.read_manifest(DUPLICATES)
    return {name: (part, dataset.load(name, size)) for name, part in rows.items() if part}


def answered(network: keras.Model, rows: list[dataset.Row], images: dataset.Images, knobs: Evaluate) -> Answers:
    """Return what a network answers for a split."""
    batches = dataset.batches(images, knobs.batch_size)
    return Answers(rows, images.labels, answer.predict(network, batches, knobs.average_flip))


def mirrored(images: dataset.Images) -> dataset.Images:
    """Return the images with left and right exchanged."""
    return dataset.Images(np.ascontiguousarray(images.pixels[:, :, ::-1]), images.labels)


def averaged(sides: list[Answers], temperatures: list[float]) -> Answers:
    """Return the mean of several answers for the same images, each after a temperature.

    That is of all networks (see answer.together), or of one for images and their mirror images (test-time augmentation
    as clients may ask for it).
    """
    calibrated = [calibration.with_temperature(*pair) for pair in
                  zip((one.raw for one in sides), temperatures, strict=True)]
    return Answers(sides[0].rows, sides[0].labels, np.mean(calibrated, axis=0))


def with_tta(validation: Answers, test: Answers, knobs: Evaluate) -> tuple[float, dict]:
    """Return the review threshold for averaged() answers, chosen on validation, and their scores, see judged().

    They are calibrated already: there is no second temperature, and no scores from before one.
    """
    confidence, correct = validation.raw.max(axis=1), validation.raw.argmax(axis=1) == validation.labels
    threshold, _ = calibration.review_threshold(confidence, correct, knobs.accepted_error)
    result = judged(test, {"temperature": 1.0, "review_threshold": threshold}, knobs)
    for one in (result, result.get(intervals.NAME, {})):
        one.pop("uncalibrated", None)
    return threshold, result


def judged(answers: Answers, decision: dict, knobs: Evaluate) -> dict:
    """Score a network's answers as they are served.

    Args:
        answers: of the test split.
        decision: its temperature and review_threshold.
        knobs: the number and seed of the bootstrap's resamples.

    Returns:
        the scores of scoring/scores.py after the temperature; aurc, the area under the risk-coverage curve; review,
        what the threshold does; uncalibrated, the probabilistic scores before the temperature; and unless
        knobs.bootstrap is 0 their 95 % intervals, with the same keys, under `intervals`.
    """
    labels, probabilities = answers.labels, calibration.with_temperature(answers.raw, decision["temperature"])
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels

    def more(weights: np.ndarray) -> dict:
        curve = calibration.risk_coverage(confidence, correct, weights)
        return {"aurc": calibration.area_under_risk(curve),
                "review": calibration.review(labels, probabilities, decision["review_threshold"], weights),
                "uncalibrated": scores.probabilistic(labels, answers.raw, weights)}

    result = scores.scores(labels, probabilities) | scores.first(more(np.ones((1, len(labels)))))
    if knobs.bootstrap:
        result[intervals.NAME] = intervals.intervals(
            lambda weights: scores.measure(labels, probabilities, weights) | more(weights),
            labels, answers.groups, knobs.bootstrap, knobs.seed)
    return result


def comparison(result: dict) -> str:
    """Return the overall scores as lines of text, the clean ones beside those as published if there are any."""
    names = [name for name, value in result.items() if isinstance(value, float) and name != "temperature"]
    sides = {"test, no duplicates of training": result}
    if "as_published" in result:
        sides["as published, with duplicates"] = result["as_published"]
    if "tta" in result:
        sides["averaged with mirror images"] = result["tta"]
    lines = [f"{'95 % interval in brackets':26}" + "".join(f"{title:34}" for title in sides)]
    lines += [f"{name:26}" + "".join(f"{intervals.shown(side, name):34}" for side in sides.values()) for name in names]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def decision_text(decision: dict) -> str:
    """Return what was chosen on the validation split as a line of text."""
    start = f"Temperature {decision['temperature']:.3f}. "
    if not decision["reached"]:
        return start + (f"No threshold brings the error of accepted validation images down to "
                        f"{decision['accepted_error']}: every image needs a review.\n")
    return start + (f"Accepted from confidence {decision['review_threshold']:.3f} on: "
                    f"{decision['validation_coverage']:.1%} of the validation images, "
                    f"{decision['validation_error_of_accepted']:.1%} of these wrong.\n")


def write_tables(folder: Path, answers: Answers, probabilities: np.ndarray) -> None:
    """Write predictions and curves as CSV."""
    labels, confidence = answers.labels, probabilities.max(axis=1)
    axis, curves = scores.roc_curves(labels, probabilities)
    bins = scores.reliability(labels, probabilities)
    filled = bins["images"] > 0
    risk = calibration.risk_coverage(confidence, probabilities.argmax(axis=1) == labels, np.ones((1, len(labels))))
    files.write_text(folder / "predictions.csv", predictions_csv(answers.rows, probabilities))
    files.write_text(folder / "roc.csv", columns_csv({"fpr": axis, **curves}))
    files.write_text(folder / "reliability.csv", columns_csv({key: one[filled] for key, one in bins.items()}))
    files.write_text(folder / "risk_coverage.csv", columns_csv(
        {"coverage": risk["coverage"][0], "risk": risk["risk"][0], "threshold": risk["threshold"]}, 6))


def write_figures(folder: Path, title: str, answers: Answers, probabilities: np.ndarray, result: dict) -> None:
    """Draw confusion matrix, ROC curves, reliability and risk by coverage."""
    labels = answers.labels
    axis, curves = scores.roc_curves(labels, probabilities)
    figures.confusion(scores.confusion(labels, probabilities), title, folder / "confusion.png")
    roc_areas = {label: values["roc_auc"] for label, values in result["classes"].items()}
    figures.roc(axis, curves, roc_areas, title, folder / "roc.png")
    sides = {f"before temperature, ECE {result['uncalibrated']['ece']:.3f}": scores.reliability(labels, answers.raw),
             f"after temperature, ECE {result['ece']:.3f}": scores.reliability(labels, probabilities)}
    figures.reliability(sides, title, folder / "reliability.png")
    risk = calibration.risk_coverage(probabilities.max(axis=1), probabilities.argmax(axis=1) == labels,
                                     np.ones((1, len(labels))))
    figures.risk_coverage(risk["coverage"][0], risk["risk"][0], result["review"], f"{title}, AURC {result['aurc']:.3f}",
                          folder / "risk_coverage.png")


def write_failures(path: Path, title: str, images: dataset.Images, probabilities: np.ndarray) -> None:
    """Draw the surest wrong answers with true class, predicted class and confidence."""
    chosen = worst_errors(images.labels, probabilities)
    if not len(chosen):
        figures.message("No errors on these images.", title, path)
        return
    titles = [f"{contract.CLASSES[images.labels[index]]}\nas {contract.CLASSES[probabilities[index].argmax()]} "
              f"{probabilities[index].max():.2f}" for index in chosen]
    figures.sheet(images.pixels[chosen], titles, 6, title, path)


def write_learning_curves(name: str, source: str) -> None:
    """Draw a network's history."""
    with (Path("reports") / NETWORKS[name].stage / "history.csv").open(newline="") as file:
        history = [{key: value if key == "phase" else float(value) for key, value in row.items()}
                   for row in csv.DictReader(file)]
    figures.learning_curves(history, f"{name}, training ({source})", REPORTS / name / "learning_curves.png")


def write_network(name: str, source: str, images: dataset.Images, answers: dict[str, Answers],
                  knobs: Evaluate) -> tuple[dict, dict, str]:
    """Choose temperature and threshold of a network, score it, and write its tables and figures.

    Args:
        name: the network's, or contract.ENSEMBLE.
        source: what the data are called.
        images: the test split's, for the failure gallery.
        answers: for "validation", "test" and, if there are any, DUPLICATES; and unless these are averages already,
            for the mirror images of the first two under "mirrored validation" and "mirrored test".
        knobs: this stage's params.

    Returns:
        its decision, its scores, and its part of the text report.
    """
    test, validation = answers["test"], answers["validation"]
    decision = calibration.decide(validation.labels, validation.raw, knobs.accepted_error)
    decision["average_flip"] = knobs.average_flip
    result = judged(test, decision, knobs) | {"temperature": decision["temperature"]}
    if DUPLICATES in answers:
        result["as_published"] = judged(test.with_more(answers[DUPLICATES]), decision, knobs)
    if "mirrored test" in answers:
        both = [averaged([answers[split], answers[f"mirrored {split}"]], [decision["temperature"]] * 2)
                for split in ("validation", "test")]
        decision["tta_review_threshold"], result["tta"] = with_tta(*both, knobs)
    probabilities = calibration.with_temperature(test.raw, decision["temperature"])
    title, folder = f"{name} on {len(test.labels)} test images ({source})", REPORTS / name
    write_tables(folder, test, probabilities)
    write_figures(folder, title, test, probabilities, result)
    write_failures(folder / "failures.png", title, images, probabilities)
    if name in NETWORKS:
        write_learning_curves(name, source)
    text = (f"{name}, trained and tested on: {source}\n\n{scores.text_report(test.labels, probabilities)}\n"
            f"{comparison(result)}\n{decision_text(decision)}")
    return decision, result, text


def main(knobs: params.Params) -> None:
    """Predict with each network, choose, score, and write reports/evaluate and the model card."""
    own, data = knobs.evaluate, dataset.read_report()
    splits = read_splits(knobs.prepare.image_size)
    rows, images = splits["test"]
    result = {"data_source": data["source"], "images": len(rows), "groups": len({row.group for row in rows}),
              "resamples": own.bootstrap}
    decisions, texts, runs, kept = {}, [], {}, {}
    for name, stage in NETWORKS.items():
        network = stage.load()
        answers = kept[name] = {split: answered(network, *part, own) for split, part in splits.items()}
        if not own.average_flip:
            answers |= {f"mirrored {split}": answered(network, splits[split][0], mirrored(splits[split][1]), own)
                        for split in ("validation", "test")}
        decisions[name], result[name], text = write_network(name, data["source"], images, answers, own)
        if data["source"] == contract.PHANTOM:
            result[name]["pointing_game"] = pointing.game(network, knobs.prepare.image_size, own.average_flip)
        runs[name] = json.loads((Path("reports") / stage.stage / "metrics.json").read_text())
        texts.append(text)
    temperatures = [decisions[name]["temperature"] for name in NETWORKS]
    answers = {split: averaged([kept[name][split] for name in NETWORKS], temperatures) for split in kept[name]}
    both = contract.ENSEMBLE
    decisions[both], result[both], text = write_network(both, data["source"], images, answers, own)
    texts.append(text)
    files.write_json(REPORTS / "metrics.json", result)
    files.write_json(DECISIONS, decisions)
    files.write_text(REPORTS / "report.txt", "\n\n".join(texts))
    files.write_text(CARD, card.card(data, runs, files.rounded(result), files.rounded(decisions)))
    print("\n\n".join(texts))


if __name__ == "__main__":
    command.run(main, __doc__, ["prepare.image_size", "evaluate"])
