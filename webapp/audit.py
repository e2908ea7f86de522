"""A record of every answered prediction that cannot be changed unnoticed.

    python -m webapp.audit verify audit/

Switched on by AUDIT_LOG=folder. A record is one line of JSON: sequence, time, request id, the name of the API key, a
keyed digest of the uploaded file, which slice of it, revision, latency, and the answer but for its disclaimer; no file
name, no metadata, no pixels. It is on the disk before the answer goes out. Each carries the code of the one before it
and a code of its own (HMAC-SHA-256, RFC 2104), so that without the key nobody can edit, delete, insert or reorder
records unnoticed. The key is folder/key unless AUDIT_KEY_FILE names another file: keep it where those who may write the
folder cannot read it.

Which records are about a file of an archive, its digest tells:

    openssl dgst -sha256 -mac hmac -macopt hexkey:$(cat audit/key) FILE

What cannot be seen from inside: that the whole folder was put back to an earlier state. So the application's own log
says once an hour how many records there are and the code of the last one: keep that log elsewhere.
"""

import argparse
import datetime
import fcntl
import hmac
import json
import logging
import math
import os
import secrets
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flask import current_app, g

from client import Answer
from imaging.slices import Picture
from webapp.access_log import request_id
from webapp.keys import key_name
from webapp.provenance import provenance, revision
from webapp.refused import Refused
from webapp.services import services
from webapp.worker import in_thread

HEAD, KEY, LOCK = "head.json", "key", "lock"
START = {"sequence": 0, "last": "", "file": 1, "size": 0}
KEY_BYTES = 32
NAMES = {"model_type": "model", "predicted_class": "class", "all_probabilities": "probabilities"}
"""Fields of an answer that records have called otherwise from the first."""
REMINDER = 3600.0
"""Seconds between the log lines that say where the audit log ends."""

log = logging.getLogger(__name__)


class AuditError(Exception):
    """The records are not what was written, or the key is missing; the message says what and where."""


class AuditLog:
    """Appends records. Safe for threads and several processes.

    Args:
        folder: holds audit-000001.jsonl and so on, head.json, and the key if no other is named; is made, for its owner
            only. One that is there keeps its permissions: whoever made it may have let others read it.
        key_file: 64 hexadecimal digits; is made, readable by its owner only, when absent.
        most_bytes: a file that is larger is followed by a new one.

    Raises:
        OSError: the folder or the key cannot be made or read.
        AuditError: the key file holds something else.
    """

    def __init__(self, folder: Path, key_file: Path | None = None, most_bytes: int = 64 * 2**20):
        self.folder, self._most, self._said = folder, most_bytes, -math.inf
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open_locked(folder):
            self._key = read_key(key_file or folder / KEY, make=True)

    def digest(self, image: bytes) -> str:
        """Return an image's keyed digest: equal for equal bytes, and telling nothing to who lacks the key."""
        return code(self._key, image)

    def append(self, *records: dict[str, Any]) -> dict[str, Any]:
        """Write records to the disk, all or none; return the head behind them, see verify().

        Args:
            records: JSON values; sequence, previous and code are added.

        Raises:
            OSError: they are not on the disk; nothing of them is left.
            AuditError: the end of the log is not what the head says.
        """
        with open_locked(self.folder):
            head = recovered(self.folder, self._key)
            if head["size"] >= self._most:
                head |= {"file": head["file"] + 1, "size": 0}
            lines, end = chained(records, head, self._key)
            path = part(self.folder, head["file"])
            is_new = not path.exists()
            try:
                with path.open("ab") as file:
                    file.write(lines)
                    file.flush()
                    os.fsync(file.fileno())
                write_head(self.folder, self._key, end)
            except OSError:
                os.truncate(path, head["size"])
                raise
            if is_new:
                sync(self.folder)
        return end

    def remind(self, end: dict[str, Any]) -> None:
        """Say once in a while where the log ends, for whoever compares it later. Args: end: what append() returned."""
        if time.monotonic() - self._said >= REMINDER:
            self._said = time.monotonic()
            log.info("audit", extra={"records": end["sequence"], "last": end["last"]})


@contextmanager
def open_locked(folder: Path) -> Iterator[None]:
    """Hold the folder against other processes."""
    with (folder / LOCK).open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def part(folder: Path, number: int) -> Path:
    """Return the path of a file of records."""
    return folder / f"audit-{number:06}.jsonl"


