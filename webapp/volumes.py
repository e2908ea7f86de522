"""Uploads that may hold several slices, such as DICOM files and NIfTI volumes."""

from collections.abc import Iterator
from contextlib import contextmanager

from imaging import slices
from imaging.errors import ImageError
from webapp.errors import from_image
from webapp.refused import Refused
from webapp.worker import run_in_worker

LONGEST_NUMBER = 6


def choice(form: dict[str, list[str]]) -> slices.Choice:
    """Return the slice that the fields `plane` and `slice` of a form mean; empty ones mean none.

    Raises:
        Refused: 400 unknown_plane, bad_slice.
    """
    (plane, *planes), (number, *numbers) = form.get("plane", [""]), form.get("slice", [""])
    offered = (*slices.PLANES, slices.FRAMES)
    if planes or plane not in ("", *offered):
        raise Refused(400, "unknown_plane", f"Unknown plane. Choose one: {', '.join(offered)}.")
    if numbers or not (number == "" or (number.isascii() and number.isdigit() and len(number) <= LONGEST_NUMBER)):
        raise Refused(400, "bad_slice", "The number of the slice is wrong. Send one whole number, such as 12.")
    return slices.Choice(plane or None, int(number) if number else None)


def picture(upload: bytes, wanted: slices.Choice = slices.UNNAMED) -> slices.Picture:
    """Return slices.picture(). Raises Refused: with the code of its ImageError; 503 busy."""
    with refusing():
        # Of an ordinary image nothing is read here.
        if not slices.is_medical(upload):
            return slices.picture(upload, wanted)
        return run_in_worker(slices.picture, upload, wanted)


def shown(upload: bytes, wanted: slices.Choice) -> slices.Slice:
    """Return a slice of a file, the middle one unless one is named. Raises Refused as picture()."""
    with refusing():
        return run_in_worker(slices.read, upload, wanted, True)


@contextmanager
def refusing() -> Iterator[None]:
    """Turn an ImageError into Refused."""
    try:
        yield
    except ImageError as error:
        raise from_image(error) from error
