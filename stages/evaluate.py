"""Scores both networks on the test split, which nothing before has seen.

    python -m stages.evaluate          (or: dvc repro evaluate)

Reads models/ and data/prepared/test.csv; writes reports/evaluate/: metrics.json, a text report, and for each network
the predictions, ROC curves and a confusion matrix as CSV for DVC's plots and as PNG. About a minute for 1,000 images.
"""

import csv
import io
from pathlib import Path

import keras
import numpy as np

from imaging import contract
from stages import command, dataset, figures, files, params, scores, train_custom, train_resnet

REPORTS = Path("reports/evaluate")
MODELS = {"custom": train_custom, "resnet50": train_resnet}
"""The stage that owns each network's file and reports."""


def predictions_csv(rows: list[dataset.Row], probabilities: np.ndarray) -> str:
    """Return one line an image: its digest, actual and predicted class, and the four probabilities.

    Args:
        rows: the test split.
        probabilities: float32 [n, 4].
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["digest", "actual", "predicted", *contract.CLASSES])
    for row, one in zip(rows, probabilities, strict=True):
        writer.writerow([row.digest[:16], row.label, contract.CLASSES[one.argmax()], *(f"{p:.6f}" for p in one)])
    return text.getvalue()


def roc_csv(axis: np.ndarray, curves: dict[str, np.ndarray]) -> str:
    """Return ROC curves as CSV: the shared column fpr, and a column of true positive rates for each class."""
    lines = [",".join(["fpr", *curves])]
    lines += [",".join(f"{value:.4f}" for value in values) for values in zip(axis, *curves.values(), strict=True)]
    return "\n".join(lines) + "\n"


def write_network(name: str, data: str, rows: list[dataset.Row], labels: np.ndarray, probabilities: np.ndarray) -> dict:
    """Write one network's tables and figures, and return its scores."""
    folder, numbers = REPORTS / name, scores.scores(labels, probabilities)
    axis, curves = scores.roc_curves(labels, probabilities)
    title = f"{name} on {len(labels)} test images ({data})"
    files.write_text(folder / "predictions.csv", predictions_csv(rows, probabilities))
    files.write_text(folder / "roc.csv", roc_csv(axis, curves))
    figures.confusion(scores.confusion(labels, probabilities), title, folder / "confusion.png")
    areas = {label: values["roc_auc"] for label, values in numbers["classes"].items()}
    figures.roc(axis, curves, areas, title, folder / "roc.png")
    with (Path("reports") / MODELS[name].STAGE / "history.csv").open(newline="") as file:
        history = [{key: value if key == "phase" else float(value) for key, value in row.items()}
                   for row in csv.DictReader(file)]
    figures.learning_curves(history, f"{name}, training ({data})", folder / "learning_curves.png")
    return numbers


def main(knobs: params.Params) -> None:
    """Predict the test split with each network and write reports/evaluate."""
    data = dataset.read_report()
    rows = dataset.read_manifest("test")
    images = dataset.load("test", knobs.prepare.image_size)
    result, text = {"data_source": data["source"], "images": len(rows)}, []
    for name, stage in MODELS.items():
        network = keras.models.load_model(stage.MODEL, compile=False)
        probabilities = network.predict(dataset.batches(images, knobs.evaluate.batch_size), verbose=0)
        result[name] = write_network(name, data["source"], rows, images.labels, probabilities)
        text.append(f"{name}, trained and tested on: {data['source']}\n\n"
                    f"{scores.text_report(images.labels, probabilities)}")
    files.write_json(REPORTS / "metrics.json", result)
    files.write_text(REPORTS / "report.txt", "\n\n".join(text))
    print("\n\n".join(text))


if __name__ == "__main__":
    command.run(main, __doc__)
