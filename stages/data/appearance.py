"""Random changes of how a training image looks, which move nothing in it.

Scanners, hospitals and collections differ in contrast, sharpness, noise, shading and background. Where each class comes
from a source of its own, a network can be right by these alone; changed at random, they tell it nothing.
"""

import math
from collections.abc import Callable

import tensorflow as tf

from stages.data.params import Augment

DARKEST, SHARE_OF_BRIGHT, BRIGHT = 12 / 255, 0.08, 0.99
"""Pixels of the head exceed DARKEST, and SHARE_OF_BRIGHT of the value that BRIGHT of the image's pixels lie below."""
FILLED = 0.02
"""Rows and columns with a smaller share of such pixels lie beside the head: noise, or letters at the rim."""
MASK = 1.0
"""Standard deviation of the blur that sharpening takes away, in pixels."""
BLUR_SIDE = 224
"""The side of the image whose pixels `blur` counts; images of another size are blurred in proportion."""
CUT = 0.08, 0.18
"""Share of the head's radius that `strip` cuts off: scalp and skull."""
GREY = 0.15
"""The lightest background."""
BAND, FAINT = (0.02, 0.05), 0.1
"""Highest frequencies that `mix_styles` exchanges, as shares of the side; and the value below which it does less."""
AREA, ASPECT = (0.05, 0.2), 0.3
"""Share of the image that `erase` covers, and the narrowest height of its rectangle by width, or width by height."""
ORDER = 3
"""Of the bias field's polynomials."""
TINY = 1e-30


@tf.autograph.experimental.do_not_convert  # nothing branches on a tensor, and conversion takes seconds
def changed(pixels: tf.Tensor, augment: Augment, seed: tf.Tensor) -> tf.Tensor:
    """Change how each image of a batch looks, by all changes whose strength is not 0, in the order of CHANGES.

    Args:
        pixels: float32 [b, size, size, c] in [0, 1]; all channels are changed alike.
        augment: the strengths.
        seed: int [2]; the same seed gives the same changes, and none depends on which others are on.

    Returns:
        float32 [b, size, size, c] in [0, 1].
    """
    for number, (change, names) in enumerate(CHANGES.items()):
        strengths = [getattr(augment, name) for name in names]
        if any(strengths):
            own_seed = tf.random.experimental.stateless_fold_in(seed, number + 1)
            pixels = tf.clip_by_value(change(pixels, own_seed, *strengths), 0.0, 1.0)
    return pixels


def surroundings(pixels: tf.Tensor, seed: tf.Tensor, strip: float, background: float) -> tf.Tensor:
    """Blacken some heads' scalp and skull, and give some images a background that is not black.

    Collections hold stripped heads, and backgrounds that are black, grey or noisy. Stripped here is what lies outside
    of an ellipse through the inner side of the skull, not the skull itself. A background is flat grey in half of the
    cases, and else noise as magnitude images have it: Rayleigh-distributed about a grey (Gudbjartsson & Patz 1995).

    Args:
        pixels: float32 [b, size, size, c] in [0, 1].
        seed: int [2].
        strip, background: the share of images that get it, in [0, 1].

    Returns:
        float32, as pixels.
    """
    draws = uniform(seed, [5, tf.shape(pixels)[0]])
    inside = heads(pixels)
    radius = elliptic_radius(inside)
    kept = (radius < 1.0 - between(CUT, draws[1])) | (draws[0] >= strip)[:, None, None, None]
    stripped = tf.where(kept, pixels, 0.0)
    noise = tf.sqrt(-tf.math.log(uniform(second(seed), tf.shape(inside)) + TINY)) * (2.0 / math.sqrt(math.pi))
    grey = between((0.0, GREY), draws[3]) * tf.where(draws[4][:, None, None, None] < 0.5, 1.0, noise)
    return tf.where((inside & kept) | (draws[2] >= background)[:, None, None, None], stripped, grey)


