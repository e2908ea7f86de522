"""Numbers and pixels -> PNG figures."""

from pathlib import Path

import matplotlib
import numpy as np
import tensorflow as tf

from core import files
from stages.data import dataset, grouping, preprocess

matplotlib.use("Agg")

from matplotlib import pyplot as plt  # noqa: E402  the backend must be chosen first

SHOWN_SIZE = 160
"""Pixels a side of an image in a pair."""


def save(figure, path: Path) -> None:
    """Write a figure as PNG, replacing a previous one as a whole, and close it.

    No software version is written into the file, so that the same figure is the same bytes.
    """
    with files.replacing(path) as new:
        figure.savefig(new, dpi=100, metadata={"Software": None})
    plt.close(figure)


def message(text: str, title: str, path: Path) -> None:
    """Draw a text in place of a figure that has nothing to show."""
    figure, axes = plt.subplots(figsize=(5.6, 2), layout="constrained")
    axes.axis("off")
    axes.text(0.5, 0.5, text, ha="center", va="center")
    figure.suptitle(title)
    save(figure, path)


def counts(splits: dict[str, dict[str, int]], title: str, path: Path) -> None:
    """Draw the number of images of each label in each split as bars.

    Args:
        splits: for each split, images by label.
        title: names the data.
        path: the PNG file to write.
    """
    figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    width, labels = 0.8 / len(splits), list(next(iter(splits.values())))
    for number, (split, images) in enumerate(splits.items()):
        places = np.arange(len(images)) + (number - (len(splits) - 1) / 2) * width
        bars = axes.bar(places, list(images.values()), width, label=split)
        axes.bar_label(bars, fontsize=7)
    axes.set(xlabel="class", ylabel="images", title=title, xticks=range(len(labels)), xticklabels=labels)
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


def draw_pairs(rows: list[dataset.Row], pairs: list[grouping.Pair], folder: Path, title: str, path: Path) -> None:
    """Draw joined pairs side by side, so that a person can judge the thresholds.

    Args:
        rows: all images.
        pairs: indices of rows.
        folder: which the rows' paths start from.
        title: names the data.
        path: the PNG file to write.
    """
    if not pairs:
        message("no two images were joined", f"Joined pairs ({title})", path)
        return
    shown, titles = [], []
    for pair in pairs:
        for row in (rows[pair.first], rows[pair.second]):
            pixels = preprocess.decode(tf.constant((folder / row.path).read_bytes()), SHOWN_SIZE)
            shown.append(np.rint(pixels.numpy() * 255).astype(np.uint8))
            titles.append(f"{pair.kind} {pair.similarity:.3f}\n{row.label}")
    sheet(np.stack(shown), titles, 4, f"Joined pairs, the least similar first ({title})", path)
