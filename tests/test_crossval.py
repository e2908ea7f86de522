"""Cross-validation on a few phantoms: who is tested by whom, what is kept, and what the numbers are made of."""

import csv
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import yaml
from keras import layers

from core import contract
from stages import crossval, prepare
from stages.common import command
from stages.data import dataset
from stages.folds import assignment, stored
from stages.folds.params import Crossval
from stages.networks import registry
from stages.networks.registry import Network
from stages.scoring import answers, calibration
from stages.training import state
from stages.training.phases import Recipe, phases_from_scratch
from tests.conftest import PROJECT

ONE = stored.FOLDER / "one"
METRICS = crossval.REPORTS / "metrics.json"


def recipe(own, train, size) -> Recipe:
    """Return a network of one convolution, with dropout and batch normalisation as the others."""
    pixels = keras.Input((None, None, 3))
    x = layers.BatchNormalization()(layers.Conv2D(8, 8, strides=8, activation="relu")(pixels))
    x = layers.Dropout(own.dropout, name="dropout")(layers.GlobalAveragePooling2D()(x))
    network = keras.Model(pixels, layers.Dense(len(contract.CLASSES), "softmax", dtype="float32")(x))
    return Recipe(network, phases_from_scratch(network, train, size, own.start_batch_size), train)


@pytest.fixture(scope="module", autouse=True)
def networks():
    """Let the pipeline have two small networks instead of its own, whose trainings take ten times as long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "NETWORKS", {name: Network(name, name, "train_custom", "") for name in ("one", "two")})
        for network in registry.NETWORKS.values():
            patch.setitem(sys.modules, network.module, SimpleNamespace(recipe=recipe))
        yield


@pytest.fixture(scope="module")
def small(tiny):
    """Params of a run of seconds: two folds of one network."""
    train = replace(tiny.train, epochs=2, start=replace(tiny.train.start, epochs=0))
    return replace(tiny, train=train, evaluate=replace(tiny.evaluate, bootstrap=20),
                   crossval=replace(tiny.crossval, folds=2, networks=["one"]))


@pytest.fixture(scope="module")
def finished(small, tmp_path_factory) -> Path:
    """A folder where prepare and crossval have run."""
    folder = tmp_path_factory.mktemp("crossval")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        prepare.main(small)
        crossval.main(small)
    return folder


@pytest.fixture
def copy(finished, tmp_path, monkeypatch) -> Path:
    """A copy of it, as current folder, in which crossval may run again."""
    shutil.copytree(finished, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def contents() -> dict[str, tuple[int, str]]:
    """Return when each fold's file was written, and what it holds."""
    return {path.name: (path.stat().st_mtime_ns, path.read_text()) for path in sorted(ONE.iterdir())}


def test_every_image_is_tested_once_and_its_group_was_not_trained_on(copy, small):
    rows = assignment.pool()
    tested = [line for number in (1, 2) for line in lines(ONE / f"fold_{number}.csv") if line["split"] == "test"]
    assert sorted(line["digest"] for line in tested) == sorted(row.digest for row in rows) and len(rows) == 48
    for fold in assignment.folds(rows, small.crossval, small.prepare.validation_fraction):
        groups = {split: {rows[index].group for index in inside} for split, inside in fold.splits.items()}
        assert sum(map(len, groups.values())) == len(set.union(*groups.values())) == len({row.group for row in rows})
        seen = {line["group"] for line in tested if line["fold"] == str(fold.number)}
        assert seen == {str(group) for group in groups["test"]}


def test_a_second_call_trains_nothing(copy, small, capsys):
    before, numbers = contents(), METRICS.read_text()
    crossval.main(small)
    assert contents() == before and METRICS.read_text() == numbers
    assert "2 of 2 trainings were finished before" in capsys.readouterr().out


