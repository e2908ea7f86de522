"""Draws README's pictures of the phantoms and of the augmentation, and the page's samples.

    python -m tools.figures

Writes docs/phantoms.png, docs/augmentation.png and webapp/static/samples/. Only synthetic images are shown.
"""

from pathlib import Path

import numpy as np
import tensorflow as tf

from core import contract
from stages.common import params
from stages.data import phantom
from stages.data.augmentation import augmented
from stages.data.params import Augment
from stages.reporting import figures

PROJECT = Path(__file__).resolve().parents[1]
SIZE, COLUMNS, SEED = 224, 6, 2000


def phantoms(path: Path) -> None:
    """Draw a row of phantoms for each class."""
    drawn = [phantom.draw(label, SEED + index, SIZE) for label in contract.CLASSES for index in range(COLUMNS)]
    titles = [f"{one.label}\n{one.plane}, {one.weighting}" for one in drawn]
    images = np.stack([one.image for one in drawn])
    figures.sheet(images, titles, COLUMNS, f"Synthetic slices (phantoms), {SIZE} x {SIZE}", path)


def augmentation(path: Path, params: Augment) -> None:
    """Draw a phantom, then the same one as training may see it."""
    image = phantom.draw("glioma", SEED, SIZE).image.astype(np.float32) / 255.0
    batch = tf.repeat(image[None, ..., None], 2 * COLUMNS - 1, axis=0) * tf.ones(3)
    changed = augmented(batch, params, tf.constant([SEED, 0])).numpy()
    shown = np.concatenate([batch[:1], changed])
    titles = ["as read"] + [f"changed {number}" for number in range(1, len(shown))]
    figures.sheet(np.rint(shown * 255).astype(np.uint8), titles, COLUMNS, "Augmentation of one training image", path)


def samples(folder: Path) -> None:
    """Write a phantom of each class for a first try of the page."""
    folder.mkdir(exist_ok=True)
    for label in contract.CLASSES:
        (folder / f"{label}.png").write_bytes(phantom.png(phantom.draw(label, SEED + COLUMNS, SIZE).image))


if __name__ == "__main__":
    samples(PROJECT / "webapp/static/samples")
    phantoms(PROJECT / "docs/phantoms.png")
    augmentation(PROJECT / "docs/augmentation.png", params.load(PROJECT / "params.yaml").train.augment)
