"""Images made alike before a network sees them: head of one size, in the middle, with one range of greys.

Every class of the public set comes from other scanners, and networks that may see how large the head is, where it lies
and how bright it is tell scanners apart. Here that is taken away, in the network itself, so that training and serving
cannot differ: the head is cut out, brought to one size, and its 1st and 99th percentile become 0 and 1 (as nnU-Net cuts
intensities: Isensee et al. 2021, doi:10.1038/s41592-020-01008-z). All of it is sums, products and comparisons, which
TensorFlow and OpenVINO compute alike. Nothing is rounded: a value at the border of two steps would fall on either side.
"""

import keras
import tensorflow as tf

from stages.data import preprocess

LOWEST = 12.1 / 255.0
"""Nothing as dark belongs to a head. No mean of 8-bit values is just as dark, so that no rounding decides."""
OF_BRIGHTEST = 0.08
"""A head's pixels are brighter than this share of the image's 99th percentile."""
LINE = 50
"""One in so many pixels of a row or column must belong to the head for the line to do so."""
FEWEST = 8
"""With fewer rows or columns there is no head to be found."""
CUT = (0.01, 0.99)
"""Which percentiles of the head's greys become 0 and 1."""
HALVINGS = 10
"""Percentiles are found to 1 / 2^10, a quarter of an 8-bit step."""
CELL = 16
"""Heatmaps of the whole image have a cell for a square of so many of its pixels."""


@keras.saving.register_keras_serializable(package="stages")
class Harmonise(keras.layers.Layer):
    """Cuts the head out, brings it to one size and its greys to [0, 1]; always in float32.

    Args:
        side: of the results in pixels.
    """

    def __init__(self, side: int, **options):
        super().__init__(**options | {"dtype": "float32"})
        self.side = side

    def get_config(self):
        """Return what the layer is made from."""
        return super().get_config() | {"side": self.side}

    def call(self, inputs):
        """Harmonise pixels float32 [b, size, size, 3] in [0, 1].

        Returns:
            pixels float32 [b, side, side, 3], grey, in [0, 1]; and the square of the image that they show, float32
            [b, 3], see head().
        """
        grey = tf.reduce_mean(inputs, axis=-1)
        square = head(grey)
        shown = stretched(resampled(grey, square, self.side))[..., None]
        return tf.tile(shown, [1, 1, 1, preprocess.CHANNELS]), square


def head(grey: tf.Tensor) -> tf.Tensor:
    """Return the square around the head in images float32 [b, size, size]: float32 [b, 3].

    That is its left edge, its upper edge and its side in pixels. It may reach beyond the image; where no head is found
    it is the image.
    """
    threshold = tf.maximum(LOWEST, OF_BRIGHTEST * percentiles(grey, CUT[1:]))[..., None]
    # Noise of single pixels would pass the threshold all over the background of many scans.
    smooth = tf.nn.avg_pool2d(grey[..., None], 3, 1, "SAME")[..., 0]
    above, size = tf.cast(smooth > threshold, tf.float32), tf.cast(tf.shape(grey)[1], tf.float32)
    (left, right, columns), (top, bottom, rows) = (extent(tf.reduce_sum(above, axis)) for axis in (1, 2))
    side = tf.maximum(right - left, bottom - top)
    square = tf.stack([(left + right - side) / 2, (top + bottom - side) / 2, side], axis=1)
    found = tf.minimum(columns, rows) >= FEWEST
    return tf.where(found[:, None], square, tf.stack([0.0, 0.0, size]))


