"""Which images a fold tests, which choose its epoch, temperature and threshold, and which it is trained on."""

from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from core import contract
from stages.common import command
from stages.data import dataset, splitting
from stages.folds.params import Crossval


@dataclass(frozen=True)
class Fold:
    """A fold: its number, from 1, and for train, validation and test the indices int [m] of their images."""

    number: int
    splits: dict[str, np.ndarray]


def pool() -> list[dataset.Row]:
    """Return the images of train, validation and test, in an order that does not depend on how these were split.

    Not those that `prepare` made by moving tumours: what they show comes from two groups, of which a fold may test one.

    Raises:
        FileNotFoundError: `prepare` has not run.
    """
    rows = [row for split in dataset.SPLITS for row in dataset.read_manifest(split) if not row.made]
    return sorted(rows, key=lambda row: (row.digest, row.source))


def left_out(data: dict) -> dict[str, int]:
    """Return the number of images in each further split of `prepare`, such as those of a source that is held out.

    Args:
        data: what `prepare` counted, see dataset.read_report.
    """
    sizes = {split: sum(labels.values()) for split, labels in data["splits"].items() if split not in dataset.SPLITS}
    return {split: size for split, size in sizes.items() if size}


def folds(rows: list[dataset.Row], own: Crossval, validation_fraction: float) -> list[Fold]:
    """Share out whole groups, so that each is in the test of one fold and every class has its part of each fold.

    Groups are dealt out by scikit-learn's StratifiedGroupKFold, the large ones first, each to the fold whose shares of
    the classes it evens out best. Of what a fold does not test, whole groups are held out as its validation split, as
    `prepare` does it. Tumours of unknown type are in the train split of every fold that tests or validates no image of
    their group, and in no other: they can neither be scored by class nor choose a temperature.

    Args:
        rows: all images.
        own: the number of folds and the seed.
        validation_fraction: of the images that a fold does not test, in (0, 1).

    Raises:
        StageError: a class is missing from a split of a fold, since it has too few groups.
    """
    labels = np.array([dataset.label_index(row.label) for row in rows])
    groups = np.array([row.group for row in rows])
    typed, untyped = np.flatnonzero(labels != dataset.UNKNOWN), np.flatnonzero(labels == dataset.UNKNOWN)
    check_groups(labels, groups, own.folds)
    # Its own shuffle=True deals out other groups than it has counted, up to scikit-learn 1.7 at least: folds then hold
    # 12 to 28 % of a class instead of 20. New numbers shuffle groups of one size as well.
    members = np.unique(groups[typed], return_inverse=True)[1]
    shuffled = np.random.default_rng(own.seed).permutation(members.max() + 1)[members]
    found = []
    dealt = StratifiedGroupKFold(own.folds).split(typed, labels[typed], shuffled)
    for number, (rest, test) in enumerate(((typed[rest], typed[test]) for rest, test in dealt), start=1):
        chosen = splitting.hold_out(labels[rest], groups[rest], validation_fraction, own.seed + number)
        free = untyped[~np.isin(groups[untyped], groups[np.append(test, rest[chosen])])]
        found.append(Fold(number, {"train": np.append(rest[~chosen], free), "validation": rest[chosen], "test": test}))
        check_classes(labels, found[-1])
    return found


def check_groups(labels: np.ndarray, groups: np.ndarray, count: int) -> None:
    """Check that every class has a group for each fold's test split.

    Args:
        labels, groups: int [n]. count: the number of folds.

    Raises:
        StageError: naming the class that has the fewest.
    """
    sizes = {label: len(np.unique(groups[labels == index])) for index, label in enumerate(contract.CLASSES)}
    rarest = min(sizes, key=lambda label: sizes[label])
    if sizes[rarest] < count:
        raise command.StageError(
            f"Expected at least {count} groups of every class, one for each fold. Received: {sizes[rarest]} of "
            f"{rarest}. Lower crossval.folds, or add images of other patients.")


def check_classes(labels: np.ndarray, fold: Fold) -> None:
    """Check that every class is in each split of a fold.

    Args:
        labels: int [n] of all images.

    Raises:
        StageError: naming the split and the classes.
    """
    for split, inside in fold.splits.items():
        missing = [label for index, label in enumerate(contract.CLASSES) if index not in labels[inside]]
        if missing:
            raise command.StageError(
                f"Expected images of every class in the {split} split of fold {fold.number}. Received: none of "
                f"{', '.join(missing)}. Lower crossval.folds, raise prepare.validation_fraction, or add images of "
                "other patients.")
