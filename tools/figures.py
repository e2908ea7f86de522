"""Draws README's pictures of the phantoms and of the augmentation, and the page's samples.

    python -m tools.figures

Writes docs/phantoms.png, docs/augmentation.png and webapp/static/samples/. Only synthetic images are shown.
"""

from pathlib import Path

import numpy as np
import tensorflow as tf

from core import contract
from stages.common import params
from stages.data import appearance, phantom
from stages.data.augmentation import augmented
from stages.data.params import Augment
from stages.reporting import figures

PROJECT = Path(__file__).resolve().parents[1]
SIZE, COLUMNS, SEED, DRAWS = 224, 6, 2000, 8
STRENGTHS = {"gamma": 0.5, "contrast": 0.3, "blur": 1.5, "sharpen": 1.0, "noise": 0.04, "bias_field": 0.4,
             "resolution": 1.5, "strip": 1.0, "background": 1.0, "mix_styles": 1.0, "erase": 1.0}
"""Of the changes of appearance, as README.md suggests them, but made to every image."""


def phantoms(path: Path) -> None:
    """Draw a row of phantoms for each class."""
    drawn = [phantom.draw(label, SEED + index, SIZE) for label in contract.CLASSES for index in range(COLUMNS)]
    titles = [f"{one.label}\n{one.plane}, {one.weighting}" for one in drawn]
    images = np.stack([one.image for one in drawn])
    figures.sheet(images, titles, COLUMNS, f"Synthetic slices (phantoms), {SIZE} x {SIZE}", path)


def augmentation(path: Path, params: Augment) -> None:
    """Draw a phantom, then the same one as training may see it, then under each change of appearance."""
    image = scaled("glioma", SEED)
    batch = tf.repeat(image[None, ..., None], 2 * COLUMNS - 1, axis=0) * tf.ones(3)
    changed = augmented(batch, params, tf.constant([SEED, 0])).numpy()
    looks = [appearance_of(image, params, {name: value}) for name, value in STRENGTHS.items()]
    together = appearance_of(image, params, STRENGTHS | dict.fromkeys(("strip", "background", "erase"), 0.0))
    shown = np.concatenate([batch[:1], changed, np.stack([*looks, together]) * np.ones(3)])
    titles = ["as read"] + [f"changed {number}" for number in range(1, len(changed) + 1)]
    titles += [f"{name} {value}" for name, value in STRENGTHS.items()] + ["all but strip,\nbackground, erase"]
    figures.sheet(np.rint(shown * 255).astype(np.uint8), titles, COLUMNS, "Augmentation of one training image", path)


def appearance_of(image: np.ndarray, params: Augment, strengths: dict[str, float]) -> np.ndarray:
    """Return an image [size, size] as [size, size, 1] under changes of appearance: the strongest of DRAWS draws."""
    batch = np.stack([image, scaled("pituitary", SEED + 1)] * DRAWS)[..., None]  # the second lends its style
    augment = Augment(**vars(params) | strengths)
    changed = appearance.changed(batch, augment, tf.constant([SEED, 1])).numpy()[::2]
    return changed[np.abs(changed - batch[::2]).mean(axis=(1, 2, 3)).argmax()]


def scaled(label: str, seed: int) -> np.ndarray:
    """Draw a phantom as float32 [SIZE, SIZE] in [0, 1]."""
    return phantom.draw(label, seed, SIZE).image.astype(np.float32) / 255.0


def samples(folder: Path) -> None:
    """Write a phantom of each class for a first try of the page."""
    folder.mkdir(exist_ok=True)
    for label in contract.CLASSES:
        (folder / f"{label}.png").write_bytes(phantom.png(phantom.draw(label, SEED + COLUMNS, SIZE).image))


if __name__ == "__main__":
    samples(PROJECT / "webapp/static/samples")
    phantoms(PROJECT / "docs/phantoms.png")
    augmentation(PROJECT / "docs/augmentation.png", params.load(PROJECT / "params.yaml").train.augment)
