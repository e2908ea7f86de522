"""What the exported preprocessing computes, bit for bit, without TensorFlow, its memory and its start.

A model whose parameter "runtime" is "numpy" is not executed: its one input is encoded images and its one output
[size, size, 3] gets what stages/data/preprocess.py defines: decoded, stretched to a square by antialiased bilinear
interpolation, rounded to whole 8-bit steps, in [0, 1]. A test compares both on more than a thousand images.

The arithmetic is that of TensorFlow's kernel, single precision in the same order
(https://github.com/tensorflow/tensorflow/blob/v2.21.0/tensorflow/core/kernels/image/scale_and_translate_op.cc).
"""

import functools
import io

import numpy as np
import simplejpeg
from PIL import Image
from scipy.sparse import csr_array

PNG_SIGNATURE, JPEG_SIGNATURE = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
MODES = ("L", "RGB")
MAX_PIXELS = 4096 * 4096
"""As imaging.limits says; this folder stands alone in a container, so a test compares the two."""
STEP = np.float32(1.0 / 255.0)
ONE, HALF = np.float32(1), np.float32(0.5)
PADDING = 8
"""Unused numbers at the end of a row: rows of a power of two share few cache lines, and take five times as long to
transpose."""


def pixels(data: bytes, size: int) -> np.ndarray:
    """Return float32 [size, size, 3], RGB in [0, 1], multiples of 1/255.

    Args:
        data: an 8-bit grey or RGB PNG or JPEG file, as imaging.decode.canonical writes them.
        size: side of the result.

    Raises:
        ValueError: the bytes are no such file, or damaged.
    """
    decoded = decode(data)
    resized = resize(decoded[..., :1] if is_grey(decoded) else decoded, size)
    np.rint(resized, out=resized)  # without clip: a weighted mean of 0...255 rounds to no other number
    resized *= STEP
    filled = np.empty((size, size, 3), np.float32)
    for channel in range(3):  # six times faster than to let numpy broadcast a last axis of three
        filled[..., channel] = resized[..., channel % resized.shape[2]]
    return filled


def is_grey(image: np.ndarray) -> bool:
    """Return whether the three channels of uint8 [height, width, 3] are equal."""
    rows = image.reshape(len(image), -1)
    # Which bits differ between neighbouring bytes in any row: red and green, green and blue, blue and the next red.
    steps = np.bitwise_or.reduce(rows[:, 1:] ^ rows[:, :-1])
    return not (steps[0::3].any() or steps[1::3].any())


def decode(data: bytes) -> np.ndarray:
    """Return uint8 [height, width, 3]. Raises ValueError for anything but an intact grey or RGB PNG or JPEG."""
    if data.startswith(JPEG_SIGNATURE):
        return decode_jpeg(data)
    if not data.startswith(PNG_SIGNATURE):
        raise ValueError("Unknown image file format. Expected an 8-bit grey or RGB PNG or JPEG")
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            if image.mode not in MODES or image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.mode} {image.width} x {image.height}")
            return np.asarray(image.convert("RGB"))
    except Exception as error:  # on bad bytes Pillow raises OSError, SyntaxError, struct.error and more
        raise ValueError(f"Invalid PNG: {error}") from error


def decode_jpeg(data: bytes) -> np.ndarray:
    """Return uint8 [height, width, 3], decoded as TensorFlow does: with the fast integer transform.

    Damage that libjpeg can bridge is bridged, as there; a file that is cut off is refused, as there.
    """
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(data, strict=False)
    except (ValueError, KeyError) as error:  # KeyError: a header without colours
        raise ValueError(f"Invalid JPEG: its header cannot be read ({error})") from error
    if height * width > MAX_PIXELS:
        raise ValueError(f"Invalid JPEG: {width} x {height}")
    options = {"colorspace": "RGB", "fastdct": True, "fastupsample": False}
    try:
        return simplejpeg.decode_jpeg(data, **options)
    except ValueError as error:
        if "premature end" in str(error).lower():
            raise ValueError(f"Invalid JPEG: {error}") from error
    try:
        return simplejpeg.decode_jpeg(data, strict=False, **options)
    except ValueError as error:
        raise ValueError(f"Invalid JPEG: {error}") from error


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """Return float32 [size, size, channels] for uint8 [height, width, channels]: rows first, then columns."""
    height, width, channels = image.shape
    length = width * channels
    padded = np.empty((height, length + PADDING), np.float32)
    padded[:, :length], padded[:, length:] = image.reshape(height, length), 0
    rows = (weights(height, size) @ padded)[:, :length].reshape(size, width, channels)
    columns = np.ascontiguousarray(rows.transpose(1, 0, 2)).reshape(width, -1)
    return (weights(width, size) @ columns).reshape(size, size, channels).transpose(1, 0, 2)


@functools.lru_cache(maxsize=256)
def weights(length: int, size: int) -> csr_array:
    """Return how each of `size` points is put together from `length` ones: float32 [size, length], a few in a row.

    The product with it adds up in the order of the columns, as TensorFlow's loop does.
    """
    inverse = ONE / (np.float32(size) / np.float32(length))
    stretch = max(inverse, ONE)
    centres = (np.arange(size, dtype=np.float32) + HALF) * inverse
    first = np.clip(np.ceil(centres - stretch - HALF).astype(np.int64), 0, length - 1)
    last = np.clip(np.floor(centres + stretch - HALF).astype(np.int64), 0, length - 1)
    places = first[:, None] + np.arange((last - first).max() + 1)
    distance = np.abs((places.astype(np.float32) + HALF - centres[:, None]) * (ONE / stretch))
    raw = np.where((places <= last[:, None]) & (distance < ONE), ONE - distance, np.float32(0))
    total = np.zeros(size, np.float32)
    for term in raw.T:  # one by one: numpy's own sum adds in another order
        total = total + term
    raw = raw * (ONE / total)[:, None]
    row, term = np.nonzero(raw)
    return csr_array((raw[row, term], (row, places[row, term])), shape=(size, length))
