"""Tumours: where those of each class lie, how they look, and whether they push the brain aside.

A new class needs an entry in PAINTERS, and its tissue in signals.TISSUES.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from core import contract
from stages.data.phantom.anatomy import BRAIN, SELLA, inner_skull
from stages.data.phantom.canvas import Canvas
from stages.data.phantom.geometry import double, ellipsoid, smooth_min


class NoPainter(ValueError):
    """A class of the contract whose phantoms nobody has described."""


@dataclass(frozen=True)
class Tumour:
    """An ellipsoid in head coordinates, mm; `irregular`: the height of its surface noise, as a fraction of its size."""

    centre: np.ndarray
    radii: np.ndarray
    irregular: float

    @property
    def size(self) -> float:
        """Return its mean radius, mm."""
        return float(self.radii.mean())


@dataclass(frozen=True)
class Painter:
    """What is particular to the tumours of a class.

    Attributes:
        place: returns a tumour at a random place that is typical for the class; diameters 15-45 mm.
        paint: paints a tumour, given the canvas, the tumour, the undisturbed coordinates of the slice at half
            resolution, the signed distance to the tumour's rough surface, and a generator; returns that distance,
            changed where the class's shape is no ellipsoid.
        mass_effect: whether the anatomy around it is pressed outwards.
    """

    place: Callable[[np.random.Generator], Tumour]
    paint: Callable[[Canvas, Tumour, tuple, np.ndarray, np.random.Generator], np.ndarray]
    mass_effect: bool


def place_glioma(rng: np.random.Generator) -> Tumour:
    """Return a tumour inside the white matter of one hemisphere."""
    radii = rng.uniform(11, 20) * rng.uniform(0.85, 1.15, 3)
    while True:
        centre = rng.uniform((16, -50, -8), (44, 46, 40))
        if inner_skull(*centre) < -radii.max() - 5:
            return Tumour(centre * (rng.choice((-1, 1)), 1, 1), radii, 0.17)


def paint_glioma(canvas: Canvas, tumour: Tumour, place: tuple, near: np.ndarray,
                 rng: np.random.Generator) -> np.ndarray:
    """Paint oedema that creeps along the white matter, the enhancing rim and the dead core."""
    spread = tumour.size * rng.uniform(0.35, 0.8) * (1 + 0.45 * canvas.noise(12, 9))
    canvas.paint(np.maximum(near - spread, canvas.inside + 5), "oedema", soft=5)
    canvas.paint(near, "glioma", soft=1.2)
    _mottle(canvas, near, 0.12)
    rim = tumour.size * rng.uniform(0.15, 0.5) * (1 + 0.5 * canvas.noise(24, 1))
    canvas.paint(near + np.maximum(rim, 1.5), "necrosis", soft=1.5)
    return near


def place_meningioma(rng: np.random.Generator) -> Tumour:
    """Return a tumour on the dura: of the skull's vault (two in three) or of the falx, next to the vault."""
    radii = rng.uniform(9, 19) * rng.uniform(0.9, 1.1, 3)
    depth = rng.uniform(0.25, 0.6) * radii.mean()
    side = rng.choice((-1, 1))
    if rng.random() < 0.67:
        way = np.abs(rng.normal(size=3) * (1, 1.2, 0.8) + (0.5, 0, 0.25)) * (side, rng.choice((-1, 1)), 1)
        way /= np.linalg.norm(way / BRAIN)
        way = np.clip(way, (-66, -52, -64), (66, 52, 50))  # not at the head's ends: a slice there shows little else
        way /= np.linalg.norm(way / BRAIN)
        return Tumour(way * (1 - depth / np.linalg.norm(way)), radii, 0.06)
    angle = rng.uniform(0.7, 2.4)
    deep = np.array([0, BRAIN[1] * np.cos(angle), BRAIN[2] * np.sin(angle)])
    deep *= 1 - depth / np.linalg.norm(deep)
    return Tumour(deep + (side * radii[0] * rng.uniform(0.7, 0.9), 0, 0), radii, 0.06)


