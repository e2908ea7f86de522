"""Heatmaps as pictures: colours that grow in lightness, more opaque where the network saw more."""

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imaging import canonical

COLOURS = np.array([(20, 11, 53), (114, 31, 129), (205, 64, 113), (251, 135, 97), (252, 253, 191)], np.float32)
"""From 0 to 1, evenly spaced, of matplotlib's magma (van der Walt and Smith 2015): readable without colour vision."""
SIDE = 224
OPACITY = 0.75
LONGEST = 512


def overlay(heatmap: NDArray[np.float32]) -> Image.Image:
    """Return a picture of 224 x 224 pixels to lay over the image that was classified, stretched to its size.

    Args:
        heatmap: float32 [h, w] in [0, 1].
    """
    stretched = Image.fromarray(heatmap.astype(np.float32)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    values = np.clip(np.asarray(stretched), 0, 1)
    places = np.linspace(0, 1, len(COLOURS))
    channels = [np.interp(values, places, COLOURS[:, channel]) for channel in range(3)]
    return Image.fromarray(np.stack([*channels, 255 * values], axis=-1).astype(np.uint8))


def picture(image: bytes) -> Image.Image:
    """Return an uploaded image, at most 512 pixels wide and high.

    Args:
        image: bytes that were classified.
    """
    with Image.open(io.BytesIO(canonical(image))) as opened:
        opened.draft("RGB", (LONGEST, LONGEST))
        small = opened.convert("RGB")
    small.thumbnail((LONGEST, LONGEST))
    return small


def blended(image: bytes, heatmap: NDArray[np.float32]) -> Image.Image:
    """Return an uploaded image with its heatmap over it, at most 512 pixels wide and high."""
    below = picture(image)
    above = overlay(heatmap).resize(below.size, Image.Resampling.BICUBIC)
    above.putalpha(above.getchannel("A").point(lambda value: OPACITY * value))
    below.paste(above, mask=above)
    return below


def png(image: Image.Image) -> bytes:
    """Return a picture as a PNG file."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def address(image: Image.Image) -> str:
    """Return a picture as a data: address for a page."""
    return "data:image/png;base64," + base64.b64encode(png(image)).decode()
