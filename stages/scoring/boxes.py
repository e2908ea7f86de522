"""A CSV file of tumours' boxes -> where the tumour is in images of the public set.

The boxes are those of the slices of figshare's collection (Cheng 2017, doi:10.6084/m9.figshare.1512427.v5), by their
number; dataset/public_patients.csv says which file shows which slice, and whether as its mirror image.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from stages.common.command import StageError
from stages.data import dataset, patients

SLICE, SHARES = "figshare_slice", ("x_centre", "y_centre", "width", "height")
NONE = (np.nan,) * len(SHARES)
MIRRORED, PUBLIC = "mirrored", "public-"


def of_rows(rows: list[dataset.Row], table: Path) -> np.ndarray:
    """Return each image's box, and print how many have one.

    Args:
        rows: of any images. Only those of the public set's patients, under the names of its files, can have one.
        table: evaluate.boxes, a CSV file with the columns SLICE and SHARES: each slice's box as shares of the slice's
            width and height.

    Returns:
        float64 [n, 4], x and y of the centre, width and height, in [0, 1]; NaN for an image without a box.

    Raises:
        StageError: the table cannot be read, see read(), or no image has a box.
    """
    boxes, shown = read(table), slices()
    found = np.array([of_row(row, shown, boxes) for row in rows]).reshape(-1, len(SHARES))
    known = int(has(found).sum())
    public = sum(row.patient.startswith(PUBLIC) for row in rows)
    if not known:
        raise StageError(f"Expected boxes of test images in {table} (evaluate.boxes). Received: none for {len(rows)} "
                         f"images, {public} of them of patients of the public set. Give prepare.source files of that "
                         "set under their own names, or evaluate.boxes null.")
    print(f"{table}: boxes for {known} of {public} test images of the public set's patients.")
    return found


def of_row(row: dataset.Row, shown: dict[str, tuple[str, str]], boxes: dict[str, tuple[float, ...]]) -> tuple:
    """Return the box of an image, NONE without one.

    Args:
        row: the image's. shown: see slices(). boxes: see read().
    """
    number, orientation = shown.get(named(row.source), ("", "")) if row.patient.startswith(PUBLIC) else ("", "")
    x, *others = boxes.get(number, NONE)
    return (1 - x if orientation == MIRRORED else x, *others)


def has(boxes: np.ndarray) -> np.ndarray:
    """Return which images have a box, bool [n], for boxes float [n, 4]."""
    return ~np.isnan(boxes).any(axis=1)


def slices() -> dict[str, tuple[str, str]]:
    """Return by class/file of the public set which slice it shows, "" for none, and in which orientation."""
    with patients.PUBLIC_TABLE.open(newline="", encoding="utf-8") as file:
        return {named(row["path"]): (row[SLICE], row["orientation"]) for row in csv.DictReader(file)}


def named(path: str) -> str:
    """Return class/file, the last two parts of a path: what lies above them is called as people like."""
    return "/".join(path.split("/")[-2:])


def read(table: Path) -> dict[str, tuple[float, ...]]:
    """Return the boxes by the number of their slice; the columns and ranges are those of of_rows().

    Raises:
        StageError: there is no such file, a column is missing, a slice stands there twice, or a share is none.
    """
    found: dict[str, tuple[float, ...]] = {}
    for line, row in lines(table):
        number, box = row[SLICE].strip(), tuple(share(row[name]) for name in SHARES)
        if not number or number in found or np.isnan(box).any():
            raise StageError(f"Expected each slice once and four shares from 0 to 1 in {table} (evaluate.boxes). "
                             f"Received: {','.join(row[name] for name in (SLICE, *SHARES))} in line {line}. Correct "
                             "the line.")
        found[number] = box
    return found


def share(text: str) -> float:
    """Return a number from 0 to 1 as it is written; NaN for anything else."""
    try:
        value = float(text)
    except ValueError:
        return np.nan
    return value if 0 <= value <= 1 else np.nan


def lines(table: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Give the rows of a CSV file as they are written, each with the number of its line.

    Raises:
        StageError: there is no such file, or a column is missing.
    """
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:  # Excel writes a mark in front
            reader = csv.DictReader(file, restval="")
            if missing := [name for name in (SLICE, *SHARES) if name not in (reader.fieldnames or ())]:
                raise StageError(f"Expected the columns {','.join((SLICE, *SHARES))} in line 1 of {table} (evaluate."
                                 f"boxes). Received: no {', '.join(missing)}. Name them so.")
            for row in reader:
                yield reader.line_num, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise StageError(f"Expected evaluate.boxes to be a CSV file in UTF-8. Received: {table}, which cannot be read: "
                         f"{error}. Correct the param.") from None
