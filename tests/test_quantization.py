"""The precisions that may be served: the rules that decide, and int8 models that still compute the same."""

import numpy as np
import openvino as ov
import pytest

from core import contract
from stages.data import dataset
from stages.networks import custom
from stages.scoring import calibration
from stages.triton import quantization, saved_model

SIZE = 64
GOOD = {"images": 488, "same_class": 1.0, "largest_difference": 0.0, "macro_f1": 0.98, "float32_macro_f1": 0.98}


@pytest.fixture(scope="module")
def saved(defaults, tmp_path_factory):
    """The custom network, untrained, as SavedModel."""
    import keras

    keras.utils.set_random_seed(3)
    folder = tmp_path_factory.mktemp("quantization") / "saved"
    saved_model.save_network(custom.build(defaults.train_custom, 1), SIZE, folder)
    return folder


@pytest.fixture(scope="module")
def images() -> dataset.Images:
    """1,000 different pictures of coarse grey patches."""
    patches = np.random.default_rng(5).integers(0, 256, (1000, 8, 8, 1), dtype=np.uint8)
    pixels = np.repeat(patches.repeat(SIZE // 8, axis=1).repeat(SIZE // 8, axis=2), 3, axis=3)
    return dataset.Images(pixels, np.arange(1000) % len(contract.CLASSES))


def plain(saved, pixels) -> np.ndarray:
    """Return what TensorFlow answers in float32."""
    import tensorflow as tf

    serve = tf.saved_model.load(str(saved)).signatures["serving_default"]
    return np.concatenate([serve(pixels=tf.constant(part))[contract.PROBABILITIES].numpy()
                           for part in np.array_split(pixels, 10)])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_answers_are_tensorflows_on_a_thousand_images(saved, images, precision):
    pixels, _ = quantization.spread(images, 1000)
    wanted = plain(saved, pixels)
    got = quantization.predict(ov.Core().read_model(saved), pixels, precision)
    assert np.ptp(wanted, axis=0).max() > 0.01  # else the comparison would prove nothing
    assert np.abs(wanted - got).max() < 0.01
    # Classes of an untrained network lie close together: where they are further apart than rounding, they must agree.
    apart = np.diff(np.sort(wanted, axis=1)[:, -2:], axis=1)[:, 0] > 0.005
    assert apart.sum() > 500 and (wanted.argmax(1) == got.argmax(1))[apart].mean() >= 0.999


def test_int8_stays_near_and_is_an_eighth_of_the_precision(saved, images):
    pixels, _ = quantization.spread(images, 200)
    model = quantization.quantized(saved, pixels[:50])
    kinds = {op.get_type_name() for op in model.get_ops()}
    assert "FakeQuantize" in kinds
    # The ranges that NNCF chooses by default are not good enough for this.
    assert np.abs(plain(saved, pixels) - quantization.predict(model, pixels, "int8")).max() < 0.0125


def test_int8_weights_leave_a_bit_so_that_the_sums_of_avx2_do_not_overflow(saved, images):
    model = quantization.quantized(saved, quantization.spread(images, 20)[0])
    weights = [op.data for op in model.get_ops() if op.get_type_name() == "Constant" and op.data.dtype == np.int8]
    assert len(weights) >= 10 and max(np.abs(one.astype(int)).max() for one in weights) == 64


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_inside_the_model_is_that_of_calibration(saved, images, temperature):
    pixels, _ = quantization.spread(images, 20)
    model = ov.Core().read_model(saved)
    wanted = calibration.with_temperature(quantization.predict(model, pixels, "float32"), temperature)
    changed = quantization.with_temperature(model, temperature)
    assert np.allclose(quantization.predict(changed, pixels, "float32"), wanted, atol=1e-5)
    assert changed.outputs[0].names == {contract.PROBABILITIES}


@pytest.mark.parametrize("change", [{"same_class": 0.994}, {"macro_f1": 0.977}])
def test_int8_is_refused_for_what_the_line_says(change):
    assert quantization.passes("int8", GOOD | {"same_class": 0.995, "macro_f1": 0.9781})
    assert not quantization.passes("int8", GOOD | change)


@pytest.mark.parametrize("change", [{"same_class": 0.998}, {"largest_difference": 0.011}])
def test_bfloat16_is_refused_for_what_the_line_says(change):
    assert quantization.passes("bfloat16", GOOD | {"same_class": 0.999, "largest_difference": 0.01})
    assert not quantization.passes("bfloat16", GOOD | change)


def test_auto_takes_the_fastest_that_passes():
    bad = GOOD | {"same_class": 0.5}
    assert quantization.choose("auto", {"int8": GOOD, "bfloat16": GOOD}) == "int8"
    assert quantization.choose("auto", {"int8": bad, "bfloat16": GOOD}) == "bfloat16"
    assert quantization.choose("auto", {"int8": bad, "bfloat16": bad}) == "float32"
    assert quantization.choose("int8", {"int8": bad}) == "int8"  # who asks for it by name gets it


@pytest.mark.parametrize(("has_bfloat16", "images", "expected"), [
    (True, 100, ("int8", "bfloat16")), (True, 99, ("bfloat16",)), (False, 100, ("int8",)), (False, 99, ())])
def test_auto_compares_what_can_be_computed_and_judged(has_bfloat16, images, expected, monkeypatch):
    monkeypatch.setattr(quantization.processor, "has", lambda instructions: has_bfloat16)
    assert quantization.candidates("auto", images) == expected
    assert quantization.candidates("int8", images) == ("int8",)


def test_too_few_images_to_judge_int8_are_on_record(saved, images):
    few = dataset.Images(images.pixels[:20], images.labels[:20])
    found = quantization.measured(saved, {"train": few, "validation": few, "test": few}, "auto", 0.02)
    assert found.record["int8"] == "not judged: it takes 100 validation images, there are 20"
    assert found.precision != "int8" and "int8" not in found.record["validation"]


def test_the_record_names_the_choice_and_int8_gets_its_own_thresholds(saved, images):
    some = dataset.Images(images.pixels[:150], images.labels[:150])
    found = quantization.measured(saved, {"train": some, "validation": some, "test": some}, "int8", 0.8)
    assert found.precision == "int8" and found.record["precision"] == "int8"
    assert 0 < found.thresholds[contract.REVIEW_THRESHOLD] <= 1
    assert found.record["validation"]["int8"]["images"] == found.record["test"]["images"] == 150
    pixels, labels = quantization.spread(some, 150)
    averages = sum(quantization.predict(found.model, side, "int8") for side in (pixels, np.flip(pixels, 2).copy())) / 2
    accepted = averages.max(axis=1) >= found.thresholds[contract.TTA_REVIEW_THRESHOLD]
    assert accepted.sum() == 0 or (averages.argmax(axis=1) != labels)[accepted].mean() <= 0.8
    found = quantization.measured(saved, {"train": some, "validation": some, "test": some}, "float32", 0.02)
    assert found.record == {"precision": "float32", "validation": {}} and found.thresholds == {}
