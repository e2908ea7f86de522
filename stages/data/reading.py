"""Source folders -> canonical images under their digest, with what is known about each."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import tensorflow as tf
from tqdm import tqdm

import imaging
from core import contract
from stages.common import command
from stages.data import dataset, phantom, preprocess, probe
from stages.data.params import Prepare

JPEG_MAGIC = b"\xff\xd8"


@dataclass(frozen=True)
class Scan:
    """What one source folder held.

    The rows of the good images; their thumbnails float32 [n, 32, 32] and features float32 [n, 22], see `probe`; name
    and fault of each bad file.
    """

    rows: list[dataset.Row]
    thumbnails: np.ndarray
    features: np.ndarray
    bad: list[tuple[str, str]]


@contextmanager
def source_folder(params: Prepare) -> Iterator[Path]:
    """Give the folder to read: prepare.source itself, or freshly drawn phantoms that vanish afterwards.

    Raises:
        StageError: the folder does not exist.
    """
    if params.source != contract.PHANTOM:
        yield existing_folder(params.source, "prepare.source")
        return
    with tempfile.TemporaryDirectory(prefix="phantoms-") as scratch:
        folder = Path(scratch) / contract.PHANTOM
        draw_phantoms(folder, params)
        yield folder


def draw_phantoms(folder: Path, params: Prepare) -> None:
    """Write phantom_per_class phantoms of each class, with a progress bar.

    Raises:
        StageError: a class has no painter.
    """
    with tqdm(total=params.phantom_per_class * len(contract.CLASSES), desc=contract.PHANTOM, unit="image") as bar:
        try:
            phantom.write_dataset(folder, params.phantom_per_class, params.image_size, params.seed,
                                  progress=lambda done, total: bar.update(done - bar.n))
        except phantom.NoPainter as error:
            raise command.StageError(str(error)) from None


def existing_folder(name: str, param: str) -> Path:
    """Return the folder that a param names.

    Raises:
        StageError: there is no such folder.
    """
    folder = Path(name)
    if not folder.is_dir():
        raise command.StageError(
            f"Expected {param} to be '{contract.PHANTOM}' or a folder with the sub-folders "
            f"{', '.join(contract.CLASSES)}. Received: {name!r}, which is not a folder. "
            "README.md says where to get the public data set.")
    return folder


def check_classes(folder: Path) -> None:
    """Check that a folder holds exactly one sub-folder for each class.

    Raises:
        StageError: naming each missing, misspelt or extra folder.
    """
    found = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    missing = [name for name in contract.CLASSES if name not in found]
    problems = [f"missing: {name}" for name in missing]
    for name in sorted(set(found) - set(contract.CLASSES)):
        close = get_close_matches(name.lower(), missing, n=1, cutoff=0.5)
        problems.append(f"unknown: {name}" + (f" (rename it to {close[0]}?)" if close else " (move it elsewhere)"))
    if problems:
        raise command.StageError(f"Expected the class folders {', '.join(contract.CLASSES)} in {folder}. "
                                 f"Received: {'; '.join(problems)}.")


def pick(paths: list[Path], limit: int | None, seed: int) -> list[Path]:
    """Return at most `limit` of the paths, drawn at random by seed, in their old order."""
    if limit is None or len(paths) <= limit:
        return paths
    chosen = np.random.default_rng(seed).choice(len(paths), limit, replace=False)
    return [paths[index] for index in sorted(chosen)]


def read_image(path: Path, size: int) -> bytes:
    """Read a file as serving does: through `imaging`, then through the decoder that is exported.

    Returns:
        canonical PNG or JPEG bytes.

    Raises:
        imaging.ImageError: the file is not an image that the server would accept.
    """
    data = imaging.read(path)
    try:
        preprocess.decode(tf.constant(data), size)
    except tf.errors.InvalidArgumentError as error:
        raise imaging.ImageError("corrupt_image", f"TensorFlow cannot decode it: {error.message}") from None
    return data


def scan(folder: Path, images: Path, params: Prepare) -> Scan:
    """Read every image of a source folder and store its canonical bytes under their digest.

    Args:
        folder: holds one sub-folder for each class.
        images: where the canonical images go.
        params: of this stage.

    Raises:
        StageError: wrong class folders, or an empty one.
    """
    check_classes(folder)
    rows, thumbnails, features, bad = [], [], [], []
    for label in contract.CLASSES:
        paths = pick(imaging.find(folder / label), params.max_per_class, params.seed)
        if not paths:
            raise command.StageError(f"Expected images in {folder / label}. Received: none. Supported suffixes: "
                                     f"{', '.join(sorted(imaging.SUFFIXES))}.")
        for path in tqdm(paths, desc=label, unit="image"):
            source = f"{label}/{path.name}"
            try:
                data, file_bytes = read_image(path, params.image_size), path.stat().st_size
            except (imaging.ImageError, OSError) as error:
                bad.append((source, str(error)))
                continue
            rows.append(store(data, source, label, images))
            thumbnails.append(imaging.thumbnail(data))
            features.append(probe.features(thumbnails[-1], data, file_bytes))
    return Scan(rows, np.array(thumbnails, np.float32), np.array(features, np.float32), bad)


def store(data: bytes, source: str, label: str, images: Path) -> dataset.Row:
    """Write canonical bytes under their digest (equal images share one file) and return the manifest's row."""
    digest = imaging.digest(data)
    suffix = "jpg" if data.startswith(JPEG_MAGIC) else "png"
    path = images / digest[:2] / f"{digest}.{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return dataset.Row(str(path.relative_to(images.parent)), label, -1, digest, source)


def check_bad(found: Scan, folder: Path, max_fraction: float) -> None:
    """Print the unreadable files, and stop when there are too many.

    Raises:
        StageError: more than max_fraction of the files could not be read.
    """
    for source, reason in found.bad:
        tqdm.write(f"unreadable: {folder / source}: {reason}")
    total = len(found.rows) + len(found.bad)
    if len(found.bad) > max_fraction * total:
        raise command.StageError(
            f"Expected at most {max_fraction:.1%} unreadable files (prepare.max_bad_fraction). Received: "
            f"{len(found.bad)} of {total} in {folder}, listed above. Repair or remove them, or raise the param.")


def read_sources(params: Prepare, images: Path) -> list[Scan]:
    """Read prepare.source and, where given, prepare.test_source.

    Raises:
        StageError: a folder is missing or wrong, or holds too many unreadable files.
    """
    with source_folder(params) as folder:
        scans = [scan(folder, images, params)]
        check_bad(scans[0], folder, params.max_bad_fraction)
    if params.test_source is not None:
        folder = existing_folder(params.test_source, "prepare.test_source")
        scans.append(scan(folder, images, params))
        check_bad(scans[1], folder, params.max_bad_fraction)
    return scans
