"""The published network: whole in the remote inside Git, with facts that belong to it."""

import csv
import hashlib
import json
from collections import Counter

import pytest
import yaml

from core import contract, manifest
from stages.triton import quantization
from tests.conftest import PROJECT
from tools import results
from webapp.provenance import WITHDRAWN, is_withdrawn

HERE = PROJECT / "published"
POINTER = yaml.safe_load((HERE / "model_repository.dvc").read_text())["outs"][0]
OBJECTS = HERE / "remote/files/md5"


def content(md5: str) -> bytes:
    """Return an object of the remote; its name is checked."""
    data = (OBJECTS / md5[:2] / md5[2:]).read_bytes()
    assert hashlib.md5(data).hexdigest() == md5.removesuffix(".dir")
    return data


@pytest.fixture(scope="module")
def model_files() -> dict[str, bytes]:
    """The published model repository by relative path, read from the remote."""
    return {entry["relpath"]: content(entry["md5"]) for entry in json.loads(content(POINTER["md5"]))}


@pytest.fixture(scope="module")
def network() -> str:
    """The published network's name."""
    name, = json.loads((HERE / "run/reports/evaluate/decision.json").read_text())
    return name


@pytest.fixture(scope="module")
def provenance(model_files, network) -> dict:
    return json.loads(model_files[f"{network}/1/provenance.json"])


def test_the_remote_holds_this_version_and_nothing_else(model_files):
    stored = [path for path in OBJECTS.rglob("*") if path.is_file()]
    assert len(stored) == len(set(model_files.values())) + 1
    assert sum(path.stat().st_size for path in stored) <= 25_000_000


def test_the_files_are_those_that_export_wrote(model_files, network, provenance):
    version = f"{network}/1/"
    assert provenance["files"] == {name.removeprefix(version): hashlib.sha256(data).hexdigest()
                                   for name, data in model_files.items()
                                   if name.startswith(version) and "provenance" not in name}


def test_its_manifest_names_every_file(model_files):
    table = json.loads(model_files[manifest.FILE])["files"]
    assert table == {name: hashlib.sha256(data).hexdigest() for name, data in model_files.items()
                     if name != manifest.FILE and not name.endswith(".gitkeep")}


def test_it_was_trained_on_real_images_and_names_no_private_path(provenance):
    assert provenance["data"]["source"] != contract.PHANTOM
    assert not provenance["params"]["prepare"]["source"].startswith("/")
    params = yaml.safe_load((HERE / "run/params.yaml").read_text())
    assert provenance["params"] == {name: section for name, section in params.items() if name != "crossval"}


def test_the_scores_are_those_of_the_predictions(network, provenance):
    metrics = json.loads((HERE / "run/reports/evaluate/metrics.json").read_text())[network]
    with (HERE / f"run/reports/evaluate/{network}/predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    copies = Counter(row["picture"] for row in rows)
    right = sum((row["actual"] == row["predicted"]) / copies[row["picture"]] for row in rows) / len(copies)
    assert metrics == provenance["test_scores"] and metrics["accuracy"] == pytest.approx(right, abs=1e-6)
    assert len(rows) == sum(provenance["data"]["splits"]["test"].values())
    counts = Counter((row["actual"], row["predicted"]) for row in rows)
    assert provenance["test_diagrams"]["confusion"] == [[counts[one, other] for other in contract.CLASSES]
                                                        for one in contract.CLASSES]


def test_it_is_served_in_int8_only_if_the_validation_images_allow(model_files, network, provenance):
    record = json.loads((HERE / "run/reports/export/metrics.json").read_text())[network]
    assert record == provenance["decision"]["served"]
    assert quantization.passes("int8", record["validation"]["int8"]) is (record["precision"] == "int8")
    assert f'string_value: "{record["precision"]}"' in model_files[f"{network}/config.pbtxt"].decode()


def test_what_was_withdrawn_stays_withdrawn(provenance):
    text = (PROJECT / "README.md").read_text()
    assert not is_withdrawn(provenance) and WITHDRAWN in " ".join(text.replace("> ", "").replace("**", "").split())
    assert "0.98" not in text.split("## Params")[0].replace(results.published(HERE / "run"), "")


def test_no_picture_of_a_patient_is_published():
    names = {path.name for path in (HERE / "run").rglob("*.png")}
    assert names and names.isdisjoint({"failures.png", "duplicates.png"})