def test_only_the_missing_fold_is_trained_and_goes_on_where_it_was_interrupted(copy, small, monkeypatch, capsys):
    before, write = contents(), state.save_state
    (ONE / "fold_2.csv").unlink()

    def cut(path, reached):
        write(path, reached)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(state, "save_state", cut)
        crossval.main(small)
    crossval.main(small)
    after, text = contents(), capsys.readouterr().out
    assert after["fold_1.csv"] == before["fold_1.csv"] and after["fold_2.csv"][1] == before["fold_2.csv"][1]
    assert "Fold 2 of 2, one: 0 minutes so far; 1 of 2 trainings are left" in text and "1 epochs are done" in text


def test_a_fold_of_other_params_is_trained_anew_and_that_is_said(copy, small, capsys):
    before = contents()
    crossval.main(replace(small, train=replace(small.train, epochs=1)))
    assert capsys.readouterr().out.count("is of other params or data") == 2
    assert all(after[1] != before[name][1] for name, after in contents().items())


def test_half_a_file_is_no_finished_fold(copy, small, capsys):
    job = crossval.jobs(assignment.pool(), small)[0]
    assert crossval.stored_answers(job) is not None
    (ONE / "fold_1.csv").write_text("".join((ONE / "fold_1.csv").read_text().splitlines(True)[:-1]))
    assert crossval.stored_answers(job) is None and "fold_1.csv is of other params or data, or not whole" in (
        capsys.readouterr().out)


def test_all_images_are_scored_together_each_after_the_temperature_of_its_fold(finished):
    found = json.loads((finished / METRICS).read_text())["one"]
    tested = [line for number in (1, 2) for line in lines(finished / ONE / f"fold_{number}.csv")
              if line["split"] == "test"]
    raw = np.array([[float(line[label]) for label in contract.CLASSES] for line in tested])
    labels = np.array([contract.CLASSES.index(line["label"]) for line in tested])
    calibrated = np.concatenate([calibration.with_temperature(one[None], float(line["temperature"]))
                                 for one, line in zip(raw, tested, strict=True)])
    assert found["nll"] == pytest.approx(-np.log(calibrated[np.arange(48), labels]).mean(), abs=1e-5)
    assert found["accuracy"] == pytest.approx((raw.argmax(axis=1) == labels).mean(), abs=1e-6)
    assert found["intervals"]["accuracy"][0] <= found["accuracy"] <= found["intervals"]["accuracy"][1]


def test_the_scores_of_the_folds_and_their_spread(finished):
    found = json.loads((finished / METRICS).read_text())["one"]
    table = lines(finished / crossval.REPORTS / "folds.csv")
    accuracies = [one["accuracy"] for one in found["by_fold"].values()]
    assert [float(line["accuracy"]) for line in table] == accuracies and len(accuracies) == 2
    assert found["over_folds"]["accuracy"] == {
        "mean": pytest.approx(np.mean(accuracies), abs=1e-6), "min": min(accuracies), "max": max(accuracies)}
    shares = [{name: float(line[f"tumour_{name}"]) for name in ("sensitivity", "specificity")} for line in table]
    for name in ("sensitivity", "specificity"):  # folds hold equally many images with a tumour, and without
        assert found["tumour"][name] == pytest.approx(np.mean([one[name] for one in shares]), abs=1e-5)
    assert [(line["network"], line["fold"], line["images"]) for line in table] == [("one", "1", "24"),
                                                                                   ("one", "2", "24")]


def test_several_networks_are_averaged_in_each_fold(copy, small, capsys):
    both = replace(small, crossval=replace(small.crossval, networks=[]))
    crossval.main(both)
    assert "2 of 4 trainings were finished before" in capsys.readouterr().out
    todo = crossval.jobs(assignment.pool(), both)
    assert [(job.network.name, job.fold.number) for job in todo] == [("one", 1), ("two", 1), ("one", 2), ("two", 2)]
    means = [answers.ensemble([crossval.stored_answers(job) for job in todo[start : start + 2]])["test"]
             for start in (0, 2)]
    right = np.concatenate([one.raw.argmax(axis=1) == one.labels for one in means])
    assert json.loads(METRICS.read_text())["ensemble"]["accuracy"] == pytest.approx(right.mean(), abs=1e-6)
    assert [line["network"] for line in lines(crossval.REPORTS / "folds.csv")] == [
        "one", "one", "two", "two", "ensemble", "ensemble"]


