"""What it costs to add something, shown by adding it to a copy of the repository."""

import csv
import json
import re
import sys
from pathlib import Path

import pytest

from tests.support import road

FIELD = '''    familiarity: Annotated[Probability | None, Column("Familiarity", "percent")] = Field(
        description="How close the image is to those of the training.")
'''
EDITS = [  # file, text before which something comes, what comes
    ("client/answer.py", "    warnings: tuple[str, ...] = Field(", FIELD),
    ("client/answer.py", "            warnings=tuple(warnings),\n", "            familiarity=0.25,\n"),
]
"""The field, and what computes it. A number of the network itself also needs its layer and its output's name."""
NETWORK = '''"""One convolution: to show what a network costs."""

import keras
from keras import layers

from core import contract
from stages.common.sections import Whole, section
from stages.data import preprocess
from stages.training.params import Train
from stages.training.phases import Recipe, phases_from_scratch


@section
class TrainTiny:
    """Its width."""

    filters: Whole
    start_batch_size: Whole


def recipe(own: TrainTiny, train: Train, size: int) -> Recipe:
    """Return the network and its phases for images of a side in pixels."""
    pixels = keras.Input((None, None, preprocess.CHANNELS), name=contract.PIXELS)
    x = layers.Conv2D(own.filters, 8, strides=8, activation="relu", name="conv")(pixels)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    outputs = layers.Dense(len(contract.CLASSES), activation="softmax", dtype="float32", name=contract.PROBABILITIES)(x)
    network = keras.Model(pixels, outputs, name="tiny")
    return Recipe(network, phases_from_scratch(network, train, size, own.start_batch_size), train)
'''
DOOR = '''"""Trains the tiny network.

    python -m stages.train_tiny
"""

from stages.networks import tiny
from stages.training import run

if __name__ == "__main__":
    run.main("train_tiny", tiny.recipe, __doc__)
'''
LISTED = re.compile(r"(models|reports|reports/evaluate)/(?:train_)?resnet(?:50)?(?=[./,])[\w./]*")
"""What the stages behind the trainings read of one network."""
SERVE = """
import json, sys
from pathlib import Path

import pytest
from serving.server import Server
with Server(Path("model_repository")) as server:
    sys.argv[1:1] = [server.url]
    exec(sys.argv.pop())
"""
ASK = """
import io, json, sys
from pathlib import Path

import pytest
from webapp import create_app
url, scan, folder = sys.argv[1:]
web = create_app({"TRITON_URL": url, "AUDIT_LOG": folder}).test_client()
def ask(path, accept, name="file"):
    return web.post(path, data={name: (io.BytesIO(Path(scan).read_bytes()), "a.png")}, headers={"Accept": accept})
print(json.dumps({
    "predict": ask("/predict", "application/json").json, "explain": ask("/explain", "application/json").json,
    "batch": ask("/predict/batch", "application/json").json["results"][0], "page": ask("/predict", "text/html").text,
    "described": web.get("/openapi.json").json["components"]["schemas"]["Prediction"]}))
"""


def add_network(copy: Path) -> None:
    """Add a network as docs/extending.md says: a module, a door, an entry, a section, and its place in the pipeline."""
    (copy / "stages/networks/tiny.py").write_text(NETWORK)
    (copy / "stages/train_tiny.py").write_text(DOOR)
    registry, params, pipeline = (copy / name for name in ("stages/networks/registry.py", "params.yaml", "dvc.yaml"))
    entry = '    Network("resnet50", "ResNet-50", "train_resnet", "TrainResnet"),\n'
    text = registry.read_text()
    assert entry in text
    own = entry.replace("resnet50", "tiny").replace("ResNet-50", "Tiny network").replace("_resnet", "_tiny")
    registry.write_text(text.replace(entry, entry + own.replace("TrainResnet", "TrainTiny")))
    params.write_text(params.read_text().replace("evaluate:\n", "train_tiny:\n  filters: 4\n  start_batch_size: 8\n"
                                                                "evaluate:\n", 1))
    before, training, after = re.split(r"(  train_resnet:\n(?:    .*\n|           .*\n)+)", pipeline.read_text())
    own = training.replace("train_resnet", "train_tiny").replace("resnet50", "tiny")
    after = LISTED.sub(lambda found: f"{found[0]}, {re.sub('resnet(50)?', 'tiny', found[0])}",
                       after.split("\nmetrics:")[0]) + "\nmetrics:" + after.split("\nmetrics:")[1]
    pipeline.write_text(before + training + own + after.replace(" train_resnet,", " train_resnet, train_tiny,", 1))


