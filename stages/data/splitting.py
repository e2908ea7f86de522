"""Train, validation and test: chosen by seed, every class in each, no group cut."""

import numpy as np

from core import contract
from stages.common import command
from stages.data import dataset
from stages.data.params import Prepare


def split(rows: list[dataset.Row], external: np.ndarray, params: Prepare) -> dict[str, list[dataset.Row]]:
    """Split grouped rows into train, validation and test; no group is cut.

    Args:
        rows: all images, with their groups.
        external: bool [n], true for images of prepare.test_source. When there are any, they are the test split, less
            those that share a group with an image of prepare.source, which become the split `test_duplicates`.
        params: of this stage.

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
        test = hold_out(labels, groups, params.test_fraction, params.seed)
        parts, rest = {"test": test}, np.flatnonzero(~test)
    validation = np.zeros(len(rows), bool)
    validation[rest] = hold_out(labels[rest], groups[rest], params.validation_fraction, params.seed + 1)
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


def hold_out(labels: np.ndarray, groups: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Choose whole groups at random until they hold the wanted fraction of every class.

    A group counts as its majority label. A group too large for what is left of that is passed over, so the fraction
    is reached from below.

    Args:
        labels: int [n], class index of each image.
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
        labels: int [n], class index of each image.
        groups: int [n], group of each image, 0 to g - 1.

    Returns:
        int [g].
    """
    counts = np.zeros((groups.max() + 1, labels.max() + 1), int)
    np.add.at(counts, (groups, labels), 1)
    return counts.argmax(axis=1)
