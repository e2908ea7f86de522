"""Reads the images, groups duplicates, splits them: the first stage.

    python -m stages.prepare          (or, with everything that follows: dvc repro)

prepare.source is `phantom` (synthetic images are drawn first) or a folder with one sub-folder for each class:
glioma, meningioma, notumor, pituitary. Every file is read the way serving reads it. The result is data/prepared/:
the canonical images, named by their digest, and one manifest for each split. A second for 200 images.
"""

import hashlib
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
from imaging import contract
from stages import command, dataset, files, grouping, params, phantom, preprocess

JPEG_MAGIC = b"\xff\xd8"


@dataclass(frozen=True)
class Scan:
    """What one source folder held: rows of the good images, their thumbnails [n, 32, 32], and the bad files."""

    rows: list[dataset.Row]
    thumbnails: np.ndarray
    bad: list[tuple[str, str]]


@contextmanager
def source_folder(knobs: params.Prepare) -> Iterator[Path]:
    """Give the folder to read: prepare.source itself, or freshly drawn phantoms that vanish afterwards.

    Raises:
        StageError: the folder does not exist.
    """
    if knobs.source != contract.PHANTOM:
        yield existing_folder(knobs.source, "prepare.source")
        return
    with tempfile.TemporaryDirectory(prefix="phantoms-") as scratch:
        folder = Path(scratch) / contract.PHANTOM
        with tqdm(total=knobs.phantom_per_class * len(contract.CLASSES), desc=contract.PHANTOM, unit="image") as bar:
            phantom.write_dataset(folder, knobs.phantom_per_class, knobs.image_size, knobs.seed,
                                  progress=lambda done, total: bar.update(done - bar.n))
        yield folder


