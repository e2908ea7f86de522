"""Manifests -> pixels in memory -> batches.

Images are decoded once, by the function that serving uses, and kept as uint8.
"""

import csv
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from core import contract, files
from stages.data import preprocess, spelling

FOLDER = Path("data/prepared")
SPLITS = ("train", "validation", "test")
REPORT = Path("reports/prepare/data.json")
"""What `prepare` counted: the name and digest of the data, which later stages record beside their numbers."""
UNKNOWN = -1
"""Stands for spelling.TUMOUR where labels are indices into contract.CLASSES."""


@dataclass(frozen=True)
class Row:
    """One image of a manifest.

    Its file in FOLDER; its label; the group that no split cuts; the SHA-256 digest of its canonical bytes; the file
    that it came from, as folder/name; the picture that it shows, which copies in any orientation share, -1 before these
    are looked for; its patient as kind-number, never an id, "" where none is known; the origin of the file, such as a
    public set's name, "" where that is not known; and the SHA-256 digest of the file. made: "", or how `making` made
    the image out of that of the file, one of moving.KINDS; then file is "", since no file has these pixels.
    """

    path: str
    label: str
    group: int
    digest: str
    source: str
    picture: int = -1
    patient: str = ""
    origin: str = ""
    file: str = ""
    made: str = ""


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
        lines: Iterable[dict[str, Any]] = csv.DictReader(file)
        return [Row(**line | {"group": int(line["group"]), "picture": int(line["picture"])}) for line in lines]


def read_report() -> dict:
    """Return the content of REPORT.

    Raises:
        FileNotFoundError: `prepare` has not run.
    """
    return json.loads(REPORT.read_text())


@dataclass(frozen=True)
class Images:
    """Pixels uint8 [n, size, size, c], and labels int64 [n] as indices into contract.CLASSES, or UNKNOWN.

    c is 1 when all images are grey, as MRI is: a third of the memory, and of the work of augmentation. Else it is 3.
    draws float [n]: how often an epoch of training is expected to show each image, see counting.draws; None for once.
    """

    pixels: np.ndarray
    labels: np.ndarray
    draws: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def an_epoch(self) -> int:
        """How many images an epoch of training shows."""
        return len(self) if self.draws is None else round(self.draws.sum())


def label_index(label: str) -> int:
    """Return a label of spelling.LABELS as index into contract.CLASSES, or UNKNOWN."""
    return UNKNOWN if label == spelling.TUMOUR else contract.CLASSES.index(label)


def load(split: str, size: int, folder: Path = FOLDER) -> Images:
    """Decode a split's images at the given size in pixels."""
    return load_rows(read_manifest(split, folder), size, folder)


def load_rows(rows: list[Row], size: int, folder: Path = FOLDER) -> Images:
    """Decode images at the given size in pixels, in the order of their rows."""
    decoded = (tf.data.Dataset.from_tensor_slices([str(folder / row.path) for row in rows])
               .map(lambda path: _pixels(path, size), num_parallel_calls=tf.data.AUTOTUNE))
    pixels = np.empty((len(rows), size, size, preprocess.CHANNELS), np.uint8)
    for index, image in enumerate(decoded.as_numpy_iterator()):
        pixels[index] = image
    return Images(in_few_channels(pixels), np.array([label_index(row.label) for row in rows]))


def in_few_channels(pixels: np.ndarray) -> np.ndarray:
    """Return pixels uint8 [n, size, size, 3] in one channel where all are grey, else unchanged."""
    return pixels[..., :1].copy() if (pixels == pixels[..., :1]).all() else pixels


def _pixels(path: tf.Tensor, size: int) -> tf.Tensor:
    return tf.cast(tf.round(preprocess.decode(tf.io.read_file(path), size) / preprocess.STEP), tf.uint8)


def resized(images: Images, size: int) -> Images:
    """Return the images at another size in pixels, area-averaged when smaller."""
    if images.pixels.shape[1] == size:
        return images
    chunks = [tf.image.resize(images.pixels[start : start + 256], [size, size], method="area")
              for start in range(0, len(images), 256)]
    return replace(images, pixels=np.concatenate([np.rint(chunk).astype(np.uint8) for chunk in chunks]))


def batches(images: Images, batch_size: int) -> tf.data.Dataset:
    """Return the images in order and unchanged: pixels float32 [b, size, size, 3] in [0, 1], labels int64 [b]."""
    return (tf.data.Dataset.from_tensor_slices((images.pixels, images.labels))
            .batch(batch_size)
            .map(lambda pixels, labels: (rgb(tf.cast(pixels, tf.float32) * preprocess.STEP), labels))
            .prefetch(2))


def rgb(pixels: tf.Tensor) -> tf.Tensor:
    """Return pixels [b, size, size, 1 or 3] in three channels."""
    return tf.repeat(pixels, preprocess.CHANNELS // pixels.shape[-1], axis=-1)
