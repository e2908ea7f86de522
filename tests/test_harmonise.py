"""Harmonised images: what a scanner decides is gone, what a head shows is kept, and heatmaps find their way back."""

import keras
import numpy as np
import openvino as ov
import pytest

from core import contract
from stages.data import phantom
from stages.layers import answer, harmonise
from stages.triton import quantization, saved_model

SIZE, SIDE = 112, 64


@pytest.fixture(scope="module")
def heads() -> np.ndarray:
    """Phantoms of each class, float32 [4, 112, 112, 3]."""
    drawn = [phantom.draw(label, seed, SIZE).image for seed, label in enumerate(contract.CLASSES)]
    return np.repeat(np.stack(drawn)[..., None], 3, axis=-1).astype(np.float32) / 255


@pytest.fixture(scope="module")
def bright() -> keras.Model:
    """A network that harmonises and then sees every class where it is brightest."""
    pixels = keras.Input((None, None, 3))
    shown, _ = harmonise.Harmonise(SIDE, name="harmonise")(pixels)
    x = keras.layers.AveragePooling2D(8)(keras.layers.Conv2D(1, 1, kernel_initializer="ones")(shown))
    x = keras.layers.Dense(4, "softmax", kernel_initializer="ones")(keras.layers.GlobalAveragePooling2D()(x))
    return keras.Model(pixels, x)


def disc(size: int, x: float, y: float, radius: float, value: float) -> np.ndarray:
    """Return a disc on black, float32 [1, size, size, 3]."""
    rows, columns = np.mgrid[:size, :size]
    inside = (columns - x) ** 2 + (rows - y) ** 2 < radius**2
    return np.repeat(np.where(inside, np.float32(value), np.float32(0))[None, ..., None], 3, axis=-1)


def shown(pixels: np.ndarray, side: int = SIDE) -> np.ndarray:
    return harmonise.Harmonise(side)(pixels)[0].numpy()


def framed(pixels: np.ndarray, top: int, left: int, size: int) -> np.ndarray:
    """Return images in a larger black frame."""
    height, width = pixels.shape[1:3]
    return np.pad(pixels, ((0, 0), (top, size - top - height), (left, size - left - width), (0, 0)))


def test_a_head_is_found_wherever_it_lies():
    pixels = np.concatenate([disc(SIZE, 30, 70, 20, 0.6), disc(SIZE, 55.5, 55.5, 50, 0.6)])
    assert np.abs(harmonise.head(pixels[..., 0]) - [[12, 52, 37], [6, 6, 100]]).max() <= 4
    oblong = np.zeros((1, SIZE, SIZE), np.float32)
    oblong[:, 20:100, 60:100] = 0.5
    assert harmonise.head(oblong).numpy().tolist() == [[39.0, 19.0, 82.0]]


def test_faint_noise_and_single_bright_pixels_are_no_head():
    pixels = disc(224, 100, 120, 60, 0.8)[..., 0]
    alone = harmonise.head(pixels).numpy()
    noise = np.random.default_rng(0).rayleigh(7 / 255, pixels.shape).astype(np.float32)
    pixels = np.where(pixels > 0, pixels, noise)
    pixels[:, 20, 20] = 1.0
    assert np.abs(harmonise.head(pixels) - alone).max() <= 2 and np.mean(noise > 12 / 255) > 0.2


@pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
def test_where_there_is_no_head_the_whole_image_is_taken_and_nothing_is_divided_by_0(value):
    pixels = np.full((2, SIZE, SIZE, 3), value, np.float32)
    pixels[0, 50:55, 50:55] = 0.9
    image, square = harmonise.Harmonise(SIDE)(pixels)
    assert square.numpy().tolist()[1] == [0, 0, SIZE] and np.all(np.isfinite(image))
    assert np.ptp(image[1, 8:-8, 8:-8]) < 1e-3


