"""Served faster: the exported SavedModel in OpenVINO, with 8-bit integers or bfloat16 where that changes no answer.

float32 is what `evaluate` scored. Before a faster precision is served, its answers to the validation split are compared
with float32's, and the strictest that it must meet is written beside each number below. The test split only reports.

int8: weights and activations as 8-bit integers, scales from training images (post-training static quantisation: Jacob
et al. 2018, arXiv:1712.05877; NNCF's symmetric weights and activations with fast bias correction). Its probabilities
get a temperature and a threshold of their own.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from core import contract, processor
from imaging import golden
from stages.data import dataset
from stages.layers import answer
from stages.scoring import calibration, scores
from stages.triton.params import Export

CALIBRATION_IMAGES = 300
JUDGED_IMAGES = 1000
"""Most images of a split that are compared."""
INT8_IMAGES = 100
"""Fewest validation images from which `auto` judges int8."""
INT8_SAME_CLASS = 0.995
INT8_F1_FALL = 0.002
BFLOAT16_SAME_CLASS = 0.999
BFLOAT16_DIFFERENCE = 0.01
HARMONISING = ".*harmonise.*"
"""What stays in float32: places in an image need more than 8 bits, and it costs little."""
INT8 = "openvino.int8/model.xml"
"""In a version's folder; serving/backends/tensorflow/runtimes.py reads it there."""
HINTS = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}


@dataclass(frozen=True)
class Measured:
    """A chosen precision, what to record of the choice, the model, and the review thresholds that int8 needs (else {}).

    These are named as in Triton's configuration, see contract.REVIEW_THRESHOLD and contract.TTA_REVIEW_THRESHOLD.
    """

    precision: str
    record: dict
    model: ov.Model
    thresholds: dict[str, float]


@dataclass(frozen=True)
class Served:
    """How a version is served: a record, parameters of Triton's configuration that say what computes, those with golden
    answers of its own, and the review thresholds that it needs, see Measured."""

    record: dict
    runtime: dict[str, str]
    golden: dict[str, str]
    thresholds: dict[str, float]


def served(version: Path, splits: dict[str, dataset.Images], pixels: np.ndarray, params: Export,
           accepted_error: float, votes: np.ndarray | None = None) -> Served:
    """Choose what computes a new version, and write its int8 form into it if that is chosen.

    Args:
        version: the folder, with a SavedModel.
        splits: see measured().
        pixels: float32 [n, size, size, 3] in [0, 1], of the golden images.
        params: runtime, precision and the kind of instances.
        accepted_error: see calibration.review_threshold.
        votes: see measured().
    """
    runtime: dict[str, str] = {contract.RUNTIME: params.computes}
    if params.computes != "openvino":
        return Served({**runtime, "precision": "float32"}, runtime, {}, {})
    found, answers = measured(version / contract.SAVED_MODEL, splits, params.precision, accepted_error, votes), {}
    if found.precision == "int8":
        ov.save_model(found.model, version / INT8, compress_to_fp16=False)
        answers[contract.GOLDEN_INT8] = golden.to_text(predict(found.model, pixels, "int8"))
    return Served({**runtime, **found.record}, runtime | {contract.PRECISION: found.precision}, answers,
                  found.thresholds)


def quantized(saved_model: Path, pixels: np.ndarray) -> ov.Model:
    """Return the int8 form of a SavedModel.

    An activation's range is the one with the smallest squared error on the histogram of its values (NNCF's HISTOGRAM,
    after torchao's HistogramObserver). Weights hold 7 of the 8 bits (OverflowFix.ENABLE), so that the sums of two
    products that AVX2 keeps in 16 bits do not overflow (OpenVINO's "saturation issue").

    Args:
        saved_model: with the signature of saved_model.save_network.
        pixels: float32 [n, size, size, 3] in [0, 1], typical images.
    """
    import nncf  # takes seconds, and only export needs it
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    nncf.set_log_level(logging.WARNING)  # else a line for every operation that stays in float32
    advanced = nncf.AdvancedQuantizationParameters(
        overflow_fix=nncf.OverflowFix.ENABLE,
        activations_range_estimator_params=RangeEstimatorParametersSet.HISTOGRAM)
    return nncf.quantize(ov.Core().read_model(saved_model), nncf.Dataset(pixels[:, None]), subset_size=len(pixels),
                         advanced_parameters=advanced, ignored_scope=nncf.IgnoredScope(patterns=[HARMONISING],
                                                                                       validate=False))


def with_temperature(model: ov.Model, temperature: float) -> ov.Model:
    """Return a model whose probabilities are those of `model` after calibration.with_temperature."""
    output = model.output(contract.PROBABILITIES)
    probabilities = output.get_node().input_value(0)
    logarithm = ops.log(ops.maximum(probabilities, ops.constant(np.float32(answer.TINIEST))))
    changed = ops.softmax(ops.divide(logarithm, ops.constant(np.float32(temperature))), axis=1)
    changed.output(0).set_names({contract.PROBABILITIES})
    others = [other.get_node() for other in model.outputs if other != output]
    return ov.Model([ops.result(changed), *others], model.get_parameters(), contract.PROBABILITIES)


def predict(model: ov.Model, pixels: np.ndarray, precision: str) -> np.ndarray:
    """Return the probabilities float32 [n, K] for pixels float32 [n, size, size, 3], computed one by one as served.

    Args:
        model: of a SavedModel or quantized().
        pixels: in [0, 1].
        precision: out of contract.PRECISIONS; bfloat16 is emulated where the processor lacks it.
    """
    single = model.clone()
    single.reshape([1, *pixels.shape[1:]])
    request = ov.Core().compile_model(single, "CPU", {"INFERENCE_PRECISION_HINT": HINTS[precision]}) \
        .create_infer_request()
    return np.concatenate([request.infer([pixels[index : index + 1]])[contract.PROBABILITIES].copy()
                           for index in range(len(pixels))])


