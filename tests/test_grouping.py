"""Copies of a picture are found, and no split cuts a group of them."""

import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

import imaging
from stages import grouping, phantom


def encoded(picture: Image.Image, form: str = "PNG", **options) -> bytes:
    """Return a picture's encoded bytes."""
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


COPIES = {
    "re-encoded": lambda picture: encoded(picture, "JPEG", quality=60),
    "resized": lambda picture: encoded(picture.resize((150, 150))),
    "stretched contrast": lambda picture: encoded(ImageEnhance.Contrast(picture).enhance(1.3)),
    "darker": lambda picture: encoded(ImageEnhance.Brightness(picture).enhance(0.8)),
    "sharpened": lambda picture: encoded(picture.filter(ImageFilter.SHARPEN)),
}


@pytest.fixture(scope="module")
def originals() -> list[Image.Image]:
    return [Image.fromarray(phantom.draw("notumor", seed, 128).image) for seed in range(12)]


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_joins_its_original_and_nothing_else(originals, kind):
    pictures = [encoded(one) for one in originals] + [COPIES[kind](originals[5])]
    groups = grouping.near_duplicates(np.stack([imaging.thumbnail(one) for one in pictures]), 0.98)
    assert groups[-1] == groups[5] and len(set(groups.tolist())) == len(originals)


def test_copies_of_copies_are_one_group():
    chain = np.cos(np.linspace(0, 3, 32 * 32)[None] + np.array([[0.0], [0.15], [0.3], [2.0]])).astype(np.float32)
    groups = grouping.near_duplicates(chain.reshape(4, 32, 32), 0.98)
    assert groups[0] == groups[1] == groups[2] != groups[3]


def test_groups_do_not_depend_on_the_block_size(originals, monkeypatch):
    thumbnails = np.stack([imaging.thumbnail(encoded(one)) for one in originals * 2])
    whole = grouping.near_duplicates(thumbnails, 0.98)
    monkeypatch.setattr(grouping, "BLOCK", 5)
    assert np.array_equal(whole, grouping.near_duplicates(thumbnails, 0.98))


def test_a_black_image_is_no_copy_of_another():
    thumbnails = np.stack([np.zeros((32, 32)), np.eye(32)]).astype(np.float32)
    assert len(set(grouping.near_duplicates(thumbnails, 0.98).tolist())) == 2


@pytest.mark.parametrize("seed", range(5))
def test_hold_out_takes_whole_groups_and_the_wanted_share(seed):
    random = np.random.default_rng(seed)
    groups = random.integers(0, 150, 1000)
    labels = groups % 4
    chosen = grouping.hold_out(labels, groups, 0.2, seed)
    assert not set(groups[chosen]) & set(groups[~chosen])
    for label in range(4):
        assert chosen[labels == label].mean() == pytest.approx(0.2, abs=0.03)


def test_hold_out_is_decided_by_the_seed():
    labels, groups = np.arange(400) % 4, np.arange(400)
    first, again, other = (grouping.hold_out(labels, groups, 0.2, seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_conflicts_counts_groups_with_two_labels():
    assert grouping.conflicts(np.array([0, 1, 1, 2, 2]), np.array([0, 0, 1, 2, 2])) == 1
