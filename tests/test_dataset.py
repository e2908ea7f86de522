"""Manifests and images come back as they were written; batches are the images."""

from dataclasses import replace

import numpy as np
import pytest

from core import contract
from stages.data import dataset, phantom


@pytest.fixture(scope="module")
def images():
    grey = np.stack([phantom.draw(contract.CLASSES[0], seed, 64).image for seed in range(10)])
    return dataset.Images(np.repeat(grey[..., None], 3, axis=-1), np.arange(10) % len(contract.CLASSES))


def test_resized_images_keep_their_labels_and_how_often_they_are_drawn(images):
    small = dataset.resized(replace(images, draws=np.full(10, 0.3)), 32)
    assert small.pixels.shape == (10, 32, 32, 3) and small.an_epoch == 3
    assert np.array_equal(small.labels, images.labels)


def test_validation_batches_are_unchanged_and_in_order(images):
    pixels, labels = next(dataset.batches(images, 10).as_numpy_iterator())
    assert np.array_equal(np.rint(pixels * 255).astype(np.uint8), images.pixels)
    assert np.array_equal(labels, images.labels)


def test_grey_images_are_kept_in_one_channel_and_batched_in_three(images):
    grey = dataset.Images(images.pixels[..., :1], images.labels)
    for one, three in zip(dataset.batches(grey, 4), dataset.batches(images, 4), strict=True):
        assert np.array_equal(one[0], three[0])
