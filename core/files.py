"""Files and folders that are either whole or absent: written under a temporary name, then renamed."""

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

WRITING = ".writing-"
LOCK = ".lock"
PREVIOUS = ".previous"
AT_FDCWD, RENAME_EXCHANGE = -100, 2


@dataclass(frozen=True)
class Private:
    """A folder of one process, which holds a lock in it for as long as it lives.

    A process id says nothing to other containers and hosts that share the parent folder; a lock does.
    """

    path: Path
    lock: IO[bytes]

    def remove(self) -> None:
        """Delete the folder: the lock last, so that nobody else takes what is left."""
        for part in self.path.iterdir() if self.path.exists() else ():
            if part.is_dir() and not part.is_symlink():
                shutil.rmtree(part, ignore_errors=True)
            elif part.name != LOCK:
                part.unlink(missing_ok=True)
        self.lock.close()
        shutil.rmtree(self.path, ignore_errors=True)


def private(parent: Path, prefix: str) -> Private:
    """Make a folder of a new name, and lock it.

    Args:
        parent: exists. prefix: of the name, by which abandoned() finds it.

    Raises:
        OSError: when the disk is full or the parent is not writable.
    """
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    made = folder / f"{LOCK}.new"
    lock = made.open("wb")
    with contextlib.suppress(OSError):  # a file system without locks: then nobody can take it for abandoned either
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        made.rename(folder / LOCK)  # only now, as what is not locked yet looks abandoned
    return Private(folder, lock)


def abandoned(parent: Path, prefix: str) -> Iterator[Private]:
    """Yield the private folders of ended processes, on whatever machine; locked, so that one alone gets each."""
    for path in parent.glob(f"{prefix}*/{LOCK}"):
        try:
            lock = path.open("rb+")
        except OSError:
            continue  # somebody has just removed it
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
        else:
            yield Private(path.parent, lock)


def sweep(folder: Path) -> None:
    """Delete what killed processes were writing in a folder; but for a version that one of them was replacing."""
    for left in abandoned(folder, WRITING):
        if (left.path / PREVIOUS).exists():
            left.lock.close()
        else:
            left.remove()


@contextmanager
def replacing(path: Path, scratch: Path | None = None) -> Iterator[Path]:
    """Give a temporary path on the same file system; when the block ends well, rename it to `path`.

    The block writes a file or a folder there. A previous file or folder of that name is replaced in one step; when the
    block raises, it stays as it was and nothing is left of the new one.

    Args:
        path: the final name; missing parent folders are made.
        scratch: where to write meanwhile, on the same file system; beside `path` unless given.

    Raises:
        OSError: when the disk is full or the folder is not writable.
    """
    parent = scratch or path.parent
    for folder in (parent, path.parent):
        folder.mkdir(parents=True, exist_ok=True)
    sweep(parent)
    workplace = private(parent, WRITING)
    try:
        new = workplace.path / path.name
        yield new
        if not (new.is_dir() and path.exists() and exchanged(new, path)):
            if new.is_dir() and path.exists():
                path.rename(workplace.path / PREVIOUS)
            new.replace(path)
    finally:
        workplace.remove()


def exchanged(one: Path, other: Path) -> bool:
    """Let two paths change places in one step: whenever a process is killed, each is there.

    Returns:
        False if the system or the file system cannot (NFS, for one).

    Raises:
        OSError: for another reason.
    """
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0:
        return True
    if (code := ctypes.get_errno()) in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
        return False
    raise OSError(code, os.strerror(code), str(other))


def write_text(path: Path, text: str) -> None:
    """Write text to a file, replacing it as a whole."""
    with replacing(path) as new, new.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def write_json(path: Path, value: object) -> None:
    """Write a value as indented JSON, floats rounded to 6 digits so that metrics stay readable."""
    write_text(path, json.dumps(rounded(value), indent=2, ensure_ascii=False) + "\n")


def rounded(value: Any) -> Any:
    """Return a copy of nested dicts and lists with every float rounded to 6 digits."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(item) for item in value]
    return round(value, 6) if isinstance(value, float) else value


def digest(path: Path) -> str:
    """Return a file's SHA-256 as 64 hexadecimal digits."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            total.update(chunk)
    return total.hexdigest()
