"""How the weights move: numeric precision, optimizer, learning rate schedule, loss.

Three choices of params section `train` matter most for a training from scratch: precision, schedule and weight_decay.
The plain recipe is float32, plateau and 0.
"""

import math
from pathlib import Path

import keras
import numpy as np

from core import contract, processor
from stages.data import dataset
from stages.training.params import Train

MIXED = "mixed_bfloat16"
NOT_DECAYED = ["gamma", "beta", "bias"]
"""Batch normalisation and biases: decaying them does not regularise (He et al. 2019, arXiv:1812.01187, section 3.1)."""
HEALTHY = contract.CLASSES.index(contract.HEALTHY)
SIDES = np.eye(2, dtype=np.float32)[[int(label == contract.HEALTHY) for label in contract.CLASSES]]
"""Sums up the probabilities of the classes, [K, 2]: tumour, or none."""
LAST_RATE = 0.01
"""Share of train.lr at which the cosine schedule ends."""


def choose_precision(choice: str, facts: Path = processor.FACTS) -> str:
    """Return the Keras dtype policy for training.

    Args:
        choice: train.precision: `float32`, `mixed_bfloat16`, or `auto`: mixed_bfloat16 where the processor multiplies
            bfloat16 in hardware, which is printed.
        facts: lists the processor's abilities, on Linux.

    Returns:
        "float32" or "mixed_bfloat16". Weights and the last layer are float32 either way (Micikevicius et al. 2018,
        arXiv:1710.03740; bfloat16: Kalamkar et al. 2019, arXiv:1905.12322).
    """
    if choice != "auto":
        return choice
    chosen = MIXED if processor.has(processor.BFLOAT16, facts) else "float32"
    print(f"train.precision=auto came to {chosen} on this processor.")
    return chosen


def use_precision(choice: str) -> str:
    """Let every layer built from now on compute in the precision that train.precision asks for; return its name."""
    chosen = choose_precision(choice)
    keras.config.set_dtype_policy(chosen)
    return chosen


def in_float32(network: keras.Model) -> keras.Model:
    """Return the network with the same weights, computing in float32, whatever it was trained in."""
    config = keras.saving.serialize_keras_object(network)
    plain = keras.saving.deserialize_keras_object(_without_policy(config))
    plain.set_weights(network.get_weights())
    return plain


def _without_policy(config):
    """Return nested configuration with every dtype policy float32, and without how the network was compiled."""
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy":
            return config | {"config": {"name": "float32"}}
        return {key: _without_policy(value) for key, value in config.items() if key != "compile_config"}
    return [_without_policy(value) for value in config] if isinstance(config, list) else config


def loss(label_smoothing: float):
    """Return cross-entropy of int64 labels [b] and probabilities float32 [b, K], in nats.

    Of a tumour of unknown type, dataset.UNKNOWN, only that it is one is learnt: the loss is the negative logarithm of
    the sum of all tumour classes' probabilities. Labels that name a set of classes, of which one is right: Cour et al.
    2011, JMLR 12, 1501-1536; by maximum likelihood, as here, Jin & Ghahramani 2002 (NIPS 15), for networks Feng et al.
    2020, arXiv:2007.08929, as "classifier-consistent".

    Args:
        label_smoothing: share of each label that is spread over all classes (Szegedy et al. 2016, arXiv:1512.00567,
            section 7). Of an unknown type, the tumour classes' parts stay together.
    """
    def cross_entropy(labels, probabilities):
        labels = keras.ops.reshape(labels, [-1])
        wanted = keras.ops.one_hot(labels, len(contract.CLASSES))
        typed = keras.losses.categorical_crossentropy(wanted, probabilities, label_smoothing=label_smoothing)
        either, spread = keras.ops.matmul(probabilities, SIDES), label_smoothing / len(contract.CLASSES)
        untyped = keras.losses.categorical_crossentropy(keras.ops.ones_like(either) * [1 - spread, spread], either)
        return keras.ops.where(labels == dataset.UNKNOWN, untyped, typed)

    return cross_entropy


def accuracy(labels, probabilities):
    """Return 1 for each image whose most probable class is right, else 0: float32 [b].

    A tumour of unknown type is answered rightly by any tumour class.

    Args:
        labels: int64 [b], indices into contract.CLASSES, or dataset.UNKNOWN. probabilities: float32 [b, K].
    """
    labels = keras.ops.reshape(labels, [-1])
    answered = keras.ops.cast(keras.ops.argmax(probabilities, axis=-1), labels.dtype)
    untyped = keras.ops.logical_and(labels == dataset.UNKNOWN, answered != HEALTHY)
    return keras.ops.cast(keras.ops.logical_or(answered == labels, untyped), "float32")


def compile_network(network: keras.Model, lr: float, params: Train) -> None:
    """Compile a network for training, and build the optimizer so that its state can be restored.

    Args:
        network: a classifier with 4 probabilities.
        lr: the first learning rate.
        params: params section `train`: with a weight decay the optimizer is AdamW (Loshchilov and Hutter 2019,
            arXiv:1711.05101), else Adam.
    """
    optimizer = keras.optimizers.Adam(lr)
    if params.weight_decay:
        optimizer = keras.optimizers.AdamW(lr, weight_decay=params.weight_decay)
        optimizer.exclude_from_weight_decay(var_names=NOT_DECAYED)
    network.compile(optimizer, loss(params.label_smoothing), metrics=[accuracy])
    network.optimizer.build(network.trainable_variables)


def cosine_rate(done: float, params: Train) -> float:
    """Return the learning rate at a point of a training with train.schedule=cosine.

    It rises in a straight line during train.warmup_epochs, then falls along half a cosine to LAST_RATE of its peak
    (Loshchilov and Hutter 2017, arXiv:1608.03983, eq. 5; warm-up: Goyal et al. 2017, arXiv:1706.02677, section 2.2).

    Args:
        done: epochs done, with their fraction, 0 to params.epochs.
        params: params section `train`.
    """
    if done < params.warmup_epochs:
        return params.lr * max(done / params.warmup_epochs, LAST_RATE)
    progress = min((done - params.warmup_epochs) / max(params.epochs - params.warmup_epochs, 1e-9), 1.0)
    return params.lr * (LAST_RATE + (1 - LAST_RATE) * (1 + math.cos(math.pi * progress)) / 2)


class CosineRate(keras.callbacks.Callback):
    """Sets the learning rate before each step, from the epochs of the whole run: a resumed run goes on unchanged."""

    def __init__(self, params: Train, first_epoch: int, steps: int, share: float = 1.0):
        """Take params section `train`, the epochs that earlier phases had, an epoch's steps, and a factor."""
        super().__init__()
        self.train, self.first_epoch, self.steps, self.share = params, first_epoch, steps, share

    def on_epoch_begin(self, epoch, logs=None):
        """Note the epoch."""
        self.epoch = self.first_epoch + epoch

    def on_train_batch_begin(self, batch, logs=None):
        """Set the rate."""
        self.model.optimizer.learning_rate = self.share * cosine_rate(self.epoch + batch / self.steps, self.train)
