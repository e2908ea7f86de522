"""One slice through the head: plane and tumour are drawn at random, tissues painted, noise added."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from core import contract
from imaging.slices import PLANES
from stages.data.phantom import tumours
from stages.data.phantom.anatomy import inner_skull, paint_brain, paint_head, paint_vessels, skin_surface
from stages.data.phantom.canvas import Canvas
from stages.data.phantom.geometry import double, slice_points
from stages.data.phantom.noise import SmoothNoise, rician, white_noise
from stages.data.phantom.signals import WEIGHTING_FRACTIONS, WEIGHTINGS, tissue_signals

MIN_SIZE = 32
"""Pixels a side; in fewer a small tumour cannot be seen."""


@dataclass(frozen=True)
class Phantom:
    """One synthetic slice: uint8 image [size, size], bool tumour mask [size, size] (without oedema), what it shows."""

    image: np.ndarray
    mask: np.ndarray
    label: str
    plane: str
    weighting: str
    seed: int


class Plan(NamedTuple):
    """What a slice shows: the plane, the contrast, and the tumour that it cuts (or, in a healthy head, could cut)."""

    plane: str
    weighting: str
    tumour: tumours.Tumour


def check(size: int, seed: int) -> None:
    """Check what a caller asks for. Raises ValueError for a negative seed, or a size under MIN_SIZE."""
    if size < MIN_SIZE:
        raise ValueError(f"Expected size >= {MIN_SIZE} pixels. Received: size={size!r}")
    if seed < 0:
        raise ValueError(f"Expected seed >= 0. Received: seed={seed!r}")


def draw(label: str, seed: int, size: int = 224) -> Phantom:
    """Return the phantom of a class and seed: the same arguments give the same pixels, whatever ran before.

    size: pixels a side, at least MIN_SIZE; the picture shows the same head at every size.
    Raises ValueError for a label that is not a class, a negative seed, or a size under MIN_SIZE; NoPainter.
    """
    classes = contract.CLASSES
    if label not in classes:
        raise ValueError(f"Expected label to be one of {list(classes)}. Received: label={label!r}")
    tumours.require_painters((label,))
    check(size, seed)
    rng, grain = (np.random.default_rng(s) for s in np.random.SeedSequence([classes.index(label), seed]).spawn(2))
    planned = plan(label, rng)
    image, mask = _render(label, planned, rng, grain, size)
    return Phantom(image, mask, label, planned.plane, planned.weighting, seed)


def plan(label: str, rng: np.random.Generator) -> Plan:
    """Return the plane, the weighting and the tumour of a phantom.

    Without a tumour the slice still goes where one could be, so that its position gives nothing away.
    """
    plane, weighting = rng.choice(PLANES), rng.choice(WEIGHTINGS, p=WEIGHTING_FRACTIONS)
    kind = str(rng.choice(tumours.kinds())) if label == contract.HEALTHY else label
    return Plan(str(plane), str(weighting), tumours.PAINTERS[kind].place(rng))


def _render(label: str, planned: Plan, rng: np.random.Generator, grain: np.random.Generator,
            size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return image and mask of one slice through (or, in a healthy head, past where would be) a tumour."""
    ill, tumour = label != contract.HEALTHY, planned.tumour
    white = white_noise(rng)
    # rather on the tumour's inner side: a slice at the head's very edge shows little else
    through = tumour.centre - np.sign(tumour.centre) * rng.uniform(0, 0.5, 3) * tumour.radii
    *place, pixel = slice_points(planned.plane, through, rng, SmoothNoise(white, (size + 1) // 2), size)
    swelling = rng.uniform(0.15, 0.4) if ill and tumours.PAINTERS[label].mass_effect else 0
    bone, scalp = rng.uniform(2.5, 5.0), rng.uniform(4, 8)
    skin = skin_surface(*place, bone + scalp)
    frame = _frame(skin < 3, size)
    half = tuple(slice(part.start // 2, (part.stop + 1) // 2) for part in frame)
    *place, skin = (np.ascontiguousarray(p[half]) for p in (*place, skin))
    signals = tissue_signals(planned.weighting, rng)
    moved = tumours.push_aside(*place, tumour, swelling) if swelling else place
    canvas = _canvas(moved, inner_skull(*place), skin, signals, pixel, SmoothNoise(white, size, frame))
    paint_head(canvas, bone)
    paint_brain(canvas, rng)
    paint_vessels(canvas)
    mask = np.zeros((size, size), bool)
    if ill:
        mask[frame] = tumours.paint(canvas, label, tumour, place, rng)
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
