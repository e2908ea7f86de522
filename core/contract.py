"""What every part of the project agrees on: the classes, the networks, and the names of their inputs and outputs.

This module is the only owner of these facts. Training, export, Triton's configurations, the client and the
web page all read them from here.
"""

import json
import re
from pathlib import Path

_FILE = json.loads(Path(__file__).with_name("classes.json").read_text(encoding="utf-8"))
"""A file of its own, as dvc.yaml draws a curve for each class in it."""

CLASSES: tuple[str, ...] = tuple(_FILE["classes"])
"""Class names in the order of the probabilities: index i of every output is CLASSES[i]."""

CLASS_TITLES: dict[str, str] = {name: _FILE["titles"].get(name, name.capitalize()) for name in CLASSES}
"""How people read the names of the classes."""

HEALTHY: str = _FILE["healthy"]
"""The class of slices without a tumour."""

ENSEMBLE = "ensemble"
"""The mean of what all networks answer, in one model."""

RELEASE = "."
"""Stands between the name of a network and that of an older release that is served as well; a sign that needs no
quoting in a URL, as Triton does not take quotes off model names."""

MODEL_NAME = re.compile(rf"[a-z][a-z0-9_]{{0,63}}(?:{re.escape(RELEASE)}[0-9A-Za-z.-]+)?")
"""The form of every name that a request may give; what is served only Triton knows."""

ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[\w.-]+):[0-9]{1,5}")
"""host:port of Triton's HTTP endpoint."""

PREPROCESS = "preprocess"
"""Triton model that turns encoded image bytes into pixels."""

IMAGE_INPUT = "image"
"""Input of preprocess and of the classifiers: BYTES, shape [batch, 1], one encoded PNG or JPEG each."""

PIXELS = "pixels"
"""Output of preprocess, input of the networks: FP32, shape [batch, size, size, 3], RGB in [0, 1]."""

PROBABILITIES = "probabilities"
"""Output of the networks and the classifiers: FP32, shape [batch, K] for K classes, each row sums to 1."""

HEATMAPS = "heatmaps"
"""Second output of the networks and of the classifiers of explain(): FP32, shape [batch, K, h, w], in [0, 1]: for each
class where the network saw it."""

TITLE = "title"
"""Parameter of the classifiers' Triton configuration: how people call the network."""

RANK = "rank"
"""Parameter beside it, "0", "1", ...: the order in which people see the networks; the lowest answers when a request
names none. Older releases have neither."""

DATA_SOURCE = "data_source"
"""Parameter of the classifiers' Triton configuration: the name of the data set that the network was trained on."""

HOLDS_ON = "holds_on"
"""Parameter beside it: the sources of test images on which the network was found to work, a JSON list of names."""

REVIEW_THRESHOLD = "review_threshold"
"""Parameter of the classifiers' Triton configuration: a prediction of lower confidence needs a person's review."""

TTA_REVIEW_THRESHOLD = "tta_review_threshold"
"""The same for predictions averaged over the image and its mirror image."""

RUNTIME = "runtime"
"""Parameter of the networks' and the classifiers' Triton configuration: what computes on a CPU, out of RUNTIMES."""

RUNTIMES = ("tensorflow", "openvino")

PRECISION = "precision"
"""Parameter beside it: the numbers that OpenVINO computes with, out of PRECISIONS."""

PRECISIONS = ("float32", "bfloat16", "int8")

GOLDEN = "golden"
"""Parameter of the classifiers' Triton configuration: the answers to imaging.golden's images; in int8 GOLDEN_INT8."""

GOLDEN_INT8 = "golden_int8"

VERSION, SAVED_MODEL, PROVENANCE, LABELS = "1", "model.savedmodel", "provenance.json", "labels.txt"
"""Of a model in a model repository: the folder of its version, what that holds, and beside it the names of the classes,
one a line."""

PHANTOM = "phantom"
"""The value of DATA_SOURCE and of the param prepare.source for synthetic training images."""

DISCLAIMER = "For research and education only. Not a medical device: do not use for diagnosis or treatment."
"""Shown with every prediction."""


def classifier(network: str) -> str:
    """Return the name of the chain of Triton models that serves a network: encoded bytes in, probabilities out."""
    return f"classify_{network}"


def model(classifier: str) -> str | None:
    """Return which name of a request a classifier answers to: the reverse of classifier(); None for other models."""
    name = classifier.removeprefix("classify_")
    return name if name != classifier and MODEL_NAME.fullmatch(name) else None


def explain(network: str) -> str:
    """Return the name of the chain that explains a network's answer as well: probabilities and heatmaps."""
    return f"explain_{network}"