def paint_meningioma(canvas: Canvas, tumour: Tumour, place: tuple, near: np.ndarray,
                     rng: np.random.Generator) -> np.ndarray:
    """Paint a tumour that stops at the bone and at the falx, which gives it its broad, flat base."""
    side = np.float32(0.5) - np.float32(np.sign(tumour.centre[0])) * double(place[0], canvas.x.shape)
    near = np.maximum(near, np.maximum(canvas.inside, side))
    swelling = 0.2 * tumour.size + 2 * canvas.noise(16, 9)
    canvas.paint(np.maximum(near - swelling, canvas.inside + 3), "oedema", soft=4)
    canvas.paint(near - 1, "csf")
    canvas.paint(near, "meningioma", soft=0.5)
    _mottle(canvas, near, 0.04)
    return near


def place_adenoma(rng: np.random.Generator) -> Tumour:
    """Return a tumour of the pituitary gland that grows upwards out of the sella."""
    radii = rng.uniform(8.5, 16) * np.array([1.0, 0.9, 1.1]) * rng.uniform(0.9, 1.1, 3)
    centre = SELLA + rng.normal(0, (1.5, 1.0, 0.5)) + (0, 0, radii[2] * rng.uniform(0.35, 0.6))
    return Tumour(centre, radii, 0.09)


def paint_adenoma(canvas: Canvas, tumour: Tumour, place: tuple, near: np.ndarray,
                  rng: np.random.Generator) -> np.ndarray:
    """Paint a tumour with a waist where it leaves the sella."""
    waist = ellipsoid(*place, np.float32(SELLA), np.float32((9, 7, 6)))
    near = smooth_min(near, double(waist, canvas.x.shape), 3)
    canvas.paint(near - 1, "csf")
    canvas.paint(near, "adenoma", soft=0.5)
    _mottle(canvas, near, 0.07)
    return near


def _mottle(canvas: Canvas, near: np.ndarray, strength: float) -> None:
    """Make the inside of a tumour uneven."""
    inside = np.clip(-near, 0, 1)
    canvas.image *= 1 + np.float32(strength) * inside * (canvas.noise(40, 2) + canvas.noise(60, 3))


PAINTERS = {
    "glioma": Painter(place_glioma, paint_glioma, mass_effect=True),
    "meningioma": Painter(place_meningioma, paint_meningioma, mass_effect=True),
    "pituitary": Painter(place_adenoma, paint_adenoma, mass_effect=False),
}
"""By class: every class but contract.HEALTHY needs one."""


def kinds() -> list[str]:
    """Return the classes with a tumour that can be drawn, in the contract's order."""
    return [label for label in contract.CLASSES if label in PAINTERS]


def require_painters(labels: tuple[str, ...]) -> None:
    """Check that phantoms of classes can be drawn.

    Raises:
        NoPainter: naming those that cannot.
    """
    missing = [label for label in labels if label != contract.HEALTHY and label not in PAINTERS]
    if missing:
        raise NoPainter(f"Expected a painter for every class with a tumour. Received: none for {', '.join(missing)}. "
                        "Add it to PAINTERS in stages/data/phantom/tumours.py, or set prepare.source to a folder of "
                        "real images.")


def paint(canvas: Canvas, label: str, tumour: Tumour, place: tuple, rng: np.random.Generator) -> np.ndarray:
    """Paint the tumour of a class at the undisturbed coordinates `place` (half resolution); return its mask, bool."""
    rough = tumour.size * tumour.irregular * (canvas.noise(16, 9) + 0.5 * canvas.noise(32, 9))
    near = double(ellipsoid(*place, np.float32(tumour.centre), np.float32(tumour.radii)), canvas.x.shape) + rough
    return PAINTERS[label].paint(canvas, tumour, place, near, rng) < 0


def push_aside(x, y, z, tumour: Tumour, strength: float) -> tuple:
    """Return coordinates in which the anatomy around a tumour is pressed outwards (mass effect)."""
    cx, cy, cz = np.float32(tumour.centre)
    reach = np.float32(1.9 * tumour.radii.mean())
    square = (x - cx) ** 2 + (y - cy) ** 2 + (z - cz) ** 2
    pull = np.float32(strength) * np.exp(-square / (reach * reach))
    return x - pull * (x - cx), y - pull * (y - cy), z - pull * (z - cz)