def existing_folder(name: str, param: str) -> Path:
    """Return the folder that a param names.

    Raises:
        StageError: there is no such folder.
    """
    folder = Path(name)
    if not folder.is_dir():
        raise command.StageError(
            f"Expected {param} to be '{contract.PHANTOM}' or a folder with the sub-folders "
            f"{', '.join(contract.CLASSES)}. Received: {name!r}, which is no folder. "
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
        imaging.ImageError: the file is no image that the server would accept.
    """
    data = imaging.read(path)
    try:
        preprocess.decode(tf.constant(data), size)
    except tf.errors.InvalidArgumentError as error:
        raise imaging.ImageError("corrupt_image", f"TensorFlow cannot decode it: {error.message}") from None
    return data


def scan(folder: Path, images: Path, knobs: params.Prepare) -> Scan:
    """Read every image of a source folder and store its canonical bytes under their digest.

    Args:
        folder: holds one sub-folder for each class.
        images: where the canonical images go.
        knobs: the params of this stage.

    Raises:
        StageError: wrong class folders, or an empty one.
    """
    check_classes(folder)
    rows, thumbnails, bad = [], [], []
    for label in contract.CLASSES:
        paths = pick(imaging.find(folder / label), knobs.max_per_class, knobs.seed)
        if not paths:
            raise command.StageError(f"Expected images in {folder / label}. Received: none. Supported suffixes: "
                                     f"{', '.join(sorted(imaging.SUFFIXES))}.")
        for path in tqdm(paths, desc=label, unit="image"):
            source = f"{label}/{path.name}"
            try:
                data = read_image(path, knobs.image_size)
            except (imaging.ImageError, OSError) as error:
                bad.append((source, str(error)))
                continue
            rows.append(store(data, source, label, images))
            thumbnails.append(imaging.thumbnail(data))
    return Scan(rows, np.array(thumbnails, np.float32).reshape(len(rows), -1), bad)


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


def split(rows: list[dataset.Row], external: np.ndarray, knobs: params.Prepare) -> dict[str, list[dataset.Row]]:
    """Split grouped rows into train, validation and test; no group is cut.

    Args:
        rows: all images, with their groups.
        external: bool [n], true for images of prepare.test_source. When there are any, they are the test split, less
            those that share a group with an image of prepare.source, which become the split `test_duplicates`.
        knobs: the params of this stage.

    Raises:
        StageError: a class is missing from a split, since it has too few different images.
    """
    labels = np.array([contract.CLASSES.index(row.label) for row in rows])
    groups = np.array([row.group for row in rows])
    if external.any():
        leaked = external & np.isin(groups, groups[~external])
        parts = {"test": external & ~leaked, "test_duplicates": leaked}
        rest = np.flatnonzero(~external)
    else:
        test = grouping.hold_out(labels, groups, knobs.test_fraction, knobs.seed)
        parts, rest = {"test": test}, np.flatnonzero(~test)
    validation = np.zeros(len(rows), bool)
    validation[rest] = grouping.hold_out(labels[rest], groups[rest], knobs.validation_fraction, knobs.seed + 1)
    train = np.zeros(len(rows), bool)
    train[rest] = ~validation[rest]
    parts |= {"train": train, "validation": validation}
    splits = {name: [row for row, inside in zip(rows, part, strict=True) if inside] for name, part in parts.items()}
    check_splits(splits)
    return splits


def check_splits(splits: dict[str, list[dataset.Row]]) -> None:
    """Check that every class is in train, validation and test.

    Raises:
        StageError: naming the split and the class.
    """
    for name in dataset.SPLITS:
        missing = set(contract.CLASSES) - {row.label for row in splits[name]}
        if missing:
            raise command.StageError(
                f"Expected images of every class in the {name} split. Received: none of {', '.join(sorted(missing))}. "
                "Add different images of it (copies of one picture stay together), or change the fractions.")


def report(splits: dict[str, list[dataset.Row]], bad: int, name: str) -> dict:
    """Count what was read, joined and split.

    Args:
        splits: rows of each split.
        bad: number of unreadable files.
        name: what the data are called in metrics and on the page.

    Returns:
        the content of reports/prepare/data.json.
    """
    rows = [row for part in splits.values() for row in part]
    labels = np.array([contract.CLASSES.index(row.label) for row in rows])
    groups = np.unique([row.group for row in rows], return_inverse=True)[1]
    counts = {split: {label: sum(row.label == label for row in part) for label in contract.CLASSES}
              for split, part in splits.items()}
    lines = sorted(f"{split} {row.label} {row.digest}" for split, part in splits.items() for row in part)
    return {
        "source": name,
        "digest": hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16],
        "images": len(rows),
        "unreadable": bad,
        "groups": int(groups.max()) + 1,
        "exact_duplicates": len(rows) - len({row.digest for row in rows}),
        "near_duplicates": len(rows) - int(groups.max()) - 1,
        "label_conflicts": grouping.conflicts(labels, groups),
        "splits": counts,
    }


def data_name(source: str) -> str:
    """Name a source for metrics and pages: `phantom`, or the folder's last two parts (never a whole private path)."""
    return source if source == contract.PHANTOM else "/".join(Path(source).resolve().parts[-2:])


def main(knobs: params.Params) -> None:
    """Write data/prepared and reports/prepare."""
    own = knobs.prepare
    with files.replacing(dataset.FOLDER) as new:
        scans = []
        with source_folder(own) as folder:
            scans.append(scan(folder, new / "images", own))
            check_bad(scans[0], folder, own.max_bad_fraction)
        if own.test_source is not None:
            folder = existing_folder(own.test_source, "prepare.test_source")
            scans.append(scan(folder, new / "images", own))
            check_bad(scans[1], folder, own.max_bad_fraction)
        groups = grouping.near_duplicates(np.concatenate([one.thumbnails for one in scans]), own.duplicate_similarity)
        rows = [row.in_group(int(group)) for row, group in
                zip([row for one in scans for row in one.rows], groups, strict=True)]
        external = np.arange(len(rows)) >= len(scans[0].rows)
        splits = split(rows, external, own)
        for name, part in splits.items():
            dataset.write_manifest(new / f"{name}.csv", part)
        bad = [item for one in scans for item in one.bad]
        files.write_text(new / "unreadable.csv", "".join(f"{source},{reason!r}\n" for source, reason in bad))
    summary = report(splits, len(bad), data_name(own.source))
    files.write_json(dataset.REPORT, summary)
    print({name: len(part) for name, part in splits.items()}, f"near duplicates: {summary['near_duplicates']}")


if __name__ == "__main__":
    command.run(main, __doc__)
