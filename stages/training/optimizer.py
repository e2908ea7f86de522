"""How the weights move: numeric precision, optimizer, learning rate schedule, loss.

Three choices of params section `train` matter most for a training from scratch: precision, schedule and weight_decay.
The plain recipe is float32, plateau and 0.
"""

import math
from pathlib import Path

import keras

from core import contract, processor
from stages.training.params import Train

MIXED = "mixed_bfloat16"
NOT_DECAYED = ["gamma", "beta", "bias"]
"""Batch normalisation and biases: decaying them does not regularise (He et al. 2019, arXiv:1812.01187, section 3.1)."""
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

    Args:
        label_smoothing: share of each label that is spread over all classes (Szegedy et al. 2016, arXiv:1512.00567,
            section 7).
    """
    def cross_entropy(labels, probabilities):
        wanted = keras.ops.one_hot(keras.ops.reshape(labels, [-1]), len(contract.CLASSES))
        return keras.losses.categorical_crossentropy(wanted, probabilities, label_smoothing=label_smoothing)

    return cross_entropy


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
    network.compile(optimizer, loss(params.label_smoothing), metrics=["accuracy"])
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
