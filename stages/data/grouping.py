"""Which images are the same picture or adjacent slices of one series, and so belong into one split.

Public sets hold the same slice several times: re-encoded, resized, stretched in contrast. They also hold many slices of
one head. When one is trained on and another is tested on, the score is memory, not skill. Slices of one patient belong
into one split (Yagis et al. 2021, doi:10.1038/s41598-021-01681-w: splitting by slice raised the accuracy on brain MRI
by 29 to 55 %), but public sets have lost the patients' ids. What is left are the file numbers: they often keep the
order of the series.

Two kinds of pairs are looked for, `exact_pairs` and `duplicate_pairs` of one picture and `run_pairs` of adjacent
slices; `components` joins them all at once.
"""

import re
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

from stages.data.params import Prepare
from stages.data.reading import Scan

BLOCK = 1024
"""Rows compared at a time: memory grows with BLOCK x images, not with images squared."""
NUMBER = re.compile(r"\d+")
"""What precedes the last number of a name, the number, what follows it."""

SHOWN_PAIRS = 8
"""Joined pairs that a person gets to see."""


@dataclass(frozen=True)
class Pair:
    """Two joined images, by their index, how similar they are, and why they were joined: `picture` or `run`."""

    kind: str
    similarity: float
    first: int
    second: int


@dataclass(frozen=True)
class Groups:
    """The group of each image, int [n], by copies alone and as prepare.group_by asks; the weakest joined pairs."""

    copies: np.ndarray
    final: np.ndarray
    weakest: list[Pair]


def unit_vectors(thumbnails: np.ndarray) -> np.ndarray:
    """Return thumbnails float32 [n, 32, 32] as mean-free vectors of length 1, float32 [n, 1024].

    Their products are Pearson's correlation, which ignores brightness and contrast. A thumbnail of one grey becomes 0.
    """
    vectors = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    vectors = vectors - vectors.mean(axis=1, keepdims=True)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)