def extent(counts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return where the lines begin and end that belong to a head, and how many they are: float32 [b] each.

    Args:
        counts: float32 [b, n], pixels of each of n lines of n pixels that may belong to it.
    """
    count = tf.shape(counts)[1]
    inside, place = counts > tf.cast(count // LINE, tf.float32) + 0.5, tf.range(tf.cast(count, tf.float32))
    first = tf.reduce_min(tf.where(inside, place, tf.cast(count, tf.float32)), axis=1)
    end = tf.reduce_max(tf.where(inside, place + 1.0, 0.0), axis=1)
    return first, end, tf.reduce_sum(tf.cast(inside, tf.float32), axis=1)


def percentiles(values: tf.Tensor, shares: tuple[float, ...], above: float = -1.0) -> tf.Tensor:
    """Return percentiles of those of each image's values that are above one: float32 [b, len(shares)].

    A percentile is here the lowest multiple of 1 / 2^HALVINGS that a share of the values does not exceed, found by
    halving [0, 1]: to sort is slow in OpenVINO.

    Args:
        values: float32 [b, h, w] in [0, 1].
        shares: between 0 and 1.
        above: only greater values count.
    """
    flat = tf.reshape(values, [tf.shape(values)[0], 1, -1])
    every = tf.reduce_sum(tf.ones_like(flat), axis=2)
    counted = tf.reduce_sum(tf.cast(flat > above, tf.float32), axis=2)
    wanted = every - counted + counted * tf.constant([shares])
    low, high = tf.zeros_like(wanted), tf.ones_like(wanted)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        enough = tf.reduce_sum(tf.cast(flat <= middle[..., None], tf.float32), axis=2) >= wanted
        low, high = tf.where(enough, low, middle), tf.where(enough, middle, high)
    return high


def stretched(grey: tf.Tensor) -> tf.Tensor:
    """Return images float32 [b, h, w] in [0, 1] with the greys of what is not black from 0 to 1."""
    low, high = (cut[:, None, None] for cut in tf.unstack(percentiles(grey, CUT, preprocess.STEP / 2), axis=1))
    spread = tf.maximum(high - low, preprocess.STEP)  # an image of one grey has none
    return tf.clip_by_value((grey - low) / spread, 0.0, 1.0)


def resampled(images: tf.Tensor, square: tf.Tensor, side: int) -> tf.Tensor:
    """Return a square of each image [b, size, size] at a side in pixels: float32 [b, side, side]; black beyond it.

    Args:
        square: float32 [b, 3], see head().
    """
    size, step = tf.shape(images)[1], square[:, 2] / side
    columns, rows = (weights(size, square[:, axis], step, side) for axis in (0, 1))
    return tf.matmul(tf.matmul(rows, images), columns, transpose_b=True)


def placed(maps: tf.Tensor, square: tf.Tensor, size: int) -> tf.Tensor:
    """Return maps [b, K, h, h] of a square as maps of the whole image: float32 [b, K, size / 16, size / 16].

    Args:
        square: float32 [b, 3], see head(); beyond it the result is 0.
        size: of the whole images in pixels.
    """
    cells, scale = size // CELL, maps.shape[-1] / square[:, 2]
    columns, rows = (weights(maps.shape[-1], -square[:, axis] * scale, size / cells * scale, cells)[:, None]
                     for axis in (0, 1))
    return tf.matmul(tf.matmul(rows, maps), columns, transpose_b=True)


def weights(size: int | tf.Tensor, start: tf.Tensor, step: tf.Tensor, count: int) -> tf.Tensor:
    """Return how much each of `size` pixels adds to `count` results along a line: float32 [b, count, size].

    Each result is the mean over an interval as long as the distance of results, which is area averaging; or one pixel
    long where they are closer, which is linear interpolation.

    Args:
        start, step: float32 [b], where the first result's cell begins and how long it is, in pixels.
    """
    middle = start[:, None] + (tf.range(count, dtype=tf.float32) + 0.5) * step[:, None]
    length = tf.maximum(step, 1.0)[:, None]
    pixel = tf.range(tf.cast(size, tf.float32))
    begin, end = ((middle + sign * length / 2)[..., None] for sign in (-1, 1))
    return tf.nn.relu(tf.minimum(end, pixel + 1.0) - tf.maximum(begin, pixel)) / length[..., None]
