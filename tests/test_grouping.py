"""Copies of a picture and adjacent slices of a series are found."""

import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

import imaging
from core import contract
from stages.data import grouping, phantom


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
    return [Image.fromarray(phantom.draw(contract.HEALTHY, seed, 128).image) for seed in range(12)]


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


def test_many_copies_are_few_pairs():
    picture = np.random.default_rng(0).random((1, 32, 32), np.float32)
    pairs = grouping.duplicate_pairs(grouping.unit_vectors(np.repeat(picture, 300, axis=0)), 0.98)
    assert pairs.shape == (2, 299) and (pairs[0] < pairs[1]).all()


def test_the_pairs_that_are_kept_are_the_most_similar_that_hold_a_group_together():
    angles = np.array([0.0, 0.05, 0.12])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    assert grouping.duplicate_pairs(vectors, 0.98).tolist() == [[0, 1], [1, 2]]


def test_equal_files_are_pairs_with_the_first_of_them():
    assert grouping.exact_pairs(["a", "b", "a", "c", "b", "a"]).tolist() == [[0, 1, 0], [2, 4, 5]]
    assert grouping.exact_pairs(["a", "b"]).shape == (2, 0)


def test_similarity_is_the_correlation(monkeypatch):
    thumbnails = np.random.default_rng(0).random((7, 32, 32), np.float32)
    pairs = np.array([[0, 1, 2, 3, 4], [6, 5, 2, 1, 0]])
    wanted = [np.corrcoef(thumbnails[one].ravel(), thumbnails[other].ravel())[0, 1] for one, other in pairs.T]
    monkeypatch.setattr(grouping, "BLOCK", 2)
    assert grouping.similarities(grouping.unit_vectors(thumbnails), pairs) == pytest.approx(wanted, abs=1e-5)


def run_groups(names: list[str], angles: list[float]) -> list[int]:
    """Return the groups of series at 0.8; two images are as similar as the cosine of the angle between them."""
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    return grouping.components(len(names), grouping.run_pairs(vectors, names, 0.8)).tolist()


def test_a_series_is_joined_whole_and_ends_where_the_similarity_ends():
    names = [f"0/glioma/Tr-gl_{number:04d}.jpg" for number in range(98, 103)]
    assert run_groups(names, [0.0, 0.6, 1.2, 2.4, 3.0]) == [0, 0, 0, 1, 1]


@pytest.mark.parametrize("first, second, joined", [
    ("0/glioma/a_9.jpg", "0/glioma/a_10.jpg", True),
    ("0/glioma/a_10.jpg", "0/glioma/a_9.jpg", True),
    ("0/glioma/a_0009.jpg", "0/glioma/a_0010.jpg", True),
    ("0/glioma/p3_9_t1.jpg", "0/glioma/p3_9_t2.jpg", True),
    ("0/glioma/image(9).jpg", "0/glioma/image(10).jpg", True),
    ("0/glioma/9.jpg", "0/glioma/10.jpg", True),
    ("0/glioma/Tr-glTr_0009.jpg", "0/glioma/Tr-gl_0010.jpg", True),
    ("0/glioma/a_9.jpg", "0/glioma/a_11.jpg", False),
    ("0/glioma/a_9.jpg", "0/glioma/a_09.jpg", False),
    ("0/glioma/a_9.jpg", "0/glioma/b_10.jpg", True),
    ("0/glioma/p3_9.jpg", "0/glioma/p4_10.jpg", True),
    ("0/glioma/a_9.jpg", "0/glioma/a_10.png", True),
    ("0/glioma/a_9.jpg", "0/notumor/a_10.jpg", False),
    ("0/glioma/a_9.jpg", "1/glioma/a_10.jpg", False),
    ("0/glioma/a.jpg", "0/glioma/b.jpg", False),
])
def test_neighbours_lie_in_one_folder_and_have_consecutive_last_numbers(first, second, joined):
    assert run_groups([first, second], [0.0, 0.0]) == ([0, 0] if joined else [0, 1])


def test_no_similar_images_are_no_pairs():
    vectors = np.eye(3, dtype=np.float32)
    assert grouping.duplicate_pairs(vectors, 0.9).shape == grouping.run_pairs(vectors, list("abc"), 0.8).shape == (2, 0)


def test_both_kinds_of_pairs_join_one_group():
    copies, runs = np.array([[0, 4], [1, 5]]), np.array([[1], [2]])
    assert grouping.components(6, copies, runs).tolist() == [0, 0, 0, 1, 2, 2]


def test_a_black_image_is_no_copy_of_another():
    thumbnails = np.stack([np.zeros((32, 32)), np.eye(32)]).astype(np.float32)
    assert len(set(grouping.near_duplicates(thumbnails, 0.98).tolist())) == 2


def test_conflicts_counts_groups_with_two_labels():
    assert grouping.conflicts(np.array([0, 1, 1, 2, 2]), np.array([0, 0, 1, 2, 2])) == 1
    assert grouping.conflicts(np.array([0, 1, 2, 3, 3]), np.array([0, 0, 0, 1, 1])) == 1
    assert grouping.conflicts(np.array([0, 1]), np.array([0, 1])) == 0
