"""A record of every answered prediction that cannot be changed unnoticed.

    python -m webapp.audit verify audit/

Switched on by AUDIT_LOG=folder. A record is one line of JSON: sequence, time, request id, a keyed digest of the image,
revision, latency, and the answer but for its disclaimer; no file name, no metadata, no pixels. It is on the disk before
the answer goes out. Each carries the code of the one before it and a code of its own (HMAC-SHA-256, RFC 2104), so that
without the key nobody can edit, delete, insert or reorder records unnoticed. The key is folder/key unless
AUDIT_KEY_FILE names another file: keep it where those who may write the folder cannot read it.

What cannot be seen from inside: that the whole folder was put back to an earlier state. `verify` prints the last
sequence number and code; note them elsewhere.
"""

import argparse
import datetime
import fcntl
import hmac
import json
import os
import secrets
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flask import current_app, g

from client import Answer
from webapp.access_log import request_id
from webapp.provenance import provenance, revision
from webapp.refused import Refused
from webapp.services import services

HEAD, KEY, LOCK = "head.json", "key", "lock"
START = {"sequence": 0, "last": "", "file": 1, "size": 0}
KEY_BYTES = 32
NAMES = {"model_type": "model", "predicted_class": "class", "all_probabilities": "probabilities"}
"""Fields of an answer that records have called otherwise from the first."""


class AuditError(Exception):
    """The records are not what was written, or the key is missing; the message says what and where."""


class AuditLog:
    """Appends records. Safe for threads, greenlets and several processes.

    Args:
        folder: holds audit-000001.jsonl and so on, head.json, and the key if no other is named; is made.
        key_file: 64 hexadecimal digits; is made, readable by its owner only, when absent.
        most_bytes: a file that is larger is followed by a new one.

    Raises:
        OSError: the folder or the key cannot be made or read.
        AuditError: the key file holds something else.
    """

    def __init__(self, folder: Path, key_file: Path | None = None, most_bytes: int = 64 * 2**20):
        self.folder, self._most = folder, most_bytes
        folder.mkdir(parents=True, exist_ok=True)
        with open_locked(folder):
            self._key = read_key(key_file or folder / KEY, make=True)
        self._lock = threading.Lock()

    def digest(self, image: bytes) -> str:
        """Return an image's keyed digest: equal for equal bytes, and telling nothing to who lacks the key."""
        return code(self._key, image)

    def append(self, record: dict[str, Any]) -> None:
        """Write a record to the disk.

        Args:
            record: JSON values; sequence, previous and code are added.

        Raises:
            OSError: it is not on the disk; nothing of it is left.
            AuditError: the end of the log is not what the head says.
        """
        with self._lock, open_locked(self.folder):
            head = recovered(self.folder, self._key)
            if head["size"] >= self._most:
                head |= {"file": head["file"] + 1, "size": 0}
            sequence = head["sequence"] + 1
            line, seal = sealed({"sequence": sequence, "previous": head["last"], **record}, self._key)
            path = part(self.folder, head["file"])
            try:
                with path.open("ab") as file:
                    file.write(line)
                    file.flush()
                    os.fsync(file.fileno())
                write_head(self.folder, self._key, {"sequence": sequence, "last": seal, "file": head["file"],
                                                    "size": head["size"] + len(line)})
            except OSError:
                os.truncate(path, head["size"])
                raise


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


def read_head(folder: Path, key: bytes) -> dict[str, Any]:
    """Return where the log ends. Raises AuditError if the head was changed, or is missing beside records."""
    path = folder / HEAD
    if not path.exists():
        if any(folder.glob("audit-*.jsonl")) and part(folder, 1).stat().st_size:
            raise AuditError(f"Expected {path}. Received: no such file, though there are records.")
        return dict(START)
    return opened(path.read_bytes(), key, str(path))[0]


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

    Its answer never went out. A whole record behind the head, whose head was not written any more, is kept.

    Raises:
        AuditError: the log is shorter than the head says.
    """
    head = read_head(folder, key)
    path = part(folder, head["file"])
    later = part(folder, head["file"] + 1)
    if later.exists():  # the crash came right after a file was begun
        path, head = later, head | {"file": head["file"] + 1, "size": 0}
    size = path.stat().st_size if path.exists() else 0
    if size < head["size"]:
        raise AuditError(f"Expected {head['size']} bytes in {path}. Received: {size}. Records were deleted: move the "
                         "folder away, verify it, and let a new one begin.")
    if size > head["size"]:
        with path.open("rb") as file:
            file.seek(head["size"])
            rest = file.read()
        line, end, _ = rest.partition(b"\n")
        if end:
            record, seal = opened(line, key, f"{path.name}, behind the end")
            if (record["sequence"], record["previous"]) != (head["sequence"] + 1, head["last"]):
                raise AuditError(f"{path.name}: a record was put behind the end")
            head = {"sequence": record["sequence"], "last": seal, "file": head["file"],
                    "size": head["size"] + len(line) + 1}
        os.truncate(path, head["size"])
        write_head(folder, key, head)
    return head


def verify(folder: Path, key: bytes) -> dict[str, Any]:
    """Check every record.

    Args:
        folder: of the log. key: see read_key.

    Returns:
        the head: sequence, which is the number of records; last, the code of the last one; its file; the file's size.

    Raises:
        AuditError: the first record that was edited, deleted, inserted or put elsewhere, by file and line.
    """
    head, last, previous = read_head(folder, key), 0, ""
    for path in sorted(folder.glob("audit-*.jsonl")):
        for number, line in enumerate(path.read_bytes().splitlines(), start=1):
            place = f"{path.name}, line {number}"
            record, seal = opened(line, key, place)
            if record["sequence"] != last + 1 or record["previous"] != previous:
                raise AuditError(f"{place}: record {record['sequence']} follows record {last}: records were deleted, "
                                 "inserted or put in another order")
            last, previous = record["sequence"], seal
    if (last, previous) != (head["sequence"], head["last"]):
        raise AuditError(f"the log ends with record {last}, but record {head['sequence']} was written last")
    return head


def record(image: bytes, answer: Answer) -> None:
    """Write the record of the current request's answer, where an audit log is switched on.

    Args:
        image: the uploaded bytes. answer: what is said about them.

    Raises:
        Refused: 503 audit_unavailable: an answer without a record is not given.
    """
    log = services().audit
    if log is None:
        return
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")
    said = {NAMES.get(name, name): value for name, value in answer.model_dump(exclude={"disclaimer"}).items()}
    entry = {"time": now, "request_id": request_id(), "image": log.digest(image),
             "revision": revision(provenance(answer.model_type)), **said,
             "ms": round(1000 * (time.perf_counter() - g.started), 1)}
    try:
        log.append(entry)
    except (OSError, AuditError) as error:
        current_app.logger.error("audit: %s", error, extra={"request_id": request_id()})
        raise Refused(503, "audit_unavailable", "The record of this answer cannot be written, so it is not given. Try "
                      "again later.") from error


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
