"""Clones in which tests walk the road: what Git tracks, DVC's commands, params for a run of a minute or two."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.conftest import PROJECT, REAL_DATA

DATA = Path(REAL_DATA or "")
"""Real images, for tests marked real_data."""
SMALL = {
    "prepare.image_size": 64, "prepare.phantom_per_class": 15, "prepare.max_per_class": 15, "train.epochs": 2,
    "train.batch_size": 8, "train.start.epochs": 0, "train_resnet.weights": "none",
    "train_transfer.image_size": 32, "train_transfer.epochs": 2, "export.max_batch_size": 4}


def clone(target: Path) -> Path:
    """Copy what Git tracks, as it stands in the working tree, into a new repository, as `git clone` would."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(PROJECT / name, target / name)
    author = ["-c", "user.name=a", "-c", "user.email=a@b.example"]
    for words in (["init", "-q"], ["add", "-A"], [*author, "commit", "-qm", "all"]):
        subprocess.run(["git", *words], cwd=target, check=True)
    return target


def run(words: list[str], folder: Path, **options) -> subprocess.CompletedProcess:
    """Run a command with this Python's programs first on the path; a failure shows its output."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(words, cwd=folder, env=os.environ | {"PATH": path}, capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


def overrides(**more) -> list[str]:
    """Return -S options for a run of a minute or two."""
    return [word for name, value in (SMALL | more).items() for word in ("-S", f"{name}={value}")]
