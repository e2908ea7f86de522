"""What travels with a served version: where it comes from, how it scored, and the digest of every file."""

import datetime
import json
import subprocess
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import keras
import openvino as ov
import tensorflow as tf

from core import contract, files
from stages.common.params import Params
from stages.data import dataset
from stages.scoring import reports


def git_revision() -> str:
    """Return the commit of the working tree, "+changes" when it differs, or "unknown" outside Git."""
    try:
        run = subprocess.run(["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+changes"],
                             capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return run.stdout.strip()


def write(name: str, stage: str | None, params: Params, folder: Path, decision: dict | None) -> None:
    """Write the provenance of a version into its folder, which holds all else already.

    Args:
        name: of the Triton model. stage: that has trained it, if one has. params: of the run. folder: the version.
        decision: what `evaluate` and `export` have decided for it.
    """
    evaluated = json.loads(reports.SCORES.read_text())
    files.write_json(folder / contract.PROVENANCE, {
        "model": name,
        "classes": list(contract.CLASSES),
        "image_size": params.prepare.image_size,
        "exported": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "git_revision": git_revision(),
        "data": dataset.read_report(),
        "training": reports.training(stage) if stage else None,
        "test_scores": evaluated.get(name),
        "test_diagrams": diagrams(reports.REPORTS / name) if name in evaluated else None,
        "decision": decision,
        "params": asdict(params),  # type: ignore[call-overload]  # made by make_dataclass
        "versions": {"tensorflow": tf.__version__, "keras": keras.__version__, "openvino": ov.__version__},
        "files": digests(folder),
    })


def diagrams(folder: Path) -> dict:
    """Return the figures behind the diagrams of a network's test, from the tables that `evaluate` wrote.

    Args:
        folder: with predictions.csv and reliability.csv.

    Returns:
        confusion: counts by true class (rows) and predicted class (columns), in the order of the classes.
        reliability: for each bin that holds images, their number, mean confidence and accuracy.
    """
    pairs = Counter((row["actual"], row["predicted"]) for row in reports.table(folder / reports.PREDICTIONS))
    bins = reports.table(folder / reports.RELIABILITY)
    return {"confusion": [[pairs[actual, predicted] for predicted in contract.CLASSES] for actual in contract.CLASSES],
            "reliability": [{"images": int(row["images"]), "confidence": float(row["confidence"]),
                             "accuracy": float(row["accuracy"])} for row in bins]}


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file in a folder, by relative path; serving compares them before it starts."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): files.digest(path) for path in paths}
