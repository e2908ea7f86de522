"""The shortcut baseline finds a planted shortcut, and nothing where there is nothing."""

import io

import numpy as np
import pytest
from PIL import Image

from core import contract
from stages.data import probe

HEALTHY = contract.CLASSES.index(contract.HEALTHY)


def sample(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return features of noise pictures, `count` a class, that have nothing to do with the labels."""
    random = np.random.default_rng(seed)
    labels = np.arange(len(contract.CLASSES) * count) % len(contract.CLASSES)
    pictures = random.uniform(0, random.uniform(0.4, 1, (len(labels), 1, 1)), (len(labels), 32, 32)).astype(np.float32)
    return np.stack([probe.features(one, png(64, 64), int(random.integers(900, 1100))) for one in pictures]), labels


def png(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


def planted(features: np.ndarray, labels: np.ndarray, name: str) -> np.ndarray:
    """Return features of which one is larger for images without a tumour."""
    features = features.copy()
    features[labels == HEALTHY, probe.NAMES.index(name)] += 2 * features[:, probe.NAMES.index(name)].mean()
    return features


def test_features_say_what_their_names_say():
    thumbnail = np.full((32, 32), 0.5, np.float32)
    thumbnail[[0, -1]] = thumbnail[:, [0, -1]] = 0.0
    thumbnail[0] = 1.0
    found = dict(zip(probe.NAMES, probe.features(thumbnail, png(80, 40), 1234), strict=True))
    assert (found["width"], found["height"], found["aspect"], found["bytes"]) == (80, 40, 2, 1234)
    assert found["border"] == pytest.approx(32 / 124) and found["black"] == pytest.approx(92 / 1024)
    levels = [found[f"level_{number}"] for number in range(probe.BINS)]
    assert sum(levels) == pytest.approx(1) and levels[8] == pytest.approx(900 / 1024)
    assert levels[0] == pytest.approx(92 / 1024) and levels[15] == pytest.approx(32 / 1024)


@pytest.mark.parametrize("name", ["border", "bytes"])
def test_a_planted_shortcut_is_found(name):
    (train, labels), (validation, known) = sample(50, 0), sample(50, 1)
    found = probe.probe((planted(train, labels, name), labels), (planted(validation, known, name), known))
    assert found["notumor_roc_auc"] > 0.97 and found["recall"]["notumor"] > 0.9
    assert all(found["recall"][label] < 0.6 for label in contract.CLASSES if label != contract.HEALTHY)


def test_without_a_shortcut_it_stays_near_chance():
    found = probe.probe(sample(150, 0), sample(150, 1))
    assert abs(found["accuracy"] - 0.25) < 0.07 and abs(found["notumor_roc_auc"] - 0.5) < 0.1


@pytest.mark.parametrize("count", [1, 2])
def test_tiny_data_give_numbers(count):
    found = probe.probe(sample(count, 0), sample(1, 1))
    values = [value for key, value in found.items() if key != "recall"] + list(found["recall"].values())
    assert len(values) == 8 and all(0 <= value <= 1 for value in values)


def test_a_missing_class_is_named():
    features, labels = sample(3, 0)
    with pytest.raises(ValueError, match="in the validation split. Received: none of notumor"):
        probe.probe((features, labels), (features[labels != HEALTHY], labels[labels != HEALTHY]))


def test_scores_by_hand():
    answers = np.array([[0.7, 0.1, 0.1, 0.1], [0.1, 0.1, 0.2, 0.6], [0.1, 0.1, 0.7, 0.1], [0.1, 0.0, 0.3, 0.6],
                        [0.1, 0.1, 0.0, 0.8]])
    found = probe.scores(answers, np.array([0, 1, 2, 3, 3]), majority=3)
    assert found["accuracy"] == pytest.approx(0.8) and found["majority_accuracy"] == pytest.approx(0.4)
    assert found["recall"] == {"glioma": 1, "meningioma": 0, "notumor": 1, "pituitary": 1}
    assert found["macro_f1"] == pytest.approx((1 + 0 + 1 + 0.8) / 4) and found["notumor_roc_auc"] == 1