def add_class(copy: Path) -> None:
    """Add a class as docs/extending.md says: its name, and for phantoms a painter and its tissue."""
    for name, old, new in (
            ("core/classes.json", '"notumor", "pituitary"]', '"metastasis", "notumor", "pituitary"]'),
            ("stages/data/phantom/tumours.py", '    "meningioma": Painter(',
             '    "metastasis": Painter(place_glioma, paint_glioma, mass_effect=True),\n    "meningioma": Painter('),
            ("stages/data/phantom/signals.py", '    "bone": (',
             '    "metastasis": (0.9, 1100, 90, 0.7),\n    "bone": (')):
        text = (copy / name).read_text()
        assert text.count(old) == 1, name
        (copy / name).write_text(text.replace(old, new))


@pytest.mark.slow
def test_a_network_and_a_class_go_the_whole_way(tmp_path):
    copy = road.clone(tmp_path / "copy")
    add_network(copy)
    add_class(copy)
    road.run(["git", "add", "-A"], copy)
    road.run(["dvc", "exp", "run", *road.overrides(**{"prepare.phantom_per_class": 10, "train.epochs": 1})], copy)
    scan = copy / "scan.png"
    scan.write_bytes(next((copy / "data/prepared/images").rglob("*.png")).read_bytes())

    asking = ASK.replace('"a.png")}', '"a.png"), "model": "tiny"}')
    done = road.run([sys.executable, "-c", SERVE, str(scan), str(tmp_path / "log"), asking], copy)
    found = json.loads(done.stdout.splitlines()[-1])
    five = ["glioma", "meningioma", "metastasis", "notumor", "pituitary"]
    assert found["predict"]["model_type"] == "tiny" and list(found["predict"]["all_probabilities"]) == five
    assert found["explain"]["explained_class"] in five and found["batch"]["predicted_class"] in five
    assert found["described"]["properties"]["predicted_class"]["enum"] == five
    assert "Tiny network" in found["page"] and "Metastasis" in found["page"]
    scores = json.loads((copy / "reports/evaluate/metrics.json").read_text())
    assert list(scores["tiny"]["classes"]) == five and "tiny" in (copy / "MODEL_CARD.md").read_text()
    plots = json.loads(road.run(["dvc", "plots", "show", "--json"], copy).stdout)["data"]
    assert {value["field"] for value in plots["ROC of custom"][0]["content"]["data"]["values"]} == set(five)


def test_a_field_costs_its_declaration_and_its_computation(server, scans, tmp_path):
    copy = road.clone(tmp_path / "copy")
    for name, before, more in EDITS:
        text = (copy / name).read_text()
        assert text.count(before) == 1
        (copy / name).write_text(text.replace(before, more + before))
    scan, table, log = tmp_path / "scan.png", tmp_path / "table.csv", tmp_path / "audit"
    scan.write_bytes(scans[1])

    done = road.run([sys.executable, "-c", ASK, server.url, str(scan), str(log)], copy)
    found = json.loads(done.stdout.splitlines()[-1])
    for answer in ("predict", "explain", "batch"):
        assert found[answer]["familiarity"] == 0.25, answer
    assert found["described"]["properties"]["familiarity"]["description"].startswith("How close")
    assert "familiarity" in found["described"]["required"] and found["described"]["examples"][0]["familiarity"] == 0.25
    page = "".join(found["page"].split("\n"))
    assert "<dt>Familiarity</dt><dd>25.0 %</dd>" in page and page.count(">Familiarity<") == 3  # two tables, the report
    assert "&#34;25.0 %&#34;" in page  # the line of the tab's history

    command = [sys.executable, "-m", "client", str(scan), "--url", server.url]
    assert json.loads(road.run([*command, "--json"], copy).stdout)["familiarity"] == 0.25
    road.run([*command, "--output", str(table)], copy)
    with table.open(newline="") as file:
        assert [row["familiarity"] for row in csv.DictReader(file)] == ["0.25"]
    records = [json.loads(line) for line in (log / "audit-000001.jsonl").read_text().splitlines()]
    assert [record["familiarity"] for record in records] == [0.25] * 4
