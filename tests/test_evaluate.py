"""The stage as a whole, on a few phantoms with untrained networks; and the model card."""

import json
import re
import shutil
from dataclasses import replace

import keras
import numpy as np
import pytest

from core import contract, files
from stages import evaluate, prepare
from stages.common import command
from stages.data import dataset, layouts
from stages.networks.registry import NETWORKS
from stages.reporting import card, diagrams, tables
from stages.scoring import answers, calibration, external, intervals, reports
from stages.training import run
from tools.results import table

SERVED = (*NETWORKS, contract.ENSEMBLE)
HISTORY = [{"epoch": 1, "phase": "all"} | {key: 0.5 for key in run.COLUMNS if key not in ("epoch", "phase")}]


def network(seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    pixels = keras.Input((None, None, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 5, strides=3, activation="relu")(pixels))
    wide = keras.initializers.RandomNormal(stddev=20.0)
    head = keras.layers.Dense(len(contract.CLASSES), "softmax", kernel_initializer=wide)
    return keras.Model(pixels, head(x))


def trained(folder) -> None:
    """Put small networks and their reports where training would."""
    for seed, one in enumerate(NETWORKS.values()):
        one.model.parent.mkdir(exist_ok=True)
        network(seed).save(one.model)
        written = folder / "reports" / one.stage
        files.write_text(written / "history.csv", run.history_csv(HISTORY))
        record = {"parameters": 12345, "weights": "none", "epochs": 7, "best_epoch": 6}
        files.write_json(written / "metrics.json", record)


def held_out() -> None:
    """Let the test split know its origins, and let its images count as of other sources that were set aside as well."""
    rows = [replace(row, origin="clinic") for row in dataset.read_manifest("test")]
    dataset.write_manifest(dataset.FOLDER / "test.csv", rows)
    dataset.write_manifest(dataset.FOLDER / "held_out.csv", [replace(row, origin="web") for row in rows[:3]])
    dataset.write_manifest(dataset.FOLDER / "held_out_duplicates.csv", [replace(rows[3], origin="web")])
    untyped = [replace(row, label="tumour", origin=origin) for row, origin in
               zip(rows[:3], ("br35h", "ward", "ward"), strict=True)]
    dataset.write_manifest(dataset.FOLDER / "untyped.csv", untyped)


@pytest.fixture(scope="module")
def workplace(tiny, phantoms, tmp_path_factory):
    """A folder where prepare and evaluate have run; four test images also count as duplicates of training images.

    Elsewhere is a folder of tumours of unknown type.
    """
    folder = tmp_path_factory.mktemp("evaluate")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        prepare.main(tiny)
        trained(folder)
        dataset.write_manifest(dataset.FOLDER / "test_duplicates.csv", dataset.read_manifest("train")[:4])
        held_out()
        shutil.copytree(phantoms / "pituitary", folder / "elsewhere/tumour")
        evaluate.main(replace(tiny, evaluate=replace(tiny.evaluate, bootstrap=50, external=["elsewhere"])))
    return folder


@pytest.fixture(scope="module")
def results(workplace) -> dict:
    return json.loads((workplace / "reports/evaluate/metrics.json").read_text())


def test_every_score_has_an_interval_around_it(results):
    for name in NETWORKS:
        one = results[name]
        ranges = one["intervals"]
        assert set(ranges) == set(one) - {"intervals", "temperature", "as_published", "pointing_game", "tta", "sources"}
        for label, values in one["classes"].items():
            assert set(ranges["classes"][label]) == set(values) - {"images"}
        assert all(ranges[key][0] <= one[key] <= ranges[key][1] for key in ("accuracy", "macro_f1", "nll", "brier"))


def test_the_decision_is_what_validation_says(workplace, results, tiny):
    decisions = json.loads((workplace / reports.DECISIONS).read_text())
    for name, decision in decisions.items():
        assert results[name]["temperature"] == decision["temperature"]
        assert decision["reached"] == (decision["review_threshold"] < 1)
        assert decision["accepted_error"] == tiny.evaluate.accepted_error
        if decision["reached"]:
            assert decision["validation_error_of_accepted"] <= decision["accepted_error"]


def test_averages_with_mirror_images_are_scored_beside_the_others(workplace, results):
    decisions = json.loads((workplace / reports.DECISIONS).read_text())
    text = (workplace / "MODEL_CARD.md").read_text()
    for name, decision in decisions.items():
        one = results[name]["tta"]
        assert 0 < decision["tta_review_threshold"] <= 1 and "uncalibrated" not in one | one["intervals"]
        assert one["nll"] != results[name]["nll"] and intervals.shown(one, "macro_f1") in text
    assert "averaged with mirror images" in (workplace / "reports/evaluate/report.txt").read_text()


def test_the_mean_of_all_networks_is_scored_beside_them(workplace, results):
    def read(name):
        lines = (workplace / f"reports/evaluate/{name}/predictions.csv").read_text().splitlines()[1:]
        return np.array([[float(one) for one in line.split(",")[3:-1]] for line in lines])

    mean = np.mean([read(name) for name in NETWORKS], axis=0)
    temperature = results[contract.ENSEMBLE]["temperature"]
    assert np.allclose(calibration.with_temperature(mean, temperature), read(contract.ENSEMBLE), atol=1e-4)
    assert f"`{contract.ENSEMBLE}` is the mean" in (workplace / "MODEL_CARD.md").read_text()


def test_networks_that_are_not_named_are_neither_needed_nor_scored_nor_averaged(workplace, tiny, tmp_path, monkeypatch):
    here = tmp_path / "here"
    shutil.copytree(workplace, here)
    monkeypatch.chdir(here)
    for name in ("custom", "resnet50"):
        NETWORKS[name].model.unlink()
    evaluate.main(replace(tiny, evaluate=replace(tiny.evaluate, bootstrap=0, networks=["transfer"])))
    assert list(json.loads(reports.DECISIONS.read_text())) == ["transfer"]
    assert contract.ENSEMBLE not in json.loads(reports.SCORES.read_text())
    assert "resnet50" not in (here / "MODEL_CARD.md").read_text()


def test_a_network_to_score_that_does_not_exist_is_named(tiny):
    with pytest.raises(command.StageError, match=r"evaluate.networks to hold names of custom.*Received: 'vgg'"):
        evaluate.main(replace(tiny, evaluate=replace(tiny.evaluate, networks=["vgg"])))


def test_the_average_with_the_mirror_image_by_hand():
    rows, labels = [], np.array([0, 1])
    one = answers.Answers(rows, labels, np.array([[0.7, 0.1, 0.1, 0.1], [0.25, 0.25, 0.25, 0.25]]))
    other = answers.Answers(rows, labels, np.array([[0.3, 0.5, 0.1, 0.1], [0.25, 0.25, 0.25, 0.25]]))
    mean = answers.averaged([one, other], [1.0, 1.0]).raw
    assert mean == pytest.approx(np.array([[0.5, 0.3, 0.1, 0.1], [0.25] * 4]))
    pixels = np.arange(2 * 3 * 4).reshape(2, 3, 4, 1).astype(np.uint8)
    assert answers.mirrored(dataset.Images(pixels, labels)).pixels[1, 2, 0, 0] == pixels[1, 2, 3, 0]


@pytest.fixture
def copy(workplace, tmp_path, monkeypatch):
    """A copy of the workplace, as current folder, in which evaluate may run again."""
    shutil.copytree(workplace, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


def test_networks_that_average_anyway_are_not_averaged_again(copy, tiny):
    evaluate.main(replace(tiny, evaluate=replace(tiny.evaluate, bootstrap=0, average_flip=True)))
    assert "tta" not in json.loads(reports.SCORES.read_text())["custom"]
    assert "tta_review_threshold" not in json.loads(reports.DECISIONS.read_text())["custom"]
    assert "Averaged with the mirror image" not in evaluate.CARD.read_text()


def test_predictions_and_scores_are_those_after_temperature(workplace, results):
    lines = (workplace / "reports/evaluate/custom/predictions.csv").read_text().splitlines()[1:]
    values = np.array([[float(one) for one in line.split(",")[3:-1]] for line in lines])
    labels = np.array([contract.CLASSES.index(line.split(",")[1]) for line in lines])
    assert -np.log(values[np.arange(len(labels)), labels]).mean() == pytest.approx(results["custom"]["nll"], abs=1e-3)
    assert results["custom"]["uncalibrated"]["nll"] != results["custom"]["nll"]


def test_the_published_test_counts_its_duplicates(workplace, results):
    clean, published = results["custom"], results["custom"]["as_published"]
    count = sum(one["images"] for one in clean["classes"].values())
    assert count == results["images"] and sum(one["images"] for one in published["classes"].values()) == count + 4
    assert "intervals" in published and "as published" in (workplace / "reports/evaluate/report.txt").read_text()


def test_without_duplicates_or_bootstrap_there_is_neither(copy, tiny, capsys):
    dataset.write_manifest(dataset.FOLDER / "test_duplicates.csv", [])
    evaluate.main(replace(tiny, evaluate=replace(tiny.evaluate, bootstrap=0)))
    one = json.loads(reports.SCORES.read_text())["custom"]
    assert "as_published" not in one and "intervals" not in one
    assert "No intervals were computed" in evaluate.CARD.read_text()
    printed = capsys.readouterr().out
    assert printed.startswith(f"custom, tumour or not: sensitivity {one['tumour']['sensitivity']:.3f}, specificity")
    whom = "8 test images of 8 pictures, 8 picture groups"
    assert f"custom, on {whom}: accuracy {one['accuracy']:.3f}, macro F1" in printed and "MODEL_CARD.md." in printed


def test_each_source_is_scored_for_each_network_and_their_mean(workplace, results):
    text = (workplace / "MODEL_CARD.md").read_text()
    for name in SERVED:
        found = results[name]["sources"]
        assert {source: one["images"] for source, one in found.items()} == {
            "test/clinic": 8, "web": 3, "untyped/br35h": 1, "untyped/ward": 2, "elsewhere": 6}
        assert found["untyped/ward"]["tumours"] == 2 and found["untyped/ward"]["accuracy"] is None
        assert 0 <= found["untyped/ward"]["missed"] <= 1 and len(found["untyped/ward"]["intervals"]["missed"]) == 2
        assert found["test/clinic"]["macro_f1"] == results[name]["macro_f1"]
        assert (found["web"]["known"], found["elsewhere"]["known"], found["elsewhere"]["accuracy"]) == (1, 0, None)
        assert f"| {name} | elsewhere | 6 picture groups | 6 | 6 | - | - | " in text
    assert len((workplace / "reports/evaluate/sources.csv").read_text().splitlines()) == 1 + 5 * len(SERVED)
    assert "elsewhere, 6 picture groups: images 6" in (workplace / "reports/evaluate/report.txt").read_text()


def test_tumour_or_not_comes_first(workplace, results):
    missed = intervals.shown(results["custom"], "missed", "tumour")
    first, card_text = (workplace / "reports/evaluate/report.txt").read_text().splitlines()[0], evaluate.CARD.name
    assert first.startswith("custom, tumour or not: ") and f"tumours called notumor {missed}" in first
    table = (workplace / card_text).read_text().split("\n|")
    assert table[1].startswith("  | custom") and table[3].startswith(" sensitivity |") and missed in table[5]


def test_a_published_test_set_of_few_new_patients_is_scored_in_three_steps(copy, tiny):
    """None of the new ones has a glioma: its recall has no value, and macro scores are those of the other classes."""
    rows = [row for row in dataset.read_manifest("test") if row.label != "glioma"]
    dataset.write_manifest(dataset.FOLDER / "test.csv", rows)
    dataset.write_manifest(dataset.FOLDER / "test_patients.csv", dataset.read_manifest("train")[4:7])
    evaluate.main(replace(tiny, evaluate=replace(tiny.evaluate, bootstrap=20)))
    one = json.loads(reports.SCORES.read_text())["custom"]
    counted = [sum(values["images"] for values in part["classes"].values())
               for part in (one, one["without_copies"], one["as_published"])]
    assert np.diff(counted).tolist() == [3, 4]
    assert "clean: new pictures and patients | without copies of training pictures |" in evaluate.CARD.read_text()
    assert one["classes"]["glioma"]["recall"] is None and one["intervals"]["classes"]["glioma"]["recall"] is None
    assert 0 <= one["macro_f1"] <= 1 and ",," in (copy / "reports/evaluate/custom/roc.csv").read_text()


def test_a_missing_source_stops_before_anything_is_predicted(copy, tiny, capsys):
    with pytest.raises(command.StageError, match="'nowhere', which is neither"):
        evaluate.main(replace(tiny, evaluate=replace(tiny.evaluate, external=["nowhere"])))
    assert capsys.readouterr().out == ""


def test_a_source_may_not_be_called_like_the_one_that_is_held_out(copy, tiny):
    shutil.move("elsewhere", "web")
    found = external.sources(layouts.places(["web"], "evaluate.external"), 64, 0.98)
    with pytest.raises(command.StageError, match="'web'. Rename it"):
        next(found)


def test_an_empty_test_split_is_an_error_in_words(copy, tiny, capsys):
    dataset.write_manifest(dataset.FOLDER / "test.csv", [])
    with pytest.raises(command.StageError, match="none; 0 in test, 4 in test_duplicates.*prepare.test_source"):
        evaluate.main(tiny)
    assert capsys.readouterr().out == ""


def test_figures_and_tables_are_written(workplace):
    names = {"predictions.csv", "roc.csv", "reliability.csv", "risk_coverage.csv", "confusion.png", "roc.png",
             "reliability.png", "risk_coverage.png", "learning_curves.png"}
    for name in NETWORKS:
        assert {path.name for path in (workplace / "reports/evaluate" / name).iterdir()} == names
    ensemble = workplace / "reports/evaluate" / contract.ENSEMBLE
    assert {path.name for path in ensemble.iterdir()} == names - {"learning_curves.png"}
    shown = {str(path.relative_to(workplace / "data/shown/evaluate")) for path in (workplace / "data").rglob("*.png")
             if "shown/evaluate" in str(path)}
    assert shown == {f"{name}/failures.png" for name in SERVED}


def test_a_csv_keeps_whole_numbers_whole():
    text = tables.columns_csv({"images": np.array([2, 10]), "risk": np.array([0.25, 1 / 3])}, 2)
    assert text == "images,risk\n2,0.25\n10,0.33\n"


def test_the_most_confident_errors_come_first():
    probabilities = np.array([[0.6, 0.4, 0, 0], [0.9, 0.1, 0, 0], [0.2, 0.8, 0, 0], [1, 0, 0, 0]])
    assert answers.most_confident_errors(np.array([1, 1, 0, 0]), probabilities, limit=9).tolist() == [1, 2, 0]
    assert answers.most_confident_errors(np.array([1, 1, 0, 0]), probabilities, limit=1).tolist() == [1]


def test_no_errors_make_a_figure_too(tmp_path):
    images = dataset.Images(np.zeros((4, 8, 8, 1), np.uint8), np.arange(4))
    diagrams.failures(images, np.eye(4), "title", tmp_path / "failures.png")
    assert (tmp_path / "failures.png").stat().st_size > 1000


def written(folder) -> dict:
    """Return the arguments of the card from the files of a run."""
    def read(name):
        return json.loads((folder / "reports" / name).read_text())

    runs = {name: read(f"{one.stage}/metrics.json") for name, one in NETWORKS.items()}
    return {"data": read("prepare/data.json"), "runs": runs, "results": read("evaluate/metrics.json"),
            "decisions": read("evaluate/decision.json")}


def test_the_card_is_that_of_the_files(workplace):
    assert (workplace / "MODEL_CARD.md").read_text() == card.card(**written(workplace))


def test_the_card_counts_tumours_of_unknown_type_where_there_are_any(workplace):
    facts = written(workplace)
    counted = dict.fromkeys(contract.CLASSES, 5) | {"tumour": 7}
    text = card.card(**facts | {"data": facts["data"] | {"splits": {"train": counted}, "origins": {"br35h": counted}}})
    assert "| pituitary | tumour | all |" in text and text.count("| 5 | 7 | 27 |") == 2
    assert "| tumour |" not in card.card(**facts)


def test_the_card_holds_the_numbers_of_the_files(workplace):
    facts = written(workplace)
    text = card.card(**facts)
    for name, one in facts["results"].items():
        if isinstance(one, dict):
            assert all(intervals.shown(one, key) in text for key in card.OVERALL)
            assert f"{facts['decisions'][name]['temperature']:.3f}" in text
    assert "12,345" in text and facts["data"]["digest"] in text and contract.DISCLAIMER in text


def test_the_table_of_readme_shows_the_intervals(workplace, results):
    row = next(line for line in table(workplace).splitlines() if line.startswith("| custom"))
    accuracy, macro_f1, _, error = row.strip(" |").split(" | ")[-4:]
    assert accuracy == intervals.shown(results["custom"], "accuracy") and "(" in accuracy and "(" in macro_f1
    assert error == f"{results['custom']['ece']:.3f}"


def test_the_card_warns_of_phantoms_only_when_they_are(workplace):
    facts = written(workplace)
    real = facts | {"data": facts["data"] | {"source": "dataset/Training"}}
    assert "say nothing about patients" in card.card(**facts)
    assert "phantom" not in card.card(**real) and "The ids of the patients are lost" in card.card(**real)


def test_the_card_says_whose_the_images_are_where_that_is_known(workplace):
    facts = written(workplace)
    known = facts["data"] | {"source": "dataset/Training", "patients": 7, "images_of_patients": 40}
    results = facts["results"] | {"patients": 7, "picture_groups": 2}
    text = card.card(**facts | {"data": known, "results": results})
    assert "ids of the patients are lost" not in text and "7 patients and 2 picture groups" in text
    assert "7 patients are known, of 40 of the 48 images, and no split cuts them" in text
    cut = card.card(**facts | {"data": known | {"group_by": "runs"}})
    assert "splits may cut them (`prepare.group_by=runs`)" in cut and "Images of one patient form a group" not in cut


def test_the_card_shows_the_source_probe_when_there_is_one(workplace):
    facts = written(workplace)
    probe = {"accuracy": 0.731, "macro_f1": 0.702, "recall": dict.fromkeys(contract.CLASSES, 0.613),
             "majority_accuracy": 0.251, "notumor_roc_auc": 0.987}
    data = {key: value for key, value in facts["data"].items() if key != "source_probe"}
    assert "## Shortcut baseline" not in card.card(**facts | {"data": data})
    text = card.card(**facts | {"data": data | {"source_probe": probe}})
    assert all(number in text for number in ("0.731", "0.702", "0.613", "0.251", "0.987"))


def test_the_card_says_when_no_threshold_was_found(workplace):
    facts = written(workplace)
    never = {"review_threshold": 1.0, "reached": False, "validation_coverage": 0.0,
             "validation_error_of_accepted": None}
    text = card.card(**facts | {"decisions": {name: one | never for name, one in facts["decisions"].items()}})
    assert len(re.findall("Every image needs a review", text)) == len(SERVED)


def test_what_was_decided_is_said():
    decision = calibration.decide(np.zeros(4, int), np.tile([0.2, 0.6, 0.1, 0.1], (4, 1)), 0.02)
    assert "every image needs a review" in tables.decision_text(decision)


def test_a_third_network_joins_the_card_without_an_edit(workplace):
    facts = written(workplace)
    facts["runs"]["third"] = facts["runs"]["custom"]
    text = card.card(**facts)
    assert "All networks saw the train split only" in text and "the mean of what all networks answer" in text
