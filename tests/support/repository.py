"""A small model repository for tests, written by the real export: two tiny untrained networks at 32 x 32 pixels."""

import json
from pathlib import Path

from core import contract

SIZE, MAX_BATCH_SIZE = 32, 8
FACTS = {contract.DATA_SOURCE: contract.PHANTOM, contract.REVIEW_THRESHOLD: "0.5",
         contract.TTA_REVIEW_THRESHOLD: "0.6"}
RUNTIMES = {contract.PREPROCESS: {contract.RUNTIME: "numpy"},
            "custom": {contract.RUNTIME: "openvino", contract.PRECISION: "float32"},
            "resnet50": {contract.RUNTIME: "tensorflow"},
            contract.ENSEMBLE: {contract.RUNTIME: "openvino", contract.PRECISION: "float32"}}


def write(folder: Path, first_seed: int = 0, facts: dict[str, str] = FACTS) -> None:
    """Write preprocess, the networks and their ensembles, as export does.

    Args:
        folder: is made.
        first_seed: of the networks' weights.
        facts: what clients may ask of the networks.
    """
    from core import files
    from stages import export
    from stages.layers import answer

    _finish(folder / contract.PREPROCESS, lambda saved: export.save_preprocess(SIZE, saved))
    networks = {name: _network(seed) for seed, name in enumerate(contract.NETWORKS, start=first_seed)}
    together = answer.together([answer.answer(network, average_flip=False) for network in networks.values()])
    for network in contract.SERVED:
        if network in networks:
            _finish(folder / network, lambda saved, one=networks[network]: export.save_network(one, SIZE, saved))
        else:
            _finish(folder / network, lambda saved: export.save_function(
                together, (contract.PROBABILITIES,), list(networks.values()), SIZE, saved))
        known = facts | RUNTIMES[network]
        ensembles = {contract.classifier(network): export.ensemble_config(network, known, MAX_BATCH_SIZE)}
        if network in networks:
            shape = export.map_shape(folder / network / export.VERSION / export.SAVED_MODEL)
            ensembles[contract.explain(network)] = export.ensemble_config(network, {}, MAX_BATCH_SIZE, shape)
        for name, config in ensembles.items():
            (folder / name / export.VERSION).mkdir(parents=True)
            files.write_text(folder / name / "config.pbtxt", config)
        for name in (network, *ensembles):
            files.write_text(folder / name / export.LABELS, export.LABELS_TEXT)


def _network(seed: int):
    """Return a network whose probabilities depend strongly on the image."""
    import keras

    keras.utils.set_random_seed(seed)
    layers, normal = keras.layers, keras.initializers.RandomNormal
    pixels = keras.Input((SIZE, SIZE, 3), name=contract.PIXELS)
    features = layers.Conv2D(16, 16, strides=8, activation="tanh", kernel_initializer=normal(stddev=0.1))(pixels)
    averages = layers.GlobalAveragePooling2D()(features)
    return keras.Model(pixels, layers.Dense(4, "softmax", kernel_initializer=normal(stddev=3.0))(averages))


def _finish(target: Path, save) -> None:
    """Write a model's version, its configuration and the digests of its files."""
    from core import files
    from stages import export

    version = target / export.VERSION
    save(version / export.SAVED_MODEL)
    files.write_text(target / "config.pbtxt",
                     export.model_config(target.name, version / export.SAVED_MODEL, MAX_BATCH_SIZE,
                                         RUNTIMES[target.name]))
    (version / "provenance.json").write_text(json.dumps({"files": export.digests(version)}))
