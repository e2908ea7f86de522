"""The networks: their layers, sizes, inputs, and where ResNet50's weights come from."""

import os
import subprocess
import sys
from dataclasses import replace
from importlib import import_module

import keras
import numpy as np
import pytest
from keras import layers

from stages.common import command
from stages.layers import normalization
from stages.networks import custom, registry, resnet50
from stages.networks.resnet50 import BASE
from stages.training import run
from tests.conftest import PROJECT


@pytest.fixture(scope="module")
def network(defaults):
    return custom.build(defaults.train_custom, 2)


@pytest.fixture(scope="module")
def base():
    keras.utils.set_random_seed(5)
    return resnet50.resnet(None)


def test_a_network_is_registered_under_its_name_and_trained_by_its_stage(defaults):
    weightless = replace(defaults.train_resnet, weights="none")
    for name, own in (("custom", defaults.train_custom), ("resnet50", weightless),
                      ("transfer", defaults.train_transfer)):
        one = registry.NETWORKS[name]
        module = import_module(one.module)
        recipe = module.recipe(own, defaults.train, defaults.prepare.image_size)
        assert name == one.name == recipe.network.name
        assert recipe.weights == ("imagenet" if name == "transfer" else "none")
        assert one.model == run.MODELS / f"{recipe.network.name}.keras"
        assert type(own) is getattr(module, one.section) and type(own) is type(getattr(defaults, one.stage))
        assert f'run.main("{one.stage}", {name}.recipe' in (PROJECT / f"stages/{one.stage}.py").read_text()


