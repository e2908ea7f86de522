"""Synthetic brain-MRI slices: the data set that needs no download.

    python -m stages.data.phantom phantoms --images-per-class 10 --size 224 --seed 0

An analytic 3-D head is evaluated on the pixel grid of one slice; no volume is ever built. The head is made of
ellipsoids, as in the Shepp-Logan phantom and its 3-D form (Kak & Slaney, "Principles of Computerized Tomographic
Imaging", IEEE Press 1988, section 3.1), and of tubes, with a folded cortex. Every tissue has a proton density and
relaxation times, so the three contrasts (contrast-enhanced T1, T2, FLAIR) come out of the MR signal equations, as in
BrainWeb (Kwan, Evans & Pike, IEEE Trans. Med. Imaging 18:1085, 1999). A smooth gain field and Rician noise follow.

Distances are in millimetres in head coordinates: x to the patient's left, y to the front, z up; the origin is the
middle of the cerebrum. Planes, contrasts and slice positions are drawn the same way for all classes.

The phantoms teach a network shapes, not medicine: scores reached on them say nothing about patients.
"""

import argparse
import functools
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage, special

from core.contract import CLASSES

PLANES = ("axial", "coronal", "sagittal")
WEIGHTINGS = ("t1c", "t2", "flair")
WEIGHTING_SHARES = (0.8, 0.1, 0.1)
"""Contrast-enhanced T1 is the workhorse of tumour imaging; the shares are the same for every class."""

# Proton density (water = 1), T1 and T2 in ms at 1.5 T, and contrast agent in mmol/l a few minutes after injection.
# Normal tissue: the BrainWeb table (https://brainweb.bic.mni.mcgill.ca, tissue_mr_parameters), blood: Stanisz et al.,
# Magn. Reson. Med. 54:507, 2005. Tumours and oedema: inside the ranges of Just & Thelen, Radiology 169:779, 1988.
# Bone and air give next to no signal. The agent's concentrations are chosen, not measured.
TISSUES = {
    "air": (0.005, 800, 50, 0.0),
    "bone": (0.05, 500, 30, 0.0),
    "marrow": (0.55, 380, 60, 0.02),
    "fat": (1.00, 350, 70, 0.0),
    "muscle": (0.90, 900, 47, 0.10),
    "mucosa": (0.90, 1000, 80, 0.35),
    "dura": (0.50, 900, 50, 0.60),
    "csf": (1.00, 2569, 329, 0.0),
    "grey": (0.86, 833, 83, 0.03),
    "deep grey": (0.84, 740, 76, 0.03),
    "white": (0.77, 500, 70, 0.02),
    "blood": (0.85, 1441, 120, 1.00),
    "gland": (0.85, 850, 85, 0.50),
    "glioma": (0.90, 1150, 115, 0.62),
    "necrosis": (0.97, 1900, 220, 0.02),
    "oedema": (0.90, 1150, 125, 0.0),
    "meningioma": (0.88, 1000, 95, 0.75),
    "pituitary": (0.88, 1000, 100, 0.55),
}
RELAXIVITY_1, RELAXIVITY_2 = 4.1e-3, 4.6e-3
"""Gadopentetate in plasma at 1.5 T, per (mmol/l) and ms: Rohrer et al., Invest. Radiol. 40:715, 2005."""

BRAIN = np.array([66.0, 84.0, 64.0], np.float32)
"""Half axes of the inside of the skull's vault, mm."""
SELLA = np.array([0.0, 14.0, -27.0], np.float32)
"""The pituitary gland's place on the skull base, mm."""


@dataclass(frozen=True)
class Phantom:
    """One synthetic slice: uint8 image [size, size], bool tumour mask [size, size] (without oedema), what it shows."""

    image: np.ndarray
    mask: np.ndarray
    label: str
    plane: str
    weighting: str
    seed: int


@dataclass(frozen=True)
class Tumour:
    """An ellipsoid in head coordinates, mm; `kind` is the class; `irregular` the height of its surface noise."""

    kind: str
    centre: np.ndarray
    radii: np.ndarray
    irregular: float


@dataclass
class Canvas:
    """The slice while it is painted: the part of the picture that the head fills.

    x, y, z: head coordinates of the pixels, float32 [rows, columns], mm. image: the signal so far. signals: tissue ->
    signal. pixel: mm. inside, skin: signed distance to the inner skull and to the skin, negative inside. pial: distance
    to the brain's surface with its sulci, positive in the brain.
    """

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    image: np.ndarray
    signals: dict
    pixel: float
    noise: "SmoothNoise"
    inside: np.ndarray
    skin: np.ndarray
    pial: np.ndarray | None = None

    def __post_init__(self):
        self.rows, self.columns = (np.append(np.arange(0, n - 1, 6), n - 1) for n in self.x.shape)
        self.sparse = np.stack([p[self.rows[:, None], self.columns] for p in (self.x, self.y, self.z)])
        self.low, self.high = self.sparse.min((1, 2)) - 4 * self.pixel, self.sparse.max((1, 2)) + 4 * self.pixel

    def paint(self, distance: np.ndarray, tissue: str, window: tuple = (slice(None), slice(None)), soft: float = 1.0):
        """Put a tissue where distance < 0; the edge is a ramp `soft` mm plus one pixel wide (partial volume)."""
        cover = np.multiply(distance, np.float32(-1 / (self.pixel + soft)))
        cover += np.float32(0.5)
        np.minimum(np.maximum(cover, 0, out=cover), 1, out=cover)
        part = self.image[window]
        cover *= self.signals[tissue] - part
        part += cover

    def window(self, low: np.ndarray, high: np.ndarray) -> tuple | None:
        """Return the rows and columns that see the box low..high (mm), or None: most small organs miss the slice."""
        if (low > self.high).any() or (high < self.low).any():
            return None
        reach = 4 * self.pixel  # every sixth pixel is enough: none is further than three from one of them
        low, high = (low - reach)[:, None, None], (high + reach)[:, None, None]
        hit = ((self.sparse > low) & (self.sparse < high)).all(0)
        rows = self.rows[hit.any(1)]
        if not rows.size:
            return None
        columns = self.columns[hit.any(0)]
        return slice(max(rows[0] - 3, 0), rows[-1] + 4), slice(max(columns[0] - 3, 0), columns[-1] + 4)

    def blob(self, centre: tuple, radii: tuple, tissue: str, soft: float = 1.0, rough: float = 0.0):
        """Paint an ellipsoid; `rough` mm of surface noise."""
        centre, radii = np.float32(centre), np.float32(radii)
        window = self.window(centre - radii - 2 - 2 * rough, centre + radii + 2 + 2 * rough)
        if window is None:
            return
        distance = ellipsoid(self.x[window], self.y[window], self.z[window], centre, radii)
        if rough:
            distance = distance + rough * self.noise(24)[window]
        self.paint(distance, tissue, window, soft)

    def tube(self, start: tuple, end: tuple, radius: float, radius_end: float, tissue: str, soft: float = 1.0):
        """Paint a straight tube with round ends whose radius changes from one end to the other, mm."""
        start, end, reach = np.float32(start), np.float32(end), max(radius, radius_end) + 2
        window = self.window(np.minimum(start, end) - reach, np.maximum(start, end) + reach)
        if window is None:
            return
        step = end - start
        x, y, z = self.x[window] - start[0], self.y[window] - start[1], self.z[window] - start[2]
        along = np.clip((x * step[0] + y * step[1] + z * step[2]) / np.float32(step @ step), 0, 1)
        distance = np.sqrt((x - along * step[0]) ** 2 + (y - along * step[1]) ** 2 + (z - along * step[2]) ** 2)
        self.paint(distance - (radius + (radius_end - radius) * along), tissue, window, soft)


