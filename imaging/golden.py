"""Images whose answers are known: what a server answers to them shows whether it still computes what was exported.

They show nobody: circles on a grey slope, drawn by arithmetic, the same on every machine. `export` writes the answers
into the ensembles' Triton configuration (contract.GOLDEN); client.Classifier.verify compares.
"""

import functools
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from core import contract

SIZE = 96
DISCS = ((0.5, 0.5, 0.45, 90.0), (0.35, 0.4, 0.12, 120.0), (0.65, 0.62, 0.08, -60.0), (0.5, 0.8, 0.06, 150.0))
"""x, y, radius as fractions of the width, and what the disc adds to the grey value; image i has the first i + 1."""
TOLERANCE = 0.1
"""Largest difference of a probability that passes: room for another processor's bfloat16, not for other weights."""


@functools.cache
def images() -> tuple[bytes, ...]:
    """Return the golden images as PNG files of 96 x 96 grey pixels."""
    x, y = np.meshgrid(np.arange(SIZE) / SIZE, np.arange(SIZE) / SIZE)
    drawn, files = 20.0 + 20.0 * x, []
    for centre_x, centre_y, radius, grey in DISCS:
        drawn = drawn + grey * ((x - centre_x) ** 2 + (y - centre_y) ** 2 < radius**2)
        buffer = io.BytesIO()
        Image.fromarray(np.clip(drawn, 0, 255).astype(np.uint8)).save(buffer, "PNG")
        files.append(buffer.getvalue())
    return tuple(files)


def to_text(answers: NDArray[np.floating[Any]]) -> str:
    """Return answers float [n, K], K = len(CLASSES), as the value of a Triton parameter: "0.1 0.2 0.3 0.4; ..."."""
    return "; ".join(" ".join(f"{value:.6f}" for value in row) for row in answers)


def from_text(text: str) -> NDArray[np.float64]:
    """Return the answers float64 [n, K] in a parameter's value.

    Raises:
        ValueError: it is not what to_text writes.
    """
    answers = np.array([[float(value) for value in row.split()] for row in text.split(";")])
    wanted = (len(DISCS), len(contract.CLASSES))
    if answers.shape != wanted:
        raise ValueError(f"Expected {wanted[0]} rows of {wanted[1]} probabilities. Received: {text[:80]!r}.")
    return answers
