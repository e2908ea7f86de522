"""What is served for pixels: a network's probabilities, averaged with those of the mirrored image, and calibrated.

The one place that says how an answer comes about: evaluate scores it, export writes it as the SavedModel.
"""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

TINIEST = 1e-12
"""Smallest probability whose logarithm is taken."""


def answer(network: keras.Model, average_flip: bool, temperature: float = 1.0) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return the function of pixels float32 [b, size, size, 3] in [0, 1] that gives probabilities float32 [b, 4].

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
        return plain if temperature == 1.0 else tf.nn.softmax(tf.math.log(tf.maximum(plain, TINIEST)) / temperature)

    return probabilities


def predict(network: keras.Model, batches: tf.data.Dataset, average_flip: bool) -> np.ndarray:
    """Return the answers float32 [n, 4] at temperature 1 for batches of (pixels, labels)."""
    compiled = tf.function(answer(network, average_flip), reduce_retracing=True)
    return np.concatenate([compiled(pixels).numpy() for pixels, _ in batches])
