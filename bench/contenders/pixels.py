"""What every contender does with an upload: Pillow opens it, turns it to RGB and resizes it."""

import os
from typing import BinaryIO

import numpy as np
from PIL import Image

SIZE = int(os.environ.get("BENCH_SIZE", "224"))


def from_image(image: Image.Image) -> np.ndarray:
    """Return float32 [1, size, size, 3] in [0, 1] of a picture."""
    resized = image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    return np.asarray(resized, np.float32)[None] / np.float32(255)


def from_file(file: BinaryIO) -> np.ndarray:
    """Return from_image() of an encoded picture."""
    with Image.open(file) as image:
        return from_image(image)


def answer(probabilities: np.ndarray) -> dict:
    """Return the answer to a request, for float32 [4]."""
    return {"predicted_class": int(probabilities.argmax()), "all_probabilities": probabilities.tolist()}
