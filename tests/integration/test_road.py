"""The whole road as users walk it: a clone, DVC's commands, Triton, the page; on phantoms and on real slices."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import requests

import imaging
from client import Classifier
from core import contract
from serving.server import Server
from stages.data import dataset
from stages.networks.registry import NETWORKS
from tests.integration.test_published import directly
from tests.support.road import DATA, clone, overrides, run
from tests.support.site import published

TOLERANCE = {"float32": 2e-4, "bfloat16": 1e-2}
"""Served precision -> how far a probability may be from the evaluated one. So few images are never judged for int8."""


@pytest.fixture(scope="module")
def real_road(tmp_path_factory):
    """A clone in which the pipeline ran on a few real slices."""
    folder = clone(tmp_path_factory.mktemp("real"))
    run(["dvc", "exp", "run", *overrides(**{"prepare.source": (DATA / "Training").resolve()})], folder)
    return folder


def test_metrics_and_plots_show_at_once_in_a_fresh_clone(tmp_path):
    folder = clone(tmp_path)
    shown = run(["dvc", "metrics", "show", "--json"], folder).stdout
    run(["dvc", "metrics", "diff"], folder)
    run(["dvc", "plots", "diff"], folder)
    assert "macro_f1" in shown


def test_the_learning_rate_arrives_as_a_number(phantom_road):
    facts = json.loads((phantom_road / "model_repository/custom/1/provenance.json").read_text())
    assert facts["params"]["train"]["lr"] == 1e-3


def test_metrics_and_plots_diff_show_the_change(phantom_road):
    diff = json.loads(run(["dvc", "metrics", "diff", "--json"], phantom_road).stdout)
    assert diff["reports/evaluate/metrics.json"]
    run(["dvc", "plots", "diff", "-o", "plots"], phantom_road)
    page = (phantom_road / "plots/index.html").read_text()
    assert all(name in page for name in ("Answers of custom", "ROC of custom", "Accuracy by epoch", "duplicates.png"))


def test_nothing_runs_again_when_nothing_changed(phantom_road):
    assert "up to date" in run(["dvc", "repro"], phantom_road).stdout


def test_git_sees_results_only(phantom_road):
    changed = run(["git", "status", "--porcelain", "--untracked-files=all"], phantom_road).stdout.split("\n")
    places = {line[3:].split("/")[0] for line in changed if line}
    assert places <= {"params.yaml", "dvc.lock", "reports", "model_repository", "plots", "MODEL_CARD.md"}


@pytest.mark.parametrize("road, source", [
    ("phantom_road", contract.PHANTOM), pytest.param("real_road", "/Training", marks=pytest.mark.real_data)])
def test_the_page_answers_from_what_was_exported(road, source, request):
    folder = request.getfixturevalue(road)
    row = dataset.read_manifest("test", folder / dataset.FOLDER)[0]
    served = json.loads((folder / "reports/export/metrics.json").read_text())
    with Server(folder / "model_repository") as server, published(server.url) as address:
        for model in (*NETWORKS, contract.ENSEMBLE):
            with (folder / dataset.FOLDER / row.path).open("rb") as file:
                form = {"files": {"file": file}, "data": {"model": model}}
                answer = requests.post(f"http://{address}/predict", timeout=30, **form)
            lines = (folder / f"reports/evaluate/{model}/predictions.csv").read_text().splitlines()
            line = next(line for line in lines if line.startswith(row.digest[:16]))
            wanted, tolerance = [float(one) for one in line.split(",")[3:-1]], TOLERANCE[served[model]["precision"]]
            got = answer.json()
            assert list(got["all_probabilities"].values()) == pytest.approx(wanted, abs=tolerance)
            assert got["data_source"].endswith(source)


@pytest.mark.real_data
def test_the_published_network_is_pulled_served_and_answers_as_published(tmp_path):
    folder = clone(tmp_path)
    run(["dvc", "pull", "-r", "published", "published/model_repository"], folder)
    table, = folder.glob("published/run/reports/evaluate/*/predictions.csv")
    with table.open(newline="") as file:
        wanted = {row["digest"]: row for row in csv.DictReader(file)}
    encoded = [imaging.read(path) for path in imaging.find(DATA / "Training/meningioma")[:80]]
    tested = [one for one in encoded if imaging.digest(one)[:16] in wanted]
    assert len(tested) > 3
    rows = [wanted[imaging.digest(one)[:16]] for one in tested]
    answers = [[float(row[name]) for name in contract.CLASSES] for row in rows]
    network = table.parent.name
    models = folder / "published/model_repository"
    assert directly(models, network, tested) == pytest.approx(np.array(answers), abs=1e-3)
    record = json.loads((folder / "published/run/reports/export/metrics.json").read_text())[network]
    changed = record["test"]["largest_difference"] if "test" in record else 0  # on these very images, by less precision
    with Server(models) as server:
        for one, row, expected in zip(tested, rows, answers, strict=True):
            got = Classifier(server.url).classify(one)
            assert got.label == row["predicted"]
            assert list(got.probabilities.values()) == pytest.approx(expected, abs=changed + 1e-3)


@pytest.mark.real_data
def test_real_slices_are_grouped_and_none_is_left_out(real_road):
    report = json.loads((real_road / "reports/prepare/data.json").read_text())
    assert report["images"] == 60 and report["unreadable"] == 0 and report["label_conflicts"] == 0


@pytest.mark.real_data
def test_no_real_image_would_enter_git(real_road):
    run(["git", "add", "-A"], real_road)
    added = run(["git", "diff", "--cached", "--name-only"], real_road).stdout.split()
    assert not [name for name in added if Path(name).suffix in {".jpg", ".jpeg"} or name.startswith("data/")
                or Path(name).name in {"failures.png", "duplicates.png"}]


def test_a_killed_training_goes_on_and_ends_the_same(phantom_road, tmp_path):
    folder = clone(tmp_path)
    shutil.copyfile(phantom_road / "params.yaml", folder / "params.yaml")
    shutil.copytree(phantom_road / "data", folder / "data")
    shutil.copyfile(phantom_road / "reports/prepare/data.json", folder / "reports/prepare/data.json")
    training = subprocess.Popen([sys.executable, "-m", "stages.train_custom"], cwd=folder, stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL)
    state = folder / ".resume/train_custom.npz"
    while not state.exists():
        assert training.poll() is None
        time.sleep(0.02)
    training.send_signal(signal.SIGKILL)
    training.wait()
    output = run([sys.executable, "-m", "stages.train_custom"], folder).stdout
    history = "reports/train_custom/history.csv"
    assert "Continuing the interrupted run" in output
    assert (folder / history).read_text() == (phantom_road / history).read_text()


@pytest.mark.parametrize("changes, message", [
    (["-S", "train.learning_rate=1"], "learning_rate"),
    (["-S", "prepare.source=nowhere"], "which is not a folder"),
    (["-S", "train.lr=fast"], "type float for train.lr. Received: 'fast'"),
])
def test_a_users_mistake_gets_a_message_and_no_traceback(changes, message, tmp_path):
    folder = clone(tmp_path)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(["dvc", "exp", "run", *changes], cwd=folder, env=os.environ | {"PATH": path},
                          capture_output=True, text=True)
    assert done.returncode != 0 and message in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