def test_a_trained_network_is_loaded_with_its_own_layers(network, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    registry.NETWORKS["custom"].model.parent.mkdir()
    network.save(registry.NETWORKS["custom"].model)
    assert registry.NETWORKS["custom"].load().name == "custom"


def test_resnet_may_train_for_a_number_of_epochs_of_its_own(defaults):
    own = replace(defaults.train_resnet, weights="none", epochs=3)
    recipe = resnet50.recipe(own, defaults.train, 224)
    assert recipe.train.epochs == 3 == sum(phase.epochs for phase in recipe.phases)


def test_custom_has_five_blocks_as_described(network):
    kinds = [type(layer).__name__ for layer in network.layers]
    convolutions = [layer for layer in network.layers if isinstance(layer, layers.Conv2D)]
    assert [layer.filters for layer in convolutions] == [32, 32, 64, 64, 128, 128, 256, 256, 512, 512]
    block = ["Conv2D", "BatchNormalization", "ReLU"] * 2 + ["MaxPooling2D", "Dropout"]
    assert kinds[1:42] == ["AveragePooling2D"] + block * 5
    assert all(layer.kernel_regularizer.l2 == pytest.approx(1e-4) for layer in convolutions)


@pytest.mark.parametrize("pooling, expected", [(1, 0), (2, 1)])
def test_images_are_pooled_only_where_that_changes_them(defaults, base, pooling, expected):
    ours = custom.build(defaults.train_custom, pooling)
    resnet = resnet50.build(defaults.train_resnet, base, pretrained=False, input_pooling=pooling)
    for one in (ours, resnet):
        assert sum(isinstance(layer, layers.AveragePooling2D) for layer in one.layers) == expected


def test_custom_has_the_number_of_parameters_that_the_readme_says(network):
    assert network.count_params() == 4_850_532


@pytest.mark.parametrize("size", [64, 96])
def test_outputs_are_probabilities_at_any_size(network, size):
    outputs = network(np.random.default_rng(0).random((3, size, size, 3), np.float32))
    assert outputs.shape == (3, 4) and np.allclose(np.sum(outputs, axis=1), 1.0, atol=1e-5)


def test_resnet_gets_the_normalisation_that_its_weights_expect(defaults, base):
    network = resnet50.build(defaults.train_resnet, base, pretrained=True, input_pooling=1)
    pixels = np.random.default_rng(0).random((2, 32, 32, 3), np.float32)
    arriving = network.get_layer(BASE)._inbound_nodes[-1].input_tensors[0]
    seen = keras.Model(network.input, arriving)(pixels)
    assert np.allclose(seen, keras.applications.resnet50.preprocess_input(pixels * 255.0), atol=1e-3)


def test_resnet_survives_saving(defaults, base, tmp_path):
    network = resnet50.build(defaults.train_resnet, base, pretrained=True, input_pooling=1)
    network.save(tmp_path / "resnet50.keras")
    pixels = np.random.default_rng(0).random((1, 32, 32, 3), np.float32)
    assert np.allclose(keras.models.load_model(tmp_path / "resnet50.keras")(pixels), network(pixels), atol=1e-6)


def test_a_local_weights_file_is_loaded_and_recorded(base, tmp_path):
    path = tmp_path / "resnet50.weights.h5"
    base.save_weights(path)
    loaded, used = resnet50.choose_base(str(path), 0.9)
    assert all(np.array_equal(a, b) for a, b in zip(base.get_weights(), loaded.get_weights(), strict=True))
    assert used.startswith("file sha256:")


@pytest.mark.parametrize("content, message", [(None, "which is no file"), (b"no weights", "Expected weights of Keras")])
def test_a_wrong_weights_file_is_refused(tmp_path, content, message):
    path = tmp_path / "resnet50.weights.h5"
    if content:
        path.write_bytes(content)
    with pytest.raises(command.StageError, match=message):
        resnet50.choose_base(str(path), 0.9)


@pytest.fixture
def no_download(tmp_path, monkeypatch):
    """Keras's cache is empty, and its server's address does not resolve."""
    monkeypatch.setattr("keras.src.applications.resnet.BASE_WEIGHTS_PATH", "http://127.0.0.1:9/")
    monkeypatch.setattr("keras.src.utils.file_utils.config.keras_home", lambda: str(tmp_path))


def test_imagenet_without_internet_names_the_ways_out(no_download):
    with pytest.raises(command.StageError, match="copy its ~/.keras/models.*weights=FILE.*weights=none"):
        resnet50.choose_base("imagenet", 0.9)


def test_auto_without_internet_says_that_it_trains_the_whole_network(no_download, capsys):
    _, used = resnet50.choose_base("auto", 0.9)
    assert used == "none" and "the whole network is trained" in capsys.readouterr().out


def test_frozen_base_learns_nothing_and_the_top_learns_after_unfreezing(defaults, base):
    network = resnet50.build(defaults.train_resnet, base, pretrained=True, input_pooling=1)
    resnet50.freeze(network)
    assert len(network.trainable_weights) == 6  # batch normalisation 2, two dense layers 4
    resnet50.unfreeze(network, "conv5_block1")
    learning = {layer.name for layer in base.layers if layer.trainable and layer.weights}
    assert learning and all(name.startswith("conv5") and not name.endswith("bn") for name in learning)


def test_an_untrained_base_starts_as_its_shortcuts():
    base = resnet50.untrained_base(0.9)
    last = [layer for layer in base.layers if layer.name.endswith("_3_bn")]
    assert len(last) == 16 and not any(np.any(layer.gamma) for layer in last)
    assert base.get_layer("conv1_bn").momentum == 0.9 and np.all(np.array(base.get_layer("conv1_bn").gamma) == 1)


def test_the_head_starts_with_small_features_from_scratch_and_full_ones_in_transfer(defaults, base):
    for pretrained, scale in ((False, resnet50.HEAD_SCALE), (True, 1.0)):
        head = resnet50.build(defaults.train_resnet, base, pretrained, input_pooling=1).get_layer("head_bn")
        assert np.all(np.array(head.gamma) == np.float32(scale)) and head.momentum == 0.9


def test_unfreezing_an_unknown_layer_is_an_error(defaults, base):
    network = resnet50.build(defaults.train_resnet, base, pretrained=True, input_pooling=1)
    with pytest.raises(command.StageError, match="Received: 'conv9'"):
        resnet50.unfreeze(network, "conv9")


def test_transfer_has_two_phases_the_second_at_a_lower_rate(defaults):
    head, fine = resnet50.transfer_phases(defaults.train, defaults.train_resnet, 224)
    assert (head.epochs, fine.epochs) == (10, 20) and fine.lr == pytest.approx(0.1 * head.lr)
    assert fine.share == pytest.approx(0.1 * head.share)  # what train.schedule=cosine goes by


@pytest.mark.parametrize(("chosen", "used"), [({}, "1"), ({"TF_ENABLE_ONEDNN_OPTS": "0"}, "0")])
def test_onednn_is_on_before_tensorflow_loads_unless_the_user_says_otherwise(chosen, used):
    code = "import sys, os, stages; print('tensorflow' in sys.modules, os.environ['TF_ENABLE_ONEDNN_OPTS'])"
    kept = {name: value for name, value in os.environ.items() if name != "TF_ENABLE_ONEDNN_OPTS"}
    result = subprocess.run([sys.executable, "-c", code], env=kept | chosen, capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", used]


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_fused_batch_normalisation_computes_what_keras_does(dtype):
    x = np.random.default_rng(0).normal(3.0, 2.0, (8, 6, 6, 5)).astype(np.float32)
    plain = layers.BatchNormalization(momentum=0.5, dtype=dtype)
    fused = normalization.BatchNormalization(momentum=0.5, dtype=dtype)

    def differ(training: bool) -> float:
        one, other = (np.array(layer(x, training=training), np.float32) for layer in (plain, fused))
        return float(np.abs(one - other).max())

    tolerance = 1e-5 if dtype == "float32" else 0.05
    assert differ(True) < tolerance and differ(True) < tolerance
    assert np.allclose(fused.moving_mean, plain.moving_mean, atol=0.02)
    count = x[..., 0].size
    unbiased = 0.25 + (np.array(plain.moving_variance) - 0.25) * count / (count - 1)
    assert np.allclose(fused.moving_variance, unbiased, atol=1e-3 if dtype == "float32" else 0.05)
    fused.set_weights(plain.get_weights())
    assert differ(False) < tolerance


def test_frozen_batch_normalisation_stays_as_it_is():
    x = np.random.default_rng(0).normal(3.0, 2.0, (8, 6, 6, 5)).astype(np.float32)
    layer = normalization.BatchNormalization()
    layer(x, training=True)
    before = [np.array(weight) for weight in layer.weights]
    layer.trainable = False
    assert np.allclose(layer(x, training=True), layer(x, training=False))
    assert all(np.array_equal(one, now) for one, now in zip(before, layer.weights, strict=True))


def test_a_copy_with_fused_batch_normalisation_has_weights_and_answers_of_the_original():
    keras.utils.set_random_seed(1)
    shape = (None, None, 3)
    base = keras.applications.ResNet50(include_top=False, weights=None, input_shape=shape)
    copy = normalization.fused(base)
    pixels = np.random.default_rng(0).random((2, 64, 64, 3), np.float32)
    wanted, got = base(pixels).numpy(), copy(pixels).numpy()
    assert np.abs(wanted - got).max() <= 1e-4 * np.abs(wanted).max()
    assert not any(type(layer) is layers.BatchNormalization for layer in copy.layers)
    assert [layer.name for layer in copy.layers][1:] == [layer.name for layer in base.layers][1:]
