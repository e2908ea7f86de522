"""Whose each image is, from which source, and what its original says it shows: as far as that is known.

Asked in this order: prepare.patients, a CSV file of the user; the public set's own table, by the digest of the file
(dataset/public_patients.csv, see dataset/README.md); what the layout says, such as a patient's folder; a DICOM file's
PatientID; names by the rules of BIDS, BraTS and TCIA. An id never leaves this module: patients are numbered.
"""

import csv
import hmac
import re
import secrets
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pydicom
from tqdm import tqdm

from core import contract
from imaging import readers
from stages.common.command import StageError
from stages.data import layouts, spelling

PUBLIC_TABLE = Path(__file__).parents[2] / "dataset/public_patients.csv"
BIDS = "sub-"
"""Begins the names of subjects in BIDS, which are counted anew in every data set."""
NAMES = re.compile(rf"(?<![A-Za-z0-9])({BIDS}[A-Za-z0-9]+"
                   r"|BraTS-[A-Za-z]+-\d{5}"  # BraTS since 2023; what follows is the visit
                   r"|BraTS\d\d(?:\d\d_\d{5}|_[A-Za-z]+_\d{3})"  # BraTS until 2021
                   r"|TCGA-\w\w-\w{4})")  # The Cancer Genome Atlas, of which TCIA has the images
START = 4096
"""Bytes of a file that tell whether it is DICOM."""


@dataclass(frozen=True)
class Known:
    """What is known of an image beside its class; "" for what is not.

    Attributes:
        patient: kind-number, such as `public-12`.
        origin: name of the source.
        picture: images with the same one show one picture.
        original: the class that the source's original gives.
    """

    patient: str = ""
    origin: str = ""
    picture: str = ""
    original: str = ""


def public_files() -> dict[str, dict[str, str]]:
    """Return the rows of the public set's table by the file's digest, 64 hexadecimal digits."""
    with PUBLIC_TABLE.open(newline="", encoding="utf-8") as file:
        return {row["sha256"]: row for row in csv.DictReader(file)}


class Patients:
    """Numbers patients; each kind of id on its own, in the order in which they come."""

    def __init__(self, table: Path | None):
        """Take the path of prepare.patients, if there is one."""
        self.listed = Listed(table) if table else None
        self.key = secrets.token_bytes(32)
        self.numbers: dict[str, dict[bytes, int]] = defaultdict(dict)

    @cached_property
    def public(self) -> dict[str, dict[str, str]]:
        """See public_files()."""
        return public_files()

    def known(self, file: layouts.File, digest: str, source: Path, name: str = "") -> Known:
        """Return what is known of a file.

        Args:
            file: as layouts.find lists it.
            digest: SHA-256 of its bytes, 64 hexadecimal digits.
            source: the folder or CSV file that was searched.
            name: of a further source: the origin where no other is known. One id in two sources, such as `1` or
                `sub-01`, is two patients; only prepare.patients and the names of BraTS and TCIA count everywhere.
        """
        row = self.listed.row(file, digest, source, bool(name)) if self.listed else {}
        public, subject = self.public.get(digest, {}), name_id(file.name)
        patient = (self.number("listed", row.get("patient", "")) or _of_public(public)
                   or self.number("given", _within(name, file.patient and f"{file.origin}/{file.patient}"))
                   or self.number("dicom", _within(name, dicom_id(file.path)))
                   or self.number("named", _within(name, subject) if subject.startswith(BIDS) else subject))
        return Known(patient, row.get("source", "") or public.get("source", "") or file.origin or name,
                     _picture(public), spelling.label_of(public.get("figshare_label", ""), contract.CLASSES) or "")

    def number(self, kind: str, identity: str) -> str:
        """Return kind-number of an id, "" for none; only a digest by a key of this run is kept."""
        if not identity:
            return ""
        digest = hmac.digest(self.key, identity.encode(), "sha256")
        own = self.numbers[kind]
        return f"{kind}-{own.setdefault(digest, len(own) + 1)}"


def _within(name: str, identity: str) -> str:
    """Return an id that counts within the source of this name only, "" for none."""
    return identity and f"{name}\0{identity}"


def _of_public(row: dict[str, str]) -> str:
    """Return the patient of a row of the public table; its numbers are public, and stay."""
    return f"public-{row['patient']}" if row.get("patient") else ""


