"""A CSV file of tumours' boxes -> where the tumour is in each image.

A box belongs to a file, by its digest, or to a slice of figshare's collection (Cheng 2017,
doi:10.6084/m9.figshare.1512427.v5), by its number; dataset/public_patients.csv says which file of the public set shows
which slice, and whether as its mirror image.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from core import contract
from stages.common.command import StageError
from stages.data import dataset, patients

FILE, SLICE, SHARES = "sha256", "figshare_slice", ("x_centre", "y_centre", "width", "height")
NONE = (np.nan,) * len(SHARES)
MIRRORED = "mirrored"
Boxes = dict[str, tuple[float, ...]]
"""By the digest of a file or the number of a slice: x and y of the centre, width and height, as shares of the image's
width and height, in [0, 1]."""


def of_rows(rows: list[dataset.Row], table: Path, param: str) -> np.ndarray:
    """Return each image's box, and print how many tumours have one.

    Args:
        rows: of any images, with the digests of their files.
        table, param: see read().

    Returns:
        float64 [n, 4], see Boxes; NaN for an image without a box.

    Raises:
        StageError: the table cannot be read, see read(), or no image has a box.
    """
    boxes, shown = read(table, param), patients.public_files()
    found = np.array([of_row(row, shown, boxes) for row in rows]).reshape(-1, len(SHARES))
    known, tumours = int(has(found).sum()), sum(row.label != contract.HEALTHY for row in rows)
    if not known:
        raise StageError(f"Expected boxes of these images in {table} ({param}). Received: none for {len(rows)} images, "
                         f"{tumours} of them of tumours. Name the files by their digest in a column {FILE}, give "
                         f"prepare.source files of the public set as they were published, or {param} null.")
    print(f"{table}: boxes for {known} of {tumours} images of tumours.")
    return found


def of_row(row: dataset.Row, shown: dict[str, dict[str, str]], boxes: Boxes) -> tuple[float, ...]:
    """Return the box of an image, NONE without one.

    Args:
        row: the image's. shown: see patients.public_files. boxes: see read().
    """
    if row.file in boxes:
        return boxes[row.file]
    public = shown.get(row.file, {})
    x, *others = boxes.get(public.get(SLICE, ""), NONE)
    return (1 - x if public.get("orientation") == MIRRORED else x, *others)


def has(boxes: np.ndarray) -> np.ndarray:
    """Return which images have a box, bool [n], for boxes float [n, 4]."""
    return ~np.isnan(boxes).any(axis=1)


def read(table: Path, param: str) -> Boxes:
    """Read a CSV file in UTF-8 with the columns SHARES, and FILE or SLICE or both, of which a row needs one.

    Args:
        table: the file. param: which names it, for messages.

    Raises:
        StageError: there is no such file, a column is missing, a file or slice stands there twice, or a share is none.
    """
    found: Boxes = {}
    for line, row in lines(table, param):
        key = row.get(FILE, "").strip().lower() or row.get(SLICE, "").strip()
        box = tuple(share(row[name]) for name in SHARES)
        if not key or key in found or np.isnan(box).any():
            raise StageError(f"Expected each file or slice once and four shares from 0 to 1 in {table} ({param}). "
                             f"Received: {','.join((key, *(row[name] for name in SHARES)))} in line {line}. Correct "
                             "the line.")
        found[key] = box
    return found


def share(text: str) -> float:
    """Return a number from 0 to 1 as it is written; NaN for anything else."""
    try:
        value = float(text)
    except ValueError:
        return np.nan
    return value if 0 <= value <= 1 else np.nan


def lines(table: Path, param: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Give the rows of a CSV file as they are written, each with the number of its line.

    Args:
        table, param: see read().

    Raises:
        StageError: there is no such file, or a column is missing.
    """
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:  # Excel writes a mark in front
            reader = csv.DictReader(file, restval="")
            header = set(reader.fieldnames or ())
            missing = [name for name in SHARES if name not in header]
            if missing or not header & {FILE, SLICE}:
                raise StageError(f"Expected the columns {FILE} or {SLICE}, and {','.join(SHARES)} in line 1 of {table} "
                                 f"({param}). Received: no {', '.join(missing or [f'{FILE}, nor {SLICE}'])}. "
                                 "Name them so.")
            for row in reader:
                yield reader.line_num, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise StageError(f"Expected {param} to be a CSV file in UTF-8. Received: {table}, which cannot be read: "
                         f"{error}. Correct the param.") from None