def test_frame_and_brightness_of_a_scanner_are_removed(heads):
    wanted = shown(heads)
    for scanned in (framed(heads, 30, 70, 224), heads * 0.5, heads.repeat(2, 1).repeat(2, 2)):
        for one, other in zip(shown(scanned), wanted, strict=True):
            assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.95


def test_greys_reach_from_0_to_1(heads):
    image = shown(heads)
    assert image.min() == 0 and image.max() == 1 and np.array_equal(image[..., :1].repeat(3, -1), image)
    assert all(0.002 < (one == 1).mean() < 0.1 for one in image)


def test_a_mirrored_image_gives_the_mirrored_result(heads):
    (image, square), (mirrored, other) = (harmonise.Harmonise(SIDE)(one) for one in (heads, heads[:, :, ::-1]))
    assert np.abs(image - mirrored[:, :, ::-1]).max() < 1e-4
    assert np.allclose(square[:, 0] + square[:, 2], SIZE - other[:, 0]) and np.array_equal(square[:, 1:], other[:, 1:])


@pytest.mark.parametrize("step", [0.4, 1.0, 1.7, 3.0])
def test_resampling_keeps_means_and_places(step):
    weights = harmonise.weights(40, np.array([4.0], np.float32), np.array([step], np.float32), 10).numpy()[0]
    assert np.allclose(weights.sum(axis=1), 1, atol=1e-5)
    assert np.allclose(weights @ (np.arange(40) + 0.5), 4 + (np.arange(10) + 0.5) * step, atol=0.2)


def test_the_result_is_float32_under_mixed_precision_and_survives_saving(heads, tmp_path):
    wanted = shown(heads)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        pixels = keras.Input((None, None, 3))
        network = keras.Model(pixels, harmonise.Harmonise(SIDE)(pixels))
    finally:
        keras.config.set_dtype_policy("float32")
    network.save(tmp_path / "network.keras")
    for one in (network, keras.models.load_model(tmp_path / "network.keras")):
        assert one(heads)[0].dtype == "float32" and np.abs(one(heads)[0] - wanted).max() < 1e-5


def test_openvino_computes_what_tensorflow_does(bright, heads, tmp_path):
    served = saved_model.save_network(bright, SIZE, tmp_path / "saved")
    assert saved_model.check_network("bright", served, tmp_path / "saved", heads, 1e-5) < 1e-5
    model = ov.Core().read_model(tmp_path / "saved")
    model.reshape([4, SIZE, SIZE, 3])
    computed = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([heads])
    for name, wanted in zip((contract.PROBABILITIES, contract.HEATMAPS), served(heads), strict=True):
        assert np.abs(computed[name] - wanted).max() < 1e-4, name


def test_int8_leaves_harmonising_in_float32(bright, heads, tmp_path):
    saved_model.save_network(bright, SIZE, tmp_path / "saved")
    nodes = quantization.quantized(tmp_path / "saved", heads).get_ops()
    products = [node for node in nodes if node.get_type_name() == "MatMul" and "harmonise" in node.get_friendly_name()]
    feeding = {value.get_node().get_type_name() for node in products for value in node.input_values()}
    assert len(products) == 2 and "FakeQuantize" not in feeding
    assert any(node.get_type_name() == "FakeQuantize" for node in nodes)


@pytest.mark.parametrize("average_flip", [False, True])
def test_heatmaps_are_of_the_whole_image(bright, average_flip):
    pixels = disc(224, 150, 60, 40, 0.3) + disc(224, 165, 45, 8, 0.6)
    _, seen = answer.explained(bright, average_flip)(pixels)
    assert seen.shape == (1, 4, 14, 14) and seen.dtype == "float32"
    peak = np.unravel_index(seen[0, 2].numpy().argmax(), (14, 14))
    assert abs((peak[1] + 0.5) * 16 - 165) <= 12 and abs((peak[0] + 0.5) * 16 - 45) <= 12
    assert np.max(seen) == 1 and not np.any(seen[0, :, 8:]) and not np.any(seen[0, :, :, :5])
