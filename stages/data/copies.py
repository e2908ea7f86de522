"""Which images show the same picture: equal files, copies in any of eight orientations, and copies with a cut border.

Public sets hold one slice several times: re-encoded, resized, stretched in contrast, mirrored, turned, cropped. Of the
public set of this project every tumour slice occurs once as its own mirror image.
"""

from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import minimum_spanning_tree

BLOCK = 1024
"""Rows compared at a time: memory grows with BLOCK x images, not with images squared."""
ORIENTATIONS = tuple((turns, mirrored) for mirrored in (False, True) for turns in range(4))
"""Quarter turns, and whether left and right are exchanged before: the eight ways to lay a square picture."""
ALMOST = 0.01
"""So much below the similarity of copies a pair is looked at again."""
CROP_SIMILARITY = 0.965
"""Correlation from which two images are a picture and a part of it, once they are aligned.

Of 900 images of the public set, 97 in 100 that lost 1.5 % on each side reach it as thumbnails of 64 x 64, and 98 that
lost 3 % of one side. Strangers stay below: of 4,500 phantoms, which share their anatomy but no picture, 0.961 at most.
"""
CROP_SIDE = 16
"""Side at which images are compared before."""
CROP_CANDIDATE = 0.94
"""How well a picture must fit another at CROP_SIDE pixels, shifted and scaled in first order, to be worth aligning.

98 in 100 reach it that lost 3 % of width and height, evenly or from one side; two in three that lost 6 %.
"""
STEPS = 4
MOST_SCALE, MOST_SHIFT = 0.1, 1 / 16
"""Of an alignment, as shares of the side: twice a crop of 3 % on each side."""


class Pairs(NamedTuple):
    """Pairs of images, int [2, m], the first index smaller than the second, and their correlation, float32 [m]."""

    indices: np.ndarray
    similarity: np.ndarray


def unit_vectors(thumbnails: np.ndarray) -> np.ndarray:
    """Return thumbnails float32 [n, s, s] as mean-free vectors of length 1, float32 [n, s * s].

    Their products are Pearson's correlation, which ignores brightness and contrast. A thumbnail of one grey becomes 0.
    """
    vectors = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    vectors = vectors - vectors.mean(axis=1, keepdims=True)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)


def oriented(thumbnails: np.ndarray, turns: int, mirrored: bool) -> np.ndarray:
    """Return square images [n, s, s] mirrored left to right, if asked for, and then turned by quarters."""
    return np.rot90(thumbnails[:, :, ::-1] if mirrored else thumbnails, turns, axes=(1, 2))


def exact_pairs(digests: list[str]) -> Pairs:
    """Return the pairs of equal files: each with the first of its digest.

    Blank pictures need it, since their thumbnails resemble nothing.
    """
    first: dict[str, int] = {}
    pairs = [(first.setdefault(digest, index), index) for index, digest in enumerate(digests)]
    found = np.array([pair for pair in pairs if pair[0] != pair[1]], int).reshape(-1, 2).T
    return Pairs(found, np.ones(found.shape[1], np.float32))


def duplicate_pairs(thumbnails: np.ndarray, similarity: float) -> Pairs:
    """Return the pairs that hold the copies of each picture together, in whatever orientation they lie.

    Of the pairs that are alike, the ones of a maximum spanning forest are kept: groups stay the same, and a thousand
    copies of one picture are 999 pairs, not 499,500. So memory grows with n; time grows with its square (5,500 images:
    seconds). For 10^6 images, compare candidates only: the nearest neighbours from an index (FAISS: Johnson et al.
    2019, arXiv:1702.08734), or images whose hashed thumbnails share a bucket.

    Args:
        thumbnails: float32 [n, s, s], grey values.
        similarity: correlation in [0.5, 1] from which two images are joined, the best of the orientations.

    Returns:
        m < n pairs, each once.
    """
    vectors, pairs, costs = unit_vectors(thumbnails), np.zeros((2, 0), int), np.zeros(0, np.float32)
    for start in range(0, len(vectors), BLOCK):
        alike, orientation = _best_alike(thumbnails[start : start + BLOCK], vectors[start:])
        found = np.stack(np.nonzero(np.triu(alike, k=1) >= similarity - ALMOST))
        values = _without_lost_pixels(thumbnails[start:], found, alike[tuple(found)], orientation[tuple(found)],
                                      similarity)
        found, values = found[:, values >= similarity] + start, values[values >= similarity]
        pairs, costs = _forest(len(vectors), np.concatenate([pairs, found], axis=1), np.append(costs, 2 - values))
    return Pairs(pairs, 2 - costs)


