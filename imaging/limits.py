"""How large and how small an image may be; checked from the header, before anything is decoded."""

from imaging.errors import ImageError

MAX_BYTES = 10 * 1024 * 1024
"""Largest file, in bytes."""
MAX_PIXELS = 4096 * 4096
"""Most pixels (width times height)."""
MAX_SIDE = 16384
"""Longest side in pixels: libpng, which TensorFlow uses, refuses PNGs of more than a million."""
MIN_SIDE = 16
"""Shortest side in pixels: anything smaller is an icon."""


def check_length(data: bytes) -> None:
    """Raise ImageError (file_too_large) for the content of a file that is too long."""
    if len(data) > MAX_BYTES:
        raise ImageError(
            "file_too_large",
            f"The file is larger than {MAX_BYTES // 2**20} MiB. Export the slice at a smaller size or as JPEG.",
        )


def check_shape(width: int, height: int) -> None:
    """Raise ImageError (image_too_large, image_too_small) for an image of that many pixels unless it can be used."""
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise too_large(f"{width} x {height}")
    if min(width, height) < MIN_SIDE:
        raise ImageError(
            "image_too_small",
            f"The image is smaller than {MIN_SIDE} x {MIN_SIDE} pixels: {width} x {height}. Send the original slice.",
        )


def too_large(received: str) -> ImageError:
    """Return the error for an image with too many pixels; `received` says how many."""
    return ImageError(
        "image_too_large",
        f"The image is larger than {MAX_PIXELS} pixels (such as 4096 x 4096) or than {MAX_SIDE} on a side: "
        f"{received}. Export a smaller image.",
    )
