"""params.yaml is read strictly."""

import subprocess
import sys
from dataclasses import asdict, fields, replace

import pytest
import yaml
from pydantic import ValidationError

from stages.common import params
from tests.conftest import PROJECT


def changed(tmp_path, old: str, new: str):
    """Return a copy of the committed params with one line replaced."""
    text = (PROJECT / "params.yaml").read_text()
    assert old in text
    path = tmp_path / "params.yaml"
    path.write_text(text.replace(old, new, 1))
    return path


@pytest.mark.parametrize("written, value", [("1e-3", 1e-3), ("3e-05", 3e-5), ("0.001", 1e-3), ("1", 1.0)])
def test_learning_rate_is_a_float_however_it_is_written(tmp_path, written, value):
    knobs = params.load(changed(tmp_path, "lr: 0.0001", f"lr: {written}"))
    assert knobs.train.lr == value and isinstance(knobs.train.lr, float)


@pytest.mark.parametrize("old, new, expected", [
    ("  batch_size: 32", "  batchsize: 32", "Unknown param train.batchsize.*Did you mean 'batch_size'"),
    ("    zoom: 0.15", "    zom: 0.15", "Unknown param train.augment.zom.*Did you mean 'zoom'"),
    ("  seed: 42", "  1: 42", "Unknown param prepare.1. Expected one of .*'seed'"),
    ("train_custom:", "train_custum:", "Unknown param train_custum.*Did you mean 'train_custom'"),
    ("  spatial_dropout: false", "  spatial: false", "Unknown param train_custom.spatial. .*mean 'spatial_dropout'"),
    ("  epochs: 30", "  epochs: many", "type int for train.epochs. Received: 'many'"),
    ("  epochs: 30", "  epochs: true", "type int for train.epochs. Received: True"),
    ("  epochs: 30", "  epochs: 30.0", "type int for train.epochs. Received: 30.0"),
    ("  epochs: 30", "  epochs: 0", "train.epochs between 1 and 100000. Received: 0"),
    ("  epochs: 30", "  epochs: null", "type int for train.epochs. Received: None"),
    ("  lr: 0.0001", "  lr: fast", "type float for train.lr. Received: 'fast'"),
    ("  lr: 0.0001", "  lr: true", "type float for train.lr. Received: True"),
    ("  lr: 0.0001", "  lr: [1]", r"type float for train.lr. Received: \[1\]"),
    ("  lr: 0.0001", "  lr: .nan", "train.lr between 1e-08 and 10. Received: nan"),
    ("  epochs: null", "  epochs: 0", "train_resnet.epochs between 1 and 100000. Received: 0"),
    ("  horizontal_flip: true", "  horizontal_flip: 1", "type bool for train.augment.horizontal_flip"),
    ("  test_fraction: 0.2\n", "", "Expected prepare.test_fraction in params.yaml"),
    ("prepare:\n", "prepare: [\n", "not valid YAML"),
    ("  image_size: 224", "  image_size: 8", "prepare.image_size between 32 and 1024"),
    ("  group_by: patients", "  group_by: people", "one of patients, runs, duplicates. Received: 'people'"),
    ("  group_by: patients", "  group_by: 1", "group_by to be one of patients, runs, duplicates. Received: 1"),
    ("  source: phantom", "  source: 1", "type str for prepare.source. Received: 1"),
    ("  run_similarity: 0.8", "  run_similarity: 0.4", "prepare.run_similarity between 0.5 and 1"),
])
def test_a_wrong_file_is_refused_by_name_in_one_line(tmp_path, old, new, expected):
    with pytest.raises(params.ParamError, match=expected) as refusal:
        params.load(changed(tmp_path, old, new))
    assert "\n" not in str(refusal.value) or "YAML" in expected


@pytest.mark.parametrize("text, expected", [
    ("", "the top of the file. Received: None"), ("[1]", r"the top of the file. Received: \[1\]"),
    ("prepare: 3", "Expected a section with keys at prepare.. Received: 3")])
def test_what_is_no_section_is_refused(tmp_path, text, expected):
    path = tmp_path / "params.yaml"
    tree = yaml.safe_load((PROJECT / "params.yaml").read_text())
    path.write_text(yaml.safe_dump(tree | {"prepare": 3}) if text == "prepare: 3" else text)
    with pytest.raises(params.ParamError, match=expected):
        params.load(path)


def test_missing_file_names_the_folder(tmp_path):
    with pytest.raises(params.ParamError, match="from the project's folder"):
        params.load(tmp_path / "params.yaml")


def test_all_sections_come_in_the_order_of_the_file_and_as_written(defaults):
    tree = yaml.safe_load((PROJECT / "params.yaml").read_text())
    assert asdict(defaults) == tree and list(asdict(defaults)) == list(tree)


def test_a_changed_copy_is_checked_too(defaults):
    assert replace(defaults.train, epochs=4).epochs == 4
    with pytest.raises(ValidationError):
        replace(defaults.train, epochs=0)


def test_a_stage_gets_only_what_it_declares(defaults):
    kept = params.only(defaults, ["prepare.image_size", "train"])
    assert [field.name for field in fields(kept)] == ["prepare", "train"] and kept.train is defaults.train
    assert vars(kept.prepare) == {"image_size": defaults.prepare.image_size}


@pytest.mark.parametrize("stage", ["prepare", "train_custom"])
def test_a_mistake_in_a_section_of_another_stage_stops_a_stage_before_it_begins(tmp_path, stage):
    changed(tmp_path, "  tolerance: 0.0001", "  tolerence: 0.0001")
    done = subprocess.run([sys.executable, "-m", f"stages.{stage}"], cwd=tmp_path, capture_output=True, text=True,
                          env={"PYTHONPATH": str(PROJECT)})
    assert done.returncode == 1 and done.stdout == "" and not (tmp_path / "data").exists()
    assert done.stderr.splitlines() == [done.stderr.strip()] and "Did you mean 'tolerance'" in done.stderr