def _best_alike(block: np.ndarray, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how alike thumbnails [b, s, s] and vectors [n, s * s] are in the best orientation, and which that is."""
    best = unit_vectors(block) @ vectors.T
    which = np.zeros(best.shape, np.int8)
    for number, orientation in enumerate(ORIENTATIONS[1:], start=1):
        alike = unit_vectors(oriented(block, *orientation)) @ vectors.T
        which[alike > best] = number
        np.maximum(best, alike, out=best)
    return best, which


def _without_lost_pixels(thumbnails: np.ndarray, pairs: np.ndarray, alike: np.ndarray, which: np.ndarray,
                         similarity: float) -> np.ndarray:
    """Return how alike pairs are, those that are almost copies after they are aligned.

    Whoever mirrored and then resized pictures lost half a pixel on one side: of the twins of the public set one in
    forty stays below 0.98 for that.

    Args:
        thumbnails: float32 [n, s, s].
        pairs: int [2, m]; alike: their correlation float32 [m] in orientation number `which`, int8 [m].
        similarity: from which pairs are copies and stay as they are.
    """
    alike = alike.copy()
    for number, orientation in enumerate(ORIENTATIONS):
        almost = (which == number) & (alike < similarity)
        alike[almost] = _aligned(thumbnails, pairs[:, almost], orientation)
    return alike


def _forest(count: int, pairs: np.ndarray, costs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs of a forest of least cost, and their costs; all are above 0, which scipy takes for no edge."""
    graph = coo_array((costs, tuple(pairs.astype(np.int32))), shape=(count, count)).tocsr()
    kept = minimum_spanning_tree(graph).tocoo()
    return np.sort(np.stack([kept.row, kept.col]).astype(int), axis=0), kept.data


def crop_pairs(details: np.ndarray, groups: np.ndarray, patients: np.ndarray) -> Pairs:
    """Return pairs of a picture and one that lacks 3 % of its width or height, maybe mirrored.

    Correlation alone misses them: a thumbnail that is shifted by a pixel resembles its original as little as a
    stranger. First, at CROP_SIDE pixels, each image is fitted by every other one and its derivatives by shift and scale
    (tangent distance: Simard et al. 1993, Efficient Pattern Recognition Using a New Transformation Distance, NIPS 5);
    what fits is then aligned by least squares (Lucas & Kanade 1981, IJCAI), at that size and at last in detail.

    Args:
        details: thumbnails float32 [n, s, s], s a multiple of CROP_SIDE.
        groups: int [n]; images of one group are known to belong together and are not compared.
        patients: int [n], -1 for unknown; images of two known patients are no pictures of each other.

    Returns:
        each pair once, those that reach CROP_SIMILARITY. Time grows with n squared.
    """
    small = details.reshape(len(details), CROP_SIDE, details.shape[1] // CROP_SIDE, CROP_SIDE, -1).mean(axis=(2, 4))
    vectors, found, alike = unit_vectors(small), [np.zeros((2, 0), int)], [np.zeros(0, np.float32)]
    for start in range(0, len(small), BLOCK):
        block = slice(start, start + BLOCK)
        for orientation in ORIENTATIONS[0], (0, True):
            fits = _fit(oriented(small[block], *orientation), vectors[start:])
            pairs = np.stack(np.nonzero(np.triu(fits, k=1) >= CROP_CANDIDATE)) + start
            pairs = pairs[:, _may_be_one(groups[pairs], patients[pairs])]
            similarity = _part_similarity(details, small, pairs, orientation)
            found.append(pairs[:, similarity >= CROP_SIMILARITY])
            alike.append(similarity[similarity >= CROP_SIMILARITY])
    indices, first = np.unique(np.concatenate(found, axis=1), axis=1, return_index=True)
    return Pairs(indices, np.concatenate(alike)[first])


def _may_be_one(groups: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """Return which pairs int [2, m] of groups and of patients may be one picture unknown so far: bool [m]."""
    return (groups[0] != groups[1]) & ((patients[0] < 0) | (patients[1] < 0) | (patients[0] == patients[1]))


def _fit(block: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Return the multiple correlation of vectors [n, s * s] with images [b, s, s] and their tangents: [b, n]."""
    tangents = _tangents(block)
    tangents -= tangents.mean(axis=2, keepdims=True)
    bases = np.linalg.qr(tangents.transpose(0, 2, 1))[0]
    squares = np.zeros((len(block), len(vectors)), np.float32)
    for basis in np.ascontiguousarray(bases.transpose(2, 0, 1)):
        squares += (basis @ vectors.T) ** 2
    return np.sqrt(squares)


def _tangents(images: np.ndarray) -> np.ndarray:
    """Return images [n, s, s] and their derivatives by shift and scale along x and y, as [n, 5, s * s]."""
    side = images.shape[1]
    y, x = (np.mgrid[:side, :side] - (side - 1) / 2).astype(np.float32)
    along_y, along_x = np.gradient(images, axis=(1, 2))
    return np.stack([images, along_x, along_y, x * along_x, y * along_y], axis=1).reshape(len(images), 5, -1)


def _aligned(thumbnails: np.ndarray, pairs: np.ndarray, orientation: tuple[int, bool]) -> np.ndarray:
    """Return the correlation of pairs int [2, m] once either shows the part that the other shows: float32 [m]."""
    parts = [np.zeros(0, np.float32)]
    for start in range(0, pairs.shape[1], BLOCK):
        first, second = (thumbnails[indices] for indices in pairs[:, start : start + BLOCK])
        first = oriented(first, *orientation)
        parts.append(np.maximum(_align(first, second, STEPS)[0], _align(second, first, STEPS)[0]))
    return np.concatenate(parts)


def _part_similarity(details: np.ndarray, small: np.ndarray, pairs: np.ndarray,
                     orientation: tuple[int, bool]) -> np.ndarray:
    """Return the correlation of pairs int [2, m] as _aligned() does, 0 for those that look hopeless on the way.

    Where the part lies is found in small images, whose steps cost a fraction, and only improved in detailed ones.
    """
    parts = [np.zeros(0, np.float32)]
    for start in range(0, pairs.shape[1], BLOCK):
        first, second = pairs[:, start : start + BLOCK]
        parts.append(np.maximum(
            _refined((oriented(small[first], *orientation), oriented(details[first], *orientation)),
                     (small[second], details[second])),
            _refined((small[second], details[second]),
                     (oriented(small[first], *orientation), oriented(details[first], *orientation)))))
    return np.concatenate(parts)


def _refined(whole: tuple[np.ndarray, np.ndarray], part: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return how well parts of images, given small and detailed, resemble others: correlation float32 [m], or 0."""
    result = np.zeros(len(whole[0]), np.float32)
    alike, place = _align(whole[0], part[0], STEPS)
    for steps, least in ((0, CROP_CANDIDATE), (2, CROP_SIMILARITY - 0.05)):
        hopeful = np.flatnonzero(alike >= least)
        if not len(hopeful):
            break
        alike = np.zeros_like(alike)
        alike[hopeful], place[:, hopeful] = _align(whole[1][hopeful], part[1][hopeful], steps, place[:, hopeful])
        result = np.maximum(result, alike)
    return result


def _align(whole: np.ndarray, part: np.ndarray, steps: int, place: np.ndarray | None = None,
           ) -> tuple[np.ndarray, np.ndarray]:
    """Look for the part of images float32 [m, s, s] that others show.

    Args:
        whole, part: the images.
        steps: of least squares.
        place: where to begin, see below; default: the parts are the whole.

    Returns:
        the best correlation on the way, float32 [m], and the last place, float32 [4, m]: shifts along x and y as
        shares of the side, scales along x and y.
    """
    start = np.repeat(np.array([[0], [0], [1], [1]], np.float32), len(whole), axis=1)
    place, targets, side = start if place is None else place, unit_vectors(part), whole.shape[1]
    best = np.full(len(whole), -1, np.float32)
    for number in range(steps + 1):
        cut = _resampled(whole, place[2:], place[:2] * side)
        best = np.maximum(best, np.einsum("nk,nk->n", unit_vectors(cut), targets))
        if number < steps:
            step = _step(cut, part)
            shift = place[:2] + np.clip(step[:2] / side, -MOST_SHIFT / 2, MOST_SHIFT / 2)
            scale = place[2:] * (1 + np.clip(step[2:], -MOST_SCALE / 2, MOST_SCALE / 2))
            place = np.concatenate([np.clip(shift, -MOST_SHIFT, MOST_SHIFT), np.clip(scale, 1 - MOST_SCALE, 1)])
    return best, place


def _step(images: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return shift and scale along x and y by which images [m, s, s] come nearer to the wanted ones: [4, m]."""
    columns = np.concatenate([_tangents(images), np.ones((len(images), 1, images[0].size), np.float32)], axis=1)
    squares = columns @ columns.transpose(0, 2, 1) + 1e-4 * np.eye(6, dtype=np.float32)
    found = np.linalg.solve(squares, columns @ wanted.reshape(len(wanted), -1, 1))
    gain = np.maximum(found[:, :1, 0], 0.2)  # brightness and contrast of a copy may differ
    return (found[:, 1:5, 0] / gain).T


def _resampled(images: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Return images [m, s, s] at scale * position + shift from their centre, both [2, m] for x and y."""
    along_x, along_y = (_weights(images.shape[1], scale[axis], shift[axis]) for axis in (0, 1))
    return along_y @ images @ along_x.transpose(0, 2, 1)


def _weights(side: int, scale: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Return the weights of cubic convolution (Keys 1981, doi:10.1109/TASSP.1981.1163711, eq. 15): [m, s, s]."""
    places = np.arange(side, dtype=np.float32) - np.float32((side - 1) / 2)
    wanted = places * scale[:, None] + shift[:, None]
    away = np.abs(wanted[:, :, None] - places)
    near, far = (1.5 * away - 2.5) * away**2 + 1, ((-0.5 * away + 2.5) * away - 4) * away + 2
    weights = np.where(away < 1, near, np.where(away < 2, far, np.float32(0)))
    return weights / np.maximum(weights.sum(axis=2, keepdims=True), np.float32(0.1))  # places outside are black