def code(key: bytes, data: bytes) -> str:
    """Return the HMAC-SHA-256 of bytes as 64 hexadecimal digits."""
    return hmac.new(key, data, "sha256").hexdigest()


def sealed(record: dict[str, Any], key: bytes) -> tuple[bytes, str]:
    """Return a record as its line, with its code as the last entry, and the code."""
    seal = code(key, json.dumps(record).encode())
    return json.dumps(record | {"code": seal}).encode() + b"\n", seal


def chained(records: Sequence[dict[str, Any]], head: dict[str, Any], key: bytes) -> tuple[bytes, dict[str, Any]]:
    """Return records as the lines that follow a head, and the head after them."""
    end, lines = dict(head), []
    for one in records:
        line, seal = sealed({"sequence": end["sequence"] + 1, "previous": end["last"], **one}, key)
        lines.append(line)
        end |= {"sequence": end["sequence"] + 1, "last": seal, "size": end["size"] + len(line)}
    return b"".join(lines), end


def read_key(path: Path, make: bool = False) -> bytes:
    """Return the key in a file.

    Args:
        path: holds 64 hexadecimal digits. make: write a new key when there is no file.

    Raises:
        AuditError: no file, or something else in it.
    """
    if make and not path.exists():
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(KEY_BYTES) + "\n")
    try:
        key = bytes.fromhex(path.read_text())
    except (OSError, ValueError) as error:
        raise AuditError(f"Expected a key in {path}: 64 hexadecimal digits. Received: {error}.") from error
    if len(key) != KEY_BYTES:
        raise AuditError(f"Expected a key of {KEY_BYTES} bytes in {path}. Received: {len(key)} bytes.")
    return key


def write_head(folder: Path, key: bytes, head: dict[str, Any]) -> None:
    """Replace the head, which says where the log ends, as a whole."""
    new = folder / f"{HEAD}.new"
    with new.open("wb") as file:
        file.write(sealed(head, key)[0])
        file.flush()
        os.fsync(file.fileno())
    new.replace(folder / HEAD)


def sync(folder: Path) -> None:
    """Put the names in a folder on the disk: after a power failure a new file could be gone, whole as it was.

    An older head may come back then; recovered() goes on behind all records.
    """
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def read_head(folder: Path, key: bytes) -> dict[str, Any]:
    """Return where the log ends. Raises AuditError if the head was changed, or is missing beside records."""
    path = folder / HEAD
    if not path.exists():
        if any(folder.glob("audit-*.jsonl")) and part(folder, 1).stat().st_size:
            raise AuditError(f"Expected {path}. Received: no such file, though there are records.")
        return dict(START)
    head = opened(path.read_bytes(), key, str(path))[0]
    if head.keys() != START.keys():
        raise AuditError(f"{path}: this was changed: it is a record, which has a code as well")
    return head


def opened(line: bytes, key: bytes, place: str) -> tuple[dict[str, Any], str]:
    """Return the record in a line, and its code. Raises AuditError, naming the place, if the code is wrong."""
    try:
        record = json.loads(line)
        written = record.pop("code")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise AuditError(f"{place}: no record: {error}") from error
    if not hmac.compare_digest(str(written), code(key, json.dumps(record).encode())):
        raise AuditError(f"{place}: this record was changed, or written with another key")
    return record, written


def recovered(folder: Path, key: bytes) -> dict[str, Any]:
    """Return where the log ends, after the remains of a record that a crash cut short are cut off.

    Its answer never went out. Whole records behind the head are kept, however many: the head may be an older one.

    Raises:
        AuditError: the log is shorter than the head says, or something else stands behind its end.
    """
    head = read_head(folder, key)
    end, rest = followed(folder, head, key)
    while part(folder, end["file"] + 1).exists():
        if rest:
            raise AuditError(f"{part(folder, end['file']).name}: half a record stands in front of the next file")
        end, rest = followed(folder, end | {"file": end["file"] + 1, "size": 0}, key)
    if rest:
        os.truncate(part(folder, end["file"]), end["size"])
    if end != head:
        write_head(folder, key, end)
    return end


