"""Files and folders that are either whole or absent: written under a temporary name, then renamed."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WRITING = ".writing-"


def sweep(folder: Path) -> None:
    """Delete what killed processes were writing in a folder; its name says which process that was."""
    for left in folder.glob(f"{WRITING}*-*"):
        if not Path("/proc", left.name.removeprefix(WRITING).split("-")[0]).exists():
            shutil.rmtree(left, ignore_errors=True)


@contextmanager
def replacing(path: Path, scratch: Path | None = None) -> Iterator[Path]:
    """Give a temporary path on the same file system; when the block ends well, rename it to `path`.

    The block writes a file or a folder there. A previous file or folder of that name is replaced; when the block
    raises, it stays as it was and nothing is left of the new one.

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
    workplace = Path(tempfile.mkdtemp(prefix=f"{WRITING}{os.getpid()}-", dir=parent))
    try:
        new = workplace / path.name
        yield new
        if new.is_dir() and path.exists():
            path.rename(workplace / "previous")
        new.replace(path)
    finally:
        shutil.rmtree(workplace, ignore_errors=True)


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
