"""How much images count: one vote a picture, and epochs that are balanced over sources and classes."""

from dataclasses import replace

import numpy as np
import pytest

from stages.data import counting, dataset
from stages.data.dataset import Row


def rows(*cells: tuple[str, str, int], copies: int = 1) -> list[Row]:
    """Return so many pictures of each label and origin, each several times."""
    pictures = [(label, origin) for label, origin, count in cells for _ in range(count)]
    return [Row("", label, 0, "", "", picture, "", origin) for picture, (label, origin) in enumerate(pictures)
            for _ in range(copies)]


MANY_AND_FEW = ("glioma", "a", 90), ("glioma", "b", 9), ("notumor", "a", 1)


@pytest.mark.parametrize("balance, wanted", [(0.0, [90, 9, 1]), (1.0, [100 / 3] * 3),
                                             (0.5, 100 * np.sqrt([90, 9, 1]) / np.sqrt([90, 9, 1]).sum())])
def test_cells_are_seen_by_a_power_of_their_size(balance, wanted):
    drawn = counting.draws(rows(*MANY_AND_FEW), balance)
    assert [part.sum() for part in np.split(drawn, [90, 99])] == pytest.approx(list(wanted))


def test_copies_weigh_less_than_pictures_of_their_own_and_more_than_one():
    few, many = rows(("glioma", "a", 2)), rows(("glioma", "a", 1), copies=9)
    drawn = counting.draws([*few, *(replace(row, picture=9) for row in many)], 0.0)
    assert drawn.tolist() == pytest.approx([1, 1] + [1 / 3] * 9)


def test_a_copy_in_another_source_leaves_both_as_visible():
    of_b = [Row("", "glioma", 0, "", "", picture, "", "b") for picture in (0, 9)]  # the first is one of a's as well
    drawn = counting.draws([*rows(("glioma", "a", 3)), *of_b], 1.0)
    assert drawn[:3].sum() == pytest.approx(drawn[3:].sum()) and drawn.sum() == pytest.approx(3 + 2**0.5)


def test_a_balance_of_0_changes_nothing():
    images = dataset.Images(np.zeros((3, 4, 4, 1), np.uint8), np.zeros(3, int))
    assert counting.balanced(images, rows(("glioma", "a", 3)), 0.0) is images and images.an_epoch == 3
    assert counting.balanced(images, rows(("glioma", "a", 1), copies=9), 0.5).an_epoch == 3
