"""The public set: its twins are found, and no patient of it crosses a split. What is true of it stands in its table."""

import csv
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest

from stages.data import copies, grouping, patients, reading, splitting
from tests.support.road import DATA

pytestmark = pytest.mark.real_data


@pytest.fixture(scope="module")
def table() -> dict[str, dict[str, str]]:
    """The rows of the set's own table, by the file's path."""
    with (DATA / "patients.csv").open(newline="") as file:
        return {row["path"]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def prepare(defaults):
    """The params of prepare for the whole set, at a size that saves time."""
    return replace(defaults.prepare, source=str(DATA), image_size=64)


@pytest.fixture(scope="module")
def scan(prepare, tmp_path_factory) -> reading.Scan:
    """The set as prepare reads it."""
    folder = tmp_path_factory.mktemp("real") / "images"
    return reading.scan(DATA, folder, prepare, patients.Patients(None))


def crossing(scan: reading.Scan, prepare, table) -> set[str]:
    """Return the patients and pictures of the table that a split cuts."""
    groups = grouping.group([scan], prepare)
    rows = [replace(row, group=int(group), picture=int(picture))
            for row, group, picture in zip(scan.rows, groups.final, groups.copies, strict=True)]
    homes = defaultdict(set)
    for split, part in splitting.split(rows, np.zeros(len(rows), bool), prepare).items():
        for row in part:
            known = table[row.source]
            homes[known["patient"] or f"picture {known['picture']}"].add(split)
    return {one for one, found in homes.items() if len(found) > 1}


def test_what_is_shipped_is_the_table_of_the_set():
    assert patients.PUBLIC_TABLE.read_bytes() == (DATA / "patients.csv").read_bytes()


def test_every_twin_is_found(scan, table):
    rows = [(table[row.source]["figshare_slice"], index) for index, row in enumerate(scan.rows)]
    numbers = [index for slice_, index in rows if slice_]
    pairs = copies.duplicate_pairs(scan.thumbnails[numbers], 0.98)
    groups = grouping.components(len(numbers), pairs.indices)
    twins = defaultdict(set)
    for (slice_, _), group in zip([one for one in rows if one[0]], groups.tolist(), strict=True):
        twins[slice_].add(group)
    assert (len(numbers), len(twins)) == (3705, 2391)
    assert all(len(found) == 1 for found in twins.values())


def test_the_patients_are_known(scan, capsys):
    whose = [known.patient for known in scan.known if known.patient]
    assert (len(whose), len(set(whose))) == (3705, 168)
    assert sum(known.original not in ("", row.label) for known, row in zip(scan.known, scan.rows, strict=True)) == 4
    patients.of_scan(scan.files, scan.digests, DATA, patients.Patients(None))
    assert "3,705 of 5,251 files belong to 168 known patients." in "".join(capsys.readouterr())


def test_no_patient_crosses_a_split(scan, prepare, table):
    assert not crossing(scan, prepare, table)


def test_the_check_sees_what_the_old_grouping_cut(scan, prepare, table):
    few = slice(None, None, 3)  # of the whole set, pairs that nothing is known of take minutes
    without = replace(scan, rows=scan.rows[few], thumbnails=scan.thumbnails[few], details=scan.details[few],
                      known=[patients.Known()] * len(scan.rows[few]))
    assert len(crossing(without, replace(prepare, group_by="runs"), table)) > 50


def test_a_source_is_held_out(scan, prepare):
    rows = [replace(row, group=index, picture=index) for index, row in enumerate(scan.rows)]
    splits = splitting.split(rows, np.zeros(len(rows), bool), replace(prepare, hold_out_source="web"))
    assert {row.origin for row in splits["held_out"]} == {"web"} and not splits["held_out_duplicates"]
    assert "web" not in {row.origin for name in ("train", "validation", "test") for row in splits[name]}
    assert len(splits["held_out"]) == sum(row.origin == "web" for row in rows) == 186
