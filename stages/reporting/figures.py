"""Numbers and pixels -> PNG figures."""

from pathlib import Path

import matplotlib
import numpy as np

from core import contract, files

matplotlib.use("Agg")

from matplotlib import pyplot as plt  # noqa: E402  the backend must be chosen first


def save(figure, path: Path) -> None:
    """Write a figure as PNG, replacing a previous one as a whole, and close it.

    No software version is written into the file, so that the same figure is the same bytes.
    """
    with files.replacing(path) as new:
        figure.savefig(new, dpi=100, metadata={"Software": None})
    plt.close(figure)


def confusion(counts: np.ndarray, title: str, path: Path) -> None:
    """Draw a confusion matrix: counts, coloured by the share of the true class.

    Args:
        counts: int [4, 4], rows are true classes.
        title: names the network and the data.
        path: the PNG file to write.
    """
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure, axes = plt.subplots(figsize=(5.6, 4.8), layout="constrained")
    image = axes.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    for row, column in np.ndindex(*counts.shape):
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, counts[row, column], ha="center", va="center", color=colour)
    axes.set(xlabel="predicted class", ylabel="true class", title=title,
             xticks=range(len(contract.CLASSES)), yticks=range(len(contract.CLASSES)),
             xticklabels=contract.CLASSES, yticklabels=contract.CLASSES)
    axes.tick_params(axis="x", labelrotation=20)
    figure.colorbar(image, label="share of the true class")
    save(figure, path)


def roc(axis: np.ndarray, curves: dict[str, np.ndarray], areas: dict[str, float], title: str, path: Path) -> None:
    """Draw one-vs-rest ROC curves.

    Args:
        axis: float [points], false positive rates.
        curves: true positive rates float [points] for each class.
        areas: area under the curve for each class.
        title: names the network and the data.
        path: the PNG file to write.
    """
    figure, axes = plt.subplots(figsize=(5.6, 4.8), layout="constrained")
    for label, curve in curves.items():
        axes.plot(axis, curve, label=f"{label} (area {areas[label]:.3f})")
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", label="chance")
    axes.set(xlabel="false positive rate (1 - specificity)", ylabel="true positive rate (recall)", title=title,
             xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    axes.legend(loc="lower right")
    save(figure, path)


def reliability(sides: dict[str, dict[str, np.ndarray]], title: str, path: Path) -> None:
    """Draw reliability diagrams side by side, each above the number of images in its bins.

    Args:
        sides: by the panel's title, what scores.reliability returns.
        title: names the network and the data.
        path: the PNG file to write.
    """
    figure, panels = plt.subplots(2, len(sides), figsize=(4.4 * len(sides), 5.4), layout="constrained", sharex=True,
                                  sharey="row", squeeze=False, height_ratios=[3, 1])
    for (above, below), (name, side) in zip(panels.T, sides.items(), strict=True):
        count = len(side["images"])
        left = np.arange(count) / count
        above.bar(left, np.nan_to_num(side["accuracy"]), 1 / count, align="edge", edgecolor="white", label="accuracy")
        above.plot(side["confidence"], side["accuracy"], "k.", label="mean confidence of the bin")
        above.plot([0, 1], [0, 1], color="grey", linestyle=":", label="calibrated")
        above.set(title=name, ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))
        below.bar(left, side["images"], 1 / count, align="edge", edgecolor="white")
        below.set(xlabel="confidence (highest probability)", ylabel="images")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.suptitle(title)
    save(figure, path)


def risk_coverage(coverage: np.ndarray, risk: np.ndarray, chosen: dict, title: str, path: Path) -> None:
    """Draw the error rate of accepted images by the share that is accepted, and mark the chosen threshold.

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
    axes.set(xlabel="coverage (share of images accepted)", ylabel="risk (error rate of the accepted)", title=title,
             xlim=(0, 1.01), ylim=(0, max(0.05, 1.05 * risk.max())))
    axes.legend(loc="upper left")
    save(figure, path)


def message(text: str, title: str, path: Path) -> None:
    """Draw a text in place of a figure that has nothing to show."""
    figure, axes = plt.subplots(figsize=(5.6, 2), layout="constrained")
    axes.axis("off")
    axes.text(0.5, 0.5, text, ha="center", va="center")
    figure.suptitle(title)
    save(figure, path)


def learning_curves(rows: list[dict], title: str, path: Path) -> None:
    """Draw loss and accuracy of training and validation by epoch.

    Args:
        rows: the history, see stages.training.run.COLUMNS.
        title: names the network and the data.
        path: the PNG file to write.
    """
    epochs = [row["epoch"] for row in rows]
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for axes, name, label in zip(panels, ("loss", "accuracy"), ("loss (nats, with L2 terms)", "accuracy"), strict=True):
        axes.plot(epochs, [row[name] for row in rows], label="training, augmented")
        axes.plot(epochs, [row[f"val_{name}"] for row in rows], label="validation")
        axes.set(xlabel="epoch", ylabel=label)
        axes.legend()
    panels[1].set_ylim(0, 1)
    figure.suptitle(title)
    save(figure, path)


def counts(splits: dict[str, dict[str, int]], title: str, path: Path) -> None:
    """Draw the number of images of each class in each split as bars.

    Args:
        splits: for each split, images by class.
        title: names the data.
        path: the PNG file to write.
    """
    figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    width = 0.8 / len(splits)
    for number, (split, images) in enumerate(splits.items()):
        places = np.arange(len(images)) + (number - (len(splits) - 1) / 2) * width
        bars = axes.bar(places, list(images.values()), width, label=split)
        axes.bar_label(bars, fontsize=7)
    axes.set(xlabel="class", ylabel="images", title=title, xticks=range(len(contract.CLASSES)),
             xticklabels=contract.CLASSES)
    figure.legend(title="split", loc="outside right upper")
    save(figure, path)


def sheet(images: np.ndarray, titles: list[str], columns: int, title: str, path: Path) -> None:
    """Draw images in a grid.

    Args:
        images: uint8 [n, size, size], [n, size, size, 1] or [n, size, size, 3].
        titles: one for each image, or "".
        columns: images a row.
        title: above the whole sheet.
        path: the PNG file to write.
    """
    rows = -(-len(images) // columns)
    lines = max(text.count("\n") for text in titles)
    figure, panels = plt.subplots(rows, columns, figsize=(1.5 * columns, (1.62 + 0.14 * lines) * rows + 0.4),
                                  layout="constrained", squeeze=False)
    for axes in panels.flat:
        axes.axis("off")
    for axes, image, text in zip(panels.flat, images, titles, strict=False):
        axes.imshow(image, cmap="gray", vmin=0, vmax=255)
        axes.set_title(text, fontsize=8)
    figure.suptitle(title)
    save(figure, path)
