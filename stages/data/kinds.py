"""What a file is, by its content and never by its name alone; what is no image, in words."""

from pathlib import Path

import imaging
from imaging import readers, signatures
from stages.data import figshare

HEAD = 65536
"""Bytes of a file that tell its format; most slices are smaller."""
DICOMDIR = b"1.2.840.10008.1.3.10"
"""The class of a disc's table of contents (PS3.4, table B.5-1), which has no pixels."""
MATLAB = "MATLAB file that is none of the figshare set, or damaged"


def no_image(path: Path) -> str:
    """Return why a file is no image, in words that serve as a heading; "" if it is one.

    A file that has the suffix of an image, or cannot be opened, counts as one: reading it will tell what is wrong.
    """
    if not path.is_file():
        return "broken link, device or pipe"
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError:
        return ""
    return "" if _is_image(path, head) else _kind(path, head)


def _is_image(path: Path, head: bytes) -> bool:
    reader = readers.reader_of(head)
    if reader is None:
        return path.name.lower().endswith(imaging.SUFFIXES)
    return reader.is_in_folders and DICOMDIR not in head


def _kind(path: Path, head: bytes) -> str:
    if DICOMDIR in head:
        return "DICOM table of contents"
    if reader := readers.reader_of(head):
        return f"{reader.name} volume: export its slices as images"
    if figshare.is_mine(head):
        return MATLAB
    known = [name for mark, name in signatures.STRANGERS if signatures.begins(head, mark)]
    return (known or [f"no image ({path.suffix.lower() or 'no suffix'})" if head else "empty file"])[0]
