"""Sources of images -> canonical images under their digest, with what is known about each."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np
import tensorflow as tf
from tqdm import tqdm

import imaging
from core import contract
from imaging import decode
from stages.common import command
from stages.data import dataset, figshare, layouts, patients, phantom, preprocess, probe, spelling
from stages.data.params import Prepare

JPEG_MAGIC = b"\xff\xd8"
DETAILS = 64
"""Side of the larger thumbnails."""


@dataclass(frozen=True)
class Scan:
    """What one source held.

    The rows of the good images; their thumbnails float32 [n, 32, 32], the same with more details float32 [n, 64, 64],
    and features float32 [n, 22], see `probe`; name and fault of each bad file; of the good images also the files that
    they were, and the SHA-256 of these as 64 hexadecimal digits; how many files are no images, by the reason; and what
    else is known of the good images.
    """

    rows: list[dataset.Row]
    thumbnails: np.ndarray
    details: np.ndarray
    features: np.ndarray
    bad: list[tuple[str, str]]
    files: list[layouts.File]
    digests: list[str]
    left_out: dict[str, int]
    known: list[patients.Known]


@dataclass(frozen=True)
class Original:
    """An image that was read: canonical PNG or JPEG bytes; SHA-256, as 64 hexadecimal digits, and size of its file."""

    data: bytes
    digest: str
    file_bytes: int


@contextmanager
def source_place(params: Prepare) -> Iterator[Path]:
    """Give the folder or CSV file to read: prepare.source, or freshly drawn phantoms that vanish afterwards.

    Raises:
        StageError: there is none.
    """
    if params.source != contract.PHANTOM:
        yield existing_source(params.source, "prepare.source")
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


def existing_source(name: str, param: str) -> Path:
    """Return the folder or CSV file that a param names.

    Raises:
        StageError: there is no such folder or CSV file.
    """
    path = Path(name)
    if not path.is_dir() and not (path.is_file() and path.suffix.lower() == ".csv"):
        raise command.StageError(
            f"Expected {param} to be '{contract.PHANTOM}', a folder with images of {', '.join(contract.CLASSES)}, or a "
            f"CSV file that lists them. Received: {name!r}, which is not a folder, nor a CSV file. "
            "dataset/README.md shows the layouts, README.md says where to get the public data set.")
    return path


def pick(files: list[layouts.File], limit: int | None, seed: int) -> list[layouts.File]:
    """Return at most `limit` files of each class, drawn at random by seed, in their old order."""
    chosen: list[layouts.File] = []
    for _, members in groupby(files, lambda file: file.label):
        own = list(members)
        if limit is not None and len(own) > limit:
            drawn = np.random.default_rng(seed).choice(len(own), limit, replace=False)
            own = [own[index] for index in sorted(drawn)]
        chosen += own
    return chosen


def read_image(path: Path, size: int) -> Original:
    """Read a file as serving does: through `imaging`, then through the decoder that is exported.

    Raises:
        imaging.ImageError: the file is not an image that the server would accept.
        OSError: it cannot be read.
    """
    original = decode.contents(path)
    data = imaging.canonical(figshare.png(original) if figshare.is_mine(original) else original)
    try:
        preprocess.decode(tf.constant(data), size)
    except tf.errors.InvalidArgumentError as error:
        raise imaging.ImageError("corrupt_image", f"TensorFlow cannot decode it: {error.message}") from None
    return Original(data, imaging.digest(original), len(original))


def read_images(files: list[layouts.File], size: int) -> Iterator[tuple[layouts.File, Original | str]]:
    """Read files one by one, with a progress bar for each class.

    Args:
        files: of layouts.find, sorted by label.
        size: side in pixels at which images must be decodable.

    Yields:
        each file and what it holds, or its fault in words, which is printed as well.
    """
    for label, members in groupby(files, lambda file: file.label):
        for file in tqdm(list(members), desc=label, unit="image"):
            try:
                found: Original | str = read_image(file.path, size)
            except (imaging.ImageError, OSError) as error:
                found = str(error)
                tqdm.write(f"unreadable: {file.path}: {error}")
            yield file, found


def scan(source: Path, images: Path, params: Prepare, whose: patients.Patients, name: str = "") -> Scan:
    """Read every image of a source and store its canonical bytes under their digest.

    Args:
        source: folder or CSV file, see `layouts`.
        images: where the canonical images go.
        params: of this stage.
        whose: numbers the patients.
        name: of a further source: it may lack classes and hold tumours of unknown type, see also patients.known.

    Raises:
        StageError: the layout is not understood, or a class has no image.
    """
    found = layouts.find(source, spelling.LABELS if name else contract.CLASSES)
    rows, thumbnails, details, features, bad, files, digests = [], [], [], [], [], [], []
    for file, read in read_images(pick(found.files, params.max_per_class, params.seed), params.image_size):
        if isinstance(read, str):
            bad.append((file.name, read))
            continue
        rows.append(store(read.data, file.name, file.label, images))
        thumbnails.append(imaging.thumbnail(read.data))
        details.append(imaging.thumbnail(read.data, DETAILS))
        features.append(probe.features(thumbnails[-1], read.data, read.file_bytes))
        files.append(file)
        digests.append(read.digest)
    tell(found)
    known = patients.of_scan(files, digests, source, whose, name)
    rows = [replace(row, patient=one.patient, origin=one.origin, file=digest)
            for row, one, digest in zip(rows, known, digests, strict=True)]
    return Scan(rows, np.array(thumbnails, np.float32), np.array(details, np.float32), np.array(features, np.float32),
                bad, files, digests, found.left_out, known)


def tell(found: layouts.Found) -> None:
    """Print which folders were read as one, and how many files are no images, by the reason."""
    if found.pooled:
        tqdm.write(f"read as one pool, since published splits cut patients: {', '.join(found.pooled)}")
    for reason, count in found.left_out.items():
        tqdm.write(f"left out: {count} file{'' if count == 1 else 's'}: {reason}")


def store(data: bytes, source: str, label: str, images: Path) -> dataset.Row:
    """Write canonical bytes under their digest (equal images share one file) and return the manifest's row."""
    digest = imaging.digest(data)
    suffix = "jpg" if data.startswith(JPEG_MAGIC) else "png"
    path = images / digest[:2] / f"{digest}.{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return dataset.Row(str(path.relative_to(images.parent)), label, -1, digest, source)


