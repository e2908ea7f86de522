"""A network that has learned ImageNet, taught to read harmonised slices from its end to its beginning.

First the new head learns alone, on features that stay as they are (linear probing before fine-tuning: Kumar et al.
2022, arXiv:2202.10054); then, phase by phase, earlier layers join at lower rates (gradual unfreezing: Howard and Ruder
2018, arXiv:1801.06146, section 3.3).
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Annotated, Literal

import keras
from keras import layers

from core import contract
from stages.common import command
from stages.common.sections import Flag, Number, Text, Whole, section, within
from stages.data import preprocess
from stages.layers import harmonise, normalization
from stages.networks import efficientnet_lite
from stages.training.params import Train
from stages.training.phases import Phase, Recipe

DOWNLOADED: dict[str, tuple[Callable[..., keras.Model], Callable]] = {
    "efficientnet_v2_b0": (keras.applications.EfficientNetV2B0, keras.applications.efficientnet_v2.preprocess_input),
    "densenet121": (keras.applications.DenseNet121, keras.applications.densenet.preprocess_input),
    "resnet50": (keras.applications.ResNet50, keras.applications.resnet50.preprocess_input),
}
"""Backbones of Keras, and what their weights expect of pixels from 0 to 255."""
ALL = "stem"
"""In `unfreeze`: every layer."""


@section
class TrainTransfer:
    """The backbone, what it sees, and the steps in which it learns."""

    backbone: Literal["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2", "efficientnet_v2_b0",
                      "densenet121", "resnet50"]
    harmonise: Flag
    image_size: Annotated[Whole, within(32, 1024)]
    epochs: Annotated[Whole, within(1, 10**5)] | None
    dropout: Annotated[Number, within(0, 0.95)]
    head_epochs: Annotated[Whole, within(1, 10**5)]
    unfreeze: list[Text]
    lr: Annotated[Number, within(1e-8, 10)]
    layer_decay: Annotated[Number, within(1e-4, 1)]


def recipe(own: TrainTransfer, train: Train, size: int) -> Recipe:
    """Return the network and its phases for images of a side in pixels; see pretrained() and steps() for the errors."""
    train = replace(train, epochs=own.epochs or train.epochs, lr=own.lr)  # type: ignore[type-var]  # of pydantic
    base = pretrained(own.backbone)
    network = build(own, base, train.input_pooling)
    plan = phases(own, base, train, own.image_size if own.harmonise else size)
    shown = network.get_layer("harmonise").output[0] if own.harmonise else None
    return Recipe(network, plan, train, "imagenet", shown)


def build(own: TrainTransfer, base: keras.Model, input_pooling: int) -> keras.Model:
    """Return the network around a base from pretrained().

    Args:
        own: whether and at which side images are harmonised, and dropout before the output.
        base: its batch normalisation never leaves inference mode.
        input_pooling: without harmonising the image is averaged over squares of so many pixels first; 1 for not at all.

    Returns:
        a model of pixels float32 [b, size, size, 3] in [0, 1], any size from 32 (x input_pooling), to probabilities
        float32 [b, K].
    """
    pixels = x = keras.Input((None, None, preprocess.CHANNELS), name=contract.PIXELS)
    if own.harmonise:
        x, _ = harmonise.Harmonise(own.image_size, name="harmonise")(pixels)
    elif input_pooling > 1:
        x = layers.AveragePooling2D(input_pooling, name="input_pool")(pixels)
    x = base(scaled(x, own.backbone), training=False)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dropout(own.dropout, name="dropout")(x)
    outputs = layers.Dense(len(contract.CLASSES), activation="softmax", dtype="float32", name=contract.PROBABILITIES)(x)
    return keras.Model(pixels, outputs, name="transfer")


def scaled(pixels: keras.KerasTensor, backbone: str) -> keras.KerasTensor:
    """Return pixels [b, size, size, 3] in [0, 1] as the weights of a backbone expect them."""
    if backbone in efficientnet_lite.VARIANTS:
        return layers.Rescaling(255.0 / 128.0, -127.0 / 128.0, name="to_backbone")(pixels)
    return DOWNLOADED[backbone][1](layers.Rescaling(255.0, name="to_255")(pixels))


def pretrained(backbone: str) -> keras.Model:
    """Return a backbone without top, with ImageNet weights and fused batch normalisation.

    Raises:
        StageError: its weights are not installed, are others than the pinned ones, or cannot be downloaded.
    """
    if backbone in efficientnet_lite.VARIANTS:
        try:
            return normalization.fused(efficientnet_lite.pretrained(backbone))
        except ValueError as error:
            raise command.StageError(str(error)) from None
    try:
        return of_keras(backbone, "imagenet")
    except Exception as error:  # Keras raises a plain Exception when a download fails
        raise command.StageError(
            f"The ImageNet weights of {backbone} could not be downloaded ({error}). Ways out: run once on a machine "
            "with internet and copy its ~/.keras/models folder here; or choose a backbone whose weights are a package, "
            "such as -S train_transfer.backbone=efficientnet_lite0.") from None


def of_keras(backbone: str, weights: str | None) -> keras.Model:
    """Return one of Keras's backbones without top, for any image size.

    It keeps Keras's name, by which EfficientNetV2 knows how to scale its input.
    """
    shape = (None, None, preprocess.CHANNELS)
    return normalization.fused(DOWNLOADED[backbone][0](include_top=False, weights=weights, input_shape=shape))


def phases(own: TrainTransfer, base: keras.Model, train: Train, size: int) -> list[Phase]:
    """Return the phases: the head alone, then from each layer of own.unfreeze on, each at layer_decay times the rate.

    Each but the last has own.head_epochs epochs; the last has what is left of train.epochs.

    Args:
        base: from pretrained(). size: side of the images in pixels that the base sees.

    Raises:
        StageError: see first_layer().
    """
    starts = [len(base.layers), *(first_layer(base, name) for name in own.unfreeze)]
    plan, left = [], train.epochs
    for number, (name, start) in enumerate(zip(["head", *own.unfreeze], starts, strict=True)):
        share = own.layer_decay**number
        epochs = left if number == len(own.unfreeze) else min(own.head_epochs, left)
        plan.append(Phase(name, epochs, own.lr * share, size, train.batch_size, share=share,
                          prepare=partial(learn_from, backbone=base.name, start=start)))
        left -= epochs
    return [phase for phase in plan if phase.epochs]


def first_layer(base: keras.Model, name: str) -> int:
    """Return the place of the first layer whose name starts with `name`; 0 for ALL.

    Raises:
        StageError: no layer has such a name.
    """
    names = [layer.name for layer in base.layers]
    place = 0 if name == ALL else next((place for place, one in enumerate(names) if one.startswith(name)), None)
    if place is None:
        some = ", ".join(dict.fromkeys(one.split("_")[0] for one in names))
        raise command.StageError(f"Expected train_transfer.unfreeze to hold {ALL}, or beginnings of names of layers of "
                                 f"{base.name}: {some}. Received: {name!r}.")
    return place


def learn_from(network: keras.Model, backbone: str, start: int) -> None:
    """Let the backbone's layers from a place on learn, except batch normalisation, and the head."""
    base = network.get_layer(backbone)
    base.trainable = True
    for place, layer in enumerate(base.layers):
        layer.trainable = place >= start and not isinstance(layer, layers.BatchNormalization)
