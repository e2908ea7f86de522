"""One slice of a file that may have several: how it is asked for, and what a reader returns."""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imaging import limits
from imaging.errors import ImageError

FRAMES, AXIAL, CORONAL, SAGITTAL = "frames", "axial", "coronal", "sagittal"
PLANES = (AXIAL, CORONAL, SAGITTAL)
"""Planes of a NIfTI volume; a DICOM file has FRAMES only, as they were acquired."""


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

    pixels: NDArray[np.uint8]
    counts: dict[str, int]
    plane: str
    number: int
    warnings: tuple[str, ...] = ()

    def encoded(self) -> bytes:
        """Return the slice as a PNG file without metadata."""
        return png(Image.fromarray(self.pixels))

    def place(self) -> str:
        """Return which of how many it is, such as "axial 78 of 155"; "" for the only one of a file."""
        is_only = list(self.counts.values()) == [1]
        return "" if is_only else f"{self.plane} {self.number} of {self.counts[self.plane]}"


@dataclass(frozen=True)
class Picture:
    """A file as something that imaging.canonical() takes.

    Attributes:
        encoded: the bytes. file: those of the file that it comes from. warnings, place: see Slice; empty for an
            ordinary image.
    """

    encoded: bytes
    file: bytes
    warnings: tuple[str, ...] = ()
    place: str = ""


def png(image: Image.Image) -> bytes:
    """Return an image as a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=4)  # half the time of the default for 2 % more bytes
    return buffer.getvalue()


def resolved(choice: Choice, counts: dict[str, int], or_middle: bool) -> tuple[str, int]:
    """Return the plane and the number of a slice, from 1, that a choice means.

    Args:
        choice: which slice. counts: how many the file has, by plane.
        or_middle: take the middle one where the choice names none and there are several.

    Raises:
        ImageError: multiple_frames (the choice names no slice), no_such_slice.
    """
    plane = choice.plane or next(iter(counts))
    if plane not in counts:
        raise ImageError("no_such_slice", f"This file has no such plane. Choose one: {', '.join(counts)}.")
    count = counts[plane]
    offered = ", ".join(f"{name} 1-{most}" for name, most in counts.items())
    if choice.number is None and count > 1 and not or_middle:
        raise ImageError("multiple_frames", f"This file has several slices. Choose one: {offered}.")
    number = (count + 1) // 2 if choice.number is None else choice.number
    if not 1 <= number <= count:
        raise ImageError("no_such_slice", f"This file has no slice {plane} {number}. Choose one: {offered}.")
    return plane, number


def squared(pixels: NDArray[np.uint8], spacing: tuple[float, float]) -> NDArray[np.uint8]:
    """Return an image with square pixels: the wider spaced direction gets more of them.

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