def followed(folder: Path, head: dict[str, Any], key: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the head behind the last whole record of the file that a head names, and what follows that record.

    Raises:
        AuditError: the file is shorter than the head says, or holds another record than the next one.
    """
    path, end = part(folder, head["file"]), dict(head)
    size = path.stat().st_size if path.exists() else 0
    if size < head["size"]:
        raise AuditError(f"Expected {head['size']} bytes in {path}. Received: {size}. Records were deleted: move the "
                         "folder away, verify it, and let a new one begin.")
    if size == head["size"]:
        return end, b""
    with path.open("rb") as file:
        file.seek(head["size"])
        *lines, rest = file.read().split(b"\n")
    for line in lines:
        place = f"{path.name}, behind the end"
        end["sequence"], end["last"] = next_of(line, end["sequence"], end["last"], key, place)
        end["size"] += len(line) + 1
    return end, rest


def next_of(line: bytes, sequence: int, last: str, key: bytes, place: str) -> tuple[int, str]:
    """Return the number and the code of a record that should follow another.

    Args:
        line: holds it. sequence, last: number and code of the one before. key: of the log. place: for the message.

    Raises:
        AuditError: it was changed, or follows another one.
    """
    record, seal = opened(line, key, place)
    if (record["sequence"], record.get("previous")) != (sequence + 1, last):  # a head has a code as well
        raise AuditError(f"{place}: record {record['sequence']} follows record {sequence}: records were deleted, "
                         "inserted or put in another order")
    return record["sequence"], seal


def verify(folder: Path, key: bytes) -> dict[str, Any]:
    """Check every record. The application may go on meanwhile.

    Args:
        folder: of the log. key: see read_key.

    Returns:
        sequence: the number of records; last: the code of the last one.

    Raises:
        AuditError: the first record that was edited, deleted, inserted or put elsewhere, by file and line.
    """
    head, sequence, last = read_head(folder, key), 0, ""
    paths = sorted(folder.glob("audit-*.jsonl"))
    for path in paths:
        *lines, rest = path.read_bytes().split(b"\n")
        if rest and path != paths[-1]:
            raise AuditError(f"{path.name}: half a record stands in front of the next file")
        for number, line in enumerate(lines, start=1):
            sequence, last = next_of(line, sequence, last, key, f"{path.name}, line {number}")
            if sequence == head["sequence"] and last != head["last"]:
                raise AuditError(f"{path.name}, line {number}: record {sequence} is another one than was written")
    if sequence < head["sequence"]:  # more is what a crash left, or was written since
        raise AuditError(f"the log ends with record {sequence}, but record {head['sequence']} was written last")
    return {"sequence": sequence, "last": last}


def record(*answers: tuple[Picture, Answer]) -> None:
    """Write the records of the current request's answers, where an audit log is switched on.

    Args:
        answers: each with the picture that it is about.

    Raises:
        Refused: 503 audit_unavailable: an answer without a record is not given.
    """
    audit = services().audit
    if audit is None:
        return
    entries = [entry(audit, picture, answer) for picture, answer in answers]
    try:
        audit.remind(in_thread("audit", audit.append, *entries))  # other requests need not wait for the disk
    except (OSError, AuditError) as error:
        current_app.logger.error("audit: %s", error, extra={"request_id": request_id()})
        raise Refused(503, "audit_unavailable", "The record of this answer cannot be written, so it is not given. Try "
                      "again later.") from error


def entry(audit: AuditLog, picture: Picture, answer: Answer) -> dict[str, Any]:
    """Return the record of an answer of the current request."""
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")
    said = {NAMES.get(name, name): value for name, value in answer.model_dump(exclude={"disclaimer"}).items()}
    return {"time": now, "request_id": request_id(), "key": key_name(), "image": audit.digest(picture.file),
            "slice": picture.place, "revision": revision(provenance(answer.model_type)), **said,
            "ms": round(1000 * (time.perf_counter() - g.started), 1)}


def main(argv: list[str] | None = None) -> int:
    """Run the command; return 0 if every record is as it was written, else 1."""
    parser = argparse.ArgumentParser(prog="python -m webapp.audit", description="Check an audit log.",
                                     epilog="example: python -m webapp.audit verify audit/ --key /etc/audit.key")
    commands = parser.add_subparsers(required=True)
    check = commands.add_parser("verify", help="check every record and the end of the log")
    check.add_argument("folder", type=Path, help="the value of AUDIT_LOG")
    check.add_argument("--key", type=Path, help="the value of AUDIT_KEY_FILE; default: FOLDER/key")
    options = parser.parse_args(argv)
    if not options.folder.is_dir():
        parser.error(f"Expected a folder. Received: {options.folder}.")
    try:
        head = verify(options.folder, read_key(options.key or options.folder / KEY))
    except AuditError as error:
        print(f"{options.folder}: {error}", file=sys.stderr)
        return 1
    print(f"{options.folder}: {head['sequence']} records, all as written; the last has the code {head['last']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
