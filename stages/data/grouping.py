"""Which images belong into one split: those of one patient, those that show the same picture, and adjacent slices.

When an image is trained on and a copy of it, or another slice of the same head, is tested on, the score is memory, not
skill. Slices of one patient belong into one split (Yagis et al. 2021, doi:10.1038/s41598-021-01681-w: splitting by
slice raised the accuracy on brain MRI by 29 to 55 %). Where the patient is not known (see patients.py), what is left
are copies (see copies.py) and the file numbers: they often keep the order of the series.
"""

import re
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from stages.data import copies
from stages.data.copies import BLOCK, Pairs
from stages.data.dataset import Row
from stages.data.params import Prepare
from stages.data.reading import Scan

NUMBER = re.compile(r"\d+")
"""A number in a name; the last one counts."""
SHOWN_PAIRS = 8
"""Joined pairs that a person gets to see."""


@dataclass(frozen=True)
class Pair:
    """Two joined images, by their index, how similar they are, and why they were joined: see `group`."""

    kind: str
    similarity: float
    first: int
    second: int


@dataclass(frozen=True)
class Groups:
    """The group of each image, int [n]: of one picture, of one run of slices, and as prepare.group_by asks.

    With them, the least similar of the joined pairs.
    """

    copies: np.ndarray
    runs: np.ndarray
    final: np.ndarray
    weakest: list[Pair]


def similarities(vectors: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Return the correlation of each pair, float32 [m], about -1 to 1.

    Args:
        vectors: from `copies.unit_vectors`.
        pairs: int [2, m].
    """
    blocks = [vectors[pairs[:, start : start + BLOCK]] for start in range(0, pairs.shape[1], BLOCK)]
    return np.concatenate([np.zeros(0, np.float32), *(np.einsum("ij,ij->i", *block) for block in blocks)])


def pairs_of(names: list[str]) -> Pairs:
    """Return the pairs that join all images of one name, each with the first of them; "" is no name."""
    return copies.exact_pairs([name or f"nameless {index}" for index, name in enumerate(names)])


def run_pairs(vectors: np.ndarray, names: list[str], similarity: float) -> Pairs:
    """Return the pairs of neighbours in series of adjacent slices.

    Two images are neighbours when they lie in one folder, the last numbers in their names are n and n + 1, and they
    look alike. The rest of the name does not count: the public set goes on from Tr-glTr_0009.jpg to Tr-gl_0010.jpg. On
    that set about half of the numbered neighbours with a tumour reach 0.8, but 1 to 5 % of random pairs: the number
    alone would join strangers, and so would the similarity alone.

    Args:
        vectors: from `copies.unit_vectors`.
        names: folder/file, one for each image.
        similarity: correlation in [0.5, 1] from which two neighbours belong to one series.

    Returns:
        each pair once. Time and memory grow with n.
    """
    places = defaultdict(list)
    for index, name in enumerate(names):
        folder, _, file = name.rpartition("/")
        if numbers := NUMBER.findall(file.rpartition(".")[0] or file):
            places[folder, int(numbers[-1])].append(index)
    found = [(one, other) for (folder, number), members in places.items() for one in members
             for other in places.get((folder, number + 1), [])]
    pairs = np.sort(np.array(found, int).reshape(-1, 2).T, axis=0)
    alike = similarities(vectors, pairs)
    return Pairs(pairs[:, alike >= similarity], alike[alike >= similarity])


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


def group(scans: list[Scan], params: Prepare) -> Groups:
    """Find out which images belong together.

    Copies and patients are looked for over all sources, series within one: its file numbers mean nothing in another.
    Pairs are of the kinds `picture` (one picture, whole), `part` (a picture and a part of it) and `run`. Where two
    patients are known, neither a part nor a run joins them: these go by likeness.
    """
    thumbnails = np.concatenate([one.thumbnails for one in scans])
    rows = [row for one in scans for row in one.rows]
    patients = patient_numbers(rows if params.group_by == "patients" else [])
    patients = patients if len(patients) else np.full(len(rows), -1)
    whole = same_picture(scans, thumbnails, params.duplicate_similarity)
    together = components(len(rows), *(pairs.indices for pairs in whole), *_of_patients(patients))
    parts = copies.crop_pairs(np.concatenate([one.details for one in scans]), together, patients)
    kinds = {"picture": whole, "part": [parts]}
    pictures = components(len(rows), *_indices(kinds))
    if params.group_by != "duplicates":
        names = [f"{number}/{row.source}" for number, one in enumerate(scans) for row in one.rows]
        runs = run_pairs(copies.unit_vectors(thumbnails), names, params.run_similarity)
        kinds["run"] = [_between_unknown(runs, patients)]
    runs_joined = components(len(rows), *_indices(kinds))
    return Groups(pictures, runs_joined, components(len(rows), *_indices(kinds), *_of_patients(patients)),
                  weakest(kinds, SHOWN_PAIRS))


def same_picture(scans: list[Scan], thumbnails: np.ndarray, similarity: float) -> list[Pairs]:
    """Return the pairs of equal files, of pictures that are known to be one, and of whole pictures that look alike."""
    return [copies.exact_pairs([row.digest for one in scans for row in one.rows]),
            pairs_of([known.picture for one in scans for known in one.known]),
            copies.duplicate_pairs(thumbnails, similarity)]


def patient_numbers(rows: list[Row]) -> np.ndarray:
    """Return a number for each row's patient, int [n], -1 where it is not known."""
    numbers: dict[str, int] = {"": -1}
    return np.array([numbers.setdefault(row.patient, len(numbers)) for row in rows], int)


def _of_patients(patients: np.ndarray) -> list[np.ndarray]:
    """Return the pairs that join each patient's images."""
    return [pairs_of(["" if number < 0 else str(number) for number in patients.tolist()]).indices]


def _between_unknown(pairs: Pairs, patients: np.ndarray) -> Pairs:
    """Return the pairs of which at least one image's patient is not known."""
    open_ends = (patients[pairs.indices] < 0).any(axis=0)
    return Pairs(pairs.indices[:, open_ends], pairs.similarity[open_ends])


def _indices(kinds: dict[str, list[Pairs]]) -> list[np.ndarray]:
    return [pairs.indices for several in kinds.values() for pairs in several]


def weakest(kinds: dict[str, list[Pairs]], limit: int) -> list[Pair]:
    """Return the least similar pairs, as many of each kind and at most `limit` in all, the least similar first.

    Args:
        kinds: the pairs of each kind.
        limit: at least the number of kinds.
    """
    chosen = []
    for kind, several in kinds.items():
        indices, alike = (np.concatenate(part, axis=-1) for part in zip(*several, strict=True))
        order = np.argsort(alike, kind="stable")[: limit // len(kinds)]
        chosen += [Pair(kind, float(alike[index]), *indices[:, index].tolist()) for index in order]
    return sorted(chosen, key=lambda pair: pair.similarity)
