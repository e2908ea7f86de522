"""Augmentation: invariants rather than golden pixels, eagerly and inside tf.data."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from core import contract
from stages.data import augmentation, dataset, phantom

OFF = {"rotation_degrees": 0.0, "shift": 0.0, "horizontal_flip": False, "zoom": 0.0, "shear_degrees": 0.0,
       "brightness": 0.0}


@pytest.fixture(scope="module")
def images():
    grey = np.stack([phantom.draw("glioma", seed, 64).image for seed in range(10)])
    return dataset.Images(np.repeat(grey[..., None], 3, axis=-1), np.arange(10) % len(contract.CLASSES))


@pytest.fixture
def off(defaults):
    """All changes switched off."""
    return replace(defaults.train.augment, **OFF)


def pixels(images):
    return tf.constant(images.pixels[:8], tf.float32) / 255.0


def test_switched_off_changes_nothing(images, off):
    assert np.array_equal(augmentation.augmented(pixels(images), off, tf.constant([1, 2])), pixels(images))


def test_a_flip_is_the_image_or_its_mirror(images, off):
    before = pixels(images).numpy()
    after = augmentation.augmented(before, replace(off, horizontal_flip=True), tf.constant([3, 4])).numpy()
    kept = [np.allclose(a, b, atol=1e-5) for a, b in zip(after, before, strict=True)]
    mirrored = [np.allclose(a, b[:, ::-1], atol=1e-5) for a, b in zip(after, before, strict=True)]
    assert all(np.logical_xor(kept, mirrored)) and any(kept) and any(mirrored)


def warp(image, **values):
    """Warp one image by the given amounts."""
    one = {"angle": [0.0], "shear": [0.0], "zoom": [1.0], "shift": [[0.0], [0.0]], "flip": [1.0], **values}
    amounts = {key: tf.constant(value, tf.float32) for key, value in one.items()}
    matrix = augmentation.warps(**amounts, size=image.shape[1])
    return tf.raw_ops.ImageProjectiveTransformV3(images=image, transforms=matrix, output_shape=image.shape[1:3],
                                                 interpolation="BILINEAR", fill_mode="CONSTANT", fill_value=0.0)


def test_a_quarter_turn_is_a_quarter_turn(images):
    image = pixels(images)[:1]
    inner = np.s_[:, 1:-1, 1:-1]  # rounding may put the outermost pixels outside
    assert np.allclose(warp(image, angle=[np.pi / 2])[inner], np.rot90(image, axes=(1, 2))[inner], atol=1e-4)


def test_a_shift_moves_right_and_down(images):
    image = pixels(images)[:1].numpy()
    moved = warp(image, shift=[[5.0], [3.0]]).numpy()
    assert np.allclose(moved[:, 3:, 5:], image[:, :-3, :-5], atol=1e-5) and not moved[:, :3].any()


def test_a_zoom_of_two_shows_the_middle_twice_as_large():
    image = np.zeros((1, 65, 65, 3), np.float32)
    image[:, 24:41, 24:41] = 1.0  # 17 pixels
    assert warp(image, zoom=[2.0]).numpy()[0, 32, :, 0].sum() == pytest.approx(34, abs=1.1)


def test_shear_slides_rows_and_leaves_the_middle_row():
    image = np.zeros((1, 65, 65, 3), np.float32)
    image[:, :, 32] = 1.0
    rows = warp(image, shear=[np.deg2rad(45)]).numpy()[0, :, :, 0]
    assert rows[32].argmax() == 32 and abs(rows[42].argmax() - 32) == 10 and rows[22].argmax() != rows[42].argmax()


def test_brightness_stays_within_its_width(images, off):
    after = augmentation.augmented(pixels(images) * 0.5, replace(off, brightness=0.15), tf.constant([5, 6])).numpy()
    ratios = after.sum(axis=(1, 2, 3)) / (pixels(images) * 0.5).numpy().sum(axis=(1, 2, 3))
    assert 0.85 <= ratios.min() < ratios.max() <= 1.15


def test_values_stay_in_range_with_everything_on(images, defaults):
    after = augmentation.augmented(pixels(images), defaults.train.augment, tf.constant([7, 8])).numpy()
    assert after.min() >= 0.0 and after.max() <= 1.0 and not np.allclose(after, pixels(images), atol=0.1)


def test_an_epoch_shows_every_image_once(images, off):
    batches = augmentation.training_batches(images, 4, off, seed=1, first_epoch=0).take(3)
    seen = np.concatenate([pixels for pixels, _ in batches.as_numpy_iterator()])
    wanted = (images.pixels / np.float32(255)).sum(axis=(1, 2, 3))
    assert np.allclose(np.sort(seen.sum(axis=(1, 2, 3))), np.sort(wanted), rtol=1e-4)


def test_a_later_epoch_is_the_same_whenever_training_starts(images, defaults):
    def epoch(start, skip):
        batches = augmentation.training_batches(images, 4, defaults.train.augment, seed=1, first_epoch=start)
        return [pixels for pixels, _ in batches.skip(skip).take(3).as_numpy_iterator()]

    assert all(np.array_equal(a, b) for a, b in zip(epoch(0, 6), epoch(2, 0), strict=True))
    assert not np.array_equal(epoch(0, 0)[0], epoch(1, 0)[0])


def test_a_balanced_epoch_draws_by_the_expected_number_and_the_same_whenever_training_starts(images, off):
    draws = np.array([600.0] + [20.0] * 9)
    weighted = replace(images, draws=draws)
    first, again, other = (augmentation.shown(weighted, [1, epoch]).numpy() for epoch in (3, 3, 4))
    assert len(first) == weighted.an_epoch == 780 and np.array_equal(first, again) and not np.array_equal(first, other)
    assert np.abs(np.bincount(first, minlength=10) - draws).max() < 75  # 5 standard deviations
    few = replace(images, draws=draws / 100)  # 8 images an epoch
    late = augmentation.training_batches(few, 4, off, seed=1, first_epoch=2).take(2)
    whole = augmentation.training_batches(few, 4, off, seed=1, first_epoch=0).skip(4).take(2)
    for one, same in zip(late, whole, strict=True):
        assert np.array_equal(one[0], same[0]) and np.array_equal(one[1], same[1])


def test_grey_images_are_changed_in_one_channel_and_batched_in_three(images, defaults, off):
    grey = dataset.Images(images.pixels[..., :1], images.labels)
    for augment in (off, defaults.train.augment):
        one, three = (next(iter(augmentation.training_batches(some, 4, augment, seed=1, first_epoch=0)))[0]
                      for some in (grey, images))
        assert one.shape == (4, 64, 64, 3) and np.allclose(one, three, atol=1e-6)
