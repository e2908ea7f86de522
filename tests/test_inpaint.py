"""Slices without their tumour: what is replaced, by what, and that nothing else changes."""

import numpy as np
import pytest

from stages.common.command import StageError
from stages.data import inpaint

SIDE = 96
BOX = (0.7, 0.5, 0.15, 0.2)


def head(tumour: tuple[float, ...] | None = None) -> np.ndarray:
    """Draw a symmetric head with a pattern in it, and a bright tumour in a box: uint8 [SIDE, SIDE]."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5 + 0.5 / SIDE
    values = np.where(np.hypot(x / 0.45, y / 0.48) < 1, 90 + 20 * np.cos(x * 50) * np.cos(y * 40), 0)
    if tumour:
        values[inpaint.elliptic_radius(values.shape, tumour) * inpaint.WIDER < 1] = 230
    return np.rint(values).astype(np.uint8)


def test_a_tumour_at_the_side_becomes_what_the_other_side_shows():
    filled = inpaint.without_tumour(head(BOX), BOX)
    assert np.abs(filled.astype(int) - head()).max() <= 3


def test_nothing_changes_outside_of_the_widened_ellipse_and_the_input_stays():
    image = head(BOX)
    filled = inpaint.without_tumour(image, BOX)
    assert np.array_equal(image, head(BOX)) and filled.dtype == np.uint8
    outside = inpaint.elliptic_radius(image.shape, BOX) >= 1
    assert np.array_equal(filled[outside], image[outside])


def test_a_tumour_on_the_midline_becomes_a_surface_with_the_texture_around_it():
    box = (0.5, 0.5, 0.15, 0.2)
    filled = inpaint.without_tumour(head(box), box)
    inside = inpaint.elliptic_radius(filled.shape, box) < 1
    assert filled[inside].max() < 150 and 1 < filled[inside].std() < 25
    assert np.array_equal(filled, inpaint.without_tumour(head(box), box))


def test_a_membrane_continues_a_slope():
    y, x = np.mgrid[:40, :40].astype(float)
    slope, inside = 3 * x + 2 * y, np.hypot(x - 20, y - 18) < 9
    assert np.allclose(inpaint.membrane(np.where(inside, 999, slope), inside), slope, atol=0.1)


@pytest.mark.parametrize(("image", "box", "expected"), [
    (np.zeros((9, 9, 3), np.uint8), BOX, r"Expected a grey image.*uint8 \[9, 9, 3\]"),
    (np.zeros((9, 9)), BOX, r"Expected a grey image.*float64"),
    (np.zeros((9, 9), np.uint8), (0.95, 0.5, 0.2, 0.2), "Expected a box inside the image.*0.95"),
    (np.zeros((9, 9), np.uint8), (0.5, 0.5, 0.0, 0.2), "Expected a box inside the image"),
    (np.zeros((9, 9), np.uint8), (0.5, float("nan"), 0.2, 0.2), "Expected a box inside the image.*nan")])
def test_what_cannot_be_filled_is_refused(image, box, expected):
    with pytest.raises(StageError, match=expected):
        inpaint.without_tumour(image, box)


def test_an_image_that_is_black_stays_black():
    assert not inpaint.without_tumour(np.zeros((SIDE, SIDE), np.uint8), BOX).any()
