"""Train, validation and test: chosen by seed, every class in each, no group cut between learning and test."""

from collections.abc import Sequence

import numpy as np

from core import contract
from stages.common import command
from stages.data import dataset, spelling
from stages.data.params import Prepare


def split(rows: list[dataset.Row], external: np.ndarray, params: Prepare) -> dict[str, list[dataset.Row]]:
    """Split grouped rows into train, validation and test; no group is cut.

    With prepare.further_sources every class of every origin is shared out on its own. Tumours of unknown type are in
    train, or where their group was chosen for the test, in a split `untyped` that is tested as well: temperatures and
    scores of classes need types. So a group that holds one is in no validation split.

    Args:
        rows: all images, with their groups.
        external: bool [n], true for images of prepare.test_source. When there are any, they are the test split, less
            those that show a picture of prepare.source, which become the split `test_duplicates`, and less other
            slices of its patients and series, which become `test_patients`.
        params: of this stage. Images of hold_out_source become the split `held_out`, less those that share a group
            with one of another source, which become `held_out_duplicates`.

    Raises:
        StageError: a class is missing from a split, since it has too few different images; or there is no such source.
    """
    labels = strata(rows, by_origin=bool(params.further_sources))
    typed = np.array([row.label != spelling.TUMOUR for row in rows])
    groups, pictures = np.array([row.group for row in rows]), np.array([row.picture for row in rows])
    held = held_out(rows, external, params.hold_out_source)
    others = ~external & ~held
    parts: dict[str, np.ndarray] = {}
    if held.any():
        shared = held & np.isin(groups, groups[others])
        parts |= {"held_out": held & ~shared, "held_out_duplicates": shared}
    if external.any():
        copied = external & np.isin(pictures, pictures[others])
        related = external & np.isin(groups, groups[others]) & ~copied
        parts |= {"test": external & ~copied & ~related, "test_duplicates": copied, "test_patients": related}
        rest = np.flatnonzero(others)
    else:
        test = np.zeros(len(rows), bool)
        test[others] = hold_out(labels[others], groups[others], params.test_fraction, params.seed)
        parts |= {"test": test & typed} | ({"untyped": test & ~typed} if (test & ~typed).any() else {})
        rest = np.flatnonzero(others & ~test)
    validation = np.zeros(len(rows), bool)
    whole = rest[~np.isin(groups[rest], groups[rest][~typed[rest]])]
    validation[whole] = hold_out(labels[whole], groups[whole], params.validation_fraction, params.seed + 1)
    train = np.zeros(len(rows), bool)
    train[rest] = ~validation[rest]
    parts |= {"train": train, "validation": validation}
    splits = {name: [row for row, inside in zip(rows, part, strict=True) if inside] for name, part in parts.items()}
    check_splits(splits, ("train", "validation") if external.any() else dataset.SPLITS)
    return splits


def strata(rows: list[dataset.Row], by_origin: bool) -> np.ndarray:
    """Return the label of each image as index into spelling.LABELS, and by origin other numbers for each: int [n]."""
    labels = np.array([spelling.LABELS.index(row.label) for row in rows])
    if not by_origin:
        return labels
    return np.unique([row.origin for row in rows], return_inverse=True)[1] * len(spelling.LABELS) + labels


def held_out(rows: list[dataset.Row], external: np.ndarray, origins: str | list[str] | None) -> np.ndarray:
    """Return which images are those of prepare.hold_out_source, one or several, bool [n].

    Raises:
        StageError: there is none of one of them, or there are no others.
    """
    wanted = [origins] if isinstance(origins, str) else origins or []
    known = {row.origin for row, outside in zip(rows, external, strict=True) if row.origin and not outside}
    held = np.array([row.origin in wanted for row in rows]) & ~external
    unknown = [name for name in wanted if name not in known]
    if unknown or wanted and held.sum() == (~external).sum():
        raise command.StageError("Expected prepare.hold_out_source to name one or several of the images' sources, and "
                                 f"to leave one. Received: {', '.join(unknown or wanted)}; known are: "
                                 f"{', '.join(sorted(known)) or 'none'}. Name some of these, or say where images are "
                                 "from (dataset/README.md).")
    return held


def check_splits(splits: dict[str, list[dataset.Row]], names: Sequence[str]) -> None:
    """Check that every class is in each of the named splits.

    Raises:
        StageError: naming the split and the class.
    """
    for name in names:
        missing = set(contract.CLASSES) - {row.label for row in splits[name]}
        if missing:
            raise command.StageError(
                f"Expected images of every class in the {name} split. Received: none of {', '.join(sorted(missing))}. "
                "Add different images of it (copies of one picture and slices of one patient stay together), or change "
                "the fractions.")


def hold_out(labels: np.ndarray, groups: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Choose whole groups at random until they hold the wanted fraction of every label.

    A group counts as its majority label. A group too large for what is left of that is passed over, so the fraction
    is reached from below.

    Args:
        labels: int [n], of each image, see strata().
        groups: int [n], group of each image.
        fraction: of the images to choose, in (0, 1).
        seed: the same seed and data give the same choice.

    Returns:
        bool [n], true for the chosen images.
    """
    groups = np.unique(groups, return_inverse=True)[1]
    sizes = np.bincount(groups)
    owners = majority_labels(labels, groups)
    chosen = np.zeros(len(sizes), bool)
    random = np.random.default_rng(seed)
    for label in np.unique(owners):
        members = random.permutation(np.flatnonzero(owners == label))
        room = round(fraction * sizes[members].sum())
        for group in members:
            if sizes[group] <= room:
                chosen[group] = True
                room -= sizes[group]
    return chosen[groups]


def majority_labels(labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return, for every group, its most frequent label (the first of equals).

    Args:
        labels: int [n], of each image, see strata().
        groups: int [n], group of each image, 0 to g - 1.

    Returns:
        int [g].
    """
    counts = np.zeros((groups.max() + 1, labels.max() + 1), int)
    np.add.at(counts, (groups, labels), 1)
    return counts.argmax(axis=1)
