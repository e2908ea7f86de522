"""Random fields over a picture: smooth noise that is the same at every size, and the noise of the receiver."""

import functools

import numpy as np
from scipy import special


@functools.lru_cache(maxsize=64)
def _spline(cells: int, size: int) -> np.ndarray:
    """Return cubic B-spline weights: float32 [size, cells + 3] that raise a coarse grid to `size` pixels."""
    position = (np.arange(size) + 0.5) / size * cells
    t = np.abs(position[:, None] - (np.arange(cells + 3)[None] - 1))
    near, far = 2 / 3 - t * t + t**3 / 2, np.clip(2 - t, 0, None) ** 3 / 6
    return np.where(t < 1, near, far).astype(np.float32)


SPLINE_DEVIATION = 151 / 315
"""Of white noise under cubic B-splines in two directions: the integral of B squared."""
CHANNELS, CELLS = 12, 63


@functools.lru_cache(maxsize=1)
def _quantiles() -> np.ndarray:
    """Return 65536 evenly likely values of the standard normal distribution, float32."""
    return special.ndtri((np.arange(65536) + 0.5) / 65536).astype(np.float32)


def gaussian(rng: np.random.Generator, shape: tuple) -> np.ndarray:
    """Return standard normal numbers, float32 `shape`, in 16-bit steps: several times as fast as exact ones."""
    return _quantiles().take(rng.integers(0, 65536, shape, np.uint16), mode="clip")


def white_noise(rng: np.random.Generator) -> np.ndarray:
    """Return what a picture's SmoothNoise starts from: float32 [CHANNELS, CELLS, CELLS]."""
    return gaussian(rng, (CHANNELS, CELLS, CELLS)) / np.float32(SPLINE_DEVIATION)


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


def rician(signal: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Return the magnitude of a signal [height, width] with Gaussian noise of deviation sigma in both channels.

    Source: Gudbjartsson & Patz, Magn. Reson. Med. 34:910, 1995.
    """
    real, imaginary = gaussian(rng, (2, *signal.shape)) * np.float32(sigma)
    return np.sqrt((signal + real) ** 2 + imaginary * imaginary)