def ellipsoid(x, y, z, centre, radii) -> np.ndarray:
    """Return about the signed distance (mm) to an ellipsoid: exact at its surface to first order, negative inside.

    Source: https://iquilezles.org/articles/ellipsoids (k0 (k0 - 1) / k1).
    """
    a, b, c = ((p - q) / r for p, q, r in zip((x, y, z), centre, radii, strict=True))
    level = np.sqrt(a * a + b * b + c * c)
    slope = np.sqrt((a / radii[0]) ** 2 + (b / radii[1]) ** 2 + (c / radii[2]) ** 2)
    return level * (level - 1) / (slope + 1e-6)


def smooth_max(a, b, width: float):
    """Return the larger of two distances, with the crease between them rounded over `width` mm."""
    return 0.5 * (a + b + np.sqrt((a - b) ** 2 + width * width))


def smooth_min(a, b, width: float):
    """Return the smaller of two distances, with the crease between them rounded over `width` mm."""
    return -smooth_max(-a, -b, width)


def double(coarse: np.ndarray, shape: tuple) -> np.ndarray:
    """Return a half-resolution field (every second pixel) at full resolution, float32 `shape`, linear in between."""
    for length in shape:
        fine = np.empty((length, coarse.shape[1]), np.float32)
        fine[::2] = coarse
        after = np.concatenate([coarse[1:], coarse[-1:]])
        fine[1::2] = (np.float32(0.5) * (coarse + after))[: length // 2]
        coarse = np.ascontiguousarray(fine.T)
    return coarse


# ------------------------------------------------------------------------------------------------ signal equations


def relax(tissue: str, agent: float) -> tuple[float, float, float]:
    """Return proton density, T1 and T2 (ms) with `agent` times the table's contrast agent: 1/T = 1/T0 + r C."""
    density, t1, t2, concentration = TISSUES[tissue]
    c = agent * concentration
    return density, 1 / (1 / t1 + RELAXIVITY_1 * c), 1 / (1 / t2 + RELAXIVITY_2 * c)


def spin_echo(density, t1, t2, repetition, echo) -> float:
    """Return the spin-echo signal (times in ms): PD (1 - exp(-TR/T1)) exp(-TE/T2)."""
    return density * (1 - np.exp(-repetition / t1)) * np.exp(-echo / t2)


def spoiled_gradient_echo(density, t1, t2, repetition, echo, angle) -> float:
    """Return PD sin(a) (1 - E1) / (1 - E1 cos(a)) exp(-TE/T2), E1 = exp(-TR/T1); times in ms, the flip in degrees.

    Source: Haacke et al., "Magnetic Resonance Imaging", Wiley 1999, section 18.1; T2 stands in for T2*.
    """
    e1, a = np.exp(-repetition / t1), np.radians(angle)
    return density * np.sin(a) * (1 - e1) / (1 - e1 * np.cos(a)) * np.exp(-echo / t2)


def inversion_recovery(density, t1, t2, repetition, echo, inversion) -> float:
    """Return the magnitude signal after inversion: PD |1 - 2 exp(-TI/T1) + exp(-TR/T1)| exp(-TE/T2), times in ms."""
    return density * abs(1 - 2 * np.exp(-inversion / t1) + np.exp(-repetition / t1)) * np.exp(-echo / t2)


def tissue_signals(weighting: str, rng: np.random.Generator) -> dict[str, float]:
    """Return the signal of every tissue under one weighting, with scanner timings drawn from clinical ranges."""
    stretch = rng.uniform(0, 1)
    if weighting == "t1c":
        agent, gradient = rng.uniform(0.8, 1.3), rng.random() < 0.5
        equation = spoiled_gradient_echo if gradient else spin_echo
        timing = (12 + 10 * stretch, 4.0, 25.0) if gradient else (420 + 230 * stretch, 11.0)
        return {name: equation(*relax(name, agent), *timing) for name in TISSUES}
    if weighting == "t2":
        signals = {name: spin_echo(*relax(name, 0), 3500 + 1500 * stretch, 85 + 20 * stretch) for name in TISSUES}
    else:
        repetition, csf_t1 = 8000 + 2000 * stretch, TISSUES["csf"][1]
        null = csf_t1 * np.log(2 / (1 + np.exp(-repetition / csf_t1)))  # the inversion time at which CSF vanishes
        timing = (repetition, 100 + 20 * stretch, null)
        signals = {name: inversion_recovery(*relax(name, 0), *timing) for name in TISSUES}
    return signals | {"blood": 0.02}  # fast blood leaves the slice before the echo: a flow void


# ------------------------------------------------------------------------------------------------------- the slice


@functools.lru_cache(maxsize=64)
def _spline(cells: int, size: int) -> np.ndarray:
    """Return cubic B-spline weights: float32 [size, cells + 3] that raise a coarse grid to `size` pixels."""
    position = (np.arange(size) + 0.5) / size * cells
    t = np.abs(position[:, None] - (np.arange(cells + 3)[None] - 1))
    near, far = 2 / 3 - t * t + t**3 / 2, np.clip(2 - t, 0, None) ** 3 / 6
    return np.where(t < 1, near, far).astype(np.float32)


_SPLINE_DEVIATION = 151 / 315  # of white noise under cubic B-splines in two directions: the integral of B squared


@functools.lru_cache(maxsize=1)
def _quantiles() -> np.ndarray:
    """Return 65536 evenly likely values of the standard normal distribution, float32."""
    return special.ndtri((np.arange(65536) + 0.5) / 65536).astype(np.float32)


def gaussian(rng: np.random.Generator, shape: tuple) -> np.ndarray:
    """Return standard normal numbers, float32 `shape`, in 16-bit steps: several times as fast as exact ones."""
    return _quantiles().take(rng.integers(0, 65536, shape, np.uint16), mode="clip")


class SmoothNoise:
    """Unit-variance smooth noise over a picture, the same at every size: cubic splines on coarse white noise."""

    def __init__(self, white: np.ndarray, size: int, frame: tuple | None = None):
        """white: float32 [channels, n, n]. size: pixels a side. frame: rows and columns that are asked for."""
        self.white, self.size, self.frame = white, size, frame or (slice(0, size), slice(0, size))
        self.cache = {}

    def __call__(self, cells: int, channel: int = 0) -> np.ndarray:
        """Return noise with `cells` bumps across the picture, at most n - 3; channels are independent.

        A field costs as much as painting three organs: what need not be independent shares one.
        """
        if (cells, channel) not in self.cache:
            self.cache[cells, channel] = self._raise(self.white[channel, : cells + 3, : cells + 3])
        return self.cache[cells, channel]

    def _raise(self, coarse: np.ndarray) -> np.ndarray:
        """Go by strips of rows: a strip needs only the few cells under it, and so small a product wakes no threads
        of BLAS (waking them costs more than they do).
        """
        cells, (rows, columns) = len(coarse) - 3, self.frame
        weights = _spline(cells, self.size)
        across = weights[columns].T
        lines = np.empty((cells + 3, across.shape[1]), np.float32)
        for top in range(0, cells + 3, 16):
            np.matmul(coarse[top : top + 16], across, out=lines[top : top + 16])
        out = np.empty((rows.stop - rows.start, across.shape[1]), np.float32)
        for top in range(rows.start, rows.stop, 32):
            end = min(top + 32, rows.stop)
            low, high = top * cells // self.size, (end * cells - 1) // self.size + 4
            np.matmul(weights[top:end, low:high], lines[low:high], out=out[top - rows.start : end - rows.start])
        return out


def _rotation(rng: np.random.Generator, degrees: float) -> np.ndarray:
    """Return a small random rotation matrix float64 [3, 3]: how the head lies in the scanner."""
    a, b, c = np.radians(rng.normal(0, degrees, 3))
    turn = np.array([[0, -c, b], [c, 0, -a], [-b, a, 0]])
    q, r = np.linalg.qr(np.eye(3) + turn)
    return q * np.sign(np.diag(r))


def slice_points(plane: str, through: np.ndarray, rng: np.random.Generator, noise: SmoothNoise, size: int) -> tuple:
    """Return x, y, z (mm in the head, float32) of every second pixel of a slice through a point, and a pixel's mm.

    The coordinates are smooth, so that straight lines do in between. noise: of that many pixels. The field of view,
    centring, tilt, head size, egg shape and a smooth warp are random; the point stays on the slice.
    """
    field = rng.uniform(*{"axial": (205, 265), "coronal": (205, 265), "sagittal": (215, 275)}[plane])
    middle = {"axial": (0, 0, 0), "coronal": (0, 0, -16), "sagittal": (0, 4, -18)}[plane] + rng.normal(0, 5, 3)
    across, down = {"axial": ((1, 0, 0), (0, -1, 0)), "coronal": ((1, 0, 0), (0, 0, -1)),
                    "sagittal": ((0, -1, 0), (0, 0, -1))}[plane]
    if rng.random() < 0.5:
        across = tuple(-np.array(across))
    head = rng.normal(1, 0.045, 3) * _rotation(rng, 4.5)
    line = (np.arange(0, size, 2) + 0.5) / size * field - field / 2
    axes = head @ np.array(across), head @ np.array(down)
    offset = middle - through
    start = through + axes[0] * (offset @ np.array(across)) + axes[1] * (offset @ np.array(down))
    x, y, z = (np.float32(start[i] + axes[0][i] * line[None, :] + axes[1][i] * line[:, None]) for i in range(3))
    column, row = (np.abs(line + offset @ np.array(way)).argmin() for way in (across, down))
    warps = [np.float32(1.3) * noise(6, i) for i in range(3)]
    x, y, z = (p + warp - warp[row, column] for p, warp in zip((x, y, z), warps, strict=True))
    x = x * (1 + np.float32(rng.uniform(0.04, 0.14)) * (y - np.float32(through[1])) / 85)
    return x, y, z, field / size


def push_aside(x, y, z, tumour: Tumour, strength: float) -> tuple:
    """Return coordinates in which the anatomy around a tumour is pressed outwards (mass effect)."""
    cx, cy, cz = np.float32(tumour.centre)
    reach = np.float32(1.9 * tumour.radii.mean())
    square = (x - cx) ** 2 + (y - cy) ** 2 + (z - cz) ** 2
    pull = np.float32(strength) * np.exp(-square / (reach * reach))
    return x - pull * (x - cx), y - pull * (y - cy), z - pull * (z - cz)


# ----------------------------------------------------------------------------------------------------- the anatomy


def skull_base(x, y) -> np.ndarray:
    """Return the height z (mm) of the cavity's floor: front, middle (with the sella's saddle) and rear fossa."""
    middle = -41 + 15 * np.exp(-((x / 15) ** 2))
    front = -25 + 5 * np.tanh((np.abs(x) - 15) / 6) + 0.22 * (y - 40)
    rear = 0.5 + 0.5 * np.tanh((y + 8) / 9)
    ahead = 0.5 + 0.5 * np.tanh((y - 33) / 5)
    return -66 + rear * (middle + 66) + ahead * (front - middle)


def inner_skull(x, y, z) -> np.ndarray:
    """Return about the signed distance (mm) to the inside of the skull, negative inside."""
    vault = ellipsoid(x, y, z, (0, 0, 0), BRAIN)
    low = ellipsoid(x, y, z, (0, 0, 0), BRAIN * np.float32([1, 1, 1.18]))
    return smooth_max(np.where(z > 0, vault, low), 0.75 * (skull_base(x, y) - z), 4)


def skin_surface(x, y, z, thickness: float) -> np.ndarray:
    """Return about the signed distance (mm) to the skin, which lies `thickness` mm around the vault's inside."""
    outer = ellipsoid(x, y, z, (0, 0, 0), BRAIN + np.float32(thickness))
    face = ellipsoid(x, y, z, (0, 46, -62), (52, 50, 66))
    nose = ellipsoid(x, y, z, (0, 98, -52), (11, 17, 18))
    neck = np.maximum(np.sqrt((x / 54) ** 2 + ((y + 18) / 55) ** 2) * 54 - 54, z + 45)
    return smooth_min(smooth_min(outer, smooth_min(face, nose, 10), 9), neck, 16)


def paint_head(canvas: Canvas, bone: float) -> None:
    """Paint what lies outside the brain: skin, fat, muscle, a skull `bone` mm thick, the face with its air spaces."""
    skin = canvas.skin
    canvas.paint(skin, "muscle")
    canvas.paint(skin + 2 + 0.5 * canvas.noise(24), "fat")
    deep = 7 + 4 * canvas.noise(12, 3)
    low = np.clip((-18 - canvas.z) / 14, 0, 1)
    canvas.paint(np.maximum(skin + deep, 4 - 8 * low), "muscle", soft=2)
    strands = np.abs(canvas.noise(14, 4) + 0.5 * canvas.noise(40, 2)) * 4 + 0.2 - 0.8 * canvas.noise(12, 3)
    canvas.paint(np.maximum(np.maximum(skin + 9, strands), 2 - 4 * low), "fat", soft=4)
    _paint_face(canvas)
    roof = np.clip((-8 - canvas.z) / 8, 0, 1) * np.clip((canvas.y - 15) / 10, 0, 1)  # the orbits' is paper-thin
    shell = np.maximum(canvas.inside - bone * (1 - 0.5 * low - 0.4 * roof) + low * canvas.noise(24, 1), skin + 3)
    canvas.paint(shell, "bone")
    diploe = np.abs(canvas.inside - bone * 0.6) - bone * (0.12 + 0.12 * canvas.noise(24) + 0.3 * low)
    canvas.paint(diploe, "marrow", soft=1.5)


def _paint_face(canvas: Canvas) -> None:
    """Paint orbits, eyes, air spaces, the spine and the ears' bone."""
    for side in (-1, 1):
        canvas.blob((30 * side, 56, -36), (17, 26, 16), "fat", 2)
        canvas.blob((31 * side, 72, -35), (13.5, 13.5, 13.5), "muscle")
        canvas.blob((31 * side, 72, -35), (11.8, 11.8, 11.8), "csf")
        canvas.tube((29 * side, 60, -35), (10 * side, 26, -30), 2.2, 2.2, "white")
        canvas.tube((42 * side, 62, -35), (24 * side, 32, -34), 2, 2.5, "muscle")
        canvas.tube((19 * side, 64, -35), (16 * side, 32, -34), 2, 2.5, "muscle")
        canvas.blob((25 * side, 56, -66), (15, 17, 15), "air", rough=1.5)
        canvas.blob((43 * side, -14, -46), (19, 13, 11), "bone", 2, rough=4)
        canvas.blob((51 * side, -24, -55), (8, 10, 10), "air", 2, rough=3)
        canvas.blob((55 * side, 36, -30), (6, 15, 20), "muscle", 2)
    canvas.blob((0, 58, -48), (14, 29, 19), "mucosa", rough=1)
    canvas.blob((0, 58, -48), (12, 27, 17), "air", rough=2)
    for side, height in ((-1, -42), (1, -43), (-1, -54), (1, -55)):
        canvas.tube((4.5 * side, 36, height + 2), (5 * side, 76, height - 1), 3.5, 2.5, "mucosa")
    canvas.tube((0, 84, -86), (0, 40, -76), 1.5, 3, "air")
    canvas.blob((0, 26, -41), (13, 11, 9), "air", rough=1.2)
    canvas.blob((0, 86, -18), (15, 4, 10), "air", rough=1.5)
    canvas.blob((0, 48, -88), (24, 33, 17), "muscle", 2)
    canvas.tube((0, 8, -62), (0, 2, -130), 7, 6, "air", 2)
    canvas.tube((0, -12, -72), (0, -14, -150), 10, 12, "marrow", 2)
    for level in range(-78, -150, -14):
        canvas.blob((0, -12, level), (12, 9, 2.2), "bone", 2)
    canvas.tube((0, -32, -62), (0, -38, -150), 9, 8, "csf", 2)


def folds(canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
    """Return the distance (mm) of each pixel from the nearest sulcus, on a pattern drawn over the brain's surface.

    The zero lines of band-limited noise wander like gyri; the noise is a function of the direction from the middle
    alone, so sulci run inwards from the surface. Dividing by the noise's envelope keeps the folds evenly wide.
    """
    x, y, z = (np.ascontiguousarray(p[::2, ::2]) for p in (canvas.x, canvas.y, canvas.z))
    level = np.sqrt((x / BRAIN[0]) ** 2 + (y / BRAIN[1]) ** 2 + (z / BRAIN[2]) ** 2) + np.float32(1e-3)
    bend = [p / level + np.float32(2.2) * canvas.noise(20, i % 2)[::2, ::2] for i, p in enumerate((x, y, z))]
    waves, length = 12, rng.uniform(19, 25)
    k = rng.normal(size=(waves, 3))
    k *= 2 * np.pi / length * rng.uniform(0.75, 1.25, (waves, 1)) / np.linalg.norm(k, axis=1, keepdims=True)
    k, phase = np.float32(k)[:, :, None, None], np.float32(rng.uniform(0, 2 * np.pi, waves))[:, None, None]
    angle = k[:, 0] * bend[0] + k[:, 1] * bend[1] + k[:, 2] * bend[2] + phase
    wave, quarter = np.cos(angle).sum(0), np.sin(angle).sum(0)
    sulcus = wave / np.sqrt(wave * wave + quarter * quarter + 1) * np.minimum(level, 1)
    return np.abs(double(sulcus, canvas.x.shape)) * np.float32(length / 6.3)


def paint_brain(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint CSF, the folded cortex, white matter, and the deep structures of the cerebrum."""
    x, y, z = canvas.x, canvas.y, canvas.z
    gap, sulcus_width, sulcus_depth = rng.uniform(1.0, 2.4), rng.uniform(0.2, 1.0), rng.uniform(13, 22)
    canvas.paint(canvas.inside, "dura")
    canvas.paint(canvas.inside + 1, "csf")
    depth = -canvas.inside - np.float32(gap)
    roof = -27 + 15 * np.exp(-((x / 26) ** 2)) - 0.12 * (y + 50)  # the tentorium, between cerebrum and cerebellum
    behind = np.clip((-12 - y) / 8, 0, 1)
    depth = np.minimum(depth, 0.8 * (z - roof) * behind + 60 * (1 - behind))
    callosum = np.sqrt(((y + 8) / 42) ** 2 + ((z - 4) / 27) ** 2) * 30 - 30
    falx = np.abs(x + canvas.noise(12, 3) * 0.7) + np.clip(-callosum, 0, None)
    sylvian = np.abs(z + 10 - 0.3 * (y - 10) + 4 * canvas.noise(12)) + np.clip(34 - np.abs(x), 0, None) * 0.8 \
        + np.clip(np.abs(y - 8) - 30, 0, None) * 0.5
    pial = folds(canvas, rng) + np.clip(depth - sulcus_depth - 4 * canvas.noise(12), 0, None) * 0.6
    pial = np.minimum(np.minimum(pial - sulcus_width, depth), np.minimum(falx - 1.0, sylvian - 1.4))
    canvas.pial = pial
    canvas.paint(-pial, "grey", soft=0.6)
    canvas.paint(2.6 - pial + 0.4 * canvas.noise(40, 2), "white", soft=1.0)
    canvas.paint(np.maximum(np.abs(x) - 0.5, np.maximum(-callosum + 4, canvas.inside)), "dura", soft=0.5)
    _paint_deep(canvas, rng)


def _paint_deep(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint the basal ganglia, the ventricles, the brain stem and the cerebellum."""
    width = rng.uniform(0.65, 1.5)
    for side in (-1, 1):
        canvas.blob((24 * side, 4, 0), (6, 19, 10), "deep grey", 2)
        canvas.blob((11 * side, -17, 2), (9, 14, 10), "deep grey", 2)
        canvas.tube((14 * side, 26, 6), (18 * side, -12, 20), 6, 3, "deep grey", 2)
        path = [(13, 36, 4), (5, 12, 12), (8, -14, 19), (20, -38, 10)]
        radii = np.array([4.5, 4, 4.5, 6]) * width
        for i, shift in ((i, shift) for i in range(3) for shift in (0, 1)):  # twice, the second further out: a wing
            a, b = ((side * (p[0] + 5 * shift), p[1], p[2] + 2.5 * shift) for p in path[i : i + 2])
            canvas.tube(a, b, radii[i] * (1 - 0.35 * shift), radii[i + 1] * (1 - 0.2 * shift), "csf", 1.5)
        canvas.tube((20 * side, -38, 10), (18 * side, -60, 4), radii[3] * 0.9, 1.5 * width, "csf", 1.5)
        canvas.tube((22 * side, -36, 4), (31 * side, -6, -24), 3 * width, 1.5 * width, "csf", 1.5)
        canvas.tube((17 * side, -36, 11), (9 * side, -14, 17), 2, 1.5, "gland", 1.5)
    canvas.blob((0, -6, 0), (1.8 * width, 15, 11), "csf", 1.5)
    _paint_rear(canvas, rng)
    canvas.blob((0, 8, -21), (12, 10, 6), "csf", 2)
    canvas.tube((-7, 4, -17), (7, 4, -17), 2, 2, "white")


def _paint_rear(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint the cerebellum with its leaves, the brain stem and the fourth ventricle."""
    for side in (-1, 1):
        centre, radii = np.float32((25 * side, -47, -43)), np.float32((31, 35, 27))
        window = canvas.window(centre - radii - 3, centre + radii + 3)
        if window is None:
            continue
        near = ellipsoid(canvas.x[window], canvas.y[window], canvas.z[window], centre, radii)
        roof = canvas.z[window] + 28 - 15 * np.exp(-((canvas.x[window] / 26) ** 2)) + 0.12 * (canvas.y[window] + 50)
        near = smooth_max(smooth_max(near, canvas.inside[window] + 2, 3), 0.8 * roof + 1, 2)
        canvas.paint(near, "grey", window)
        leaf = np.sin(near * 1.25 + 1.5 * canvas.noise(20)[window] + 0.35 * canvas.z[window])
        canvas.paint(np.maximum(near + 2, (0.72 - leaf) * 1.2), "csf", window, soft=2)
        canvas.paint(near + 8 + 2.5 * canvas.noise(24, 1)[window], "white", window, soft=3)
    canvas.blob((0, -49, -38), (10, 25, 22), "grey", 2, rough=1.5)
    canvas.blob((0, -33, -42), (8, 5, 11), "csf", 1.5)
    canvas.tube((0, -16, -14), (0, -14, -32), 12, 13, "white", 2)
    canvas.blob((0, -11, -35), (16, 12, 13), "white", 2)
    canvas.tube((0, -18, -44), (0, -32, -68), 9, 6.5, "white", 2)
    canvas.tube((0, -32, -68), (0, -38, -150), 6, 6, "white", 2)
    canvas.tube((0, -27, -12), (0, -31, -24), 1.3, 1.3, "csf")


def paint_vessels(canvas: Canvas) -> None:
    """Paint the large vessels and the normal pituitary gland, which take up contrast agent in every class."""
    window = canvas.window(np.float32((-6, -90, -30)), np.float32((6, 40, 70)))
    if window:  # the sagittal sinus follows the vault in the midline
        x, y, z = (p[window] for p in (canvas.x, canvas.y, canvas.z))
        sinus = np.sqrt(x * x + (canvas.inside[window] + 1) ** 2) - 3.3
        canvas.paint(np.maximum(sinus, np.maximum(y - 40, -30 - z)), "blood", window)
    for side in (-1, 1):
        canvas.tube((0, -80, -22), (48 * side, -50, -29), 2.8, 2.6, "blood")
        canvas.tube((12 * side, 22, -28), (12 * side, 4, -27), 4.5, 4.5, "gland")
        canvas.tube((12 * side, 6, -20), (40 * side, 8, -14), 1.7, 1.3, "blood")
        canvas.tube((2 * side, 18, -14), (2 * side, 36, -2), 1.3, 1.1, "blood")
    canvas.tube((0, 2, -24), (0, -2, -50), 1.8, 1.8, "blood")
    canvas.tube((0, -36, 4), (0, -52, 2), 2.2, 2.2, "blood")
    canvas.blob(SELLA, (6, 5, 3.5), "gland")
    canvas.tube(SELLA, (0, 9, -17), 1.2, 1.0, "gland")
    # cortical veins: bright where they run in sulci
    crossing = np.maximum(1.6 - canvas.noise(48, 7), np.maximum(np.abs(canvas.pial + 0.8) - 0.9, canvas.inside + 1))
    canvas.paint(crossing, "blood", soft=0.5)


# --------------------------------------------------------------------------------------------------------- tumours


def place_tumour(kind: str, rng: np.random.Generator) -> Tumour:
    """Return a tumour of a class at a random place that is typical for it; diameters 15-45 mm."""
    return {"glioma": _glioma, "meningioma": _meningioma, "pituitary": _adenoma}[kind](rng)


def _glioma(rng: np.random.Generator) -> Tumour:
    """Return a tumour inside the white matter of one hemisphere."""
    radii = rng.uniform(11, 20) * rng.uniform(0.85, 1.15, 3)
    while True:
        centre = rng.uniform((16, -50, -8), (44, 46, 40))
        if inner_skull(*centre) < -radii.max() - 5:
            return Tumour("glioma", centre * (rng.choice((-1, 1)), 1, 1), radii, 0.17)


def _meningioma(rng: np.random.Generator) -> Tumour:
    """Return a tumour on the dura: of the skull's vault (two in three) or of the falx, next to the vault."""
    radii = rng.uniform(9, 19) * rng.uniform(0.9, 1.1, 3)
    depth = rng.uniform(0.25, 0.6) * radii.mean()
    side = rng.choice((-1, 1))
    if rng.random() < 0.67:
        way = np.abs(rng.normal(size=3) * (1, 1.2, 0.8) + (0.5, 0, 0.25)) * (side, rng.choice((-1, 1)), 1)
        way /= np.linalg.norm(way / BRAIN)
        way = np.clip(way, (-66, -52, -64), (66, 52, 50))  # not at the head's ends: a slice there shows little else
        way /= np.linalg.norm(way / BRAIN)
        return Tumour("meningioma", way * (1 - depth / np.linalg.norm(way)), radii, 0.06)
    angle = rng.uniform(0.7, 2.4)
    deep = np.array([0, BRAIN[1] * np.cos(angle), BRAIN[2] * np.sin(angle)])
    deep *= 1 - depth / np.linalg.norm(deep)
    return Tumour("meningioma", deep + (side * radii[0] * rng.uniform(0.7, 0.9), 0, 0), radii, 0.06)


def _adenoma(rng: np.random.Generator) -> Tumour:
    """Return a tumour of the pituitary gland that grows upwards out of the sella."""
    radii = rng.uniform(8.5, 16) * np.array([1.0, 0.9, 1.1]) * rng.uniform(0.9, 1.1, 3)
    centre = SELLA + rng.normal(0, (1.5, 1.0, 0.5)) + (0, 0, radii[2] * rng.uniform(0.35, 0.6))
    return Tumour("pituitary", centre, radii, 0.09)


def paint_tumour(canvas: Canvas, tumour: Tumour, place: tuple, rng: np.random.Generator) -> np.ndarray:
    """Paint a tumour at the undisturbed coordinates `place` (half resolution) and return its mask, bool."""
    size = float(tumour.radii.mean())
    rough = size * tumour.irregular * (canvas.noise(16, 9) + 0.5 * canvas.noise(32, 9))
    shape = canvas.x.shape
    near = double(ellipsoid(*place, np.float32(tumour.centre), np.float32(tumour.radii)), shape) + rough
    if tumour.kind == "glioma":
        _paint_glioma(canvas, near, size, rng)
    elif tumour.kind == "meningioma":
        # it stops at the bone and at the falx, which gives it its broad, flat base
        side = np.float32(0.5) - np.float32(np.sign(tumour.centre[0])) * double(place[0], shape)
        near = np.maximum(near, np.maximum(canvas.inside, side))
        swelling = 0.2 * size + 2 * canvas.noise(16, 9)
        canvas.paint(np.maximum(near - swelling, canvas.inside + 3), "oedema", soft=4)
        canvas.paint(near - 1, "csf")
        canvas.paint(near, "meningioma", soft=0.5)
        _mottle(canvas, near, 0.04)
    else:
        waist = ellipsoid(*place, np.float32(SELLA), np.float32((9, 7, 6)))
        near = smooth_min(near, double(waist, shape), 3)
        canvas.paint(near - 1, "csf")
        canvas.paint(near, "pituitary", soft=0.5)
        _mottle(canvas, near, 0.07)
    return near < 0


def _mottle(canvas: Canvas, near: np.ndarray, strength: float) -> None:
    """Make the inside of a tumour uneven."""
    inside = np.clip(-near, 0, 1)
    canvas.image *= 1 + np.float32(strength) * inside * (canvas.noise(40, 2) + canvas.noise(60, 3))


def _paint_glioma(canvas: Canvas, near: np.ndarray, size: float, rng: np.random.Generator) -> None:
    """Paint oedema that creeps along the white matter, the enhancing rim and the dead core."""
    spread = size * rng.uniform(0.35, 0.8) * (1 + 0.45 * canvas.noise(12, 9))
    canvas.paint(np.maximum(near - spread, canvas.inside + 5), "oedema", soft=5)
    canvas.paint(near, "glioma", soft=1.2)
    _mottle(canvas, near, 0.12)
    rim = size * rng.uniform(0.15, 0.5) * (1 + 0.5 * canvas.noise(24, 1))
    canvas.paint(near + np.maximum(rim, 1.5), "necrosis", soft=1.5)


# ----------------------------------------------------------------------------------------------------- the picture


def rician(signal: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Return the magnitude of a signal [height, width] with Gaussian noise of deviation sigma in both channels.

    Source: Gudbjartsson & Patz, Magn. Reson. Med. 34:910, 1995.
    """
    real, imaginary = gaussian(rng, (2, *signal.shape)) * np.float32(sigma)
    return np.sqrt((signal + real) ** 2 + imaginary * imaginary)


def finish(canvas: Canvas, frame: tuple, size: int, rng: np.random.Generator, grain: np.random.Generator):
    """Return the picture, uint8 [size, size]: tissue texture, receive field, blur, Rician noise, display window."""
    surface = np.clip(1 + canvas.inside / 70, 0, 1.2)  # coils sit around the head: what is nearer is brighter
    gain = rng.uniform(0.05, 0.2) * canvas.noise(2, 1) + rng.uniform(0.1, 0.55) * (surface - 0.7)
    part = canvas.image * np.exp(gain) * (1 + 0.03 * canvas.noise(40, 2) + 0.02 * canvas.noise(60, 3))
    part = ndimage.gaussian_filter(part, rng.uniform(0.35, 0.75) * size / 224, truncate=3)
    white = np.quantile(part[::2, ::2], 0.975) * rng.uniform(0.85, 1.25)
    signal = np.zeros((size, size), np.float32)
    signal[frame] = part / np.float32(white)
    signal = rician(signal, rng.uniform(0.008, 0.03), grain)
    gamma = np.float32(rng.uniform(0.95, 1.55))
    return np.uint8(np.exp(gamma * np.log(np.clip(signal, 1e-6, 1))) * 255 + np.float32(0.5))


def draw(label: str, seed: int, size: int = 224) -> Phantom:
    """Return the phantom of a class and seed: the same arguments give the same pixels, whatever ran before.

    size: pixels a side, at least 32; the picture shows the same head at every size.
    Raises ValueError for a label that is not a class, a negative seed, or a size under 32.
    """
    if label not in CLASSES:
        raise ValueError(f"Expected label to be one of {list(CLASSES)}. Received: label={label!r}")
    if size < 32:
        raise ValueError(f"Expected size >= 32 pixels. Received: size={size!r}")
    if seed < 0:
        raise ValueError(f"Expected seed >= 0. Received: seed={seed!r}")
    rng, grain = (np.random.default_rng(s) for s in np.random.SeedSequence([CLASSES.index(label), seed]).spawn(2))
    plane, weighting, tumour = plan(label, rng)
    image, mask = _render(label, tumour, plane, weighting, rng, grain, size)
    return Phantom(image, mask, label, plane, weighting, seed)


def plan(label: str, rng: np.random.Generator) -> tuple[str, str, Tumour]:
    """Return the plane, the weighting and the tumour of a phantom.

    Without a tumour the slice still goes where one could be, so that its position gives nothing away.
    """
    plane, weighting = rng.choice(PLANES), rng.choice(WEIGHTINGS, p=WEIGHTING_SHARES)
    kinds = [name for name in CLASSES if name != "notumor"]
    return str(plane), str(weighting), place_tumour(label if label in kinds else str(rng.choice(kinds)), rng)


def _render(label, tumour, plane, weighting, rng, grain, size) -> tuple[np.ndarray, np.ndarray]:
    """Return image and mask of one slice through (or, for notumor, past where would be) a tumour."""
    white = gaussian(rng, (12, 63, 63)) / np.float32(_SPLINE_DEVIATION)
    # rather on the tumour's inner side: a slice at the head's very edge shows little else
    through = tumour.centre - np.sign(tumour.centre) * rng.uniform(0, 0.5, 3) * tumour.radii
    *place, pixel = slice_points(plane, through, rng, SmoothNoise(white, (size + 1) // 2), size)
    swelling = 0 if label in ("notumor", "pituitary") else rng.uniform(0.15, 0.4)
    bone, scalp = rng.uniform(2.5, 5.0), rng.uniform(4, 8)
    skin = skin_surface(*place, bone + scalp)
    frame = _frame(skin < 3, size)
    half = tuple(slice(part.start // 2, (part.stop + 1) // 2) for part in frame)
    *place, skin = (np.ascontiguousarray(p[half]) for p in (*place, skin))
    signals = tissue_signals(weighting, rng)
    moved = push_aside(*place, tumour, swelling) if swelling else place
    canvas = _canvas(moved, inner_skull(*place), skin, signals, pixel, SmoothNoise(white, size, frame))
    paint_head(canvas, bone)
    paint_brain(canvas, rng)
    paint_vessels(canvas)
    mask = np.zeros((size, size), bool)
    if label != "notumor":
        mask[frame] = paint_tumour(canvas, tumour, place, rng)
    return finish(canvas, frame, size, rng, grain), mask


def _frame(seen: np.ndarray, size: int) -> tuple[slice, slice]:
    """Return the rows and columns of the picture around what is seen at half resolution; they start at even pixels."""
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    return tuple(slice(max(2 * i[0] - 4, 0), min(2 * i[-1] + 6, size)) for i in (rows, columns))


def _canvas(points: tuple, inside: np.ndarray, skin: np.ndarray, signals: dict, pixel: float, noise) -> Canvas:
    """Return an empty canvas for the noise's frame; coordinates and distances come at half resolution."""
    shape = tuple(part.stop - part.start for part in noise.frame)
    x, y, z, inside, skin = (double(field, shape) for field in (*points, inside, skin))
    signals = {name: np.float32(value) for name, value in signals.items()}
    return Canvas(x, y, z, np.full(shape, signals["air"], np.float32), signals, pixel, noise, inside, skin)


# ----------------------------------------------------------------------------------------------------- the data set


def png(image: np.ndarray) -> bytes:
    """Return an 8-bit grey PNG file of a uint8 [height, width] array (https://www.w3.org/TR/png)."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width = image.shape
    rows = np.zeros((height, width + 1), np.uint8)  # a zero before each row: no filter, the noise defeats them all
    rows[:, 1:] = image
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    # runs only: the background shrinks as well, noise finds no longer matches, and it takes half the time
    deflate = zlib.compressobj(1, strategy=zlib.Z_RLE)
    data = deflate.compress(rows.tobytes()) + deflate.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def phantom_seed(seed: int, label: str, index: int) -> int:
    """Return the seed of the index-th phantom of a class in the data set with this seed."""
    return int(np.random.SeedSequence([seed, CLASSES.index(label), index]).generate_state(1)[0])


def _write_part(drafts: list, images_per_class: int, size: int, seed: int, part: int, parts: int) -> Iterator[int]:
    """Draw and write every `parts`-th phantom from number `part` on, yielding 1 after each.

    drafts: the folders for images and, if there are two, for masks.
    """
    jobs = [(label, index) for label in CLASSES for index in range(images_per_class)]
    for label, index in jobs[part::parts]:
        phantom = draw(label, phantom_seed(seed, label, index), size)
        for draft, pixels in zip(drafts, (phantom.image, np.uint8(phantom.mask) * 255), strict=False):
            (pathlib.Path(draft) / label / f"ph-{label[:2]}_{index + 1:04d}.png").write_bytes(png(pixels))
        yield 1


def write_dataset(
    folder: pathlib.Path,
    images_per_class: int,
    size: int,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
    masks: pathlib.Path | None = None,
    processes: int | None = None,
) -> None:
    """Write folder/<class>/ph-<cl>_0001.png ...: all of it or nothing (a temporary folder, renamed at the end).

    masks: a folder for tumour masks of the same names (0 or 255), written likewise. progress(done, total) is called
    as images get done. processes: by default 2 when there are enough images to pay for starting them, else 1.
    Raises ValueError for a number below 1, a size below 32 or a negative seed, FileExistsError if a folder is there,
    RuntimeError if a process of its own dies.
    """
    if images_per_class < 1:
        raise ValueError(f"Expected images_per_class >= 1. Received: images_per_class={images_per_class!r}")
    if size < 32 or seed < 0:
        raise ValueError(f"Expected size >= 32 and seed >= 0. Received: size={size!r}, seed={seed!r}")
    targets = [pathlib.Path(target) for target in (folder, masks) if target]
    for target in targets:
        if target.exists():
            raise FileExistsError(f"Expected a folder that is not there yet. Received: {target}. Remove it first.")
    drafts = [_draft(target) for target in targets]
    try:
        total = images_per_class * len(CLASSES)
        processes = processes or (2 if total >= 100 and (os.cpu_count() or 1) > 1 else 1)
        work = _write_part if processes == 1 else _write_in_processes
        done = 0
        for count in work(drafts, images_per_class, size, seed, 0, processes):
            done += count
            if progress:
                progress(done, total)
        for draft, target in zip(drafts, targets, strict=True):
            draft.rename(target)
    finally:
        for draft in drafts:
            shutil.rmtree(draft, ignore_errors=True)


def _draft(target: pathlib.Path) -> pathlib.Path:
    """Return a new temporary folder beside the target (so that a rename is enough), with a folder per class."""
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = pathlib.Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    draft.chmod(0o755)
    for label in CLASSES:
        (draft / label).mkdir()
    return draft


def _write_in_processes(drafts, images_per_class, size, seed, first, parts) -> Iterator[int]:
    """Let `parts` Python processes write the phantoms, yielding how many more are done.

    Plain processes, because multiprocessing would import the caller's main module, with TensorFlow, in each of them,
    and its pool hangs where that cannot be imported, as in a notebook. All write a byte an image into one pipe.
    """
    root = str(pathlib.Path(__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    environment = os.environ | {"PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"}
    code = "from stages.data import phantom; phantom._work_for_parent()"
    reader, writer = os.pipe()
    children = []
    try:
        for part in range(first, parts):
            work = json.dumps([[str(draft.resolve()) for draft in drafts], images_per_class, size, seed, part, parts])
            children.append(subprocess.Popen([sys.executable, "-c", code, work], stdout=writer, env=environment))
        os.close(writer)
        while finished := os.read(reader, 4096):
            yield len(finished)
        if any(child.wait() for child in children):
            raise RuntimeError("A process that draws phantoms died; its own message is above. Try processes=1.")
    finally:
        os.close(reader)
        for child in children:
            child.kill()
            child.wait()


def _work_for_parent() -> None:
    """Write the part that the parent process asks for in the first argument, and a byte an image to stdout."""
    for _ in _write_part(*json.loads(sys.argv[1])):
        os.write(1, b".")


def main(arguments: list[str] | None = None) -> int:
    """Write a data set of phantoms from the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.data.phantom",
        description="Write synthetic brain-MRI slices, one folder per class.",
        epilog="example: python -m stages.data.phantom phantoms --images-per-class 10 --size 224 --seed 0",
    )
    parser.add_argument("folder", type=pathlib.Path, metavar="FOLDER", help="written here; must not exist yet")
    parser.add_argument("--images-per-class", type=int, default=10, metavar="N", help="default: %(default)s")
    parser.add_argument("--size", type=int, default=224, help="pixels a side, at least 32; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same images; default: %(default)s")
    parser.add_argument("--masks", type=pathlib.Path, metavar="FOLDER", help="also write tumour masks, here")
    given = parser.parse_args(arguments)
    try:
        write_dataset(given.folder, given.images_per_class, given.size, given.seed, masks=given.masks)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"phantom: {error}", file=sys.stderr)
        return 2
    print(f"{given.images_per_class * len(CLASSES)} images in {given.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