def heads(pixels: tf.Tensor) -> tf.Tensor:
    """Find the head in each image: all between its outermost bright pixels, by rows and by columns.

    Args:
        pixels: float32 [b, size, size, c] in [0, 1].

    Returns:
        bool [b, size, size, 1]; nothing of an image that is black.
    """
    size, half = pixels.shape[1], pixels.shape[1] // 2
    # At half the side, which averages noise away and takes a quarter of the time.
    grey = tf.reduce_mean(tf.image.resize(pixels, [half, half], method="bilinear"), axis=-1)
    brightest = tf.nn.top_k(tf.reshape(grey, [-1, half**2]), max(1, round((1.0 - BRIGHT) * half**2))).values
    bright = grey > tf.maximum(DARKEST, SHARE_OF_BRIGHT * brightest[:, -1])[:, None, None]
    share = tf.cast(bright, tf.float32)
    bright &= (tf.reduce_mean(share, 2, keepdims=True) > FILLED) & (tf.reduce_mean(share, 1, keepdims=True) > FILLED)
    return (between_outermost(bright, 1, size) & between_outermost(bright, 2, size))[..., None]


def between_outermost(marks: tf.Tensor, axis: int, size: int) -> tf.Tensor:
    """Return which pixels lie between the first and the last mark along an axis.

    Args:
        marks: bool [b, n, n].
        axis: 1 or 2.
        size: of the result, n or more.

    Returns:
        bool [b, size, size].
    """
    count, along = marks.shape[axis], [1, -1, 1] if axis == 1 else [1, 1, -1]
    step, mark = size / count, tf.reshape(tf.range(count, dtype=tf.float32), along)
    first = tf.reduce_min(tf.where(marks, mark * step, float(size)), axis, keepdims=True)
    last = tf.reduce_max(tf.where(marks, (mark + 1.0) * step, 0.0), axis, keepdims=True)
    first, last = (tf.gather(end, tf.range(size) * count // size, axis=3 - axis) for end in (first, last))
    place = tf.reshape(tf.range(size, dtype=tf.float32) + 0.5, along)
    return (place > first) & (place < last)


def elliptic_radius(region: tf.Tensor) -> tf.Tensor:
    """Return how far out each pixel lies: 0 at the region's centre, 1 on the ellipse with the region's second moments.

    A filled ellipse's variance along an axis is a quarter of the half-axis squared, so a head of that shape is met at
    any tilt, which a box would not do.

    Args:
        region: bool [b, size, size, 1].

    Returns:
        float32 [b, size, size, 1]; large where the region is empty.
    """
    place = tf.linspace(-1.0, 1.0, region.shape[1])
    basis = tf.stack([tf.ones_like(place), place, place**2], axis=1)
    moments = tf.matmul(basis, tf.cast(region[..., 0], tf.float32), transpose_a=True) @ basis
    moments /= tf.maximum(moments[:, :1, :1], 1.0)
    y0, x0 = moments[:, 1, 0], moments[:, 0, 1]
    yy, xx, xy = moments[:, 2, 0] - y0**2 + 1e-6, moments[:, 0, 2] - x0**2 + 1e-6, moments[:, 1, 1] - x0 * y0
    y, x = place[None, :, None] - y0[:, None, None], place[None, None, :] - x0[:, None, None]
    yy, xx, xy = (value[:, None, None] for value in (yy, xx, xy))
    return tf.sqrt(tf.maximum((xx * y**2 - 2.0 * xy * x * y + yy * x**2) / (xx * yy - xy**2), 0.0))[..., None] / 2.0


def mix_styles(pixels: tf.Tensor, seed: tf.Tensor, share: float) -> tf.Tensor:
    """Give some images the coarse contrast of another image of the batch: amplitudes of its low frequencies.

    Phases, which say where things are, are kept (Yang & Soatto 2020, arXiv:2004.05498). The other image is the one
    before in the batch, which is in random order; how far amplitudes move towards it is random. Unlike in the paper,
    what is darker than FAINT changes less and black not at all: clouds would show beside the head.

    Args:
        pixels: float32 [b, size, size, c] in [0, 1].
        seed: int [2].
        share: of images that are changed, in [0, 1].

    Returns:
        float32, as pixels, but not quite in [0, 1].
    """
    size, draws = pixels.shape[1], uniform(seed, [3, tf.shape(pixels)[0]])
    top = int(BAND[1] * size)
    rows, columns = (tf.range(low, top + 1, dtype=tf.float32) for low in (-top, 0))  # the others are their conjugates
    spectrum = waves(rows, size) @ tf.cast(planes(pixels), tf.complex64) @ tf.transpose(waves(columns, size))
    amplitude, limit = tf.abs(spectrum), between(BAND, draws[2]) * size
    within = (tf.abs(rows)[:, None] <= limit) & (columns <= limit)
    mixed = between((0.0, 1.0), tf.where(draws[0] < share, draws[1], 0.0)) * tf.where(within, 1.0, 0.0)
    factor = mixed * (tf.roll(amplitude, 1, axis=0) - amplitude) / tf.maximum(amplitude, TINY)
    added = spectrum * tf.cast(factor * tf.where(columns == 0.0, 1.0, 2.0) / size**2, tf.complex64)
    back = tf.math.conj(tf.transpose(waves(rows, size))) @ added @ tf.math.conj(waves(columns, size))
    return pixels + pixels_of(tf.math.real(back)) * tf.minimum(pixels / FAINT, 1.0)**2


def waves(frequencies: tf.Tensor, size: int) -> tf.Tensor:
    """Return rows of the Fourier transform's matrix: frequencies float32 [n], cycles a side -> complex64 [n, size]."""
    return tf.exp(tf.complex(0.0, -2.0 * math.pi / size * frequencies[:, None] * tf.range(size, dtype=tf.float32)))


def bias_field(pixels: tf.Tensor, seed: tf.Tensor, strength: float) -> tf.Tensor:
    """Shade each image smoothly, as receiver coils do: times the exponential of a polynomial of order ORDER.

    As in Van Leemput et al. 1999 (doi:10.1109/42.811268), the field's logarithm is a polynomial in x and y.

    Args:
        pixels: float32 [b, size, size, c] in [0, 1].
        seed: int [2].
        strength: the field lies between exp(-strength) and exp(strength).

    Returns:
        float32, as pixels, but up to exp(strength).
    """
    count, size = tf.shape(pixels)[0], pixels.shape[1]
    place = tf.linspace(-1.0, 1.0, size)
    powers = [(i, j) for i in range(ORDER + 1) for j in range(ORDER + 1 - i) if i + j]
    terms = tf.stack([tf.reshape(place[:, None]**i * place**j, [-1]) for i, j in powers])
    logarithm = uniform(seed, [count, len(powers)], -1.0, 1.0) @ terms
    largest = uniform(second(seed), [count, 1]) * strength
    logarithm *= largest / tf.maximum(tf.reduce_max(tf.abs(logarithm), axis=1, keepdims=True), TINY)
    return pixels * tf.reshape(tf.exp(logarithm), [count, size, size, 1])


def gamma(pixels: tf.Tensor, seed: tf.Tensor, strength: float) -> tf.Tensor:
    """Raise each image's values to a power between 1 / (1 + strength) and 1 + strength, as likely below 1 as above.

    Args:
        pixels: float32 [b, size, size, c] in [0, 1].
        seed: int [2].
        strength: 0 or more.

    Returns:
        float32, as pixels; black and white stay.
    """
    power = tf.exp(uniform(seed, [tf.shape(pixels)[0], 1, 1, 1], -1.0, 1.0) * math.log1p(strength))
    return tf.exp(power * tf.math.log(tf.maximum(pixels, TINY)))  # a fifth of the time of tf.pow


def contrast(pixels: tf.Tensor, seed: tf.Tensor, strength: float) -> tf.Tensor:
    """Scale each image's values about their mean by 1 - strength to 1 + strength.

    Args:
        pixels: float32 [b, size, size, c] in [0, 1].
        seed: int [2].
        strength: in [0, 1].

    Returns:
        float32, as pixels, but not quite in [0, 1].
    """
    mean = tf.reduce_mean(pixels, axis=[1, 2, 3], keepdims=True)
    return mean + (pixels - mean) * (1.0 + strength * uniform(seed, tf.shape(mean), -1.0, 1.0))


def resolution(pixels: tf.Tensor, seed: tf.Tensor, strength: float) -> tf.Tensor:
    """Shrink each image by a factor between 1 and 1 + strength and enlarge it again: fine detail is lost.

    Args:
        pixels: float32 [b, size, size, c] in [0, 1].
        seed: int [2].
        strength: 0 or more.

    Returns:
        float32, as pixels.
    """
    return through(pixels, resampling(1.0 + strength * uniform(seed, tf.shape(pixels)[:1]), pixels.shape[1]))


def resampling(factor: tf.Tensor, size: int) -> tf.Tensor:
    """Return matrices that shrink a row of pixels with antialiasing and enlarge it again, both linearly.

    Args:
        factor: float32 [b], 1 or more; 1 gives the identity.
        size: pixels of a row.

    Returns:
        float32 [b, size, size], rows sum to 1.
    """
    fine, factor = tf.range(size, dtype=tf.float32), factor[:, None, None]
    coarse = (fine + 0.5) * factor - 0.5  # where coarse pixels lie; those beyond the image count for nothing
    weights = tf.maximum(0.0, 1.0 - tf.abs(fine[:, None] - coarse) / factor)
    shrink = weights / tf.maximum(tf.reduce_sum(weights, axis=1, keepdims=True), TINY)
    enlarge = weights / tf.reduce_sum(weights, axis=2, keepdims=True)
    return tf.matmul(enlarge, shrink, transpose_b=True)


def sharpness(pixels: tf.Tensor, seed: tf.Tensor, blur: float, sharpen: float) -> tf.Tensor:
    """Blur one half of the images and sharpen the other.

    Blurring is Gaussian. Sharpening adds to an image what a blur of MASK pixels takes away (unsharp masking).

    Args:
        pixels: float32 [b, size, size, c] in [0, 1].
        seed: int [2].
        blur: largest standard deviation, in pixels of an image of BLUR_SIDE pixels.
        sharpen: up to how many times the difference is added.

    Returns:
        float32, as pixels, but not quite in [0, 1].
    """
    size, draws = pixels.shape[1], uniform(seed, [2, tf.shape(pixels)[0]])
    blurs = draws[0] < 0.5
    sigma = tf.where(blurs, draws[1] * blur * size / BLUR_SIDE, MASK)
    weight = tf.where(blurs, 1.0, -draws[1] * sharpen)[:, None, None, None]
    return pixels + weight * (through(pixels, gaussian(sigma, size)) - pixels)


def gaussian(sigma: tf.Tensor, size: int) -> tf.Tensor:
    """Return matrices that blur a row of pixels; beyond its ends there is nothing to weigh.

    Args:
        sigma: float32 [b], pixels; 0 gives the identity.
        size: pixels of a row.

    Returns:
        float32 [b, size, size], rows sum to 1.
    """
    place = tf.range(size, dtype=tf.float32)
    distance = (place[:, None] - place) / tf.maximum(sigma, 1e-3)[:, None, None]
    weights = tf.exp(-0.5 * distance**2)
    return weights / tf.reduce_sum(weights, axis=2, keepdims=True)


def noise(pixels: tf.Tensor, seed: tf.Tensor, strength: float) -> tf.Tensor:
    """Add noise as magnitude images have it: of the complex signal, so that black turns grey.

    Rician (Gudbjartsson & Patz 1995, doi:10.1002/mrm.1910340618).

    Args:
        pixels: float32 [b, size, size, c] in [0, 1].
        seed: int [2].
        strength: largest standard deviation of the real and of the imaginary part.

    Returns:
        float32, as pixels, but not quite up to 1.
    """
    count, size = tf.shape(pixels)[0], pixels.shape[1]
    real = tf.random.stateless_normal([count, size, size, 1], seed)
    real *= strength * uniform(second(seed), [count, 1, 1, 1])
    imaginary = tf.roll(real, [size // 2, size // 2], axis=[1, 2])  # drawn elsewhere, so independent: half of the time
    return tf.sqrt((pixels + real)**2 + imaginary**2)


def erase(pixels: tf.Tensor, seed: tf.Tensor, share: float) -> tf.Tensor:
    """Cover a rectangle of some images, with black or with the image's mean (Zhong et al. 2020, arXiv:1708.04896).

    Args:
        pixels: float32 [b, size, size, c] in [0, 1].
        seed: int [2].
        share: of images that are changed, in [0, 1].

    Returns:
        float32, as pixels.
    """
    count, size = tf.shape(pixels)[0], pixels.shape[1]
    draws = uniform(seed, [6, count])
    area = AREA[0] + (AREA[1] - AREA[0]) * draws[0]
    aspect = tf.exp((2.0 * draws[1] - 1.0) * math.log(ASPECT))
    rows, columns = (stretch(length, start, size) for length, start in
                     ((tf.sqrt(area * aspect), draws[2]), (tf.sqrt(area / aspect), draws[3])))
    covered = rows[:, :, None] & columns[:, None, :] & (draws[4] < share)[:, None, None]
    mean = tf.reduce_mean(pixels, axis=[1, 2, 3], keepdims=True)
    return tf.where(covered[..., None], tf.where(draws[5][:, None, None, None] < 0.5, 0.0, mean), pixels)


def stretch(length: tf.Tensor, start: tf.Tensor, size: int) -> tf.Tensor:
    """Return which pixels of a row lie in a stretch: bool [b, size].

    Args:
        length: float32 [b], share of the row.
        start: float32 [b] in [0, 1]: at 0 it begins with the row, at 1 it ends with it.
        size: pixels of a row.
    """
    place = (tf.range(size, dtype=tf.float32) + 0.5) / size
    first = (start * (1.0 - length))[:, None]
    return (place >= first) & (place < first + length[:, None])


def through(pixels: tf.Tensor, matrices: tf.Tensor) -> tf.Tensor:
    """Multiply columns and rows of each image [b, size, size, c] by its matrix [b, size, size]."""
    return pixels_of(tf.matmul(matrices[:, None] @ planes(pixels), matrices[:, None], transpose_b=True))


def planes(pixels: tf.Tensor) -> tf.Tensor:
    """Return images [b, size, size, c] as [b, c, size, size]."""
    return tf.transpose(pixels, [0, 3, 1, 2])


def pixels_of(images: tf.Tensor) -> tf.Tensor:
    """Return images [b, c, size, size] as [b, size, size, c]."""
    return tf.transpose(images, [0, 2, 3, 1])


def uniform(seed: tf.Tensor, shape, low: float = 0.0, high: float = 1.0) -> tf.Tensor:
    """Draw float32 of a shape from [low, high)."""
    return tf.random.stateless_uniform(shape, seed, low, high)


def second(seed: tf.Tensor) -> tf.Tensor:
    """Return another seed, for a change that draws twice."""
    return tf.random.experimental.stateless_fold_in(seed, 0)


def between(ends: tuple[float, float], draws: tf.Tensor) -> tf.Tensor:
    """Return numbers [b] of [0, 1] as numbers between the ends, one an image: float32 [b, 1, 1, 1]."""
    return (ends[0] + (ends[1] - ends[0]) * draws)[:, None, None, None]


CHANGES: dict[Callable[..., tf.Tensor], tuple[str, ...]] = {
    mix_styles: ("mix_styles",),
    surroundings: ("strip", "background"),
    bias_field: ("bias_field",),
    gamma: ("gamma",),
    contrast: ("contrast",),
    resolution: ("resolution",),
    sharpness: ("blur", "sharpen"),
    noise: ("noise",),
    erase: ("erase",),
}
"""Each change with its strengths in train.augment, in the order in which they are made. Styles come first, so that they
are of whole heads and the new backgrounds stay even; noise comes after what would blur it."""
