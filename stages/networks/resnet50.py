"""ResNet50 (He et al. 2016, arXiv:1512.03385): transfer from ImageNet in two phases, or from scratch."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import keras
import numpy as np
from keras import layers

from core import contract, files
from stages.common import command
from stages.common.sections import Number, Text, Whole, section, within
from stages.data import preprocess
from stages.layers import normalization
from stages.training.params import Train
from stages.training.phases import Phase, Recipe, phases_from_scratch

BASE = "resnet50_base"
HEAD_SCALE = 0.1
"""Scale of the features before an untrained head; with 1, noise drowns what a few hundred steps could learn."""
COMMITTED_WEIGHTS = "none"
"""What train_resnet.weights=auto came to when the committed dvc.lock was made; a test compares it with the metrics."""


@section
class TrainResnet:
    """ResNet50's weights and its two phases of transfer learning."""

    weights: Text
    epochs: Annotated[Whole, within(1, 10**5)] | None
    dropout: Annotated[Number, within(0, 0.95)]
    head_epochs: Annotated[Whole, within(1, 10**5)]
    unfreeze_from: Text
    bn_momentum: Annotated[Number, within(0, 0.9999)]
    start_batch_size: Annotated[Whole, within(1, 4096)]
    fine_tune_lr_factor: Annotated[Number, within(1e-6, 1)]


def recipe(own: TrainResnet, train: Train, size: int) -> Recipe:
    """Return the network and its phases for images of a side in pixels; see choose_base for the errors."""
    train = replace(train, epochs=own.epochs or train.epochs)  # type: ignore[type-var]  # of pydantic
    base, used = choose_base(own.weights, own.bn_momentum)
    pretrained = used != "none"
    if own.weights == "auto" and used != COMMITTED_WEIGHTS:
        print(f"train_resnet.weights=auto came to {used} here; the committed dvc.lock was made with "
              f"{COMMITTED_WEIGHTS}: expect other numbers than the committed ones.")
    network = build(own, base, pretrained, train.input_pooling)
    plan = (transfer_phases(train, own, size) if pretrained
            else phases_from_scratch(network, train, size, own.start_batch_size))
    return Recipe(network, plan, train, used)


