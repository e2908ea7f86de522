"""What a network answered to the test split -> diagrams, as PNG files."""

from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt

from core import contract
from stages.data import dataset
from stages.reporting import figures
from stages.scoring import answers, calibration, scores

FAILURES = 24
"""Errors shown in the failure gallery."""


def confusion(counts: np.ndarray, title: str, path: Path) -> None:
    """Draw a confusion matrix: counts, coloured by the fraction of the true class.

    Args:
        counts: int [K, K], rows are true classes.
        title: names the network and the data.
        path: the PNG file to write.
    """
    fractions = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure, axes = plt.subplots(figsize=(5.6, 4.8), layout="constrained")
    image = axes.imshow(fractions, vmin=0, vmax=1, cmap="Blues")
    for row, column in np.ndindex(*counts.shape):
        colour = "white" if fractions[row, column] > 0.5 else "black"
        axes.text(column, row, counts[row, column], ha="center", va="center", color=colour)
    axes.set(xlabel="predicted class", ylabel="true class", title=title,
             xticks=range(len(contract.CLASSES)), yticks=range(len(contract.CLASSES)),
             xticklabels=contract.CLASSES, yticklabels=contract.CLASSES)
    axes.tick_params(axis="x", labelrotation=20)
    figure.colorbar(image, label="fraction of the true class")
    figures.save(figure, path)


def roc(axis: np.ndarray, curves: dict[str, np.ndarray], areas: dict[str, float | None], title: str,
        path: Path) -> None:
    """Draw one-vs-rest ROC curves.

    Args:
        axis: float [points], false positive rates.
        curves: true positive rates float [points] for each class.
        areas: area under the curve for each class; one with None is left out.
        title: names the network and the data.
        path: the PNG file to write.
    """
    figure, axes = plt.subplots(figsize=(5.6, 4.8), layout="constrained")
    for label, area in areas.items():
        if area is not None:
            axes.plot(axis, curves[label], label=f"{label} (area {area:.3f})")
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", label="chance")
    axes.set(xlabel="false positive rate (1 - specificity)", ylabel="true positive rate (recall)", title=title,
             xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    axes.legend(loc="lower right")
    figures.save(figure, path)


def reliability(diagrams: dict[str, dict[str, np.ndarray]], title: str, path: Path) -> None:
    """Draw reliability diagrams side by side, each above the number of images in its bins.

    Args:
        diagrams: by the panel's title, what scores.reliability returns.
        title: names the network and the data.
        path: the PNG file to write.
    """
    figure, panels = plt.subplots(2, len(diagrams), figsize=(4.4 * len(diagrams), 5.4), layout="constrained",
                                  sharex=True, sharey="row", squeeze=False, height_ratios=[3, 1])
    for (above, below), (name, one) in zip(panels.T, diagrams.items(), strict=True):
        count = len(one["images"])
        left = np.arange(count) / count
        above.bar(left, np.nan_to_num(one["accuracy"]), 1 / count, align="edge", edgecolor="white", label="accuracy")
        above.plot(one["confidence"], one["accuracy"], "k.", label="mean confidence of the bin")
        above.plot([0, 1], [0, 1], color="grey", linestyle=":", label="calibrated")
        above.set(title=name, ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))
        below.bar(left, one["images"], 1 / count, align="edge", edgecolor="white")
        below.set(xlabel="confidence (highest probability)", ylabel="images")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.suptitle(title)
    figures.save(figure, path)


def risk_coverage(coverage: np.ndarray, risk: np.ndarray, chosen: dict, title: str, path: Path) -> None:
    """Draw the error rate of accepted images by the fraction that is accepted, and mark the chosen threshold.

    Args:
        coverage: float [m], rising.
        risk: float [m].
        chosen: coverage and error_of_accepted at the threshold; the error is None when nothing is accepted.
        title: names the network and the data.
        path: the PNG file to write.
    """
    figure, axes = plt.subplots(figsize=(5.6, 4.8), layout="constrained")
    axes.plot(coverage, risk, drawstyle="steps-post")
    if chosen["error_of_accepted"] is not None:
        axes.plot(chosen["coverage"], chosen["error_of_accepted"], "o", color="tab:red",
                  label="threshold chosen on the validation split")
    else:
        axes.plot([], [], "o", color="tab:red", label="the chosen threshold accepts no image")
    axes.set(xlabel="coverage (fraction of images accepted)", ylabel="risk (error rate of the accepted)", title=title,
             xlim=(0, 1.01), ylim=(0, max(0.05, 1.05 * risk.max())))
    axes.legend(loc="upper left")
    figures.save(figure, path)


def learning_curves(rows: list[dict[str, str]], title: str, path: Path) -> None:
    """Draw loss and accuracy of training and validation by epoch.

    Args:
        rows: the history as read from its file, see stages.training.run.COLUMNS.
        title: names the network and the data.
        path: the PNG file to write.
    """
    epochs = [float(row["epoch"]) for row in rows]
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for axes, name, label in zip(panels, ("loss", "accuracy"), ("loss (nats, with L2 terms)", "accuracy"), strict=True):
        axes.plot(epochs, [float(row[name]) for row in rows], label="training, augmented")
        axes.plot(epochs, [float(row[f"val_{name}"]) for row in rows], label="validation")
        axes.set(xlabel="epoch", ylabel=label)
        axes.legend()
    panels[1].set_ylim(0, 1)
    figure.suptitle(title)
    figures.save(figure, path)


def write(folder: Path, title: str, given: answers.Answers, probabilities: np.ndarray, result: dict) -> None:
    """Draw confusion matrix, ROC curves, reliability and risk by coverage.

    Args:
        folder: where to.
        title: names the network and the data.
        given: the answers to the test split.
        probabilities: float [n, K], these after the temperature.
        result: the scores, see answers.decided.
    """
    labels, votes = given.labels, given.votes
    axis, curves = scores.roc_curves(labels, probabilities, votes)
    confusion(scores.confusion(labels, probabilities), title, folder / "confusion.png")
    areas = {label: values["roc_auc"] for label, values in result["classes"].items()}
    roc(axis, curves, areas, title, folder / "roc.png")
    panels = {f"before temperature, ECE {result['uncalibrated']['ece']:.3f}": given.raw,
              f"after temperature, ECE {result['ece']:.3f}": probabilities}
    reliability({name: scores.reliability(labels, one, votes) for name, one in panels.items()}, title,
                folder / "reliability.png")
    risk = calibration.risk_coverage(probabilities.max(axis=1), probabilities.argmax(axis=1) == labels, votes[None])
    risk_coverage(risk["coverage"][0], risk["risk"][0], result["review"], f"{title}, AURC {result['aurc']:.3f}",
                  folder / "risk_coverage.png")


def failures(images: dataset.Images, probabilities: np.ndarray, title: str, path: Path) -> None:
    """Draw the most confident errors with true class, predicted class and confidence.

    Args:
        images: of the test split.
        probabilities: float [n, K].
        title: names the network and the data.
        path: the PNG file to write.
    """
    chosen = answers.most_confident_errors(images.labels, probabilities, FAILURES)
    if not len(chosen):
        figures.message("No errors on these images.", title, path)
        return
    titles = [f"{contract.CLASSES[images.labels[index]]}\nas {contract.CLASSES[probabilities[index].argmax()]} "
              f"{probabilities[index].max():.2f}" for index in chosen]
    figures.sheet(images.pixels[chosen], titles, 6, title, path)