def check_bad(found: Scan, source: Path, max_fraction: float) -> None:
    """Stop when there are too many unreadable files.

    Raises:
        StageError: more than max_fraction of the files could not be read.
    """
    total = len(found.rows) + len(found.bad)
    if len(found.bad) > max_fraction * total:
        raise command.StageError(
            f"Expected at most {max_fraction:.1%} unreadable files (prepare.max_bad_fraction). Received: "
            f"{len(found.bad)} of {total} in {source}, listed above. Repair or remove them, or raise the param.")


def read_sources(params: Prepare, images: Path) -> list[Scan]:
    """Read prepare.source, prepare.further_sources and, where given, prepare.test_source: a scan each, in this order.

    Raises:
        StageError: a source or prepare.patients is missing or wrong, or too many files are unreadable.
    """
    whose = patients.Patients(Path(params.patients) if params.patients else None)

    def read(source: Path, name: str = "") -> Scan:
        found = scan(source, images, params, whose, name)
        check_bad(found, source, params.max_bad_fraction)
        return found

    others = further_places(params)
    with source_place(params) as source:
        scans = [read(source)]
    scans += [read(path, name) for name, path in others.items()]
    if params.test_source is not None:
        scans.append(read(existing_source(params.test_source, "prepare.test_source")))
    return scans


def further_places(params: Prepare) -> dict[str, Path]:
    """Return the folders and CSV files of prepare.further_sources by their names, see layouts.places.

    Raises:
        StageError: there is none at one of them, one is given twice, or prepare.source is drawn: who reads the scores
            could not tell whether they are of patients.
    """
    found = layouts.places(params.further_sources, "prepare.further_sources")
    if found and params.source == contract.PHANTOM:
        raise command.StageError("Expected prepare.source to be real images beside prepare.further_sources. Received: "
                                 f"{params.source!r}. Name a folder or CSV file, or remove the further sources.")
    seen = {Path(one).resolve() for one in (params.source, params.test_source) if one}
    for path in found.values():
        if path.resolve() in seen:
            raise command.StageError("Expected each source once in prepare.source, further_sources and test_source. "
                                     f"Received: {str(path)!r} twice. Remove one of them.")
        seen.add(path.resolve())
    return found
