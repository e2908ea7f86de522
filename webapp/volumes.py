"""Uploads of many slices: DICOM files and NIfTI volumes. Unpacking one takes up to a second, so it has a thread."""

import functools
from collections.abc import Callable

import gevent
from flask import current_app
from gevent.threadpool import ThreadPool

from imaging import slices
from imaging.errors import ImageError
from webapp.errors import TRY_AGAIN, Refused, from_image

PATIENCE = 5.0
"""Seconds that a volume waits for the one before it; more than one at a time would need too much memory."""
LONGEST_NUMBER = 6


def choice(form: dict[str, list[str]]) -> slices.Choice:
    """Return the slice that the fields `plane` and `slice` of a form mean; empty ones mean none.

    Raises:
        Refused: 400 unknown_plane, bad_slice.
    """
    (plane, *planes), (number, *numbers) = form.get("plane", [""]), form.get("slice", [""])
    offered = (*slices.PLANES, slices.FRAMES)
    if planes or plane not in ("", *offered):
        raise Refused(400, "unknown_plane", f"Expected one plane at most, out of: {', '.join(offered)}.")
    if numbers or not (number == "" or (number.isascii() and number.isdigit() and len(number) <= LONGEST_NUMBER)):
        raise Refused(400, "bad_slice", "Expected one number of a slice at most, such as 12.")
    return slices.Choice(plane or None, int(number) if number else None)


def picture(upload: bytes, wanted: slices.Choice = slices.UNNAMED) -> slices.Picture:
    """Return slices.picture(), without holding up other requests. Raises Refused, see in_turn()."""
    return in_turn(slices.picture, upload, wanted)


def shown(upload: bytes, wanted: slices.Choice) -> slices.Slice:
    """Return the slice of a DICOM or NIfTI file, the middle one unless one is named. Raises Refused, see in_turn()."""
    return in_turn(slices.read, upload, wanted, True)


def in_turn(read: Callable, upload: bytes, *more):
    """Return what a function makes of an upload: of a DICOM or NIfTI file in a thread, one after the other.

    Raises:
        Refused: with the code of the function's ImageError; 503 busy.
    """
    if not slices.is_medical(upload):
        found = _attempt(read, upload, *more)
    else:
        turn = current_app.extensions["volumes"]
        if not turn.acquire(timeout=PATIENCE):
            raise Refused(503, "busy", f"Too many volumes are being read. {TRY_AGAIN}")
        try:
            found = one_thread(gevent.get_hub()).apply(_attempt, (read, upload, *more))
        finally:
            turn.release()
    if isinstance(found, ImageError):
        raise from_image(found) from found
    return found


@functools.cache
def one_thread(hub: gevent.hub.Hub) -> ThreadPool:
    """Return the thread that reads volumes: always the same one, as each keeps what its allocator has once taken."""
    return ThreadPool(1, hub)


def _attempt(read: Callable, *arguments):
    """Return a function's result or its ImageError: gevent prints what is raised in its threads."""
    try:
        return read(*arguments)
    except ImageError as error:
        return error
