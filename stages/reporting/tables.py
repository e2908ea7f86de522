"""Predictions and scores -> tables, as CSV for programs and as text for people."""

import csv
import io
from pathlib import Path

import numpy as np

from core import contract, files
from stages.data import dataset
from stages.scoring import calibration, intervals, reports, scores
from stages.scoring.answers import Answers


def predictions_csv(rows: list[dataset.Row], probabilities: np.ndarray) -> str:
    """Return one line an image: its digest, actual and predicted class, and the probabilities.

    Args:
        rows: the test split.
        probabilities: float [n, K], after the temperature.
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


def write(folder: Path, answers: Answers, probabilities: np.ndarray) -> None:
    """Write a network's predictions and curves as CSV.

    Args:
        folder: where to.
        answers: to the test split.
        probabilities: float [n, K], these after the temperature.
    """
    labels, confidence = answers.labels, probabilities.max(axis=1)
    axis, curves = scores.roc_curves(labels, probabilities)
    bins = scores.reliability(labels, probabilities)
    filled = bins["images"] > 0
    risk = calibration.risk_coverage(confidence, probabilities.argmax(axis=1) == labels, np.ones((1, len(labels))))
    files.write_text(folder / reports.PREDICTIONS, predictions_csv(answers.rows, probabilities))
    files.write_text(folder / "roc.csv", columns_csv({"fpr": axis, **curves}))
    files.write_text(folder / reports.RELIABILITY, columns_csv({key: one[filled] for key, one in bins.items()}))
    files.write_text(folder / "risk_coverage.csv", columns_csv(
        {"coverage": risk["coverage"][0], "risk": risk["risk"][0], "threshold": risk["threshold"]}, 6))


def comparison(result: dict) -> str:
    """Return the overall scores as lines of text, the clean ones beside those as published if there are any."""
    names = [name for name, value in result.items() if isinstance(value, float) and name != "temperature"]
    columns = {"test, no duplicates of training": result}
    if "as_published" in result:
        columns["as published, with duplicates"] = result["as_published"]
    if "tta" in result:
        columns["averaged with mirror images"] = result["tta"]
    lines = [f"{'95 % interval in brackets':26}" + "".join(f"{title:34}" for title in columns)]
    lines += [f"{name:26}" + "".join(f"{intervals.shown(one, name):34}" for one in columns.values()) for name in names]
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


def report(name: str, source: str, labels: np.ndarray, probabilities: np.ndarray, decision: dict, result: dict) -> str:
    """Return a network's part of the text report.

    Args:
        name: the network's. source: what the data are called. labels: int [n] of the test split.
        probabilities: float [n, K], after the temperature. decision, result: see answers.decided.
    """
    return (f"{name}, trained and tested on: {source}\n\n{scores.text_report(labels, probabilities)}\n"
            f"{comparison(result)}\n{decision_text(decision)}")


def summary(name: str, result: dict, decision: dict) -> str:
    """Return a network's scores as one sentence."""
    shown = ", ".join(f"{title} {intervals.shown(result, key)}" for key, title in
                      (("accuracy", "accuracy"), ("macro_f1", "macro F1"), ("ece", "calibration error")))
    return f"{name}: {shown}. {decision_text(decision)}".rstrip()
