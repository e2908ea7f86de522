"""Shapes as signed distances (mm, negative inside), and the plane that a slice cuts through the head."""

from typing import NamedTuple

import numpy as np

from imaging.volume import AXIAL, CORONAL, SAGITTAL
from stages.data.phantom.noise import SmoothNoise


class View(NamedTuple):
    """A plane's range of the field of view and its middle, mm, and the head's directions along rows and columns."""

    field: tuple[float, float]
    middle: tuple[float, float, float]
    across: tuple[int, int, int]
    down: tuple[int, int, int]


VIEWS = {
    AXIAL: View((205, 265), (0, 0, 0), (1, 0, 0), (0, -1, 0)),
    CORONAL: View((205, 265), (0, 0, -16), (1, 0, 0), (0, 0, -1)),
    SAGITTAL: View((215, 275), (0, 4, -18), (0, -1, 0), (0, 0, -1)),
}


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
    view = VIEWS[plane]
    field = rng.uniform(*view.field)
    middle = view.middle + rng.normal(0, 5, 3)
    across, down = view.across, view.down
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