def agreement(labels: np.ndarray, wanted: np.ndarray, got: np.ndarray) -> dict[str, float]:
    """Compare answers with those in float32.

    Args:
        labels: int [n].
        wanted: float [n, K], in float32.
        got: float [n, K].

    Returns:
        images, n; same_class, a fraction; largest_difference of a probability; macro_f1 and float32_macro_f1.
    """
    return {
        "images": len(labels),
        "same_class": float((wanted.argmax(1) == got.argmax(1)).mean()),
        "largest_difference": float(np.abs(wanted - got).max()),
        "macro_f1": scores.scores(labels, got)["macro_f1"],
        "float32_macro_f1": scores.scores(labels, wanted)["macro_f1"],
    }


def passes(precision: str, found: dict[str, float]) -> bool:
    """Return whether a precision may be served.

    Args:
        precision: out of contract.PRECISIONS.
        found: agreement() on the validation split.
    """
    if precision == "int8":
        fall = found["float32_macro_f1"] - found["macro_f1"]
        return found["same_class"] >= INT8_SAME_CLASS and fall <= INT8_F1_FALL
    return found["same_class"] >= BFLOAT16_SAME_CLASS and found["largest_difference"] <= BFLOAT16_DIFFERENCE


def choose(wanted: str, found: dict[str, dict]) -> str:
    """Return the precision to serve: the one asked for, or with `auto` the fastest that passes.

    Args:
        wanted: param export.precision.
        found: precision -> agreement() on the validation split, for each of candidates().
    """
    if wanted != "auto":
        return wanted
    return next((name for name, one in found.items() if passes(name, one)), "float32")


def candidates(wanted: str, images: int) -> tuple[str, ...]:
    """Return the precisions to compare with float32, fastest first.

    Args:
        wanted: param export.precision. `auto` leaves out int8 where too few images could judge it, which saves minutes.
        images: of the validation split.

    bfloat16 is compared only where the processor computes it.
    """
    fast = ("int8", "bfloat16") if processor.has(processor.BFLOAT16) else ("int8",)
    if wanted != "auto":
        return tuple(name for name in fast if name == wanted)
    return fast if images >= INT8_IMAGES else fast[1:]


def spread(images: dataset.Images, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Return pixels float32 [n, size, size, 3] in [0, 1] and labels int64 [n] of at most so many images of a split."""
    chosen = spaced(len(images), most)
    some = dataset.Images(images.pixels[chosen], images.labels[chosen])
    (pixels, labels), = dataset.batches(some, len(some)).as_numpy_iterator()
    return pixels, labels


def spaced(count: int, most: int) -> np.ndarray:
    """Return at most so many of the indices of `count` images, evenly spaced: int [n]."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(int))


def tta_threshold(model: ov.Model, pixels: np.ndarray, labels: np.ndarray, accepted_error: float,
                  votes: np.ndarray | None) -> float:
    """Return the review threshold of answers that a client averages over an image and its mirror image.

    Args:
        model: in int8, calibrated. pixels, labels: of the validation split, see spread().
        accepted_error, votes: see calibration.review_threshold.
    """
    averages = (predict(model, pixels, "int8") + predict(model, np.flip(pixels, 2).copy(), "int8")) / 2
    right = averages.argmax(axis=1) == labels
    return calibration.review_threshold(averages.max(axis=1), right, accepted_error, votes)[0]


def measured(saved_model: Path, splits: dict[str, dataset.Images], wanted: str, accepted_error: float,
             votes: np.ndarray | None = None) -> Measured:
    """Compare the precisions that a SavedModel may be served with.

    Args:
        saved_model: with the signature of saved_model.save_network.
        splits: "train", for the scales of int8; "validation", which decides; "test", which reports.
        wanted: param export.precision.
        accepted_error: see calibration.review_threshold.
        votes: float [n], how much each image of the validation split counts for that; 1 unless given.
    """
    models = {name: ov.Core().read_model(saved_model) for name in ("float32", "bfloat16")}
    (pixels, labels), (test, test_labels) = (spread(splits[name], JUDGED_IMAGES) for name in ("validation", "test"))
    plain, own, needed = predict(models["float32"], pixels, "float32"), None, {}
    compared = candidates(wanted, len(labels))
    if "int8" in compared:
        rough = quantized(saved_model, spread(splits["train"], CALIBRATION_IMAGES)[0])
        own = None if votes is None else votes[spaced(len(votes), JUDGED_IMAGES)]
        decision = calibration.decide(labels, predict(rough, pixels, "int8"), accepted_error, own)
        models["int8"] = with_temperature(rough, decision["temperature"])
    found = {name: agreement(labels, plain, predict(models[name], pixels, name)) for name in compared}
    chosen = choose(wanted, found)
    record = {"precision": chosen, "validation": found}
    if wanted == "auto" and "int8" not in compared:
        record["int8"] = f"not judged: it takes {INT8_IMAGES} validation images, there are {len(labels)}"
    if chosen == "int8":
        needed = {contract.REVIEW_THRESHOLD: decision["review_threshold"],
                  contract.TTA_REVIEW_THRESHOLD: tta_threshold(models[chosen], pixels, labels, accepted_error, own)}
    if chosen != "float32":
        record["test"] = agreement(test_labels, predict(models["float32"], test, "float32"),
                                   predict(models[chosen], test, chosen))
    return Measured(chosen, record, models[chosen], needed)

