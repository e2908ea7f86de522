"""Reads the images, groups duplicates and neighbouring slices, splits them: the first stage.

    python -m stages.prepare          (or, with everything that follows: dvc repro)

prepare.source is `phantom` (synthetic images are drawn first) or a folder with one sub-folder for each class:
glioma, meningioma, notumor, pituitary. Every file is read the way serving reads it. The result is data/prepared/:
the canonical images, named by their digest, and one manifest for each split; reports/prepare/ says what the data are
like. A second for 200 images.
"""

import hashlib
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import tensorflow as tf
from tqdm import tqdm

import imaging
from core import contract, files
from stages.common import command, params
from stages.data import dataset, grouping, phantom, preprocess, probe
from stages.data.params import Prepare
from stages.reporting import figures

JPEG_MAGIC = b"\xff\xd8"
REPORTS = dataset.REPORT.parent
SHOWN_PAIRS, SHOWN_SIDE, SHOWN_SIZES, SHOWN_CONFLICTS = 8, 160, 10, 20


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


@dataclass(frozen=True)
class Pair:
    """Two joined images, by their index, how alike they are, and why they were joined: `picture` or `run`."""

    kind: str
    likeness: float
    first: int
    second: int


@dataclass(frozen=True)
class Groups:
    """The group of each image, int [n], by copies alone and as prepare.group_by asks; the weakest joined pairs."""

    copies: np.ndarray
    final: np.ndarray
    weakest: list[Pair]


@contextmanager
def source_folder(knobs: Prepare) -> Iterator[Path]:
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


def scan(folder: Path, images: Path, knobs: Prepare) -> Scan:
    """Read every image of a source folder and store its canonical bytes under their digest.

    Args:
        folder: holds one sub-folder for each class.
        images: where the canonical images go.
        knobs: the params of this stage.

    Raises:
        StageError: wrong class folders, or an empty one.
    """
    check_classes(folder)
    rows, thumbnails, features, bad = [], [], [], []
    for label in contract.CLASSES:
        paths = pick(imaging.find(folder / label), knobs.max_per_class, knobs.seed)
        if not paths:
            raise command.StageError(f"Expected images in {folder / label}. Received: none. Supported suffixes: "
                                     f"{', '.join(sorted(imaging.SUFFIXES))}.")
        for path in tqdm(paths, desc=label, unit="image"):
            source = f"{label}/{path.name}"
            try:
                data, file_bytes = read_image(path, knobs.image_size), path.stat().st_size
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


def split(rows: list[dataset.Row], external: np.ndarray, knobs: Prepare) -> dict[str, list[dataset.Row]]:
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


def group(scans: list[Scan], knobs: Prepare) -> Groups:
    """Find out which images belong together.

    Copies are looked for over all source folders, runs within one: its file numbers mean nothing in another.
    """
    vectors = grouping.unit_vectors(np.concatenate([one.thumbnails for one in scans]))
    rows = [row for one in scans for row in one.rows]
    copies = np.concatenate([grouping.exact_pairs([row.digest for row in rows]),
                             grouping.duplicate_pairs(vectors, knobs.duplicate_similarity)], axis=1)
    pairs = {"picture": copies}
    if knobs.group_by == "runs":
        names = [f"{number}/{row.source}" for number, one in enumerate(scans) for row in one.rows]
        pairs["run"] = grouping.run_pairs(vectors, names, knobs.run_similarity)
    return Groups(grouping.components(len(rows), copies), grouping.components(len(rows), *pairs.values()),
                  weakest(vectors, pairs, SHOWN_PAIRS))


