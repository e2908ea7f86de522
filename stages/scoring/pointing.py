"""Whether heatmaps mean something: where the tumour is known, they should point at it.

The pointing game (Zhang et al. 2016, arXiv:1608.00507, section 4.2): a hit is a heatmap of the image's class whose peak
lies in the tumour, or somewhat beside it. `chance` is the fraction of places that would be a hit. A map that depends on
what the network has learned misses once its weights are drawn anew (Adebayo et al. 2018, arXiv:1810.03292, section 3).

It is played on phantoms, new ones of which none was trained or tested on; there the peak may lie beside the tumour by
half a cell of the map, which cannot tell places apart that are closer. And it is played on real test images for which
a box around the tumour is known (stages/data/boxes.py).
"""

import keras
import numpy as np
import tensorflow as tf
from scipy import ndimage

from core import contract
from stages.data import boxes, dataset, phantom
from stages.layers import answer
from stages.scoring import intervals, scores
from stages.scoring.answers import Answers
from stages.scoring.params import Evaluate

PER_CLASS = 30
SEED = 7
TUMOURS = tuple(label for label in contract.CLASSES if label != contract.HEALTHY)
BATCH = 16
WIDER = 1.1
"""A box counts as so much wider and higher: boxes are drawn by hand, and a heatmap is coarse."""


def game(network: keras.Model, size: int, average_flip: bool) -> dict[str, float]:
    """Play with a network on phantoms.

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
    images = dataset.Images(np.stack([one.image for one in slices])[..., None], np.array(labels))
    masks = np.stack([one.mask for one in slices])
    hits, chance = score(maps(network, images, average_flip), masks)
    random_hits, _ = score(maps(untrained(network), images, average_flip), masks)
    return {"images": len(slices), "hits": hits, "hits_with_random_weights": random_hits, "chance": chance}


def game_on_boxes(network: keras.Model, test: Answers, images: dataset.Images, places: np.ndarray,
                  params: Evaluate) -> dict:
    """Play with a network on the test images whose class it answered rightly and whose tumour has a box.

    Args:
        network: see explain.with_features.
        test: what it answers for the images.
        images: the test split's.
        places: their boxes, float [n, 4], see boxes.of_rows.
        params: this stage's.

    Returns:
        images and patients, how many; hits, the fraction of heatmaps whose peak lies in the box made WIDER;
        hits_with_random_weights, for the same images; chance, the mean share of the image that such a box takes; None
        without images. Copies of one picture have one vote; intervals, as in answers.judged, draw patients.
    """
    played = boxes.has(places) & (test.raw.argmax(axis=1) == test.labels)
    own, shown, around = test.only(played), dataset.Images(images.pixels[played], test.labels[played]), places[played]
    counted = {"images": len(own.rows), "patients": len({row.patient for row in own.rows})}
    if not own.rows:
        return counted | dict.fromkeys(("hits", "hits_with_random_weights", "chance"))
    players = {"hits": network, "hits_with_random_weights": untrained(network)}
    values = {name: inside(maps(one, shown, params.average_flip), around, shown.pixels.shape[1])
              for name, one in players.items()}
    values["chance"] = areas(around)
    return counted | voted(values, own, params)


def voted(values: dict[str, np.ndarray], own: Answers, params: Evaluate) -> dict:
    """Return the mean of each array [n] of values by the votes of n images, and unless params.bootstrap is 0 intervals.
    """
    def measure(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {name: scores.mean(value, weights) for name, value in values.items()}

    result = scores.first(measure(own.votes[None]))
    if params.bootstrap:
        together = np.zeros(len(own.rows), int)  # no score here needs every class to be drawn
        found = intervals.intervals(lambda drawn: measure(drawn * own.votes), together, own.groups, params.bootstrap,
                                    params.seed)
        result[intervals.NAME] = intervals.of_shares(result, found, dict.fromkeys(result, len(np.unique(own.groups))))
    return result


def untrained(network: keras.Model) -> keras.Model:
    """Return the network with new weights, in every run the same ones."""
    keras.utils.set_random_seed(SEED)
    return keras.models.clone_model(network)


def maps(network: keras.Model, images: dataset.Images, average_flip: bool) -> np.ndarray:
    """Return the heatmaps float32 [n, h, w] of the images' own classes."""
    explained = answer.compiled(answer.explained(network, average_flip), images.pixels.shape[1])
    return np.concatenate([explained(pixels)[1].numpy()[np.arange(len(labels)), labels]
                           for pixels, labels in dataset.batches(images, BATCH)])


def peaks(seen: np.ndarray, size: int) -> np.ndarray:
    """Return where maps float32 [n, h, w] are highest once they are as large as the image: pixels int [n, 2] as row and
    column, -1 for a map without any value."""
    found = np.full((len(seen), 2), -1)
    for index, one in enumerate(seen):
        large = tf.image.resize(one[..., None], (size, size), "bicubic")[..., 0].numpy()
        if large.max() > 0:
            found[index] = np.unravel_index(large.argmax(), large.shape)
    return found


def score(seen: np.ndarray, masks: np.ndarray) -> tuple[float, float]:
    """Return the fraction of heatmaps that hit, and the fraction that would by chance.

    Args:
        seen: float32 [n, h, w]; a map without any value misses.
        masks: bool [n, size, size], each with a tumour.
    """
    size = masks.shape[1]
    near = np.stack([ndimage.distance_transform_edt(~mask) <= size / seen.shape[1] / 2 for mask in masks])
    row, column = peaks(seen, size).T
    found = near[np.arange(len(masks)), row, column] & (row >= 0)
    return float(found.mean()), float(near.mean())


def inside(seen: np.ndarray, around: np.ndarray, size: int) -> np.ndarray:
    """Return which heatmaps have their peak in a box made WIDER, bool [n].

    Args:
        seen: float32 [n, h, w]; a map without any value misses.
        around: float [n, 4], see boxes.of_rows.
        size: of the images in pixels.
    """
    found = peaks(seen, size)
    away = np.abs((found[:, ::-1] + 0.5) / size - around[:, :2])  # from a pixel's middle to the box's
    return (away <= WIDER * around[:, 2:] / 2).all(axis=1) & (found[:, 0] >= 0)


def areas(around: np.ndarray) -> np.ndarray:
    """Return the share of the image that each box float [n, 4] takes once it is made WIDER, float [n]."""
    middle, half = around[:, :2], WIDER * around[:, 2:] / 2
    return np.prod(np.clip(middle + half, 0, 1) - np.clip(middle - half, 0, 1), axis=1)
