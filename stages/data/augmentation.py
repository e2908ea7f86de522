"""The random changes that only training images get.

Each training batch is warped by one projective transform an image, which composes rotation, shear, zoom, shift and
flip: pixels are interpolated once. Then brightness changes, and how the image looks otherwise. Every random number
comes from the seed and the epoch, so that a resumed run sees the images that an uninterrupted one would have seen.
"""

import numpy as np
import tensorflow as tf

from stages.data import appearance, dataset, preprocess
from stages.data.params import Augment


def training_batches(images: dataset.Images, batch_size: int, augment: Augment, seed: int,
                     first_epoch: int) -> tf.data.Dataset:
    """Return shuffled, randomly changed batches without end: what shown() chooses of the images an epoch.

    Args:
        images: the training split.
        batch_size: images a batch; the last batch of an epoch is smaller.
        augment: the random changes.
        seed: with the epoch's number, decides order and changes.
        first_epoch: the epoch that the first pass belongs to.

    Returns:
        batches of pixels float32 [b, size, size, 3] in [0, 1] and labels int64 [b].
    """
    pixels, labels = tf.constant(images.pixels), tf.constant(images.labels)

    def one_epoch(epoch):
        numbers = tf.data.Dataset.from_tensor_slices(shown(images, [seed, epoch])).batch(batch_size).enumerate()
        return numbers.map(lambda number, chosen: (epoch, number, chosen))

    def one_batch(epoch, number, chosen):
        seeds = tf.stack([tf.cast(seed, tf.int64) * 1_000_003 + epoch, number])
        changed = augmented(tf.cast(tf.gather(pixels, chosen), tf.float32) * preprocess.STEP, augment, seeds)
        return dataset.rgb(changed), tf.gather(labels, chosen)

    epochs = tf.data.Dataset.range(first_epoch, tf.int64.max)
    return epochs.flat_map(one_epoch).map(one_batch, num_parallel_calls=2, deterministic=True).prefetch(2)


def shown(images: dataset.Images, seed: list) -> tf.Tensor:
    """Return which images an epoch shows, in this order: indices int [images.an_epoch].

    Each once, or where images.draws says how often each is expected, drawn with replacement.

    Args:
        images: the training split.
        seed: two int; the same ones give the same order.
    """
    if images.draws is None:
        return tf.random.experimental.stateless_shuffle(tf.range(len(images)), seed=seed)
    return tf.random.stateless_categorical(np.log(images.draws)[None], images.an_epoch, seed)[0]


def augmented(pixels: tf.Tensor, augment: Augment, seed: tf.Tensor) -> tf.Tensor:
    """Change each image of a batch at random: one warp, then brightness, then what `appearance` changes.

    Args:
        pixels: float32 [b, size, size, c] in [0, 1].
        augment: half-widths, strengths and shares; what comes into the picture is black, like an MRI's background.
        seed: int [2]; the same seed gives the same changes.

    Returns:
        float32 [b, size, size, c] in [0, 1].
    """
    count, size = tf.shape(pixels)[0], pixels.shape[1]
    draws = tf.random.stateless_uniform([7, count], seed, -1.0, 1.0)
    transforms = warps(
        angle=draws[0] * np.deg2rad(augment.rotation_degrees),
        shear=draws[1] * np.deg2rad(augment.shear_degrees),
        zoom=1.0 + draws[2] * augment.zoom,
        shift=draws[3:5] * augment.shift * size,
        flip=tf.where(draws[5] < 0, -1.0, 1.0) if augment.horizontal_flip else tf.ones([count]),
        size=size,
    )
    warped = tf.raw_ops.ImageProjectiveTransformV3(
        images=pixels, transforms=transforms, output_shape=[size, size], interpolation="BILINEAR",
        fill_mode="CONSTANT", fill_value=0.0)
    lit = tf.clip_by_value(warped * (1.0 + draws[6] * augment.brightness)[:, None, None, None], 0.0, 1.0)
    return appearance.changed(lit, augment, seed)


def warps(angle, shear, zoom, shift, flip, size: int) -> tf.Tensor:
    """Compose rotation, shear, zoom, shift and flip about the image's centre into one transform an image.

    Args:
        angle: float32 [b], radians, counter-clockwise.
        shear: float32 [b], radians; rows slide along x.
        zoom: float32 [b], 2 shows things twice as large.
        shift: float32 [2, b], pixels along x and y.
        flip: float32 [b], -1 mirrors left and right, 1 does not.
        size: of the image in pixels.

    Returns:
        float32 [b, 8], rows a0 a1 a2 b0 b1 b2 0 0 of ImageProjectiveTransformV3: the output pixel (x, y) takes its
        value from the input at (a0 x + a1 y + a2, b0 x + b1 y + b2).
    """
    cos, sin, tan = tf.cos(angle), tf.sin(angle), tf.tan(shear)
    a0, a1 = flip * cos / zoom, flip * (tan * cos - sin) / zoom
    b0, b1 = sin / zoom, (tan * sin + cos) / zoom
    centre = (size - 1) / 2.0
    x, y = centre + shift[0], centre + shift[1]
    zero = tf.zeros_like(angle)
    return tf.stack([a0, a1, centre - a0 * x - a1 * y, b0, b1, centre - b0 * x - b1 * y, zero, zero], axis=1)
