"""Manifests and images come back as they were written; batches are the images."""

import numpy as np
import pytest

from core import contract
from stages.data import dataset, phantom


@pytest.fixture(scope="module")
def images():
    grey = np.stack([phantom.draw(contract.CLASSES[0], seed, 64).image for seed in range(10)])
    return dataset.Images(np.repeat(grey[..., None], 3, axis=-1), np.arange(10) % len(contract.CLASSES))


def test_validation_batches_are_unchanged_and_in_order(images):
    pixels, labels = next(dataset.batches(images, 10).as_numpy_iterator())
    assert np.array_equal(np.rint(pixels * 255).astype(np.uint8), images.pixels)
    assert np.array_equal(labels, images.labels)


def test_grey_images_are_kept_in_one_channel_and_batched_in_three(images):
    grey = dataset.Images(images.pixels[..., :1], images.labels)
    for one, three in zip(dataset.batches(grey, 4), dataset.batches(images, 4), strict=True):
        assert np.array_equal(one[0], three[0])
