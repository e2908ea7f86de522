"""A CSV file that lists images: path,label and, if people like, patient,source."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path

from stages.common.command import StageError
from stages.data.spelling import label_of

COLUMNS, OPTIONAL = ("path", "label"), ("patient", "source")
SHOWN = 10
"""Faults that a person gets to see at once."""
Row = dict[str, str]


def read(source: Path, labels: Sequence[str]) -> list[Row]:
    """Return the rows of a CSV file in UTF-8.

    Args:
        source: its paths are relative to its folder.
        labels: the classes; each row's label is one of them, however spelt.

    Returns:
        for each row path (without detours), label (one of the labels), patient and source ("" if the column lacks).

    Raises:
        StageError: wrong columns, or naming the lines whose file is missing or listed twice, or whose label is unknown.
    """
    seen: dict[str, int] = {}
    rows, faults = [], []
    for number, row in lines(source):
        path = os.path.normpath(row["path"].strip())
        label = label_of(row["label"], labels)
        if fault := _fault(row, source.parent / path, label, labels, seen.get(path)):
            faults.append(f"line {number}: {fault}")
        seen.setdefault(path, number)
        rows.append({"path": path, "label": label} | {name: row.get(name, "").strip() for name in OPTIONAL})
    if faults:
        more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise StageError(f"Expected a file of {source.parent} and its class, once, on each line of {source}. Received: "
                         f"{'; '.join(faults[:SHOWN])}{more}. Correct these lines.")
    return rows


def lines(source: Path) -> list[tuple[int, Row]]:
    """Return the rows as they are written, each with the number of its last line.

    Raises:
        StageError: no CSV in UTF-8, or wrong columns.
    """
    try:
        with source.open(newline="", encoding="utf-8-sig") as file:  # Excel writes a mark in front
            reader = csv.DictReader(file, restkey="", restval="", skipinitialspace=True, strict=True)
            header = list(reader.fieldnames or ())
            rows = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise StageError(f"Expected {source} to be a CSV file in UTF-8. Received: {error}. Save it anew.") from None
    is_known = set(COLUMNS) <= set(header) <= {*COLUMNS, *OPTIONAL}
    if not is_known or len(set(header)) < len(header):
        raise StageError(f"Expected the columns path,label and, if you like, patient,source in line 1 of {source}, "
                         f"separated by commas. Received: {','.join(header)}. Rename, add or remove columns.")
    return rows


def _fault(row: Row, path: Path, label: str, labels: Sequence[str], earlier: int | None) -> str:
    """Return what is wrong with a row, "" if nothing is."""
    given = row["path"].strip()
    if "" in row:
        return "it has more cells than line 1"
    if not given or Path(given).is_absolute():
        return f"the path {given!r} is not relative to the CSV file's folder"
    if not path.is_file():
        return f"there is no file {given}"
    if earlier:
        return f"{given} is on line {earlier} already"
    return "" if label else f"the label {row['label']!r} is none of {', '.join(labels)}"