def _picture(row: dict[str, str]) -> str:
    """Return which picture a row of the public table shows."""
    return row.get("picture") or (row and f"slice {row['figshare_slice']}") or ""


def dicom_id(path: Path) -> str:
    """Return the PatientID of a DICOM file, "" for another file or without one."""
    with path.open("rb") as file:
        reader = readers.reader_of(file.read(START))
    if reader is None or reader.name != "DICOM":
        return ""
    return str(pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["PatientID"], force=True)
               .get("PatientID", "")).strip()


def name_id(name: str) -> str:
    """Return the subject in a path by the rules of BIDS (`sub-01`), BraTS and TCIA; "" for none."""
    found = NAMES.search(name)
    return found[1] if found else ""


class Listed:
    """The file of prepare.patients: columns `path` or `sha256`, and `patient` or `source` or both."""

    def __init__(self, table: Path):
        """Read it.

        Args:
            table: CSV file with a header. Paths are meant from its folder, or from prepare.source.

        Raises:
            StageError: there is no such file, a column is missing, or two rows name one file and differ.
        """
        self.table = table
        self.by: dict[str, dict[str, str]] = {}
        self.used: set[str] = set()
        self.missing = 0
        for line, row in self._rows():
            key = row.get("sha256", "").lower() or row.get("path", "")
            if not key:
                raise StageError(f"Expected a path or sha256 in line {line} of {table} (prepare.patients). Received: "
                                 "neither. Fill it in, or remove the line.")
            if self.by.setdefault(key, row) != row:
                raise StageError(f"Expected one row for each file in {table} (prepare.patients). Received: another one "
                                 f"for {key} in line {line}. Remove one of them.")

    def _rows(self) -> Iterator[tuple[int, dict[str, str]]]:
        try:
            with self.table.open(newline="", encoding="utf-8-sig") as file:
                reader = csv.DictReader(file)
                columns = set(reader.fieldnames or ())
                if not columns & {"path", "sha256"} or not columns & {"patient", "source"}:
                    raise StageError(f"Expected the columns path or sha256, and patient or source, in {self.table} "
                                     f"(prepare.patients). Received: {', '.join(sorted(columns)) or 'no header'}. "
                                     "Name them so in its first line.")
                for row in reader:
                    yield reader.line_num, {key: (value or "").strip() for key, value in row.items() if key}
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise StageError(f"Expected prepare.patients to be a CSV file in UTF-8. Received: {self.table}, which "
                             f"cannot be read: {error}. Correct the param.") from None

    def row(self, file: layouts.File, digest: str, source: Path, further: bool = False) -> dict[str, str]:
        """Return the row of a file, by its digest or by its path from the table's or the source's folder.

        The latter not for prepare.further_sources: a path may lie in several of them.
        """
        folder = source.parent if source.is_file() else source
        inside = () if further else (_relative(file.path, folder), file.name)
        for key in (digest, _relative(file.path, self.table.parent), *inside):
            if key in self.by:
                self.used.add(key)
                return self.by[key]
        self.missing += 1
        return {}

    def told(self) -> str:
        """Return in a line how many rows and files found no partner."""
        return (f"{self.table}: {len(self.used)} of {len(self.by)} rows name a file of the source, "
                f"{len(self.by) - len(self.used)} name none; {self.missing} files are in no row.")


def _relative(path: Path, folder: Path) -> str:
    """Return a path as it is written from a folder, "" if it does not lie in it."""
    absolute = folder.absolute()
    return path.absolute().relative_to(absolute).as_posix() if path.absolute().is_relative_to(absolute) else ""


def of_scan(files: list[layouts.File], digests: list[str], source: Path, patients: Patients,
            name: str = "") -> list[Known]:
    """Return what is known of each file of a source, and print how many belong to known patients.

    Args:
        files, digests: of reading.Scan.
        source: the folder or CSV file that was searched.
        patients: numbers those of all sources.
        name: of a further source, see Patients.known.
    """
    found = [patients.known(file, digest, source, name) for file, digest in zip(files, digests, strict=True)]
    whose = [one.patient for one in found if one.patient]
    if patients.listed:
        tqdm.write(patients.listed.told())
    if whose:
        tqdm.write(f"{len(whose):,} of {len(found):,} files belong to {len(set(whose)):,} known patients.")
    return found
