"""Manifests -> pixels in memory -> batches; the random changes that only training images get.

Images are decoded once, by the function that serving uses, and kept as uint8. Each training batch is warped by one
projective transform an image, which composes rotation, shear, zoom, shift and flip: pixels are interpolated once.
Every random number comes from the seed and the epoch, so that a resumed run sees the images that an uninterrupted
one would have seen.
"""

import csv
import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
import tensorflow as tf

from core import contract, files
from stages.data import preprocess
from stages.data.params import Augment

FOLDER = Path("data/prepared")
SPLITS = ("train", "validation", "test")
REPORT = Path("reports/prepare/data.json")
"""What `prepare` counted: the name and digest of the data, which later stages record beside their numbers."""


@dataclass(frozen=True)
class Row:
    """One image of a manifest: its file in FOLDER, label, duplicate group, SHA-256 digest, and where it came from."""

    path: str
    label: str
    group: int
    digest: str
    source: str

    def in_group(self, group: int) -> "Row":
        """Return the same row as a member of another group."""
        return replace(self, group=group)


def write_manifest(path: Path, rows: list[Row]) -> None:
    """Write rows as CSV with a header."""
    with files.replacing(path) as new, new.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def read_manifest(split: str, folder: Path = FOLDER) -> list[Row]:
    """Read the rows of a split, in the manifest's order.

    Raises:
        FileNotFoundError: `prepare` has not run.
    """
    with (folder / f"{split}.csv").open(newline="", encoding="utf-8") as file:
        return [Row(**{**line, "group": int(line["group"])}) for line in csv.DictReader(file)]


def read_report() -> dict:
    """Return the content of REPORT.

    Raises:
        FileNotFoundError: `prepare` has not run.
    """
    return json.loads(REPORT.read_text())


@dataclass(frozen=True)
class Images:
    """Pixels uint8 [n, size, size, c], and labels int64 [n] as indices into contract.CLASSES.

    c is 1 when all images are grey, as MRI is: a third of the memory, and of the work of augmentation. Else it is 3.
    """

    pixels: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


def load(split: str, size: int, folder: Path = FOLDER) -> Images:
    """Decode a split's images at the given side in pixels."""
    rows = read_manifest(split, folder)
    decoded = (tf.data.Dataset.from_tensor_slices([str(folder / row.path) for row in rows])
               .map(lambda path: _pixels(path, size), num_parallel_calls=tf.data.AUTOTUNE))
    pixels = np.empty((len(rows), size, size, preprocess.CHANNELS), np.uint8)
    for index, image in enumerate(decoded.as_numpy_iterator()):
        pixels[index] = image
    if (pixels == pixels[..., :1]).all():
        pixels = pixels[..., :1].copy()
    return Images(pixels, np.array([contract.CLASSES.index(row.label) for row in rows]))


def _pixels(path: tf.Tensor, size: int) -> tf.Tensor:
    return tf.cast(tf.round(preprocess.decode(tf.io.read_file(path), size) / preprocess.STEP), tf.uint8)


def resized(images: Images, size: int) -> Images:
    """Return the images at another side in pixels, area-averaged when smaller."""
    if images.pixels.shape[1] == size:
        return images
    chunks = [tf.image.resize(images.pixels[start : start + 256], [size, size], method="area")
              for start in range(0, len(images), 256)]
    return Images(np.concatenate([np.rint(chunk).astype(np.uint8) for chunk in chunks]), images.labels)


def batches(images: Images, batch_size: int) -> tf.data.Dataset:
    """Return the images in order and unchanged: pixels float32 [b, size, size, 3] in [0, 1], labels int64 [b]."""
    return (tf.data.Dataset.from_tensor_slices((images.pixels, images.labels))
            .batch(batch_size)
            .map(lambda pixels, labels: (_rgb(tf.cast(pixels, tf.float32) * preprocess.STEP), labels))
            .prefetch(2))


