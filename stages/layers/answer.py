"""What is served for pixels: a network's probabilities, averaged with those of the mirrored image, and calibrated; and
where in the image the network saw each class.

The one place that says how an answer comes about: evaluate scores it, export writes it as the SavedModel.
"""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from stages.data import preprocess
from stages.layers import explain, harmonise

TINIEST = 1e-12
"""Smallest probability whose logarithm is taken."""


def answer(network: keras.Model, average_flip: bool, temperature: float = 1.0) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return the function of pixels float32 [b, size, size, 3] in [0, 1] that gives probabilities float32 [b, K].

    Args:
        network: the trained network.
        average_flip: whether the answers for the image and for its mirror image are averaged: twice the work, for an
            answer that does not depend on the side (test-time augmentation: Krizhevsky et al. 2012, section 4.1).
        temperature: above 1 less sure, below 1 surer; the most probable class stays (Guo et al. 2017,
            arXiv:1706.04599, section 4.2).
    """
    def probabilities(pixels: tf.Tensor) -> tf.Tensor:
        plain = network(pixels, training=False)
        if average_flip:
            plain = (plain + network(pixels[:, :, ::-1], training=False)) / 2.0
        return calibrated(plain, temperature)

    return probabilities


def together(sides: list[Callable[[tf.Tensor], tf.Tensor]], temperature: float = 1.0) -> Callable[[tf.Tensor], tuple]:
    """Return the function of pixels that gives the mean of several answer() functions, after one more temperature.

    Averaging what differently built networks say mends errors that they do not share (Dietterich 2000,
    doi:10.1007/3-540-45014-9_1).

    Returns:
        the function; it gives a tuple of one, as explained() gives one of two.
    """
    def mean(pixels: tf.Tensor) -> tuple[tf.Tensor]:
        answers = [side(pixels) for side in sides]
        return (calibrated(tf.add_n(answers) / len(answers), temperature),)

    return mean


def calibrated(probabilities: tf.Tensor, temperature: float) -> tf.Tensor:
    """Return probabilities float32 [b, K] after the temperature."""
    if temperature == 1.0:
        return probabilities
    return tf.nn.softmax(tf.math.log(tf.maximum(probabilities, TINIEST)) / temperature)


def explained(network: keras.Model, average_flip: bool, temperature: float = 1.0) -> Callable[[tf.Tensor], tuple]:
    """Return the function of pixels that gives the probabilities of answer(), and a heatmap for each class.

    Heatmaps are float32 [b, K, h, w] in [0, 1] of the whole image, see explain.py beside this; averaged with those of
    the mirrored image, mirrored back, where the answer is.

    Args:
        network: see explain.with_features. average_flip, temperature: see answer().
    """
    full = explain.with_features(network)

    def once(pixels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        maps, plain, *squares = full(pixels, training=False)
        seen = explain.heatmaps(network, maps)
        for square in squares:  # one if the network looks at a part of the image
            seen = explain.scaled(harmonise.placed(seen, square, pixels.shape[1]))
        return plain, seen

    def both(pixels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        plain, seen = once(pixels)
        if average_flip:
            mirrored, also_seen = once(pixels[:, :, ::-1])
            plain = (plain + mirrored) / 2.0
            seen = explain.scaled(seen + also_seen[..., ::-1])
        return calibrated(plain, temperature), seen

    return both


def compiled(function: Callable, size: int) -> Callable:
    """Return a function of pixels as one graph for any number of images of a side in pixels.

    Without AutoGraph, which nothing here needs and which warns of code that it cannot read; traced once, as
    tf.function warns of tracing anew for each network and each number of images.
    """
    pixels = tf.TensorSpec([None, size, size, preprocess.CHANNELS], tf.float32)
    return tf.function(function, autograph=False).get_concrete_function(pixels)


def predict(network: keras.Model, batches: tf.data.Dataset, average_flip: bool) -> np.ndarray:
    """Return the answers float32 [n, K] at temperature 1 for batches of (pixels, labels)."""
    graph = compiled(answer(network, average_flip), batches.element_spec[0].shape[1])
    return np.concatenate([graph(pixels).numpy() for pixels, _ in batches])
