"""A small model repository for tests: the real preprocessing, and two tiny untrained networks at 32 x 32 pixels."""

import hashlib
import json
from pathlib import Path

from imaging import contract

SIZE = 32

HEAD = """name: "{name}"
backend: "tensorflow"
platform: "tensorflow_savedmodel"
max_batch_size: 8
instance_group [{{ kind: KIND_CPU count: 1 }}]
"""

PREPROCESS = (
    HEAD
    + """input [{{ name: "image" data_type: TYPE_STRING dims: [1] }}]
output [{{ name: "pixels" data_type: TYPE_FP32 dims: [32, 32, 3] }}]
dynamic_batching {{
  preferred_batch_size: [1]
  default_queue_policy {{
    timeout_action: REJECT
    default_timeout_microseconds: 10000000
    allow_timeout_override: true
    max_queue_size: 32
  }}
}}
"""
)

NETWORK = (
    HEAD
    + """input [{{ name: "pixels" data_type: TYPE_FP32 dims: [32, 32, 3] }}]
output [{{ name: "probabilities" data_type: TYPE_FP32 dims: [4] label_filename: "labels.txt" }}]
dynamic_batching {{ max_queue_delay_microseconds: 2000 }}
"""
)

ENSEMBLE = """name: "{name}"
platform: "ensemble"
max_batch_size: 8
input [{{ name: "image" data_type: TYPE_STRING dims: [1] }}]
output [{{ name: "probabilities" data_type: TYPE_FP32 dims: [4] }}]
parameters {{ key: "data_source" value: {{ string_value: "phantom" }} }}
ensemble_scheduling {{
  step [
    {{ model_name: "preprocess" model_version: -1
       input_map {{ key: "image" value: "image" }} output_map {{ key: "pixels" value: "pixels" }} }},
    {{ model_name: "{network}" model_version: -1
       input_map {{ key: "pixels" value: "pixels" }} output_map {{ key: "probabilities" value: "probabilities" }} }}
  ]
}}
"""


def write(folder: Path) -> None:
    """Write preprocess, the networks and their ensembles, as export does."""
    import tensorflow as tf

    from stages.preprocess import Preprocess

    preprocess = Preprocess(SIZE)
    target = folder / contract.PREPROCESS
    tf.saved_model.save(preprocess, str(target / "1" / "model.savedmodel"), {"serving_default": preprocess.serve})
    _finish(target, PREPROCESS.format(name=contract.PREPROCESS))
    for seed, network in enumerate(contract.NETWORKS):
        _write_network(folder / network, seed)
        ensemble = folder / contract.ensemble(network)
        (ensemble / "1").mkdir(parents=True)
        (ensemble / "config.pbtxt").write_text(ENSEMBLE.format(name=ensemble.name, network=network))


def _write_network(target: Path, seed: int) -> None:
    """Export a network whose probabilities depend strongly on the image."""
    import keras

    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3), name=contract.PIXELS),
            keras.layers.Conv2D(4, 3, strides=2, activation="tanh"),
            keras.layers.Flatten(),
            keras.layers.Dense(4, "softmax", kernel_initializer=keras.initializers.RandomNormal(stddev=0.3)),
        ]
    )
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(
        "serving_default",
        lambda pixels: {contract.PROBABILITIES: model(pixels, training=False)},
        input_signature=[keras.InputSpec(shape=(None, SIZE, SIZE, 3), dtype="float32", name=contract.PIXELS)],
    )
    archive.write_out(str(target / "1" / "model.savedmodel"), verbose=False)
    (target / "labels.txt").write_text("\n".join(contract.CLASSES) + "\n")
    _finish(target, NETWORK.format(name=target.name))


def _finish(target: Path, config: str) -> None:
    """Write a model's configuration and the digests of its files."""
    (target / "config.pbtxt").write_text(config)
    version = target / "1"
    files = [path for path in version.rglob("*") if path.is_file()]
    table = {str(path.relative_to(version)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    (version / "provenance.json").write_text(json.dumps({"files": table}))
