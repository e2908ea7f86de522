"""Where a network looks: Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391, section 3), without a backward pass.

All networks average their last feature maps A^k over the image and put a small head on the averages. The gradient of
class c's score (before the softmax) then is the same at every place: the weight alpha_k^c of the paper is, up to a
factor that the scaling to [0, 1] removes, the gradient of the head alone, and that can be written down. A max pooling
in between changes nothing, as it passes each window's gradient to one place of it. So heatmaps for all classes cost a
few matrix products, need no second copy of the weights, and OpenVINO can compute them; a test compares them with
TensorFlow's gradients.
"""

from functools import partial

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from stages.layers import harmonise

HARMLESS = (layers.Dropout, layers.SpatialDropout2D, layers.MaxPooling2D)
"""Layers that may stand between the last feature maps and their averages."""
TINIEST = 1e-6
"""Largest value of a map that counts as nothing at all."""


def with_features(network: keras.Model) -> keras.Model:
    """Return a model of pixels to the last feature maps float32 [b, h, w, k], and to the network's answer [b, K].

    Before a max pooling the maps are finer, so those are taken. For a network that harmonises its images there is a
    third output: the square of the image that the maps show, float32 [b, 3], see harmonise.head.

    Args:
        network: with one layer that averages feature maps, and a head of Dense and BatchNormalization behind it.

    Raises:
        ValueError: the network is built differently.
    """
    squares = [layer.output[1] for layer in network.layers if isinstance(layer, harmonise.Harmonise)]
    return keras.Model(network.inputs[0], [last_maps(network)[0], network.output, *squares])


def through_dense(gradient: tf.Tensor, weights: tf.Tensor, passed: tf.Tensor) -> tf.Tensor:
    """Return the gradient before a dense layer: that behind it, [b, K, n], through the units that passed, [b, n]."""
    return tf.matmul(gradient * passed[:, None, :], weights)


def last_maps(network: keras.Model) -> tuple[keras.KerasTensor, list[layers.Layer]]:
    """Return the symbolic tensor of the last feature maps, and the layers between it and the averaging one."""
    tensor, between = network.layers[pooling(network)].input, list[layers.Layer]()
    while isinstance(layer := tensor._keras_history.operation, HARMLESS):
        between.insert(0, layer)
        tensor = layer.input
    return tensor, between


def pooling(network: keras.Model) -> int:
    """Return the place of the layer that averages feature maps. Raises ValueError if there is not exactly one."""
    places = [place for place, layer in enumerate(network.layers)
              if isinstance(layer, layers.GlobalAveragePooling2D)]
    if len(places) != 1:
        raise ValueError(f"Expected one GlobalAveragePooling2D in {network.name}. Received: {len(places)}.")
    return places[0]


def head_gradient(network: keras.Model, averages: tf.Tensor) -> tf.Tensor:
    """Return the gradient float32 [b, K, k] of each class's score, before the softmax, with respect to the averages.

    Args:
        network: see with_features.
        averages: float32 [b, k], of its last feature maps after any max pooling.

    Raises:
        ValueError: a layer of the head is none of Dense (linear, relu, last softmax), batch normalisation, dropout.
    """
    steps, x = [], averages
    for layer in network.layers[pooling(network) + 1 :]:
        x = layer(x, training=False)
        if isinstance(layer, layers.BatchNormalization):
            scale = tf.convert_to_tensor(layer.gamma) / tf.sqrt(tf.convert_to_tensor(layer.moving_variance)
                                                                + layer.epsilon)
            steps.append(lambda gradient, scale=scale: gradient * scale)
        elif isinstance(layer, layers.Dense) and layer.activation in (keras.activations.relu,
                                                                      keras.activations.softmax,
                                                                      keras.activations.linear):
            weights = tf.transpose(tf.convert_to_tensor(layer.kernel))
            passed = tf.cast(x > 0, tf.float32) if layer.activation is keras.activations.relu else tf.ones_like(x)
            steps.append(partial(through_dense, weights=weights, passed=passed))
        elif not isinstance(layer, layers.Dropout):
            raise ValueError(f"Expected Dense, BatchNormalization and Dropout behind the pooling of {network.name}. "
                             f"Received: {layer.name}.")
    gradient = tf.constant(np.eye(x.shape[-1], dtype=np.float32)[None])
    for step in reversed(steps):
        gradient = step(gradient)
    return gradient


def heatmaps(network: keras.Model, maps: tf.Tensor) -> tf.Tensor:
    """Return Grad-CAM for every class, float32 [b, K, h, w] in [0, 1]: each map's largest value is 1, or all are 0.

    Args:
        network: see with_features.
        maps: float32 [b, h, w, k], its last feature maps.
    """
    averages = maps
    for layer in (*last_maps(network)[1], network.layers[pooling(network)]):
        averages = layer(averages, training=False)
    places, channels = maps.shape[1] * maps.shape[2], maps.shape[3]
    flat = tf.reshape(maps, [-1, places, channels])
    found = tf.nn.relu(tf.matmul(head_gradient(network, averages), flat, transpose_b=True))
    return scaled(tf.reshape(found, [-1, found.shape[1], maps.shape[1], maps.shape[2]]))


def scaled(found: tf.Tensor) -> tf.Tensor:
    """Return maps float32 [b, K, h, w] from 0 divided by the largest value of each."""
    return found / tf.maximum(tf.reduce_max(found, axis=[2, 3], keepdims=True), TINIEST)
