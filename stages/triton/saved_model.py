"""What is trained, as SavedModel: written, and loaded again without Keras to be compared."""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from core import contract
from stages.common import command
from stages.data import preprocess
from stages.layers import answer

UNDECIDED = {"temperature": 1.0, "average_flip": False}


def map_shape(folder: Path) -> tuple | None:
    """Return the shape of the heatmaps of an exported network: None for the batch, K, h, w; None if it has none."""
    outputs = tf.saved_model.load(str(folder)).signatures["serving_default"].structured_outputs
    return tuple(outputs[contract.HEATMAPS].shape) if contract.HEATMAPS in outputs else None


def save_network(network: keras.Model, size: int, folder: Path, decision: dict = UNDECIDED) -> Callable:
    """Write a network as SavedModel with named input and outputs and a fixed image size; return what it must compute.

    Args:
        network: the trained network.
        size: of the images in pixels.
        folder: the SavedModel to write.
        decision: `temperature` and `average_flip`, see stages/layers/answer.py.
    """
    served = answer.explained(network, decision["average_flip"], decision["temperature"])
    save_function(served, (contract.PROBABILITIES, contract.HEATMAPS), [network], size, folder)
    return served


def save_ensemble(networks: dict[str, keras.Model], size: int, folder: Path, decisions: dict[str, dict]) -> Callable:
    """Write the mean of several networks as SavedModel; return what it must compute.

    Args:
        networks: the trained ones, by name.
        size: of the images in pixels.
        folder: the SavedModel to write.
        decisions: of `evaluate`, by name, for each network and for contract.ENSEMBLE.
    """
    parts = [answer.answer(network, decisions[name]["average_flip"], decisions[name]["temperature"])
             for name, network in networks.items()]
    served = answer.together(parts, decisions[contract.ENSEMBLE]["temperature"])
    save_function(served, (contract.PROBABILITIES,), list(networks.values()), size, folder)
    return served


def save_function(served: Callable, names: tuple[str, ...], networks: list[keras.Model], size: int,
                  folder: Path) -> None:
    """Write a function of pixels as SavedModel.

    Args:
        served: the function. names: of what it returns. networks: whose weights it uses.
        size: of the images in pixels. folder: the SavedModel to write.
    """
    spec = tf.TensorSpec([None, size, size, preprocess.CHANNELS], tf.float32, name=contract.PIXELS)
    module = tf.Module()
    module.serve = tf.function(lambda pixels: dict(zip(names, served(pixels), strict=True)), input_signature=[spec],
                               autograph=False)
    # keras.export.ExportArchive writes every weight twice. In the networks' order: TensorFlow's is another in each run.
    used = {id(variable) for variable in module.serve.get_concrete_function().variables}
    module.weights = [variable.value for network in networks for variable in network.variables
                      if id(variable.value) in used]
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})


def save_preprocess(size: int, folder: Path) -> None:
    """Write decoding and resizing as SavedModel."""
    module = preprocess.Preprocess(size)
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})


def check_network(name: str, served: Callable, folder: Path, pixels: np.ndarray, tolerance: float) -> float:
    """Load an exported network without Keras and compare it with the trained one, at batch sizes 1 and n.

    Args:
        name: for the message.
        served: the function of pixels to probabilities and, if exported, heatmaps, of the trained network.
        folder: the exported SavedModel.
        pixels: float32 [n, size, size, 3] in [0, 1].
        tolerance: largest absolute difference of a probability that passes; a heatmap may be off by ten times as much.

    Returns:
        the largest difference of a probability.

    Raises:
        StageError: the answers differ by more.
    """
    serve = tf.saved_model.load(str(folder)).signatures["serving_default"]
    worst = {name: 0.0 for name in (contract.PROBABILITIES, contract.HEATMAPS) if name in serve.structured_outputs}
    for batch in (pixels[:1], pixels):
        got = serve(**{contract.PIXELS: tf.constant(batch)})
        for output, wanted in zip(worst, served(batch), strict=True):
            worst[output] = max(worst[output], float(np.abs(np.array(wanted) - got[output].numpy()).max()))
    for output, allowed in zip(worst, (tolerance, 10 * tolerance), strict=False):
        if not worst[output] <= allowed:
            raise command.StageError(f"Expected the {output} of the exported {name} within {allowed} of the trained "
                                     f"network (export.tolerance). Received: a difference of {worst[output]}. Nothing "
                                     "was replaced.")
    return worst[contract.PROBABILITIES]


def check_preprocess(folder: Path, encoded: list[bytes], size: int) -> None:
    """Load the exported preprocessing and compare it with the pixels that training saw.

    Args:
        folder: the exported SavedModel.
        encoded: canonical image bytes.
        size: of the images in pixels.

    Raises:
        StageError: any pixel differs.
    """
    serve = tf.saved_model.load(str(folder)).signatures["serving_default"]
    for batch in (encoded[:1], encoded):
        wanted = np.stack([preprocess.decode(tf.constant(one), size).numpy() for one in batch])
        got = serve(**{contract.IMAGE_INPUT: tf.constant([[one] for one in batch])})[contract.PIXELS].numpy()
        if not np.array_equal(wanted, got):
            raise command.StageError("Expected the exported preprocessing to give the pixels of training. Received: "
                                     "different ones. Nothing was replaced.")
