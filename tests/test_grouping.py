"""Adjacent slices of a series are found, and what belongs together becomes one group."""

import numpy as np
import pytest

from stages.data import copies, grouping


def test_similarity_is_the_correlation(monkeypatch):
    thumbnails = np.random.default_rng(0).random((7, 32, 32), np.float32)
    pairs = np.array([[0, 1, 2, 3, 4], [6, 5, 2, 1, 0]])
    wanted = [np.corrcoef(thumbnails[one].ravel(), thumbnails[other].ravel())[0, 1] for one, other in pairs.T]
    monkeypatch.setattr(grouping, "BLOCK", 2)
    assert grouping.similarities(copies.unit_vectors(thumbnails), pairs) == pytest.approx(wanted, abs=1e-5)


def run_groups(names: list[str], angles: list[float]) -> list[int]:
    """Return the groups of series at 0.8; two images are as similar as the cosine of the angle between them."""
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    return grouping.components(len(names), grouping.run_pairs(vectors, names, 0.8).indices).tolist()


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
    assert grouping.run_pairs(vectors, list("abc"), 0.8).indices.shape == (2, 0)


def test_both_kinds_of_pairs_join_one_group():
    copies, runs = np.array([[0, 4], [1, 5]]), np.array([[1], [2]])
    assert grouping.components(6, copies, runs).tolist() == [0, 0, 0, 1, 2, 2]
