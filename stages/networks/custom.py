"""The custom network: five blocks of two convolutions, trained from scratch."""

from typing import Annotated

import keras
from keras import layers

from core import contract
from stages.common.sections import Flag, Number, Whole, section, within
from stages.data import preprocess
from stages.layers import normalization
from stages.training.params import Train
from stages.training.phases import Recipe, phases_from_scratch

FILTERS = (32, 64, 128, 256, 512)


@section
class TrainCustom:
    """The custom network's regularisation."""

    l2: Annotated[Number, within(0, 1)]
    dropout: Annotated[Number, within(0, 0.95)]
    spatial_dropout: Flag
    dense_dropout: Annotated[Number, within(0, 0.95)]
    bn_momentum: Annotated[Number, within(0, 0.9999)]
    start_batch_size: Annotated[Whole, within(1, 4096)]


def recipe(own: TrainCustom, train: Train, size: int) -> Recipe:
    """Return the network and its phases for images of a side in pixels."""
    network = build(own, train.input_pooling)
    return Recipe(network, phases_from_scratch(network, train, size, own.start_batch_size), train)


def build(params: TrainCustom, input_pooling: int) -> keras.Model:
    """Return the network, untrained.

    Args:
        params: regularisation: L2 on all kernels, dropout after each block (of single values, or of whole feature maps:
            Tompson et al. 2015, arXiv:1411.4280, section 3.2) and before the output, and the momentum of batch
            normalisation's moving averages (Keras's 0.99 needs more steps than a small data set gives).
        input_pooling: the image is averaged over squares of so many pixels first; 1 for not at all.

    Returns:
        a model of pixels float32 [b, size, size, 3] in [0, 1], any size from 32 x input_pooling, to probabilities
        float32 [b, K].
    """
    regulariser = keras.regularizers.L2(params.l2)
    dropout = layers.SpatialDropout2D if params.spatial_dropout else layers.Dropout
    pixels = keras.Input((None, None, preprocess.CHANNELS), name=contract.PIXELS)
    # A pool of 1 x 1 changes nothing, but would be computed.
    x = layers.AveragePooling2D(input_pooling, name="input_pool")(pixels) if input_pooling > 1 else pixels
    for block, filters in enumerate(FILTERS, start=1):
        for part in (1, 2):
            name = f"block{block}_{part}"
            # No bias: batch normalisation's offset takes its place.
            x = layers.Conv2D(filters, 3, padding="same", use_bias=False, kernel_initializer="he_normal",
                              kernel_regularizer=regulariser, name=f"{name}_conv")(x)
            x = normalization.BatchNormalization(momentum=params.bn_momentum, name=f"{name}_bn")(x)
            x = layers.ReLU(name=f"{name}_relu")(x)
        x = layers.MaxPooling2D(name=f"block{block}_pool")(x)
        x = dropout(params.dropout, name=f"block{block}_dropout")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dense(256, activation="relu", kernel_regularizer=regulariser, name="dense")(x)
    x = layers.Dropout(params.dense_dropout, name="dense_dropout")(x)
    outputs = layers.Dense(len(contract.CLASSES), activation="softmax", dtype="float32", name=contract.PROBABILITIES)(x)
    return keras.Model(pixels, outputs, name="custom")
