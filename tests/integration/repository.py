"""A small model repository for tests, written by the real export: two tiny untrained networks at 32 x 32 pixels."""

import json
from pathlib import Path

from imaging import contract

SIZE, MAX_BATCH_SIZE = 32, 8
FACTS = {contract.DATA_SOURCE: contract.PHANTOM, contract.REVIEW_THRESHOLD: "0.5"}


def write(folder: Path) -> None:
    """Write preprocess, the networks and their ensembles, as export does."""
    from stages import export, files

    _finish(folder / contract.PREPROCESS, lambda saved: export.save_preprocess(SIZE, saved))
    for seed, network in enumerate(contract.NETWORKS):
        _finish(folder / network, lambda saved, seed=seed: export.save_network(_network(seed), SIZE, saved))
        ensemble = folder / contract.ensemble(network)
        (ensemble / export.VERSION).mkdir(parents=True)
        config = export.ensemble_config(network, FACTS, MAX_BATCH_SIZE)
        files.write_text(ensemble / "config.pbtxt", config)
        for target in (folder / network, ensemble):
            files.write_text(target / export.LABELS, export.LABELS_TEXT)


def _network(seed: int):
    """Return a network whose probabilities depend strongly on the image."""
    import keras

    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3), name=contract.PIXELS),
            keras.layers.Conv2D(4, 3, strides=2, activation="tanh"),
            keras.layers.Flatten(),
            keras.layers.Dense(4, "softmax", kernel_initializer=keras.initializers.RandomNormal(stddev=0.3)),
        ]
    )


def _finish(target: Path, save) -> None:
    """Write a model's version, its configuration and the digests of its files."""
    from stages import export, files

    version = target / export.VERSION
    save(version / export.SAVED_MODEL)
    files.write_text(target / "config.pbtxt",
                     export.model_config(target.name, version / export.SAVED_MODEL, MAX_BATCH_SIZE))
    (version / "provenance.json").write_text(json.dumps({"files": export.digests(version)}))
