"""One slice out of a DICOM file or a NIfTI volume, as the 8-bit picture that everything else here works with.

Nothing of a file but its pixels and their geometry leaves this module: tags that name a patient are not even read.
"""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from imaging import limits
from imaging.errors import ImageError

FRAMES, AXIAL, CORONAL, SAGITTAL = "frames", "axial", "coronal", "sagittal"
PLANES = (AXIAL, CORONAL, SAGITTAL)
"""Planes of a NIfTI volume; a DICOM file has FRAMES only, as they were acquired."""

NIFTI_MAGICS = ((344, b"n+1\0"), (4, b"n+2\0\r\n\x1a\n"))
"""Offset and bytes of NIfTI-1 and NIfTI-2 headers in one file with their data
(https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h, https://nifti.nimh.nih.gov/pub/dist/doc/nifti2.h)."""
NIFTI_HEADER = 352
GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class Choice:
    """Which slice of a file is meant.

    Attributes:
        plane: one of PLANES, or FRAMES for DICOM; None: the file's first, which is axial for NIfTI.
        number: from 1; None: the only one there is. NIfTI counts from the left, the back and below.
    """

    plane: str | None = None
    number: int | None = None


UNNAMED = Choice()


@dataclass(frozen=True)
class Slice:
    """A slice and where it comes from.

    Attributes:
        pixels: uint8 [height, width] or [height, width, 3], square pixels.
        counts: how many slices the file has, by plane. plane, number: which one this is.
        warnings: what a person should know, in sentences.
    """

    pixels: np.ndarray
    counts: dict[str, int]
    plane: str
    number: int
    warnings: tuple[str, ...] = ()

    def encoded(self) -> bytes:
        """Return the picture as a PNG file without metadata."""
        return png(Image.fromarray(self.pixels))

    def place(self) -> str:
        """Return which of how many it is, such as "axial 78 of 155"; "" for the only one of a file."""
        is_only = list(self.counts.values()) == [1]
        return "" if is_only else f"{self.plane} {self.number} of {self.counts[self.plane]}"


@dataclass(frozen=True)
class Picture:
    """A file as something that imaging.canonical() takes.

    Attributes:
        encoded: the bytes. warnings, place: see Slice; empty for an ordinary picture.
    """

    encoded: bytes
    warnings: tuple[str, ...] = ()
    place: str = ""


def png(image: Image.Image) -> bytes:
    """Return a picture as a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=4)  # half the time of the default for 2 % more bytes
    return buffer.getvalue()


def is_medical(data: bytes) -> bool:
    """Return whether bytes begin as a DICOM file (PS3.10 section 7.1) or as NIfTI, gzipped or not."""
    return is_dicom(data) or is_nifti(data)


def is_dicom(data: bytes) -> bool:
    """Return whether bytes begin as a DICOM file does: a preamble of any 128 bytes, then DICM."""
    return data[128:132] == b"DICM"


def is_nifti(data: bytes) -> bool:
    """Return whether bytes begin as a NIfTI file does, gzipped or not."""
    if data.startswith(GZIP):
        from imaging import nifti

        data = nifti.beginning(data)
    return any(data[offset:].startswith(magic) for offset, magic in NIFTI_MAGICS)


def read(data: bytes, choice: Choice = UNNAMED, or_middle: bool = False) -> Slice:
    """Return a slice of a file for which is_medical() holds.

    Args:
        data: the file.
        choice: which slice.
        or_middle: take the middle one where the choice names none and there are several.

    Raises:
        ImageError: corrupt_image, unsupported_format, wrong_modality, multiple_frames (the choice names no slice),
            no_such_slice, image_too_small, image_too_large, file_too_large.
    """
    limits.check_length(data)
    # Imported where they are used: most uploads are pictures, and these packages cost memory and time to start.
    if is_dicom(data):
        from imaging import dicom

        return dicom.read(data, choice, or_middle)
    from imaging import nifti

    return nifti.read(data, choice, or_middle)


def picture(data: bytes, choice: Choice = UNNAMED) -> Picture:
    """Return a file as an ordinary picture.

    Args:
        data: an ordinary picture, which is returned as it is, or a file for which is_medical() holds.
        choice: which slice.

    Raises:
        ImageError: as read(); no_such_slice for a choice where there is only one picture.
    """
    if is_medical(data):
        one = read(data, choice)
        return Picture(one.encoded(), one.warnings, one.place())
    if choice != UNNAMED:
        raise ImageError("no_such_slice", "Expected a DICOM or NIfTI file to choose a slice of. Received: a picture.")
    return Picture(data)


def resolved(choice: Choice, counts: dict[str, int], or_middle: bool) -> tuple[str, int]:
    """Return the plane and the number of a slice, from 1, that a choice means. Raises ImageError, see read()."""
    plane = choice.plane or next(iter(counts))
    if plane not in counts:
        raise ImageError("no_such_slice", f"Expected a plane out of: {', '.join(counts)}. Received: another one.")
    count = counts[plane]
    offered = ", ".join(f"{name} 1 to {most}" for name, most in counts.items())
    if choice.number is None and count > 1 and not or_middle:
        raise ImageError("multiple_frames", f"Expected one picture. Received: several in a file. Name one: {offered}.")
    number = (count + 1) // 2 if choice.number is None else choice.number
    if not 1 <= number <= count:
        raise ImageError("no_such_slice", f"Expected a number out of: {offered}. Received: {plane} {number}.")
    return plane, number


def squared(pixels: np.ndarray, spacing: tuple[float, float]) -> np.ndarray:
    """Return a picture with square pixels: the wider spaced direction gets more of them.

    Args:
        pixels: uint8 [height, width] or [height, width, 3].
        spacing: distances of rows and of columns, in any unit; what is no positive number counts as 1.

    Raises:
        ImageError: image_too_large.
    """
    rows, columns = (value if np.isfinite(value) and value > 0 else 1.0 for value in spacing)
    least = min(rows, columns)
    height, width = round(pixels.shape[0] * rows / least), round(pixels.shape[1] * columns / least)
    if (height, width) == pixels.shape[:2]:
        return pixels
    limits.check_shape(width, height)
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))
