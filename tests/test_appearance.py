"""Changes of appearance: they change what they say they change, and move nothing."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from core import contract
from stages.data import appearance, augmentation, dataset, phantom

SIZE = 72
ON = {"gamma": 0.5, "contrast": 0.3, "blur": 4.0, "sharpen": 1.0, "noise": 0.05, "bias_field": 0.4, "resolution": 1.5,
      "strip": 0.5, "background": 0.5, "mix_styles": 0.5, "erase": 0.5}
SEED = tf.constant([1, 2])


@pytest.fixture(scope="module")
def pixels():
    """Eight heads of all classes on black, float32 [8, SIZE, SIZE, 1]."""
    drawn = [phantom.draw(label, seed, SIZE).image for seed in (0, 1) for label in contract.CLASSES]
    grey = np.stack(drawn)[..., None].astype(np.float32) / 255
    return np.where(appearance.heads(grey), grey, np.float32(0))


def strengths(defaults, **on):
    return replace(defaults.train.augment, **on)


def disc():
    """Return one even disc of 0.5 with a dark hole on black, tilted like a head: float32 [1, SIZE, SIZE, 1]."""
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2 + 0.5
    along, across = (x + y) / np.sqrt(2), (x - y) / np.sqrt(2)
    radius = np.hypot(along / 30, across / 20)
    return np.where((radius < 1) & (np.hypot(along, across) > 3), 0.5, 0).astype(np.float32)[None, ..., None], radius


def test_the_committed_strengths_are_0_and_change_nothing(pixels, defaults):
    assert not any(getattr(defaults.train.augment, name) for name in ON)
    assert appearance.changed(pixels, defaults.train.augment, SEED) is pixels


def test_every_strength_is_one_of_a_change():
    assert sorted(name for names in appearance.CHANGES.values() for name in names) == sorted(ON)


@pytest.mark.parametrize("name", ON)
def test_a_change_is_drawn_from_the_seed_stays_in_range_and_moves_nothing(pixels, defaults, name):
    augment = strengths(defaults, **{name: ON[name]})
    first, again, other = (appearance.changed(pixels, augment, tf.constant(seed)).numpy()
                           for seed in ([1, 2], [1, 2], [1, 3]))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert first.shape == pixels.shape and first.min() >= 0 and first.max() <= 1
    changed = np.abs(first - pixels).max(axis=(1, 2, 3)) > 0.01
    assert changed.any()
    for before, after in zip(pixels[..., 0], first[..., 0], strict=True):
        fit = [np.corrcoef(before.ravel(), np.roll(after, move, axis=(0, 1)).ravel())[0, 1]
               for move in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))]
        assert fit[0] == max(fit) > 0.4


def test_one_change_is_the_same_whichever_others_are_on(pixels, defaults):
    alone = appearance.changed(pixels, strengths(defaults, erase=1.0), SEED).numpy()
    both = appearance.changed(pixels, strengths(defaults, erase=1.0, gamma=0.5), SEED).numpy()
    assert np.array_equal(both < 1e-6, alone == 0)


def test_all_channels_are_changed_alike(pixels, defaults):
    one, three = (appearance.changed(images, strengths(defaults, **ON), SEED).numpy()
                  for images in (pixels, np.repeat(pixels, 3, axis=-1)))
    assert np.allclose(one, three, atol=1e-4)


def test_a_head_is_found_with_its_holes_at_odd_sizes_too():
    image, radius = disc()
    for side in (SIZE, SIZE - 1):
        found = appearance.heads(image[:, :side, :side]).numpy()[0, ..., 0]
        assert found[radius[:side, :side] < 0.95].all() and not found[radius[:side, :side] > 1.5].any()
    assert not appearance.heads(np.zeros_like(image)).numpy().any()


def test_strip_blackens_the_rim_of_a_tilted_head_and_keeps_its_middle():
    image, radius = disc()
    kept = [appearance.surroundings(image, tf.constant([7, seed]), 1.0, 0.0).numpy()[0, ..., 0] for seed in range(8)]
    cuts = [1 - radius[one > 0].max() for one in kept]
    assert all(np.array_equal(one[radius < 0.75], image[0, ..., 0][radius < 0.75]) for one in kept)
    assert min(cuts) > 0.03 and max(cuts) < 0.23 and np.ptp(cuts) > 0.03


def test_background_changes_only_what_lies_outside_of_the_head(pixels):
    after = appearance.surroundings(pixels, SEED, 0.0, 1.0).numpy()
    inside = appearance.heads(pixels).numpy()
    assert np.array_equal(after[inside], pixels[inside]) and not np.array_equal(after, pixels)
    means = [one[~head].mean() for one, head in zip(after, inside, strict=True)]
    spreads = [one[~head].std() for one, head in zip(after, inside, strict=True)]
    assert max(means) < appearance.GREY * 1.1 and max(spreads) > 0.005 and min(spreads) < 1e-6


def test_a_stripped_head_lies_in_the_new_background():
    image, radius = disc()
    after = appearance.surroundings(image, SEED, 1.0, 1.0).numpy()[0, ..., 0]
    assert np.array_equal(after[radius > 1.2].mean() > 0, after[(radius > 0.95) & (radius < 1)].mean() > 0)
    assert after[radius > 0.95].max() < 0.5


def test_shares_are_kept(pixels):
    many = np.repeat(pixels[:1], 200, axis=0)
    for change in (appearance.erase, lambda *args: appearance.surroundings(*args, 0.0),
                   lambda images, seed, share: appearance.surroundings(images, seed, 0.0, share)):
        hit = np.abs(change(many, SEED, 0.3).numpy() - many).max(axis=(1, 2, 3)) > 0
        assert 0.15 < hit.mean() < 0.45


def test_erasing_covers_a_rectangle_of_its_area():
    ramp = np.tile(np.linspace(0.5, 1, SIZE, dtype=np.float32)[:, None], (50, SIZE, 1, 1))
    covered = (appearance.erase(ramp, SEED, 1.0).numpy() != ramp)[..., 0]
    shares = covered.mean(axis=(1, 2))
    boxes = covered.any(axis=1).sum(axis=1) * covered.any(axis=2).sum(axis=1) / SIZE**2
    assert np.allclose(shares, boxes, atol=0.01) and 0.03 < shares.min() < shares.max() < 0.22


def test_gamma_and_contrast_keep_their_fixed_points_and_widths():
    ramp = np.tile(np.linspace(0, 1, SIZE, dtype=np.float32)[None, None, :, None], (100, SIZE, 1, 1))
    power = np.log(appearance.gamma(ramp, SEED, 0.5).numpy()[:, 0, 36, 0]) / np.log(ramp[0, 0, 36, 0])
    assert 1 / 1.5 <= power.min() < 0.75 and 1.35 < power.max() <= 1.5001
    assert np.allclose(appearance.gamma(ramp, SEED, 0.5).numpy()[:, 0, [0, -1], 0], [0, 1], atol=1e-6)
    scaled = appearance.contrast(ramp, SEED, 0.3).numpy()
    assert np.allclose(scaled.mean(axis=(1, 2, 3)), 0.5, atol=1e-4)
    factors = np.ptp(scaled, axis=(1, 2, 3))
    assert 0.7 - 1e-4 <= factors.min() < 0.8 < 1.2 < factors.max() <= 1.3 + 1e-4


def test_noise_is_rician():
    flat = np.stack([np.zeros((224, 224, 1), np.float32), np.full((224, 224, 1), 0.5, np.float32)] * 4)
    after = appearance.noise(flat, SEED, 0.1).numpy()
    for dark, light in zip(after[::2], after[1::2], strict=True):
        assert dark.mean() / dark.std() == pytest.approx(np.sqrt(np.pi / (4 - np.pi)), rel=0.03)  # Rayleigh
        sigma = light.std()
        assert sigma < 0.1 and light.mean() == pytest.approx(0.5 + sigma**2, abs=0.002)


def test_the_bias_field_is_smooth_and_within_its_strength():
    field = np.log(appearance.bias_field(np.full((20, SIZE, SIZE, 1), 0.5, np.float32), SEED, 0.4).numpy() / 0.5)
    assert np.abs(field).max() <= 0.4001 and np.abs(field).max(axis=(1, 2, 3)).max() > 0.3
    assert np.abs(np.diff(field, axis=1)).max() < 0.1


@pytest.mark.parametrize("matrices", [appearance.gaussian, appearance.resampling])
def test_matrices_keep_an_even_image_and_the_weakest_keeps_every_image(matrices):
    weakest = 0.0 if matrices is appearance.gaussian else 1.0
    strong, none = matrices(tf.constant([2.3, weakest]), SIZE).numpy()
    assert np.allclose(strong.sum(axis=1), 1, atol=1e-5) and np.array_equal(none, np.eye(SIZE))
    image = np.random.default_rng(1).random((1, SIZE, SIZE, 1), np.float32)
    assert appearance.through(image, strong[None]).numpy().std() < 0.6 * image.std()


def test_blur_counts_the_pixels_of_224():
    point = np.zeros((100, 112, 112, 1), np.float32)
    point[:, 56, 56] = 1.0
    after = appearance.sharpness(point, SEED, 6.0, 0.0).numpy()[..., 0]
    widths = np.sqrt((after.sum(axis=1) * (np.arange(112) - 56) ** 2).sum(axis=1))
    assert 2.5 < widths.max() < 3.05 and 0.3 < (widths == 0).mean() < 0.7


def test_sharpening_steepens_edges():
    edge = np.full((20, SIZE, SIZE, 1), 0.3, np.float32)
    edge[:, :, SIZE // 2:] = 0.6
    steps = np.diff(appearance.sharpness(edge, SEED, 0.0, 1.0).numpy(), axis=2).max(axis=(1, 2, 3))
    assert steps.min() > 0.299 and steps.max() > 0.4


def test_mixed_styles_move_towards_the_other_image_where_there_is_something(pixels):
    dark, light = pixels[:1] * 0.3, pixels[:1]
    after = appearance.mix_styles(np.concatenate([dark, light] * 8), SEED, 1.0).numpy()
    assert (after[::2].mean(axis=(1, 2, 3)) > dark.mean()).all() and not after[:, pixels[0] == 0].any()
    alone = appearance.mix_styles(light, SEED, 1.0)
    assert np.allclose(alone, light, atol=1e-5)


def test_a_later_epoch_is_the_same_whenever_training_starts(pixels, defaults):
    images = dataset.Images(np.rint(pixels * 255).astype(np.uint8), np.zeros(len(pixels), np.int64))

    def epochs(first, count):
        batches = augmentation.training_batches(images, 4, strengths(defaults, **ON), seed=1, first_epoch=first)
        return [changed for changed, _ in batches.take(2 * count).as_numpy_iterator()]

    whole, resumed = epochs(0, 2), epochs(1, 1)
    assert np.array_equal(whole[2:], resumed) and not np.array_equal(whole[:2], resumed)
