"""A small model repository for tests, written by the real export: two tiny untrained networks at 32 x 32 pixels."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from core import contract, manifest, triton_config
from imaging import golden

SIZE, MAX_BATCH_SIZE = 32, 8
NETWORKS = ("custom", "resnet50")
SERVED = (*NETWORKS, contract.ENSEMBLE)
"""What is trained, and what a request may ask for."""
FACTS = {contract.DATA_SOURCE: contract.PHANTOM, contract.REVIEW_THRESHOLD: "0.5",
         contract.TTA_REVIEW_THRESHOLD: "0.6"}
RUNTIMES = {contract.PREPROCESS: {contract.RUNTIME: "numpy"},
            "custom": {contract.RUNTIME: "openvino", contract.PRECISION: "float32"},
            "resnet50": {contract.RUNTIME: "tensorflow"},
            contract.ENSEMBLE: {contract.RUNTIME: "openvino", contract.PRECISION: "float32"}}


def write(folder: Path, first_seed: int = 0, facts: dict[str, str] = FACTS) -> None:
    """Write preprocess, the networks and their classifiers, as export does.

    Args:
        folder: is made.
        first_seed: of the networks' weights.
        facts: what clients may ask of the networks.
    """
    from stages import export
    from stages.networks import registry
    from stages.triton import config, saved_model

    networks = {name: _network(seed) for seed, name in enumerate(NETWORKS, start=first_seed)}
    decisions = dict.fromkeys(SERVED, saved_model.UNDECIDED)
    _finish(folder, contract.PREPROCESS, lambda saved: saved_model.save_preprocess(SIZE, saved))
    _finish(folder, contract.ENSEMBLE, lambda saved: saved_model.save_ensemble(networks, SIZE, saved, decisions))
    for name, network in networks.items():
        saved = _finish(folder, name, partial(saved_model.save_network, network, SIZE))
        config.write(folder, config.classifier(name, {}, MAX_BATCH_SIZE, saved_model.map_shape(saved)))
    titles = export.titles(registry.chosen([], ""))
    for name in SERVED:
        shown = facts | titles[name] | RUNTIMES[name]
        config.write(folder, config.classifier(name, shown, MAX_BATCH_SIZE))
    manifest.write(folder)


def with_wrong_numbers(repository: Path, folder: Path) -> Path:
    """Copy a repository to a folder and return it: its custom network was exported with other answers than it gives."""
    shutil.copytree(repository, folder)
    path = folder / contract.classifier("custom") / triton_config.FILE
    config = triton_config.read(path)
    wrong = ["0.0 1.0 0.0 0.0"] * len(golden.DISCS)  # the class that it takes them for least
    triton_config.set_parameters(config, {contract.GOLDEN: "; ".join(wrong)})
    triton_config.write(path, config)
    manifest.write(folder)
    return folder


def _network(seed: int):
    """Return a network whose probabilities depend strongly on the image."""
    import keras

    keras.utils.set_random_seed(seed)
    layers, normal = keras.layers, keras.initializers.RandomNormal
    pixels = keras.Input((SIZE, SIZE, 3), name=contract.PIXELS)
    features = layers.Conv2D(16, 16, strides=8, activation="tanh", kernel_initializer=normal(stddev=0.1))(pixels)
    averages = layers.GlobalAveragePooling2D()(features)
    head = layers.Dense(len(contract.CLASSES), "softmax", kernel_initializer=normal(stddev=3.0))
    return keras.Model(pixels, head(averages))


def _finish(repository: Path, name: str, save: Callable[[Path], object]) -> Path:
    """Write a model's version, its configuration and the digests of its files; return the SavedModel."""
    from stages.triton import config, provenance

    version = repository / name / contract.VERSION
    saved = version / contract.SAVED_MODEL
    save(saved)
    config.write(repository, config.model(name, saved, MAX_BATCH_SIZE, RUNTIMES[name]))
    (version / contract.PROVENANCE).write_text(json.dumps({"files": provenance.digests(version)}))
    return saved
