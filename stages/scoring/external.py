"""Pictures of other sources than the networks were trained on -> pixels and labels, as serving reads them."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tensorflow as tf
from tqdm import tqdm

import imaging
from stages.common import command
from stages.data import copies, dataset, grouping, layouts, patients, preprocess, reading, report, spelling

HELD_OUT, HELD_OUT_COPIES = "held_out", "held_out_duplicates"
"""The splits that `prepare` writes of prepare.hold_out_source: its pictures, and those that copy training pictures."""
UNTYPED = "untyped"
"""The split of tumours of unknown type that `prepare` has set aside for a test."""


@dataclass(frozen=True)
class Source:
    """Images of one source: its name, their rows and pixels, and how many files were left out as `known` from training
    or `unreadable`. A tumour of unknown type has the label spelling.TUMOUR, as index dataset.UNKNOWN."""

    name: str
    rows: list[dataset.Row]
    images: dataset.Images
    known: int
    unreadable: int

    @property
    def facts(self) -> dict:
        """What stands beside the scores: the digest of the images and labels, and what was left out."""
        return {"digest": report.data_digest({self.name: self.rows}), "known": self.known,
                "unreadable": self.unreadable}


def sources(found: dict[str, Path], size: int, similarity: float) -> Iterator[Source]:
    """Read what `prepare` has set aside, the held-out source and tumours of unknown type, then others, one by one.

    Args:
        found: of evaluate.external, see layouts.places.
        size: side in pixels, prepare.image_size.
        similarity: from which two pictures are one, prepare.duplicate_similarity.

    Raises:
        StageError: a layout is not understood, or no image of a source is left.
    """
    for own in (*held_out(size), *untyped(size)):
        if own.name in found:
            raise command.StageError("Expected sources of other names in evaluate.external than what `prepare` has set "
                                     f"aside. Received: {str(found[own.name])!r}. Rename it.")
        yield own
    trained = training_pictures() if found else np.zeros((0, 0))
    for name, path in found.items():
        yield read(name, path, trained, size, similarity)


def held_out(size: int) -> list[Source]:
    """Read the sources that `prepare` has held out, one by one.

    None of a source, with a line that says so, if all of it copies training.
    """
    known, parts = Counter(row.origin for row in rows_of(HELD_OUT_COPIES)), by_origin(rows_of(HELD_OUT))
    for name in sorted(set(known) - set(parts)):
        print(f"{name}: not scored, since all {known[name]} images of it copy training pictures.")
    return [Source(name, rows, dataset.load_rows(rows, size), known[name], 0) for name, rows in parts.items()]


def untyped(size: int) -> list[Source]:
    """Read the tumours of unknown type that `prepare` has set aside, by their origin."""
    return [Source(f"{UNTYPED}/{name}", rows, dataset.load_rows(rows, size), 0, 0)
            for name, rows in by_origin(rows_of(UNTYPED)).items()]


def by_origin(rows: list[dataset.Row]) -> dict[str, list[dataset.Row]]:
    """Return rows by the source that they are from, in alphabetical order of these."""
    parts: dict[str, list[dataset.Row]] = {}
    for row in sorted(rows, key=lambda row: row.origin):
        parts.setdefault(row.origin, []).append(row)
    return parts


def rows_of(split: str) -> list[dataset.Row]:
    """Return the rows of a split that there need not be."""
    return dataset.read_manifest(split) if (dataset.FOLDER / f"{split}.csv").is_file() else []


def training_pictures() -> np.ndarray:
    """Return the thumbnails of the train and validation splits as copies.unit_vectors: float32 [n, 1024].

    Not of images that `prepare` made of others: those they were made of are in the same split.
    """
    rows = [row for split in ("train", "validation") for row in dataset.read_manifest(split) if not row.made]
    return copies.unit_vectors(np.array([imaging.thumbnail((dataset.FOLDER / row.path).read_bytes()) for row in rows]))


def read(name: str, path: Path, trained: np.ndarray, size: int, similarity: float) -> Source:
    """Read a source's files, less those that show a training picture, see sources().

    Args:
        name, path: of the source. trained: see training_pictures(). size, similarity: see sources().
    """
    found = layouts.find(path, spelling.LABELS)
    good = [(file, read) for file, read in reading.read_images(found.files, size)
            if isinstance(read, reading.Original)]
    reading.tell(found)
    thumbnails = np.array([imaging.thumbnail(one.data) for _, one in good], np.float32).reshape(len(good), 32, 32)
    is_known = shows_training_picture(thumbnails, trained, similarity)
    kept = [one for one, known in zip(good, is_known, strict=True) if not known]
    unreadable = len(found.files) - len(good)
    if not kept:
        raise command.StageError(f"Expected images in {path} that are no training pictures. Received: none of "
                                 f"{len(found.files)}; {unreadable} are unreadable, {len(good)} were trained on. "
                                 "Take it out of evaluate.external.")
    if len(kept) < len(good):
        tqdm.write(f"left out: {len(good) - len(kept)} of {len(good)} images of {name}: they show training pictures")
    whose = patients.of_scan([file for file, _ in kept], [one.digest for _, one in kept], path, patients.Patients(None))
    rows = grouped([as_row(file, one.data, of) for (file, one), of in zip(kept, whose, strict=True)],
                   thumbnails[~is_known], similarity)
    images = dataset.Images(np.stack([pixels(one.data, size) for _, one in kept]),
                            np.array([dataset.label_index(row.label) for row in rows]))
    return Source(name, rows, images, int(is_known.sum()), unreadable)


def shows_training_picture(thumbnails: np.ndarray, trained: np.ndarray, similarity: float) -> np.ndarray:
    """Return which images are a training picture in any orientation, whose score would be memory: bool [n].

    Args:
        thumbnails: float32 [n, 32, 32]. trained: see training_pictures(). similarity: see sources().
    """
    found = np.zeros(len(thumbnails), bool)
    for orientation in copies.ORIENTATIONS if len(found) else ():
        turned = copies.unit_vectors(copies.oriented(thumbnails, *orientation))
        found |= (turned @ trained.T >= similarity).any(axis=1)
    return found


def as_row(file: layouts.File, data: bytes, known: patients.Known) -> dataset.Row:
    """Return the row of a file that holds these canonical bytes, with what is known of it."""
    return dataset.Row("", file.label, -1, imaging.digest(data), file.name, patient=known.patient, origin=known.origin)


def grouped(rows: list[dataset.Row], thumbnails: np.ndarray, similarity: float) -> list[dataset.Row]:
    """Return rows with their pictures and groups: one of a patient, or of a picture where none is known.

    Args:
        rows: of one source. thumbnails: float32 [n, 32, 32]. similarity: see sources().
    """
    pairs = [copies.exact_pairs([row.digest for row in rows]).indices,
             copies.duplicate_pairs(thumbnails, similarity).indices]
    whose = grouping.pairs_of([row.patient for row in rows]).indices
    picture, group = grouping.components(len(rows), *pairs), grouping.components(len(rows), *pairs, whose)
    return [replace(row, picture=int(own), group=int(whole))
            for row, own, whole in zip(rows, picture, group, strict=True)]


def pixels(data: bytes, size: int) -> np.ndarray:
    """Return what serving makes of canonical bytes, as uint8 [size, size, 3]."""
    return np.rint(preprocess.decode(tf.constant(data), size).numpy() / preprocess.STEP).astype(np.uint8)