def similarities(vectors: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Return the correlation of each pair, float32 [m], about -1 to 1.

    Args:
        vectors: from `unit_vectors`.
        pairs: int [2, m].
    """
    blocks = [vectors[pairs[:, start : start + BLOCK]] for start in range(0, pairs.shape[1], BLOCK)]
    return np.concatenate([np.zeros(0, np.float32), *(np.einsum("ij,ij->i", *block) for block in blocks)])


def exact_pairs(digests: list[str]) -> np.ndarray:
    """Return the pairs of equal files, int [2, m]: each with the first of its digest.

    Blank pictures need it, since their thumbnails resemble nothing.
    """
    first: dict[str, int] = {}
    pairs = [(first.setdefault(digest, index), index) for index, digest in enumerate(digests)]
    return np.array([pair for pair in pairs if pair[0] != pair[1]], int).reshape(-1, 2).T


def duplicate_pairs(vectors: np.ndarray, similarity: float) -> np.ndarray:
    """Return the pairs that hold the copies of each picture together.

    Of the pairs that are alike, the ones of a maximum spanning forest are kept: groups stay the same, and a thousand
    copies of one picture are 999 pairs, not 499,500. So memory grows with n; time grows with its square (5,500 images:
    under a second). For 10^6 images, compare candidates only: the nearest neighbours from an index (FAISS: Johnson et
    al. 2019, arXiv:1702.08734), or images whose hashed thumbnails share a bucket; `components` stays as it is.

    Args:
        vectors: from `unit_vectors`.
        similarity: correlation in [0.5, 1] from which two images are joined.

    Returns:
        int [2, m], m < n; each pair once, the first index smaller than the second.
    """
    pairs, costs = np.zeros((2, 0), int), np.zeros(0, np.float32)
    for start in range(0, len(vectors), BLOCK):
        alike = np.triu(vectors[start : start + BLOCK] @ vectors[start:].T, k=1)
        found = np.nonzero(alike >= similarity)
        pairs, costs = _forest(len(vectors), np.concatenate([pairs, np.stack(found) + start], axis=1),
                               np.concatenate([costs, 2 - alike[found]]))
    return pairs


def _forest(count: int, pairs: np.ndarray, costs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs of a forest of least cost, and their costs; all are above 0, which scipy takes for no edge."""
    graph = coo_array((costs, tuple(pairs.astype(np.int32))), shape=(count, count)).tocsr()
    kept = minimum_spanning_tree(graph).tocoo()
    return np.sort(np.stack([kept.row, kept.col]).astype(int), axis=0), kept.data


def near_duplicates(thumbnails: np.ndarray, similarity: float) -> np.ndarray:
    """Group images whose thumbnails look alike; copies of copies belong together.

    Args:
        thumbnails: float32 [n, 32, 32], grey values.
        similarity: as in `duplicate_pairs`.

    Returns:
        int [n], as `components`.
    """
    return components(len(thumbnails), duplicate_pairs(unit_vectors(thumbnails), similarity))


def run_pairs(vectors: np.ndarray, names: list[str], similarity: float) -> np.ndarray:
    """Return the pairs of neighbours in series of adjacent slices.

    Two images are neighbours when they lie in one folder, the last numbers in their names are n and n + 1, and they
    look alike. The rest of the name does not count: the public set goes on from Tr-glTr_0009.jpg to Tr-gl_0010.jpg. On
    that set about half of the numbered neighbours with a tumour reach 0.8, but 1 to 5 % of random pairs: the number
    alone would join strangers, and so would the similarity alone.

    Args:
        vectors: from `unit_vectors`.
        names: folder/file, one for each image.
        similarity: correlation in [0.5, 1] from which two neighbours belong to one series.

    Returns:
        int [2, m]; each pair once, the first index smaller than the second. Time and memory grow with n.
    """
    places = defaultdict(list)
    for index, name in enumerate(names):
        folder, _, file = name.rpartition("/")
        if numbers := NUMBER.findall(file.rpartition(".")[0] or file):
            places[folder, int(numbers[-1])].append(index)
    found = [(one, other) for (folder, number), members in places.items() for one in members
             for other in places.get((folder, number + 1), [])]
    pairs = np.sort(np.array(found, int).reshape(-1, 2).T, axis=0)
    return pairs[:, similarities(vectors, pairs) >= similarity]


def components(count: int, *pairs: np.ndarray) -> np.ndarray:
    """Return the group of each image, int [count]: what pairs join, directly or not, is one group.

    Args:
        count: number of images.
        pairs: int [2, m] each, indices of images that belong together.

    Returns:
        groups numbered from 0 in order of first appearance.
    """
    rows, columns = np.concatenate(pairs, axis=1)
    graph = coo_array((np.ones(len(rows), bool), (rows, columns)), shape=(count, count))
    return connected_components(graph, directed=False)[1]


def conflicts(labels: np.ndarray, groups: np.ndarray) -> int:
    """Count the groups whose images carry more than one label."""
    pairs = np.unique(np.stack([groups, labels]), axis=1)
    return int((np.unique(pairs[0], return_counts=True)[1] > 1).sum())


def group(scans: list[Scan], params: Prepare) -> Groups:
    """Find out which images belong together.

    Copies are looked for over all source folders, series within one: its file numbers mean nothing in another.
    """
    vectors = unit_vectors(np.concatenate([one.thumbnails for one in scans]))
    rows = [row for one in scans for row in one.rows]
    copies = np.concatenate([exact_pairs([row.digest for row in rows]),
                             duplicate_pairs(vectors, params.duplicate_similarity)], axis=1)
    pairs = {"picture": copies}
    if params.group_by == "runs":
        names = [f"{number}/{row.source}" for number, one in enumerate(scans) for row in one.rows]
        pairs["run"] = run_pairs(vectors, names, params.run_similarity)
    return Groups(components(len(rows), copies), components(len(rows), *pairs.values()),
                  weakest(vectors, pairs, SHOWN_PAIRS))


def weakest(vectors: np.ndarray, pairs: dict[str, np.ndarray], limit: int) -> list[Pair]:
    """Return the least similar pairs, as many of each kind and at most `limit` in all, the least similar first.

    Args:
        vectors: from unit_vectors.
        pairs: int [2, m] of each kind.
        limit: at least the number of kinds.
    """
    chosen = []
    for kind, found in pairs.items():
        alike = similarities(vectors, found)
        order = np.argsort(alike, kind="stable")[: limit // len(pairs)]
        chosen += [Pair(kind, float(alike[index]), *found[:, index].tolist()) for index in order]
    return sorted(chosen, key=lambda pair: pair.similarity)