def _rgb(pixels: tf.Tensor) -> tf.Tensor:
    return tf.repeat(pixels, preprocess.CHANNELS // pixels.shape[-1], axis=-1)


def training_batches(images: Images, batch_size: int, augment: Augment, seed: int, first_epoch: int) -> tf.data.Dataset:
    """Return shuffled, randomly changed batches without end: one pass over the images an epoch.

    Args:
        images: the training split.
        batch_size: images a batch; the last batch of an epoch is smaller.
        augment: the random changes.
        seed: with the epoch's number, decides order and changes.
        first_epoch: the epoch that the first pass belongs to.

    Returns:
        batches of pixels float32 [b, size, size, 3] in [0, 1] and labels int64 [b].
    """
    pixels, labels = tf.constant(images.pixels), tf.constant(images.labels)

    def one_epoch(epoch):
        order = tf.random.experimental.stateless_shuffle(tf.range(len(images)), seed=[seed, epoch])
        numbers = tf.data.Dataset.from_tensor_slices(order).batch(batch_size).enumerate()
        return numbers.map(lambda number, chosen: (epoch, number, chosen))

    def one_batch(epoch, number, chosen):
        seeds = tf.stack([tf.cast(seed, tf.int64) * 1_000_003 + epoch, number])
        changed = augmented(tf.cast(tf.gather(pixels, chosen), tf.float32) * preprocess.STEP, augment, seeds)
        return _rgb(changed), tf.gather(labels, chosen)

    epochs = tf.data.Dataset.range(first_epoch, tf.int64.max)
    return epochs.flat_map(one_epoch).map(one_batch, num_parallel_calls=2, deterministic=True).prefetch(2)


def augmented(pixels: tf.Tensor, augment: Augment, seed: tf.Tensor) -> tf.Tensor:
    """Change each image of a batch at random: one warp, then brightness.

    Args:
        pixels: float32 [b, size, size, c] in [0, 1].
        augment: half-widths of the uniform distributions; what leaves the picture is black, like an MRI's background.
        seed: int [2]; the same seed gives the same changes.

    Returns:
        float32 [b, size, size, c] in [0, 1].
    """
    count, size = tf.shape(pixels)[0], pixels.shape[1]
    draws = tf.random.stateless_uniform([7, count], seed, -1.0, 1.0)
    transforms = warps(
        angle=draws[0] * np.deg2rad(augment.rotation_degrees),
        shear=draws[1] * np.deg2rad(augment.shear_degrees),
        zoom=1.0 + draws[2] * augment.zoom,
        shift=draws[3:5] * augment.shift * size,
        flip=tf.where(draws[5] < 0, -1.0, 1.0) if augment.horizontal_flip else tf.ones([count]),
        size=size,
    )
    warped = tf.raw_ops.ImageProjectiveTransformV3(
        images=pixels, transforms=transforms, output_shape=[size, size], interpolation="BILINEAR",
        fill_mode="CONSTANT", fill_value=0.0)
    return tf.clip_by_value(warped * (1.0 + draws[6] * augment.brightness)[:, None, None, None], 0.0, 1.0)


def warps(angle, shear, zoom, shift, flip, size: int) -> tf.Tensor:
    """Compose rotation, shear, zoom, shift and flip about the image's centre into one transform an image.

    Args:
        angle: float32 [b], radians, counter-clockwise.
        shear: float32 [b], radians; rows slide along x.
        zoom: float32 [b], 2 shows things twice as large.
        shift: float32 [2, b], pixels along x and y.
        flip: float32 [b], -1 mirrors left and right, 1 does not.
        size: side of the image in pixels.

    Returns:
        float32 [b, 8], rows a0 a1 a2 b0 b1 b2 0 0 of ImageProjectiveTransformV3: the output pixel (x, y) takes its
        value from the input at (a0 x + a1 y + a2, b0 x + b1 y + b2).
    """
    cos, sin, tan = tf.cos(angle), tf.sin(angle), tf.tan(shear)
    a0, a1 = flip * cos / zoom, flip * (tan * cos - sin) / zoom
    b0, b1 = sin / zoom, (tan * sin + cos) / zoom
    centre = (size - 1) / 2.0
    x, y = centre + shift[0], centre + shift[1]
    zero = tf.zeros_like(angle)
    return tf.stack([a0, a1, centre - a0 * x - a1 * y, b0, b1, centre - b0 * x - b1 * y, zero, zero], axis=1)
