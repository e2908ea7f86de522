"""Predictions and scores -> tables, as CSV for programs and as text for people."""

import csv
import io
from pathlib import Path

import numpy as np

from core import contract, files
from stages.data import counting, dataset
from stages.scoring import calibration, intervals, reports, scores, sources
from stages.scoring.answers import Answers


def predictions_csv(rows: list[dataset.Row], probabilities: np.ndarray) -> str:
    """Return one line an image: its digest, actual and predicted class, the probabilities, and its picture's number.

    Scores give all images of one picture a single vote.

    Args:
        rows: the test split.
        probabilities: float [n, K], after the temperature.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["digest", "actual", "predicted", *contract.CLASSES, "picture"])
    for row, picture, one in zip(rows, counting.pictures(rows).tolist(), probabilities, strict=True):
        writer.writerow([row.digest[:16], row.label, contract.CLASSES[one.argmax()], *(f"{p:.6f}" for p in one),
                         picture])
    return text.getvalue()


def columns_csv(columns: dict[str, np.ndarray], digits: int = 4) -> str:
    """Return arrays of equal length as the columns of a CSV, floats with so many digits; an empty cell for NaN."""
    texts = [["" if value != value else f"{value:.{digits}f}" if isinstance(value, float) else str(value)
              for value in values.tolist()] for values in columns.values()]
    lines = [",".join(line) for line in [list(columns), *zip(*texts, strict=True)]]
    return "\n".join(lines) + "\n"


def write(folder: Path, answers: Answers, probabilities: np.ndarray) -> None:
    """Write a network's predictions and curves as CSV.

    Args:
        folder: where to.
        answers: to the test split.
        probabilities: float [n, K], these after the temperature.
    """
    labels, confidence, votes = answers.labels, probabilities.max(axis=1), answers.votes
    axis, curves = scores.roc_curves(labels, probabilities, votes)
    bins = scores.reliability(labels, probabilities, votes)
    filled = bins["images"] > 0
    risk = calibration.risk_coverage(confidence, probabilities.argmax(axis=1) == labels, votes[None])
    files.write_text(folder / reports.PREDICTIONS, predictions_csv(answers.rows, probabilities))
    files.write_text(folder / "roc.csv", columns_csv({"fpr": axis, **curves}))
    files.write_text(folder / reports.RELIABILITY, columns_csv({key: one[filled] for key, one in bins.items()}))
    files.write_text(folder / "risk_coverage.csv", columns_csv(
        {"coverage": risk["coverage"][0], "risk": risk["risk"][0], "threshold": risk["threshold"]}, 6))


COLUMNS = {"without_copies": "with training patients", "as_published": "as published, with copies",
           "tta": "averaged with mirror images"}
"""Titles of what stands beside the test split's scores."""
TUMOUR = {"sensitivity": "sensitivity", "specificity": "specificity", "missed": "tumours called notumor",
          "balanced_accuracy": "balanced accuracy", "roc_auc": "ROC-AUC",
          "positive_predictive_value": "positive predictive value",
          "negative_predictive_value": "negative predictive value"}
"""The scores of tumour or not that people see, and their titles; the last two hold at evaluate.prevalence."""


def tumour_text(name: str, result: dict, prevalence: float) -> str:
    """Return what a network's answers to "tumour or not" are worth, as one sentence."""
    own = [f"{title} {intervals.shown(result, key, 'tumour')}" for key, title in TUMOUR.items()]
    return (f"{name}, tumour or not: {', '.join(own[:-2])}; where {prevalence:.1%} have a tumour, "
            f"{' and '.join(own[-2:])}.")


def people(counts: dict[str, int]) -> str:
    """Return who or what an interval draws, `168 patients and 41 picture groups`; see answers.counts.

    Only those are called patients that are known to be.
    """
    kinds = {"patients": counts["patients"], "picture groups": counts["picture_groups"]}
    return " and ".join(f"{number:,} {name if number > 1 else name[:-1]}" for name, number in kinds.items() if number)


def classes_text(classes: dict[str, dict]) -> str:
    """Return each class's scores as lines of text, by class what scores.scores returns; a dash for what has no value.
    """
    names = ("precision", "recall", "specificity", "f1")
    lines = [f"{'':14}" + "".join(f"{name:>13}" for name in (*names, "images"))]
    lines += [f"{label:14}" + "".join(f"{intervals.text(one[name], None):>13}" for name in names)
              + f"{one['images']:>13}" for label, one in classes.items()]
    return "\n".join(lines) + "\n"


