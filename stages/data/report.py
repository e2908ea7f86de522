"""What the data are like: counts, sizes and the shortcut baseline, as values and as CSV."""

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np

from core import contract
from stages.data import dataset, probe, spelling
from stages.data.grouping import Groups
from stages.data.params import Prepare
from stages.data.reading import Scan

SHOWN_SIZES = 10


def report(splits: dict[str, list[dataset.Row]], groups: Groups, kept: np.ndarray, params: Prepare) -> dict:
    """Count what was read, joined and split.

    Every image is counted once: images = groups + near_duplicates + runs_joined + patients_joined. near_duplicates are
    the images beyond the first of each picture, exact copies included; runs_joined are the pictures, each with its
    copies, that a series of adjacent slices adds to another picture; patients_joined are the series that a patient
    adds to another one.

    Args:
        splits: rows of each split.
        groups: of all images that were read.
        kept: bool [n], which of these are in a split.
        params: of this stage.

    Returns:
        the content of reports/prepare/data.json, but for what `main` adds.
    """
    rows = [row for part in splits.values() for row in part]
    members = np.array([row.group for row in rows])
    labels = labels_of(rows)
    by_class = {label: {row.group for row in rows if row.label == label} for label in labels}
    pictures, series, joined = (len(np.unique(one[kept])) for one in (groups.copies, groups.runs, groups.final))
    patients = {row.patient for row in rows if row.patient}
    return {
        "source": " + ".join(map(data_name, (params.source, *params.further_sources))),
        "digest": data_digest(splits),
        "images": len(rows),
        "group_by": params.group_by,
        "groups": joined,
        "groups_by_class": {label: len(found) for label, found in by_class.items()},
        "largest_group": int(np.bincount(members).max()),
        "exact_duplicates": len(rows) - len({row.digest for row in rows}),
        "near_duplicates": len(rows) - pictures,
        "runs_joined": pictures - series,
        "patients_joined": series - joined,
        "patients": len(patients),
        "patients_alone": len({row.group for row in rows if row.patient}),
        "images_of_patients": sum(bool(row.patient) for row in rows),
        "origins": origins(rows),
        "splits": {split: {label: sum(row.label == label for row in part) for label in labels}
                   for split, part in splits.items()},
    }


def labels_of(rows: list[dataset.Row]) -> tuple[str, ...]:
    """Return the labels to count: the classes, and spelling.TUMOUR where an image has it."""
    return spelling.LABELS if any(row.label == spelling.TUMOUR for row in rows) else contract.CLASSES


def sentences(summary: dict) -> str:
    """Return what `prepare` tells at its end: a few of the numbers of data.json, in words."""
    splits = ", ".join(f"{sum(labels.values())} {name}" for name, labels in summary["splits"].items())
    conflicts, trivial = summary["label_conflicts"], summary["source_probe"]
    others = summary["groups"] - summary["patients_alone"]
    whose = (f"{summary['patients']} known patients and {others} groups of pictures" if summary["patients"]
             else f"{summary['groups']} groups of pictures; no patient is known")
    return (f"Read {summary['images']} images of {summary['source']} ({summary['unreadable']} unreadable, "
            f"{sum(summary['left_out'].values())} files left out) in {whose}.\n"
            f"Split without cutting a patient or group: {splits}.\n"
            f"{conflicts or 'No'} image{'' if conflicts == 1 else 's'} with a doubtful label"
            f"{', see label_conflicts.csv' if conflicts else ''}.\n"
            f"Trivial features alone reach an accuracy of {trivial['accuracy']:.3f} on the validation split; "
            f"always answering the most frequent class, {trivial['majority_accuracy']:.3f}.")


def origins(rows: list[dataset.Row]) -> dict[str, dict[str, int]]:
    """Return how many images of each label come from each known source, by its name."""
    names, labels = sorted({row.origin for row in rows if row.origin}), labels_of(rows)
    return {name: {label: sum(row.origin == name and row.label == label for row in rows) for label in labels}
            for name in names}


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


def source_probe(splits: dict[str, list[dataset.Row]], scans: list[Scan]) -> dict:
    """Return how well trivial features tell the classes apart, see `probe`.

    Neither the test split nor tumours of unknown type are looked at.

    Args:
        splits: rows of each split. scans: of the sources that are trained on.
    """
    features = {(row.source, row.digest): values for one in scans
                for row, values in zip(one.rows, one.features, strict=True)}
    typed = ([row for row in splits[name] if row.label != spelling.TUMOUR] for name in ("train", "validation"))
    train, validation = ((np.stack([features[row.source, row.digest] for row in rows]),
                          np.array([contract.CLASSES.index(row.label) for row in rows])) for rows in typed)
    return probe.probe(train, validation)


def counts_csv(splits: dict[str, list[dataset.Row]]) -> str:
    """Return images and groups by split and label as CSV."""
    lines = ["split,label,images,groups"]
    labels = labels_of([row for part in splits.values() for row in part])
    for split, part in splits.items():
        for label in labels:
            groups = [row.group for row in part if row.label == label]
            lines.append(f"{split},{label},{len(groups)},{len(set(groups))}")
    return "\n".join(lines) + "\n"


def data_name(source: str) -> str:
    """Name a source for metrics and pages: `phantom`, or the folder's last two parts (never a whole private path)."""
    return source if source == contract.PHANTOM else "/".join(Path(source).resolve().parts[-2:])
