"""Precision, schedule, loss and weight decay do what the params say."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from core import contract
from stages.data import dataset
from stages.networks import custom
from stages.training import optimizer


@pytest.fixture
def cosine(tiny):
    return replace(tiny.train, schedule="cosine", lr=0.1, epochs=10, warmup_epochs=2)


@pytest.fixture
def bfloat16():
    """Build networks in mixed precision, and clean up."""
    before = keras.config.dtype_policy()
    yield optimizer.use_precision("mixed_bfloat16")
    keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("done, wanted", [(0, 0.001), (1, 0.05), (2, 0.1), (6, 0.0505), (10, 0.001)])
def test_the_rate_rises_then_falls_along_half_a_cosine(cosine, done, wanted):
    assert optimizer.cosine_rate(done, cosine) == pytest.approx(wanted)


def test_a_schedule_of_warm_up_only_ends_at_its_peak(cosine):
    assert optimizer.cosine_rate(9.9, replace(cosine, warmup_epochs=10)) == pytest.approx(0.099)


@pytest.mark.parametrize("flags, wanted", [
    ("avx2 avx512f avx512_bf16", "mixed_bfloat16"), ("amx_bf16", "mixed_bfloat16"), ("avx2 avx512f", "float32")])
def test_auto_asks_the_processor(tmp_path, capsys, flags, wanted):
    (tmp_path / "cpuinfo").write_text(f"model name : x\nflags\t\t: fpu {flags} sse\n")
    assert optimizer.choose_precision("auto", tmp_path / "cpuinfo") == wanted and wanted in capsys.readouterr().out


def test_auto_without_facts_is_float32(tmp_path):
    assert optimizer.choose_precision("auto", tmp_path / "none") == "float32"


def test_a_network_trained_in_bfloat16_answers_in_float32(tiny, bfloat16, tmp_path):
    trained = custom.build(tiny.train_custom, 1)
    pixels = np.random.default_rng(0).random((16, 64, 64, 3), np.float32)
    plain = optimizer.in_float32(trained)
    plain.save(tmp_path / "plain.keras")
    again = keras.models.load_model(tmp_path / "plain.keras", compile=False)
    assert trained.get_layer("block1_1_conv").compute_dtype == "bfloat16"
    assert {layer.compute_dtype for layer in again.layers[1:]} == {"float32"}  # the first holds no numbers
    wanted = np.array(again(pixels))
    assert np.array_equal(wanted, np.array(plain(pixels)))
    assert np.array(trained(pixels)) == pytest.approx(wanted, abs=1e-2)
    assert not np.array_equal(wanted, np.array(trained(pixels)))


def test_loss_by_hand():
    labels, probabilities = np.array([0, 3]), np.array([[0.7, 0.1, 0.1, 0.1], [0.1, 0.2, 0.3, 0.4]], np.float32)
    plain = -np.log([0.7, 0.4])
    assert np.allclose(optimizer.loss(0.0)(labels, probabilities), plain, atol=1e-6)
    smooth = 0.9 * plain - 0.1 / 4 * np.log(probabilities).sum(axis=1)
    assert np.allclose(optimizer.loss(0.1)(labels, probabilities), smooth, atol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_of_a_tumour_of_unknown_type_only_that_it_is_one_is_learnt(smoothing):
    probabilities = np.array([[0.3, 0.2, 0.4, 0.1], [0.0, 0.6, 0.4, 0.0]], np.float32)  # notumor stands third
    wanted = -(1 - smoothing / 4) * np.log(0.6) - smoothing / 4 * np.log(0.4)
    found = optimizer.loss(smoothing)(np.array([dataset.UNKNOWN] * 2), probabilities)
    assert contract.CLASSES[2] == contract.HEALTHY and np.allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_typed_labels_lose_to_the_last_bit_what_cross_entropy_says(smoothing):
    random = np.random.default_rng(0)
    labels, logits = tf.constant(random.integers(0, 4, 64)), tf.Variable(random.normal(0, 9, (64, 4)).astype("float32"))
    with tf.GradientTape(persistent=True) as tape:
        found = optimizer.loss(smoothing)(labels, tf.nn.softmax(logits))
        plain = keras.losses.categorical_crossentropy(tf.one_hot(labels, 4), tf.nn.softmax(logits),
                                                      label_smoothing=smoothing)
    assert np.array_equal(found, plain) and np.array_equal(tape.gradient(found, logits), tape.gradient(plain, logits))


def test_a_tumour_of_unknown_type_is_any_tumour_class():
    labels = np.array([0, 0, 2, dataset.UNKNOWN, dataset.UNKNOWN])
    found = optimizer.accuracy(labels, np.eye(4, dtype=np.float32)[[0, 1, 2, 3, 2]])
    assert np.array(found).tolist() == [1, 0, 1, 1, 0]


def test_decay_shrinks_kernels_and_spares_batch_normalisation(tiny):
    network = custom.build(tiny.train_custom, 1)
    optimizer.compile_network(network, 0.1, replace(tiny.train, weight_decay=0.5))
    kernel, gamma = (next(weight for weight in network.trainable_weights if weight.name == name)
                     for name in ("kernel", "gamma"))
    before = np.array(kernel), np.array(gamma)
    network.optimizer.apply([np.zeros(weight.shape, np.float32) for weight in network.trainable_weights])
    assert np.allclose(kernel, before[0] * 0.95, atol=1e-6) and np.array_equal(gamma, before[1])


def test_without_decay_the_optimizer_is_adam(tiny):
    network = custom.build(tiny.train_custom, 1)
    optimizer.compile_network(network, 0.1, tiny.train)
    assert type(network.optimizer) is keras.optimizers.Adam
