"""Pixels of any kind that Pillow reads -> 8-bit grey or RGB."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from imaging.errors import ImageError, corrupt

PERCENTILES = (0.5, 99.5)
"""The grey values that become 0 and 255 when an image has more than 8 bits."""

DIM = 32
"""An image in 16-bit colour that stays below this value of 255 holds 10- to 13-bit values."""

DEEP_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")
ALPHA_MODES = ("RGBA", "RGBa", "LA", "La", "PA")
WHITE_IS_ZERO = 0
PHOTOMETRIC = 262


def to_8_bit(opened: ImageFile) -> Image.Image:
    """Load an opened image of any mode, turn it upright and convert it to mode L or RGB, without metadata.

    The EXIF orientation is applied. Transparent parts become black, the background of an MRI slice. CMYK, YCbCr and
    palettes become RGB; colour profiles (ICC) are ignored, because the training images carry none. More than 8 bits of
    grey: see window(). Of 16-bit colour Pillow keeps the upper 8 bits.
    Raises ImageError for grey values none of which is finite and for 16-bit colour too dim to survive; ValueError for
    a mode that Pillow cannot convert.
    """
    deep_colour = opened.mode not in DEEP_MODES and ";16" in str(opened.tile)
    white_is_zero = isinstance(opened, TiffImageFile) and opened.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO
    opened.load()
    image = ImageOps.exif_transpose(opened)
    if image.mode in DEEP_MODES:
        return Image.fromarray(window(_deep_pixels(image, white_is_zero)))
    if image.mode in ALPHA_MODES or "transparency" in image.info:
        result = _on_black(image)
    else:
        result = image.convert("L" if image.mode in ("1", "L") else "RGB")
    if deep_colour and np.asarray(result.convert("RGB")).max() < DIM:
        raise ImageError(
            "unsupported_format",
            "This image in 16-bit colour is nearly black without its lower 8 bits. Save it as 16-bit grey or 8-bit "
            "RGB.",
        )
    result.info = {}
    return result


def window(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Scale grey values [H, W] of any range to uint8 [H, W], from the 0.5th to the 99.5th percentile.

    MRI intensities have no unit and scanners use 10 to 16 bits, so the range must come from the image. Percentiles
    rather than minimum and maximum, because one hot pixel or a burnt-in label at 65535 would leave the brain black;
    nnU-Net clips CT at the same two (Isensee et al., Nature Methods 2021). Where they coincide (a small object on an
    empty background) minimum and maximum are used. A constant image becomes 0. NaN and infinity become 0 and don't
    count.
    Raises ImageError if no pixel is finite.
    """
    finite = pixels[np.isfinite(pixels)]
    if not finite.size:
        raise corrupt("none of its pixels is a finite number")
    low, high = np.percentile(finite, PERCENTILES, method="nearest")
    if low == high:
        low, high = finite.min(), finite.max()
    result = np.zeros(pixels.shape, np.uint8)
    if low < high:
        for target, row in zip(result, pixels, strict=True):  # by rows, to spare memory
            target[:] = np.rint(np.interp(np.where(np.isfinite(row), row, low), (low, high), (0, 255)))
    return result


def _deep_pixels(image: Image.Image, white_is_zero: bool) -> NDArray[Any]:
    pixels = np.asarray(image)
    if "transparency" in image.info:
        pixels = np.where(pixels == image.info["transparency"], np.nan, pixels)
    # Pillow inverts 8-bit TIFFs whose zero is white but not deeper ones.
    if white_is_zero:
        pixels = -pixels.astype(np.float64)
    return pixels


def _on_black(image: Image.Image) -> Image.Image:
    grey = image.mode in ("L", "LA", "La", "1")
    image = image.convert("RGBA")
    result = Image.new("RGB", image.size)
    result.paste(image.convert("RGB"), mask=image.getchannel("A"))
    return result.convert("L") if grey else result