def build(params: TrainResnet, base: keras.Model, pretrained: bool, input_pooling: int) -> keras.Model:
    """Return the network around a base from `choose_base`.

    Args:
        params: dropout before the output, and the momentum of the moving averages in the head's batch normalisation.
        base: ResNet50 without top.
        pretrained: whether the base holds trained weights; its batch normalisation then never leaves inference mode.
        input_pooling: the image is averaged over squares of so many pixels first; 1 for not at all.

    Returns:
        a model of pixels float32 [b, size, size, 3] in [0, 1], any size from 32 x input_pooling, to probabilities
        float32 [b, K].
    """
    pixels = keras.Input((None, None, preprocess.CHANNELS), name=contract.PIXELS)
    # A pool of 1 x 1 changes nothing, but would be computed.
    x = layers.AveragePooling2D(input_pooling, name="input_pool")(pixels) if input_pooling > 1 else pixels
    x = layers.Rescaling(255.0, name="to_255")(x)
    # ImageNet's weights expect BGR, less the mean of each channel.
    x = keras.applications.resnet50.preprocess_input(x)
    x = base(x, training=False) if pretrained else base(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    # Adam moves all 2048 x 256 weights of the next layer at each step, whatever the gradient's size: features of unit
    # variance would turn that into logits far from 0, and a loss above chance for hundreds of steps.
    scale = keras.initializers.Constant(1.0 if pretrained else HEAD_SCALE)
    x = layers.BatchNormalization(momentum=params.bn_momentum, gamma_initializer=scale, name="head_bn")(x)
    x = layers.Dense(256, activation="relu", name="dense")(x)
    x = layers.Dropout(params.dropout, name="dense_dropout")(x)
    outputs = layers.Dense(len(contract.CLASSES), activation="softmax", dtype="float32", name=contract.PROBABILITIES)(x)
    return keras.Model(pixels, outputs, name="resnet50")


def choose_base(choice: str, bn_momentum: float) -> tuple[keras.Model, str]:
    """Return ResNet50 without top, with the weights that train_resnet.weights asks for.

    Args:
        choice: `imagenet` (downloaded and checked by Keras), `none`, a file with weights of this architecture, or
            `auto`: imagenet where that can be had, else none, which is printed.
        bn_momentum: see `untrained_base`.

    Returns:
        the base, and what is recorded of its weights: "imagenet", "none" or "file sha256:<digest>".

    Raises:
        StageError: `imagenet` cannot be downloaded, or a file is missing or does not fit.
    """
    if choice == "none":
        return untrained_base(bn_momentum), "none"
    if choice not in ("imagenet", "auto"):
        return base_from_file(Path(choice))
    try:
        return resnet("imagenet"), "imagenet"
    except Exception as error:  # Keras raises a plain Exception when a download fails
        if choice == "auto":
            print(f"train_resnet.weights=auto: no ImageNet weights ({error}). Going on with none: "
                  "the whole network is trained.")
            return untrained_base(bn_momentum), "none"
        raise command.StageError(
            f"The ImageNet weights could not be downloaded ({error}). Ways out: run once on a machine with internet "
            "and copy its ~/.keras/models folder here; name a local file with -S train_resnet.weights=FILE; or train "
            "the whole network with -S train_resnet.weights=none.") from None


def resnet(weights: str | None) -> keras.Model:
    """Return Keras's ResNet50 without top, for any image size."""
    shape = (None, None, preprocess.CHANNELS)
    base = keras.applications.ResNet50(include_top=False, weights=weights, input_shape=shape, name=BASE)
    return normalization.fused(base)


def untrained_base(momentum: float) -> keras.Model:
    """Return the base with random weights, set up so that it learns within few steps.

    Each residual block starts as the identity: the scale of its last batch normalisation is 0 (Goyal et al. 2017,
    arXiv:1706.02677, section 5.1). The moving averages follow faster than with Keras's 0.99.

    Args:
        momentum: of batch normalisation's moving averages.
    """
    base = resnet(None)
    for layer in base.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = momentum
            if layer.name.endswith("_3_bn"):
                layer.gamma.assign(np.zeros(layer.gamma.shape, np.float32))
    return base


def base_from_file(path: Path) -> tuple[keras.Model, str]:
    """Return the base with a local file's weights, and the file's digest.

    Raises:
        StageError: there is no such file, or it does not hold weights of this architecture.
    """
    if not path.is_file():
        raise command.StageError("Expected train_resnet.weights to be imagenet, auto, none or a file with weights of "
                                 f"Keras's ResNet50 without top. Received: {str(path)!r}, which is no file.")
    try:
        return resnet(str(path)), f"file sha256:{files.digest(path)[:16]}"
    except (ValueError, OSError, KeyError) as error:
        raise command.StageError(f"Expected weights of Keras's ResNet50 without top in {path}. "
                                 f"Received: {error}") from None


def freeze(network: keras.Model) -> None:
    """Let only the head learn."""
    network.get_layer(BASE).trainable = False


def unfreeze(network: keras.Model, first: str) -> None:
    """Let the base's layers from the first one whose name starts with `first` learn, except batch normalisation.

    Raises:
        StageError: no layer has such a name.
    """
    base = network.get_layer(BASE)
    names = [layer.name for layer in base.layers]
    start = next((index for index, name in enumerate(names) if name.startswith(first)), None)
    if start is None:
        raise command.StageError("Expected train_resnet.unfreeze_from to begin a layer's name, such as conv4_block1 or "
                                 f"conv5_block1. Received: {first!r}")
    base.trainable = True
    for index, layer in enumerate(base.layers):
        layer.trainable = index >= start and not isinstance(layer, layers.BatchNormalization)


def transfer_phases(train: Train, own: TrainResnet, size: int) -> list[Phase]:
    """Return the phases of transfer learning: the head alone, then the top layers at a lower rate."""
    head = min(own.head_epochs, train.epochs)
    rate = train.lr * own.fine_tune_lr_factor
    plan = [
        Phase("head", head, train.lr, size, train.batch_size, prepare=freeze),
        Phase("fine_tune", train.epochs - head, rate, size, train.batch_size, share=own.fine_tune_lr_factor,
              prepare=lambda network: unfreeze(network, own.unfreeze_from)),
    ]
    return [phase for phase in plan if phase.epochs]
