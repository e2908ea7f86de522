"""Writes what Triton serves: a SavedModel for preprocessing and for each network, their configurations and labels.

    python -m stages.export          (or: dvc repro export)

A new repository is written outside model_repository/, each network in it loaded again without Keras and compared with
the trained one, a manifest of all files added (core/manifest.py), and only then is it renamed into place as a whole:
when anything fails, what was served before is untouched. A minute or two.

How fast the networks are served (stages/triton/quantization.py) is written to reports/export/metrics.json.
"""

import json
from pathlib import Path

import numpy as np
import tensorflow as tf

from core import contract, files, manifest
from imaging import golden
from stages.common import command
from stages.common.params import Params
from stages.data import counting, dataset, preprocess
from stages.networks.registry import NETWORKS, Network, chosen
from stages.scoring import reports, sources
from stages.triton import config, provenance, quantization, saved_model

REPOSITORY = Path("model_repository")
METRICS = Path("reports/export/metrics.json")
SECTIONS = ("prepare", "train", *(network.stage for network in NETWORKS.values()), "evaluate", "export")
"""What a version's provenance records: the params of all stages that it comes from."""


def titles(networks: list[Network]) -> dict[str, dict[str, str]]:
    """Return what classifiers say of how people see them, contract.TITLE and contract.RANK, by name.

    Args:
        networks: what is exported, with their mean where they are several.
    """
    shown = {network.name: network.title for network in networks}
    if len(networks) > 1:
        shown[contract.ENSEMBLE] = f"{'Both' if len(networks) == 2 else 'All'} networks, averaged"
    return {name: {contract.TITLE: title, contract.RANK: str(rank)} for rank, (name, title) in enumerate(shown.items())}


def write_preprocess(new: Path, params: Params) -> config.triton.ModelConfig:
    """Write and check a new version of preprocessing in a folder, and return its Triton configuration."""
    new.mkdir(parents=True)
    size, most = params.prepare.image_size, params.export.max_batch_size
    saved_model.save_preprocess(size, new / contract.SAVED_MODEL)
    encoded = [(dataset.FOLDER / row.path).read_bytes() for row in dataset.read_manifest("test")[:most]]
    saved_model.check_preprocess(new / contract.SAVED_MODEL, encoded, size)
    provenance.write(contract.PREPROCESS, None, params, new, None)
    runtime = {contract.RUNTIME: "numpy"} if params.export.runtime == "openvino" else None
    return config.model(contract.PREPROCESS, new / contract.SAVED_MODEL, most, runtime)


def write_network(name: str, facts: dict[str, str], new: Path, params: Params, decisions: dict[str, dict],
                  splits: dict[str, dataset.Images],
                  votes: np.ndarray) -> tuple[list[config.triton.ModelConfig], dict]:
    """Write and check the new version of a network, or of their mean.

    Args:
        name: the network's, or contract.ENSEMBLE, the mean of those with decisions.
        facts: what people see of it, see titles().
        new: the folder to write.
        params: of the run.
        decisions: of `evaluate`, by name: temperature, flip averaging and threshold.
        splits: "train", "validation" and "test".
        votes: float [n], how much each image of the validation split counts.

    Returns:
        the Triton configurations of the network and of the classifiers that call it, and how it is served.
    """
    new.mkdir(parents=True)
    saved, size, most = new / contract.SAVED_MODEL, params.prepare.image_size, params.export.max_batch_size
    if name in NETWORKS:
        computed = saved_model.save_network(NETWORKS[name].load(), size, saved, decisions[name])
    else:
        networks = {one: network.load() for one, network in NETWORKS.items() if one in decisions}
        computed = saved_model.save_ensemble(networks, size, saved, decisions)
    pixels = quantization.spread(splits["test"], most)[0]
    worst = saved_model.check_network(name, computed, saved, pixels, params.export.tolerance)
    pixels = np.stack([preprocess.decode(tf.constant(one), size).numpy() for one in golden.images()])
    served = quantization.served(new, splits, pixels, params.export, params.evaluate.accepted_error,
                                 votes)
    print(f"{name}: served with {params.export.computes} in {served.record['precision']}; the exported model answers "
          f"within {worst:.1e} of the trained one.")
    stage = NETWORKS[name].stage if name in NETWORKS else None
    provenance.write(name, stage, params, new, decisions[name] | {"served": served.record})
    facts = {contract.DATA_SOURCE: dataset.read_report()["source"], **facts, **tested(name),
             contract.GOLDEN: golden.to_text(np.array(computed(pixels)[0])), **served.golden,
             **thresholds(decisions[name], served.thresholds), **served.runtime}
    configs = [config.model(name, saved, most, served.runtime, params.export.instance_kind),
               config.classifier(name, facts, most)]
    if map_shape := saved_model.map_shape(saved):
        configs.append(config.classifier(name, {}, most, map_shape))
    return configs, served.record


def tested(name: str) -> dict[str, str]:
    """Return for clients on which sources a network was found to work; {} where it was tested by no source."""
    found = json.loads(reports.SCORES.read_text())[name].get("sources")
    return {contract.HOLDS_ON: json.dumps(sources.holding(found))} if found else {}


def thresholds(decision: dict, lowest: dict[str, float]) -> dict[str, str]:
    """Return the review thresholds for clients, none below the one of its name in `lowest`.

    An int8 network has thresholds of its own, and its SavedModel may be served as well: the stricter of both keeps the
    promise of either.
    """
    found = {contract.REVIEW_THRESHOLD: decision["review_threshold"],
             contract.TTA_REVIEW_THRESHOLD: decision.get("tta_review_threshold")}
    return {name: f"{max(value, lowest.get(name, 0.0)):.6f}" for name, value in found.items() if value is not None}


def main(params: Params) -> None:
    """Write and check everything that is served, then replace model_repository/ by it in one step."""
    decisions = json.loads(reports.DECISIONS.read_text())
    splits = {name: dataset.load(name, params.prepare.image_size) for name in ("train", "validation", "test")}
    votes = counting.votes(dataset.read_manifest("validation"))
    records, shown = {}, titles(chosen(params.evaluate.networks, "evaluate.networks"))
    # Renamed into place when the block ends, as a whole: only after every model has passed.
    with files.replacing(REPOSITORY, Path(".export")) as new:
        configs = [write_preprocess(new / contract.PREPROCESS / contract.VERSION, params)]
        for name, facts in shown.items():
            found, records[name] = write_network(name, facts, new / name / contract.VERSION, params, decisions, splits,
                                                 votes)
            configs += found
        for one in configs:
            config.write(new, one)
        manifest.write(new)
    files.write_json(METRICS, records)
    print(f"Written: {REPOSITORY}/ with {', '.join(one.name for one in configs)}.")


if __name__ == "__main__":
    command.run(main, __doc__, SECTIONS)
