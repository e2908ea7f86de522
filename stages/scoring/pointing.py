"""Whether heatmaps mean something: on phantoms, whose tumours are known, they should point at the tumour.

The pointing game (Zhang et al. 2016, arXiv:1608.00507, section 4.2): a hit is a heatmap of the true class whose peak
lies in the tumour or as near to it as half a cell of the map, which cannot tell places apart that are closer. `chance`
is the fraction of places that would be a hit. A map that depends on what the network has learned misses once its
weights are drawn anew (Adebayo et al. 2018, arXiv:1810.03292, section 3). The phantoms are new ones: none was trained
or tested on.
"""

import keras
import numpy as np
import tensorflow as tf
from scipy import ndimage

from core import contract
from stages.data import phantom
from stages.layers import answer

PER_CLASS = 30
SEED = 7
TUMOURS = tuple(label for label in contract.CLASSES if label != contract.HEALTHY)
BATCH = 16


def game(network: keras.Model, size: int, average_flip: bool) -> dict[str, float]:
    """Play with a network.

    Args:
        network: trained on phantoms; see explain.with_features.
        size: side of the images in pixels.
        average_flip: see answer.answer.

    Returns:
        images, how many; hits, a fraction of them; hits_with_random_weights; chance.
    """
    drawn = [(index, phantom.draw(label, phantom.phantom_seed(SEED, label, number), size))
             for index, label in enumerate(contract.CLASSES) if label in TUMOURS for number in range(PER_CLASS)]
    labels, slices = zip(*drawn, strict=True)
    pixels = np.repeat(np.stack([one.image for one in slices])[..., None], 3, axis=-1).astype(np.float32) / 255
    masks = np.stack([one.mask for one in slices])
    keras.utils.set_random_seed(SEED)  # so that every run draws the same weights anew
    untrained = keras.models.clone_model(network)
    hits, chance = score(maps(network, pixels, np.array(labels), average_flip), masks)
    random_hits, _ = score(maps(untrained, pixels, np.array(labels), average_flip), masks)
    return {"images": len(slices), "hits": hits, "hits_with_random_weights": random_hits, "chance": chance}


def maps(network: keras.Model, pixels: np.ndarray, labels: np.ndarray, average_flip: bool) -> np.ndarray:
    """Return the heatmaps float32 [n, h, w] of the labels int [n], for pixels float32 [n, size, size, 3]."""
    explained = answer.compiled(answer.explained(network, average_flip), pixels.shape[1])
    seen = np.concatenate([explained(tf.constant(pixels[start : start + BATCH]))[1].numpy()
                           for start in range(0, len(pixels), BATCH)])
    return seen[np.arange(len(labels)), labels]


def score(seen: np.ndarray, masks: np.ndarray) -> tuple[float, float]:
    """Return the fraction of heatmaps that hit, and the fraction that would by chance.

    Args:
        seen: float32 [n, h, w]; a map without any value misses.
        masks: bool [n, size, size], each with a tumour.
    """
    size = masks.shape[1]
    large = tf.image.resize(seen[..., None], (size, size), "bicubic")[..., 0].numpy().reshape(len(masks), -1)
    near = np.stack([ndimage.distance_transform_edt(~mask) <= size / seen.shape[1] / 2 for mask in masks])
    near = near.reshape(len(masks), -1)
    found = near[np.arange(len(masks)), large.argmax(axis=1)] & (large.max(axis=1) > 0)
    return float(found.mean()), float(near.mean())
