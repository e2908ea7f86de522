"""The phases of a training: how long, at which rate and image size, and which layers learn."""

from collections.abc import Callable
from dataclasses import dataclass

import keras

from stages.common import command
from stages.training.params import Train

MIN_SIDE = 32
"""All networks halve their image five times."""


@dataclass(frozen=True)
class Phase:
    """A stretch of training with its own length, learning rate, image side in pixels, and layers that learn.

    `judged` phases watch the validation loss: they stop early, lower their rate and end with the best weights.
    The others run their whole length at a constant rate. With train.schedule=cosine the rate follows `share` times it
    in both.
    """

    name: str
    epochs: int
    lr: float
    size: int
    batch_size: int
    judged: bool = True
    share: float = 1.0
    prepare: Callable[[keras.Model], None] = lambda network: None


@dataclass(frozen=True)
class Recipe:
    """How one network is trained: what a network's module answers to its params.

    The untrained network, its phases, params section `train` with what this network changes in it, the weights that it
    starts from: "none", or a name that is recorded; and where the network begins with what never learns, the pixels
    that come out of that: a tensor of the network, computed once for each image and not in every epoch.
    """

    network: keras.Model
    phases: list[Phase]
    train: Train
    weights: str = "none"
    shown: keras.KerasTensor | None = None


def phases_from_scratch(network: keras.Model, params: Train, size: int, start_batch_size: int) -> list[Phase]:
    """Return the phases of training a network from scratch: growing images first, then ordinary training.

    The first train.start.epochs epochs see the image at a fraction of its side, halved while it stays at least
    train.start.min_size pixels, and at last at full size; each size gets four times the epochs of the next larger one.
    Small images cost a fraction of the time (progressive resizing: Howard and Gugger, Deep Learning for Coders with
    fastai, 2020, ch. 7; Tan and Le 2021, arXiv:2104.00298). During these epochs dropout is off unless
    train.start.dropout is set (late dropout: Liu et al. 2023, arXiv:2303.01500). The remaining epochs of train.epochs
    are ordinary training.

    Args:
        network: with its dropout layers as the last phase wants them.
        params: params section `train`.
        size: full side of the images in pixels.
        start_batch_size: images a batch during these epochs.
    """
    start, rates = params.start, dropout_rates(network)
    meanwhile = rates if start.dropout else dict.fromkeys(rates, 0.0)
    smallest = max(start.min_size, MIN_SIDE * params.input_pooling)
    sizes = [size // 2**halvings for halvings in range(8, 0, -1) if size // 2**halvings >= smallest] + [size]
    shares = [4**index for index in range(len(sizes), 0, -1)]
    epochs = [min(start.epochs, params.epochs - 1) * share // sum(shares) for share in shares]
    plan = [Phase(f"start{side}", length, start.lr, side, start_batch_size, judged=False,
                  prepare=lambda network: set_dropout(network, meanwhile))
            for side, length in zip(sizes, epochs, strict=True)]
    plan.append(Phase("full", params.epochs - sum(epochs), params.lr, size, params.batch_size,
                      prepare=lambda network: set_dropout(network, rates)))
    return [phase for phase in plan if phase.epochs]


def check_size(size: int, params: Train) -> None:
    """Check that an image is large enough for the networks.

    Args:
        size: side of the images in pixels.
        params: params section `train`.

    Raises:
        StageError: fewer than MIN_SIDE pixels are left after train.input_pooling.
    """
    if size < MIN_SIDE * params.input_pooling:
        raise command.StageError(f"Expected prepare.image_size of at least {MIN_SIDE * params.input_pooling}, "
                                 f"{MIN_SIDE} times train.input_pooling. Received: {size}. Raise it, or lower "
                                 "train.input_pooling.")


def dropout_rates(network: keras.Model) -> dict[str, float]:
    """Return the rate of each dropout layer by name."""
    return {layer.name: layer.rate for layer in network.layers if isinstance(layer, keras.layers.Dropout)}


def set_dropout(network: keras.Model, rates: dict[str, float]) -> None:
    """Set the rates of dropout layers; it counts from the next compilation on."""
    for name, rate in rates.items():
        network.get_layer(name).rate = rate
