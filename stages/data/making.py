"""Further training images, made by moving tumours between slices of the training split, see `moving`.

Of each picture of that split so many images are used as the square root of how many there are of it, as in
counting.draws. Each gives two: with a tumour whose box is known, the slice without it and a sham; without a tumour, the
slice with a tumour of another training slice and a sham. They belong to the group, patient and origin of the slice that
they were made of, and its split: nothing crosses one. A sham shows the picture that it was made of; the others are
pictures of their own.
"""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
from joblib import delayed
from tqdm import tqdm

from core import contract
from stages.common.command import StageError
from stages.data import boxes, counting, dataset, moving, processes, reading, spelling
from stages.data.params import Prepare

PARAM = "prepare.boxes"
SELDOM = {"pituitary": 0.5}
"""How often a class is drawn to be put in, against the others: tumours of the pituitary gland lie at one place only,
which few slices show."""
DONORS = 6
"""Tumours that are tried for a slice, one after another."""


def check(params: Prepare) -> None:
    """Check, before images are read, that what `made` needs is there.

    Raises:
        StageError: prepare.moved_tumours without a table of boxes, or see boxes.read.
    """
    if params.moved_tumours and not params.boxes:
        raise StageError("Expected prepare.boxes to name a CSV file that says where the tumours are, since "
                         "prepare.moved_tumours is true. Received: null. Give one (dataset/README.md), or set "
                         "prepare.moved_tumours to false.")
    if params.boxes:
        boxes.read(Path(params.boxes), PARAM)


def made(splits: dict[str, list[dataset.Row]], folder: Path, params: Prepare) -> list[dataset.Row]:
    """Make images of those of the training split and store them, with a progress bar; say how many could not be made.

    Args:
        splits: rows of each split.
        folder: which the rows' paths start from; the new images lie in its images/ as well.
        params: of this stage, with boxes.

    Returns:
        the new rows, in an order that depends on the training split alone.

    Raises:
        StageError: see boxes.of_rows.
    """
    rows = splits["train"]
    planned = plan(rows, boxes.of_rows(rows, Path(params.boxes or ""), PARAM), folder.resolve(), params.seed)
    free = 1 + max(row.picture for part in splits.values() for row in part)
    found: dict[int, dataset.Row] = {}
    with tqdm(total=len(planned), desc="moved tumours", unit="image") as bar:
        def done(result: tuple[int, bytes, str]) -> None:
            number, data, label = result
            if data:
                row, task = planned[number]
                found[number] = stored(data, row, task.kind, label, free + number, folder)
            bar.update()

        jobs = [delayed(moving.carry_out)(number, task) for number, (_, task) in enumerate(planned)]
        processes.run(jobs, processes.count(len(jobs)), done)
    result = [found[number] for number in sorted(found)]
    print(told(Counter(task.kind for _, task in planned), counts(result)))
    return result


def plan(rows: list[dataset.Row], around: np.ndarray, folder: Path,
         seed: int) -> list[tuple[dataset.Row, moving.Task]]:
    """Return what is to be made, each with the row of the image that it is made of.

    Args:
        rows: of the training split.
        around: float [n, 4], their boxes, see boxes.of_rows.
        folder: which their paths start from.
        seed: prepare.seed; with an image's digest it decides what is made of it.
    """
    known = {row: tuple(box.tolist()) for row, box, has in zip(rows, around, boxes.has(around), strict=True) if has}
    tumours = some_a_picture([row for row in known if row.label != contract.HEALTHY])
    healthy = some_a_picture([row for row in rows if row.label == contract.HEALTHY])
    donors: dict[str, list[moving.Tumour]] = {}
    for row in (row for row in tumours if row.label != spelling.TUMOUR):
        donors.setdefault(row.label, []).append(moving.Tumour(folder / row.path, known[row], row.label))
    kinds = [(row, kind) for row in tumours for kind in (moving.FILLED, moving.SHAM)]
    kinds += [(row, kind) for row in healthy for kind in (moving.PASTED, moving.SHAM)]
    return [(row, moving.Task(kind, folder / row.path, known.get(row) if row.label != contract.HEALTHY else None,
                              drawn(donors, row, seed) if kind == moving.PASTED else (),
                              entropy(row, seed, moving.KINDS.index(kind)))) for row, kind in kinds]


def some_a_picture(rows: list[dataset.Row]) -> list[dataset.Row]:
    """Return of c images of a picture round(c ** 0.5), those whose digests come first, in the order of the rows."""
    found: dict[int, list[dataset.Row]] = {}
    for row, picture in zip(rows, counting.pictures(rows).tolist(), strict=True):
        found.setdefault(picture, []).append(row)
    first = [sorted(copies, key=lambda one: one.digest)[: round(len(copies) ** 0.5)] for copies in found.values()]
    chosen = {row.digest for some in first for row in some}
    return [row for row in rows if row.digest in chosen]


def drawn(donors: dict[str, list[moving.Tumour]], row: dataset.Row, seed: int) -> tuple[moving.Tumour, ...]:
    """Draw the tumours to try for a slice, none if there are none: each class as often as another, but for SELDOM.

    Args:
        donors: the tumours of each class. row: of the slice. seed: see plan().
    """
    if not donors:
        return ()
    random, labels = np.random.default_rng(entropy(row, seed, len(moving.KINDS))), list(donors)
    shares = np.array([SELDOM.get(label, 1.0) for label in labels])
    chosen = random.choice(len(labels), DONORS, p=shares / shares.sum())
    return tuple(donors[labels[index]][random.integers(len(donors[labels[index]]))] for index in chosen)


def entropy(row: dataset.Row, seed: int, number: int) -> tuple[int, int, int]:
    """Return what seeds the random numbers that make an image: the same whatever other images there are."""
    return seed, number, int(row.digest, 16)


def stored(data: bytes, row: dataset.Row, kind: str, label: str, picture: int, folder: Path) -> dataset.Row:
    """Store an image that was made and return its row.

    Args:
        data: PNG. row: of the image that it was made of. kind: of moving.KINDS. label: of the tumour that was put in.
        picture: a free number. folder: see made().
    """
    one = reading.store(data, row.source, {moving.FILLED: contract.HEALTHY, moving.PASTED: label}.get(kind, row.label),
                        folder / "images")
    return replace(row, path=one.path, label=one.label, digest=one.digest, file="", made=kind,
                   picture=row.picture if kind == moving.SHAM else picture)


def counts(rows: list[dataset.Row]) -> dict[str, int]:
    """Return how many images were made, by kind."""
    return {kind: sum(row.made == kind for row in rows) for kind in moving.KINDS}


def told(wanted: dict[str, int], found: dict[str, int]) -> str:
    """Return in a sentence how many images of each kind were made, and of how many pictures."""
    parts = ", ".join(f"{found[kind]:,} of {wanted[kind]:,} {kind}" for kind in moving.KINDS)
    return f"Made by moving tumours: {parts}. Of the others the image has colours, or there is no place in it."