def rows_of(sizes: dict[str, list[int]]) -> list[dataset.Row]:
    """Return images in groups of the given sizes, by class."""
    groups = [(label, size) for label, listed in sizes.items() for size in listed]
    return [dataset.Row("", label, number, f"{number} {index}", "") for number, (label, size) in enumerate(groups)
            for index in range(size)]


def test_folds_have_their_part_of_every_class_although_groups_are_of_all_sizes():
    random = np.random.default_rng(0)
    rows = rows_of({label: random.integers(1, 30, 40).tolist() for label in contract.CLASSES})
    labels = np.array([contract.CLASSES.index(row.label) for row in rows])
    for fold in assignment.folds(rows, Crossval(folds=5, networks=[], seed=1), 0.2):
        shares = np.bincount(labels[fold.splits["test"]]) / np.bincount(labels)
        assert np.abs(shares - 0.2).max() < 0.04
        chosen = np.bincount(labels[fold.splits["validation"]]) / np.bincount(labels)
        assert chosen.min() > 0.11 and chosen.max() <= 0.17


def test_tumours_of_unknown_type_train_wherever_their_group_is_not_held_out():
    typed = rows_of({label: [4] * 10 for label in contract.CLASSES})
    untyped = [dataset.Row("", "tumour", number, f"u {number}", "") for number in (3, 500)]  # 3: of a glioma as well
    rows = [untyped[0], *typed, untyped[1]]
    plan = assignment.folds(rows, Crossval(folds=5, networks=[], seed=1), 0.2)
    trained = [{int(index) for index in fold.splits["train"]} for fold in plan]
    held = [{rows[index].group for name in ("validation", "test") for index in fold.splits[name]} for fold in plan]
    assert all(len(rows) - 1 in one and (0 in one) == (3 not in groups)
               for one, groups in zip(trained, held, strict=True))
    assert {0 in one for one in trained} == {True, False}
    tested = sorted(int(index) for fold in plan for index in fold.splits["test"])
    assert tested == list(range(1, len(rows) - 1)) and not {0, len(rows) - 1} & {
        int(index) for fold in plan for index in fold.splits["validation"]}


@pytest.mark.parametrize("few, expected", [
    ([5], "at least 3 groups of every class, one for each fold. Received: 1 of pituitary. Lower crossval.folds"),
    ([9, 9, 9], "every class in the validation split of fold 1. Received: none of pituitary. Lower crossval.folds")])
def test_too_few_groups_of_a_class_are_refused(few, expected):
    rows = rows_of({label: [4] * 10 for label in contract.CLASSES} | {"pituitary": few})
    with pytest.raises(command.StageError, match=expected):
        assignment.folds(rows, Crossval(folds=3, networks=[], seed=1), 0.2)


def test_an_unknown_network_is_refused():
    assert [network.name for network in registry.chosen(["two"], "crossval.networks")] == ["two"]
    with pytest.raises(command.StageError, match="names of one, two. Received: 'vgg'"):
        registry.chosen(["one", "vgg"], "crossval.networks")


def test_splits_that_take_no_part_are_named():
    counted = {"train": {"glioma": 9}, "test_duplicates": {"glioma": 3, "notumor": 1}, "held_out": {"glioma": 0}}
    assert assignment.left_out({"splits": counted}) == {"test_duplicates": 4}


def test_what_it_writes_outside_git_is_ignored_and_outlives_an_interruption():
    stage = yaml.safe_load((PROJECT / "crossval/dvc.yaml").read_text())["stages"]["crossval"]
    assert stage["outs"][0] == {str(stored.FOLDER): {"cache": False, "persist": True}}
    assert f"/{stored.FOLDER}" in (PROJECT / ".gitignore").read_text().split()
