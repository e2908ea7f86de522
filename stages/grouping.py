"""Which images are the same picture, and splits that never cut such a group.

Public sets hold the same slice several times: re-encoded, resized, stretched in contrast. When one copy is trained on
and another is tested on, the score is memory, not skill.
"""

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

BLOCK = 1024
"""Rows compared at a time: memory grows with BLOCK x images, not with images squared."""


def near_duplicates(thumbnails: np.ndarray, similarity: float) -> np.ndarray:
    """Group images whose thumbnails look alike.

    Two images are joined when the cosine similarity of their mean-free thumbnails reaches the threshold; groups are
    the connected components, so copies of copies belong together. Mean-free cosine similarity is Pearson's correlation:
    it ignores brightness and contrast.

    Args:
        thumbnails: float32 [n, 32, 32], grey values.
        similarity: threshold in [0.5, 1].

    Returns:
        int [n], the group of each image, numbered from 0 in order of first appearance.
    """
    vectors = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    vectors = vectors - vectors.mean(axis=1, keepdims=True)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)
    pairs = [_similar(vectors, start, similarity) for start in range(0, len(vectors), BLOCK)]
    rows, columns = np.concatenate(pairs, axis=1)
    graph = coo_array((np.ones(len(rows), bool), (rows, columns)), shape=(len(vectors), len(vectors)))
    return connected_components(graph, directed=False)[1]


def _similar(vectors: np.ndarray, start: int, similarity: float) -> np.ndarray:
    block = vectors[start : start + BLOCK] @ vectors.T
    rows, columns = np.nonzero(block >= similarity)
    return np.stack([rows + start, columns])


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


def conflicts(labels: np.ndarray, groups: np.ndarray) -> int:
    """Count the groups whose images carry more than one label."""
    pairs = {(group, label) for group, label in zip(groups.tolist(), labels.tolist(), strict=True)}
    return len(pairs) - len({group for group, _ in pairs})


def hold_out(labels: np.ndarray, groups: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Choose whole groups at random until they hold the wanted share of every class.

    A group counts as its majority label. A group too large for what is left of the share is passed over, so the share
    is reached from below.

    Args:
        labels: int [n], class index of each image.
        groups: int [n], group of each image.
        fraction: share of the images to choose, in (0, 1).
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
