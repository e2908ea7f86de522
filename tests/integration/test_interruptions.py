"""`dvc repro` stopped or killed in each of its stages, and a disk that takes no more: nothing wrong, nothing lost."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from core import files
from serving import snapshot
from tests.support.road import clone, run

STAGES = ("prepare", "train_custom", "train_resnet", "train_transfer", "evaluate", "export")
RESULTS = ("reports/train_custom/history.csv", "reports/train_resnet/history.csv",
           "reports/train_transfer/history.csv",
           "reports/evaluate/custom/predictions.csv", "reports/evaluate/resnet50/predictions.csv")


def state(folder: Path) -> dict[str, str]:
    """Return the digest of every file of a folder by its path."""
    return {str(path.relative_to(folder)): files.digest(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def runs(stage: str, folder: Path) -> bool:
    """Return whether a stage is at work in a folder."""
    at_work = (process.info for process in psutil.process_iter(["cmdline", "cwd"]))
    return any(f"stages.{stage}" in (one["cmdline"] or ()) and one["cwd"] == str(folder) for one in at_work)


def test_killed_in_every_stage_the_pipeline_goes_on_and_ends_the_same(phantom_road, repository, tmp_path):
    folder = clone(tmp_path / "clone")
    shutil.copyfile(phantom_road / "params.yaml", folder / "params.yaml")
    served = folder / "model_repository"
    shutil.copytree(repository, served, dirs_exist_ok=True)
    before = state(served)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for number, stage in enumerate(STAGES):
        process = subprocess.Popen(["dvc", "repro"], cwd=folder, env=os.environ | {"PATH": path},
                                   start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not runs(stage, folder.resolve()):
            assert process.poll() is None, stage
            time.sleep(0.02)
        time.sleep(4)  # past the imports, in the midst of the work
        os.killpg(process.pid, signal.SIGKILL if number % 2 else signal.SIGTERM)
        assert process.wait() != 0, f"{stage} had ended before it was killed"
        while runs(stage, folder.resolve()):
            time.sleep(0.02)
        assert state(served) == before, stage
        snapshot.require_manifest(served, served)
    run(["dvc", "repro"], folder)
    for name in RESULTS:
        assert (folder / name).read_text() == (phantom_road / name).read_text(), name
    snapshot.require_manifest(served, served)
    assert state(served) != before
    assert not list(folder.rglob(".writing-*"))


@pytest.mark.parametrize("stage", ["prepare", "train_custom", "evaluate", "export"])  # all trainings write alike
def test_where_no_file_can_grow_a_stage_says_so_and_replaces_nothing(phantom_road, stage, tmp_path):
    folder = tmp_path / "clone"
    shutil.copytree(phantom_road, folder, symlinks=True, ignore=shutil.ignore_patterns(".dvc", ".git"))
    before = {name: state(folder / name) for name in ("data", "models", "reports", "model_repository")}

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))

    done = subprocess.run([sys.executable, "-m", f"stages.{stage}"], cwd=folder, preexec_fn=limit, capture_output=True,
                          text=True)
    assert done.returncode == 1, done.stderr
    assert f"{stage}.py: " in done.stderr and "Nothing was replaced" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert {name: state(folder / name) for name in before} == before
