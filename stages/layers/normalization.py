"""Batch normalisation as one operation: what Keras 3 computes in a dozen, of which each reads the whole image again."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="stages")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras's layer over the last axis of [b, height, width, channels], computed by TensorFlow's FusedBatchNormV3.

    Ioffe and Szegedy 2015, arXiv:1502.03167, algorithms 1 and 2. A training step of the custom network takes two thirds
    of the time (bench/training.json). The moving variance follows n / (n - 1) times the batch's, as in that paper and
    in PyTorch, where Keras takes the batch's itself. Any floating dtype; scale, offset and averages are float32.
    """

    def call(self, inputs, training=None, mask=None):
        """Return the normalised inputs; with `training`, unless the layer is frozen, by the batch's own statistics."""
        is_training = bool(training) and self.trainable
        nothing = tf.zeros([0])
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs, scale=tf.convert_to_tensor(self.gamma), offset=tf.convert_to_tensor(self.beta),
            mean=nothing if is_training else tf.convert_to_tensor(self.moving_mean),
            variance=nothing if is_training else tf.convert_to_tensor(self.moving_variance),
            epsilon=self.epsilon, is_training=is_training)
        if is_training:
            for average, now in ((self.moving_mean, mean), (self.moving_variance, variance)):
                average.assign(average * self.momentum + now * (1.0 - self.momentum))
        return outputs


def fused(network: keras.Model) -> keras.Model:
    """Return a copy of a network, with its weights, whose batch normalisation is that of this module.

    Args:
        network: functional, its images' channels last.
    """
    def copied(layer: keras.layers.Layer) -> keras.layers.Layer:
        kind = BatchNormalization if type(layer) is keras.layers.BatchNormalization else type(layer)
        return kind.from_config(layer.get_config())

    copy = keras.models.clone_model(network, clone_function=copied)
    copy.set_weights(network.get_weights())
    return copy
