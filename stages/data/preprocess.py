"""Encoded image bytes -> pixels, as TensorFlow graph code.

The one place that decodes and resizes for a network: training reads its images through `decode`, and `export` writes
the same function as the SavedModel that Triton runs before a network. Pixels are whole 8-bit steps, so that training
can keep them as uint8 and still see exactly what serving computes.
"""

import tensorflow as tf

from core import contract

CHANNELS = 3
STEP = 1.0 / 255.0


def decode(image: tf.Tensor, size: int) -> tf.Tensor:
    """Decode one canonical image and resize it.

    The image is stretched to a square, as the public data sets were; bilinear with antialiasing.

    Args:
        image: string scalar, the bytes of an 8-bit PNG or JPEG as `imaging` writes them.
        size: of the result in pixels.

    Returns:
        float32 [size, size, 3], RGB in [0, 1], multiples of 1/255.

    Raises:
        tf.errors.InvalidArgumentError: the bytes are not an image.
    """
    pixels = tf.io.decode_image(image, channels=CHANNELS, expand_animations=False)
    resized = tf.image.resize(tf.cast(pixels, tf.float32), [size, size], method="bilinear", antialias=True)
    # A product, since graph optimisation turns a quotient into one, which may differ in the last bit.
    return tf.round(tf.clip_by_value(resized, 0.0, 255.0)) * STEP


class Preprocess(tf.Module):
    """`decode` over a batch, in the form that `export` saves and Triton calls."""

    def __init__(self, size: int):
        super().__init__(name=contract.PREPROCESS)
        signature = [tf.TensorSpec([None, 1], tf.string, name=contract.IMAGE_INPUT)]
        self.size = size
        self.serve = tf.function(self._serve, input_signature=signature)

    def _serve(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        spec = tf.TensorSpec([self.size, self.size, CHANNELS], tf.float32)
        pixels = tf.map_fn(lambda one: tf.ensure_shape(decode(one, self.size), spec.shape), image[:, 0],
                           fn_output_signature=spec)
        return {contract.PIXELS: pixels}