def comparison(result: dict) -> str:
    """Return the overall scores as lines of text, the clean ones beside those as published if there are any."""
    names = [name for name, value in result.items() if isinstance(value, float | None) and name != "temperature"]
    columns = {"test, new pictures and patients": result}
    columns |= {title: result[name] for name, title in COLUMNS.items() if name in result}
    lines = [f"{'95 % interval in brackets':26}" + "".join(f"{title:34}" for title in columns)]
    lines += [f"{name:26}" + "".join(f"{intervals.shown(one, name):34}" for one in columns.values()) for name in names]
    return "\n".join(line.rstrip() for line in lines) + "\n"


SOURCE = {"images": "images", "tumours": "of tumours", "macro_f1": "macro F1", "accuracy": "accuracy",
          "missed": "tumours called notumor", "specificity": "specificity", "balanced_accuracy": "balanced accuracy",
          "ece": "ECE", "tumour_ece": "ECE of tumour or not", "reviewed": "sent to review"}
"""What people see of a source, and its titles; see sources.scored."""


def sources_csv(results: dict[str, dict]) -> str:
    """Return one line a network and source; intervals in brackets, an empty cell where a score is not defined.

    Args:
        results: scores by network; those by source are under `sources`, if there are any.
    """
    counts = ("images", "pictures", "patients", "picture_groups", "tumours")
    names = ("macro_f1", "accuracy", *sources.OF_TUMOUR, "ece", "tumour_ece", "reviewed")
    facts = ("known", "unreadable", "digest")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["network", "source", *counts, *names, *facts])
    for network, result in results.items():
        for source, one in result.get("sources", {}).items():
            shown = ["" if one[name] is None else intervals.shown(one, name) for name in names]
            writer.writerow([network, source, *(one[name] for name in counts), *shown,
                             *(one.get(name, "") for name in facts)])
    return text.getvalue()


def sources_text(found: dict[str, dict]) -> str:
    """Return the scores of each source as lines of text; see sources.by_source."""
    lines = [f"{name}, {people(one)}: {', '.join(f'{title} {source_score(one, key)}' for key, title in SOURCE.items())}"
             for name, one in found.items()]
    return "\n".join(["By source:", *lines]) + "\n\n" if lines else ""


def source_score(one: dict, key: str) -> str:
    """Return a count or score of a source as text."""
    return str(one[key]) if isinstance(one[key], int) else intervals.shown(one, key)


def decision_text(decision: dict) -> str:
    """Return what was chosen on the validation split as a line of text."""
    start = f"Temperature {decision['temperature']:.3f}. "
    if not decision["reached"]:
        return start + (f"No threshold brings the error of accepted validation images down to "
                        f"{decision['accepted_error']}: every image needs a review.\n")
    return start + (f"Accepted from confidence {decision['review_threshold']:.3f} on: "
                    f"{decision['validation_coverage']:.1%} of the validation images, "
                    f"{decision['validation_error_of_accepted']:.1%} of these wrong.\n")


def report(name: str, facts: dict, decision: dict, result: dict) -> str:
    """Return a network's part of the text report: tumour or not first.

    Args:
        name: the network's. decision, result: see answers.decided.
        facts: of the test, what stands above the networks in reports/evaluate/metrics.json.
    """
    return (f"{tumour_text(name, result, facts['prevalence'])}\n\n"
            f"{name}, trained and tested on: {facts['data_source']}; {tested(facts)}\n\n"
            f"{classes_text(result['classes'])}\n{comparison(result)}\n{sources_text(result.get('sources', {}))}"
            f"{decision_text(decision)}")


def tested(counts: dict[str, int]) -> str:
    """Return what was tested on as text; see answers.counts."""
    return f"{counts['images']:,} test images of {counts['pictures']:,} pictures, {people(counts)}"


def summary(name: str, facts: dict, decision: dict, result: dict) -> str:
    """Return a network's scores as two lines: tumour or not, then which class. The arguments are those of report()."""
    shown = ", ".join(f"{title} {intervals.shown(result, key)}" for key, title in
                      (("accuracy", "accuracy"), ("macro_f1", "macro F1"), ("ece", "calibration error")))
    return (f"{tumour_text(name, result, facts['prevalence'])}\n"
            f"{name}, on {tested(facts)}: {shown}. {decision_text(decision)}").rstrip()
