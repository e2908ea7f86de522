"""The slice while it is painted: tissues put on top of each other, with partial volume at their edges."""

from dataclasses import dataclass

import numpy as np

from stages.data.phantom.geometry import ellipsoid
from stages.data.phantom.noise import SmoothNoise


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
