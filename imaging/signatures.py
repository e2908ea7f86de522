"""The bytes by which formats are recognised: their only owner, for Python and for the script of the web page."""

import zlib

Mark = tuple[int, bytes]
"""Offset in a file, and what stands there."""

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"
GIF = (b"GIF87a", b"GIF89a")
# Classic TIFF in both byte orders, each with the wrong order of its 42 that Pillow bears with, and BigTIFF.
TIFF = (b"II*\0", b"MM\0*", b"II\0*", b"MM*\0", b"II+\0", b"MM\0+")
GZIP = b"\x1f\x8b"
DICOM: Mark = (128, b"DICM")
"""After a preamble of any 128 bytes (PS3.10 section 7.1)."""
NIFTI_1: Mark = (344, b"n+1\0")
"""In one file with its data (https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h)."""
NIFTI_2: Mark = (4, b"n+2\0\r\n\x1a\n")
"""The same (https://nifti.nimh.nih.gov/pub/dist/doc/nifti2.h)."""
NIFTI_HEADER = 352

STRANGERS: tuple[tuple[Mark, str], ...] = (
    ((0, b"%PDF"), "a PDF document"),
    ((0, b"%!PS"), "a PostScript file"),
    ((4, b"ftypheic"), "a HEIC photo"),
    ((4, b"ftypavif"), "an AVIF image"),
    ((0, GZIP), "a gzip file without a NIfTI volume in it"),
    ((0, b"PK\x03\x04"), "a zip archive"),
)
"""What people send most often instead of an image, with its name."""


def begins(data: bytes, *marks: Mark) -> bool:
    """Return whether any of some marks is in a file."""
    for offset, mark in marks:  # noqa: SIM110, any() takes twice as long, and every upload is looked at several times
        if data.startswith(mark, offset):
            return True
    return False


def is_webp(data: bytes) -> bool:
    """Return whether a RIFF file holds a WebP image rather than sound or film."""
    return data[8:12] == b"WEBP"


def is_nifti(data: bytes) -> bool:
    """Return whether a file is a NIfTI volume, gzipped or not."""
    return begins(nifti_header(data), NIFTI_1, NIFTI_2)


def nifti_header(data: bytes) -> bytes:
    """Return the beginning of a file, unpacked if it is gzipped; b"" where it cannot be unpacked."""
    if not data.startswith(GZIP):
        return data
    try:
        return zlib.decompressobj(wbits=31).decompress(data[:65536], NIFTI_HEADER)
    except zlib.error:
        return b""
