"""Where the network looks: the formula against TensorFlow's gradients."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from stages.layers import answer, explain
from stages.networks import custom, resnet50, transfer

SIZE = 64


@pytest.fixture(scope="module")
def networks(defaults):
    """All networks, but for transfer's base untrained, with moving averages that are not 0 and 1."""
    keras.utils.set_random_seed(3)
    base = resnet50.resnet(None)
    built = {"custom": custom.build(defaults.train_custom, 1),
             "resnet50": resnet50.build(defaults.train_resnet, base, pretrained=False, input_pooling=1),
             "transfer": transfer.build(replace(defaults.train_transfer, harmonise=False),
                                        transfer.pretrained("efficientnet_lite0"), input_pooling=1)}
    random = np.random.default_rng(0)
    for network in built.values():
        for weight in network.weights:
            if "moving" in weight.name or weight.name in ("beta", "bias"):
                weight.assign(weight + random.uniform(0.0, 0.3, weight.shape))
    return built


def by_gradients(network: keras.Model, pixels: np.ndarray) -> np.ndarray:
    """Return Grad-CAM as the paper defines it, with automatic differentiation of the score before the softmax."""
    last = network.layers[-1]
    scores = keras.layers.Dense(4, name="scores")
    logits = scores(last.input)
    scores.set_weights(last.get_weights())
    model = keras.Model(network.inputs[0], [explain.last_maps(network)[0], logits])
    maps = []
    for wanted in range(4):
        with tf.GradientTape() as tape:
            features, values = model(pixels, training=False)
            score = tf.reduce_sum(values[:, wanted])
        weights = tf.reduce_mean(tape.gradient(score, features), axis=(1, 2))
        found = tf.nn.relu(tf.einsum("bhwk,bk->bhw", features, weights)).numpy()
        maps.append(found / np.maximum(found.max(axis=(1, 2), keepdims=True), 1e-30))
    return np.stack(maps, axis=1)


@pytest.mark.parametrize("name", ["custom", "resnet50", "transfer"])
def test_the_formula_is_what_gradients_give(networks, name, monkeypatch):
    monkeypatch.setattr(explain, "TINIEST", 1e-30)
    network, pixels = networks[name], np.random.default_rng(1).random((3, SIZE, SIZE, 3), np.float32)
    probabilities, seen = answer.explained(network, average_flip=False)(pixels)
    assert np.allclose(probabilities, network(pixels, training=False), atol=1e-6)
    wanted = by_gradients(network, pixels)
    assert seen.shape == wanted.shape and wanted.max() == 1.0
    assert np.abs(seen - wanted).max() < 1e-3


def test_the_flipped_average_is_the_mirror_image_of_itself(networks):
    explained = answer.explained(networks["custom"], average_flip=True, temperature=1.7)
    pixels = np.random.default_rng(1).random((2, SIZE, SIZE, 3), np.float32)
    (plain, seen), (mirrored, seen_mirrored) = explained(pixels), explained(pixels[:, :, ::-1])
    assert np.allclose(plain, mirrored, atol=1e-6)
    assert np.allclose(seen, seen_mirrored[..., ::-1], atol=1e-4)
    assert np.allclose(plain, answer.answer(networks["custom"], True, 1.7)(pixels), atol=1e-6)
    assert np.min(seen) >= 0 and np.max(seen) <= 1


def test_a_network_that_is_built_differently_is_refused(networks):
    pixels = keras.Input((8, 8, 3))
    flat = keras.Model(pixels, keras.layers.Dense(4, "softmax")(keras.layers.Flatten()(pixels)))
    with pytest.raises(ValueError, match="one GlobalAveragePooling2D"):
        explain.with_features(flat)
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(2, 3)(pixels))
    strange = keras.Model(pixels, keras.layers.Dense(4, "softmax")(keras.layers.LayerNormalization()(pooled)))
    with pytest.raises(ValueError, match="Received: layer_normalization"):
        answer.explained(strange, False)(np.zeros((1, 8, 8, 3), np.float32))
