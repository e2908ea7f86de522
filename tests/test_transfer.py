"""The network from ImageNet: what its base sees, what learns when, and that what is served is what was trained."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from core import contract
from stages.common import command
from stages.data import dataset, phantom
from stages.networks import efficientnet_lite, transfer
from stages.training import fit

SIZE = 48


@pytest.fixture(scope="module")
def own(defaults):
    """Params of a run of seconds."""
    return replace(defaults.train_transfer, image_size=32, epochs=2, unfreeze=["block15", "stem"])


@pytest.fixture(scope="module")
def base():
    return transfer.pretrained("efficientnet_lite0")


@pytest.fixture(scope="module")
def images():
    """Phantoms, two of each class."""
    drawn = np.stack([phantom.draw(label, seed, SIZE).image for seed in range(2) for label in contract.CLASSES])
    return dataset.Images(drawn[..., None], np.arange(8) % 4)


def learning(network) -> set[str]:
    return {layer.name for layer in network.get_layer("efficientnet_lite0").layers if layer.trainable and layer.weights}


def test_the_base_sees_harmonised_pixels_as_its_weights_expect_them(own, base, images):
    network, whole = (transfer.build(replace(own, harmonise=one), base, input_pooling=2) for one in (True, False))
    pixels = dataset.rgb(images.pixels / np.float32(255))
    shown = network.get_layer("harmonise")(pixels)[0]
    for one, seen in ((network, shown), (whole, keras.layers.AveragePooling2D(2)(pixels))):
        arriving = one.get_layer("efficientnet_lite0")._inbound_nodes[-2 if one is network else -1].input_tensors[0]
        assert np.allclose(keras.Model(one.input, arriving)(pixels), (seen * 255 - 127) / 128, atol=1e-5)


def test_the_base_has_imagenets_weights(base):
    wanted, pixels = efficientnet_lite.pretrained("efficientnet_lite0"), np.random.default_rng(0).random((1, 64, 64, 3))
    assert np.allclose(base(pixels), wanted(pixels), atol=1e-4)


@pytest.mark.parametrize("name", ["densenet121", "resnet50", "efficientnet_v2_b0"])
def test_backbones_of_keras_get_the_pixels_that_their_weights_expect(name):
    random = np.random.default_rng(0).random((1, 4, 4, 3), np.float32)
    pixels = keras.Input((4, 4, 3))
    got = keras.Model(pixels, transfer.scaled(pixels, name))(random)
    assert np.allclose(got, transfer.DOWNLOADED[name][1](random * 255), atol=1e-3)


def test_efficientnet_v2_scales_its_input_as_keras_has_it():
    """Keras does so by the network's name."""
    kinds = [type(layer).__name__ for layer in transfer.of_keras("efficientnet_v2_b0", None).layers[:3]]
    assert kinds == ["InputLayer", "Rescaling", "Normalization"]


def test_layers_join_step_by_step_at_lower_rates(own, base, defaults):
    network = transfer.build(own, base, 1)
    plan = transfer.phases(replace(own, head_epochs=2), base, replace(defaults.train, epochs=9), 32)
    assert [(one.name, one.epochs, one.size) for one in plan] == [("head", 2, 32), ("block15", 2, 32), ("stem", 5, 32)]
    assert [one.lr for one in plan] == pytest.approx([1e-3, 3e-4, 9e-5])
    plan[0].prepare(network)
    assert learning(network) == set() and len(network.trainable_weights) == 2
    plan[1].prepare(network)
    assert learning(network) == {"block15_expand_conv", "block15_depthwise_conv", "block15_project_conv", "head_conv"}
    plan[2].prepare(network)
    assert {"stem_conv", "block0_project_conv"} < learning(network)
    assert not any(name.endswith("bn") for name in learning(network))


def test_a_short_training_leaves_out_the_last_steps(own, base, defaults):
    plan = transfer.phases(replace(own, head_epochs=3), base, replace(defaults.train, epochs=4), 32)
    assert [(one.name, one.epochs) for one in plan] == [("head", 3), ("block15", 1)]


def test_an_unknown_layer_is_refused_before_the_training(own, base, defaults):
    with pytest.raises(command.StageError, match="beginnings of names.*stem, block0.*Received: 'conv5'"):
        transfer.phases(replace(own, unfreeze=["conv5"]), base, defaults.train, 32)


def test_harmonised_images_are_kept_as_bytes(own, base, images):
    network = transfer.build(own, base, 1)
    before = keras.Model(network.input, network.get_layer("harmonise").output[0])
    kept = fit.shown(before, images)
    assert kept.pixels.dtype == np.uint8 and kept.pixels.shape == (8, 32, 32, 1)
    (whole, _), (harmonised, _) = (next(iter(dataset.batches(one, 8))) for one in (images, kept))
    assert np.abs(before(whole) - harmonised).max() < 0.501 / 255


def test_another_file_than_the_pinned_one_is_a_message(tmp_path, monkeypatch):
    (tmp_path / "weights.pth").write_bytes(b"other")
    monkeypatch.setattr(efficientnet_lite, "weights_file", lambda name: tmp_path / "weights.pth")
    with pytest.raises(command.StageError, match="SHA-256 579344.*Install its package anew"):
        transfer.pretrained("efficientnet_lite0")


def test_without_internet_the_ways_out_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr("keras.src.applications.resnet.BASE_WEIGHTS_PATH", "http://127.0.0.1:9/")
    monkeypatch.setattr("keras.src.utils.file_utils.config.keras_home", lambda: str(tmp_path))
    with pytest.raises(command.StageError, match="copy its ~/.keras/models.*backbone=efficientnet_lite0"):
        transfer.pretrained("resnet50")