def weakest(vectors: np.ndarray, pairs: dict[str, np.ndarray], limit: int) -> list[Pair]:
    """Return the least similar pairs, as many of each kind and at most `limit` in all, the least similar first.

    Args:
        vectors: from grouping.unit_vectors.
        pairs: int [2, m] of each kind.
        limit: at least the number of kinds.
    """
    chosen = []
    for kind, found in pairs.items():
        alike = grouping.likeness(vectors, found)
        order = np.argsort(alike, kind="stable")[: limit // len(pairs)]
        chosen += [Pair(kind, float(alike[index]), *found[:, index].tolist()) for index in order]
    return sorted(chosen, key=lambda pair: pair.likeness)


def report(splits: dict[str, list[dataset.Row]], groups: Groups, knobs: Prepare) -> dict:
    """Count what was read, joined and split.

    Every image is counted once: images = groups + near_duplicates + runs_joined. near_duplicates are the images beyond
    the first of each picture, exact copies included; runs_joined are the pictures, each with its copies, that runs add
    to the group of another picture.

    Args:
        splits: rows of each split.
        groups: of all rows.
        knobs: the params of this stage.

    Returns:
        the content of reports/prepare/data.json, but for what `main` adds.
    """
    rows = [row for part in splits.values() for row in part]
    labels = np.array([contract.CLASSES.index(row.label) for row in rows])
    members = np.array([row.group for row in rows])
    by_class = {label: {row.group for row in rows if row.label == label} for label in contract.CLASSES}
    pictures, joined = int(groups.copies.max()) + 1, int(groups.final.max()) + 1
    return {
        "source": data_name(knobs.source),
        "digest": data_digest(splits),
        "images": len(rows),
        "group_by": knobs.group_by,
        "groups": joined,
        "groups_by_class": {label: len(found) for label, found in by_class.items()},
        "largest_group": int(np.bincount(members).max()),
        "exact_duplicates": len(rows) - len({row.digest for row in rows}),
        "near_duplicates": len(rows) - pictures,
        "runs_joined": pictures - joined,
        "label_conflicts": grouping.conflicts(labels, members),
        "splits": {split: {label: sum(row.label == label for row in part) for label in contract.CLASSES}
                   for split, part in splits.items()},
    }


def data_digest(splits: dict[str, list[dataset.Row]]) -> str:
    """Return 16 hexadecimal digits that name the images, their labels and the splits."""
    lines = sorted(f"{split} {row.label} {row.digest}" for split, part in splits.items() for row in part)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def sizes(features: np.ndarray) -> dict[str, int]:
    """Count the images by width x height in pixels: the most frequent ones first, the others together."""
    width, height = (probe.NAMES.index(name) for name in ("width", "height"))
    counts = Counter(f"{row[width]:.0f}x{row[height]:.0f}" for row in features)
    shown = dict(counts.most_common(SHOWN_SIZES))
    rest = counts.total() - sum(shown.values())
    return shown | ({"other": rest} if rest else {})


def source_probe(splits: dict[str, list[dataset.Row]], own: Scan) -> dict:
    """Return how well trivial features tell the classes apart, see `probe`; the test split is not looked at."""
    features = {row.source: values for row, values in zip(own.rows, own.features, strict=True)}
    train, validation = ((np.stack([features[row.source] for row in splits[name]]),
                          np.array([contract.CLASSES.index(row.label) for row in splits[name]]))
                         for name in ("train", "validation"))
    return probe.probe(train, validation)


def counts_csv(splits: dict[str, list[dataset.Row]]) -> str:
    """Return images and groups by split and class as CSV."""
    lines = ["split,label,images,groups"]
    for split, part in splits.items():
        for label in contract.CLASSES:
            groups = [row.group for row in part if row.label == label]
            lines.append(f"{split},{label},{len(groups)},{len(set(groups))}")
    return "\n".join(lines) + "\n"


def conflicts_csv(rows: list[dataset.Row]) -> str:
    """Return the images of the first 20 groups that carry more than one label as CSV.

    No file names: they may tell who a patient is. The digest is the name of the image in data/prepared/images.
    """
    labels = {}
    for row in rows:
        labels.setdefault(row.group, set()).add(row.label)
    mixed = [number for number in sorted(labels) if len(labels[number]) > 1][:SHOWN_CONFLICTS]
    lines = sorted((row.group, row.label, row.digest) for row in rows if row.group in mixed)
    return "group,label,digest\n" + "".join(f"{number},{label},{digest}\n" for number, label, digest in lines)


def draw_pairs(rows: list[dataset.Row], pairs: list[Pair], images: Path, title: str, path: Path) -> None:
    """Draw joined pairs side by side, so that a person can judge the thresholds.

    Args:
        rows: all images.
        pairs: indices of rows.
        images: the folder that the rows' paths start from.
        title: names the data.
        path: the PNG file to write.
    """
    if not pairs:
        figures.message("no two images were joined", f"Joined pairs ({title})", path)
        return
    shown, titles = [], []
    for pair in pairs:
        for row in (rows[pair.first], rows[pair.second]):
            pixels = preprocess.decode(tf.constant((images / row.path).read_bytes()), SHOWN_SIDE)
            shown.append(np.rint(pixels.numpy() * 255).astype(np.uint8))
            titles.append(f"{pair.kind} {pair.likeness:.3f}\n{row.label}")
    figures.sheet(np.stack(shown), titles, 4, f"Joined pairs, the least similar first ({title})", path)


def data_name(source: str) -> str:
    """Name a source for metrics and pages: `phantom`, or the folder's last two parts (never a whole private path)."""
    return source if source == contract.PHANTOM else "/".join(Path(source).resolve().parts[-2:])


def read_sources(knobs: Prepare, images: Path) -> list[Scan]:
    """Read prepare.source and, where given, prepare.test_source.

    Raises:
        StageError: a folder is missing or wrong, or holds too many unreadable files.
    """
    with source_folder(knobs) as folder:
        scans = [scan(folder, images, knobs)]
        check_bad(scans[0], folder, knobs.max_bad_fraction)
    if knobs.test_source is not None:
        folder = existing_folder(knobs.test_source, "prepare.test_source")
        scans.append(scan(folder, images, knobs))
        check_bad(scans[1], folder, knobs.max_bad_fraction)
    return scans


def write_data(folder: Path, splits: dict[str, list[dataset.Row]], scans: list[Scan]) -> None:
    """Write the manifests and the list of unreadable files beside the images."""
    for name, rows in splits.items():
        dataset.write_manifest(folder / f"{name}.csv", rows)
    bad = [item for one in scans for item in one.bad]
    files.write_text(folder / "unreadable.csv", "".join(f"{source},{reason!r}\n" for source, reason in bad))


def write_reports(summary: dict, splits: dict[str, list[dataset.Row]], rows: list[dataset.Row],
                  weakest: list[Pair]) -> None:
    """Write the numbers and the figures of reports/prepare.

    Args:
        summary: the content of data.json.
        splits: rows of each split.
        rows: all images, in the order that the pairs mean.
        weakest: the pairs to show.
    """
    name = summary["source"]
    files.write_json(dataset.REPORT, summary)
    files.write_text(REPORTS / "counts.csv", counts_csv(splits))
    files.write_text(REPORTS / "label_conflicts.csv", conflicts_csv(rows))
    figures.counts(summary["splits"], f"Images by split and class ({name})", REPORTS / "counts.png")
    draw_pairs(rows, weakest, dataset.FOLDER, name, REPORTS / "duplicates.png")


def main(knobs: params.Params) -> None:
    """Write data/prepared and reports/prepare."""
    own = knobs.prepare
    with files.replacing(dataset.FOLDER) as new:
        scans = read_sources(own, new / "images")
        groups = group(scans, own)
        rows = [row.in_group(int(number)) for row, number in
                zip([row for one in scans for row in one.rows], groups.final, strict=True)]
        splits = split(rows, np.arange(len(rows)) >= len(scans[0].rows), own)
        write_data(new, splits, scans)
    summary = report(splits, groups, own) | {
        "unreadable": sum(len(one.bad) for one in scans),
        "sizes": sizes(np.concatenate([one.features for one in scans])),
        "source_probe": source_probe(splits, scans[0])}
    write_reports(summary, splits, rows, groups.weakest)
    print({part: len(members) for part, members in splits.items()}, f"groups: {summary['groups']}",
          f"trivial features alone: accuracy {summary['source_probe']['accuracy']:.3f}")


if __name__ == "__main__":
    command.run(main, __doc__, ["prepare"])
