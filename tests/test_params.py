"""params.yaml is read strictly."""

import pytest

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
    ("train_custom:", "train_custum:", "Unknown param train_custum.*Did you mean 'train_custom'"),
    ("  epochs: 30", "  epochs: many", "type int for train.epochs. Received: 'many'"),
    ("  epochs: 30", "  epochs: true", "type int for train.epochs. Received: True"),
    ("  epochs: 30", "  epochs: 0", "train.epochs between 1 and .* Received: 0"),
    ("  lr: 0.0001", "  lr: fast", "type float for train.lr. Received: 'fast'"),
    ("  horizontal_flip: true", "  horizontal_flip: 1", "type bool for train.augment.horizontal_flip"),
    ("  test_fraction: 0.2\n", "", "Expected prepare.test_fraction in params.yaml"),
    ("prepare:\n", "prepare: [\n", "not valid YAML"),
    ("  image_size: 224", "  image_size: 8", "prepare.image_size between 32 and 1024"),
    ("  group_by: runs", "  group_by: patients", "group_by to be one of runs, duplicates. Received: 'patients'"),
    ("  group_by: runs", "  group_by: 1", "type str for prepare.group_by"),
    ("  run_similarity: 0.8", "  run_similarity: 0.4", "prepare.run_similarity between 0.5 and 1"),
])
def test_a_wrong_file_is_refused_by_name(tmp_path, old, new, expected):
    with pytest.raises(params.ParamError, match=expected):
        params.load(changed(tmp_path, old, new))


def test_missing_file_names_the_folder(tmp_path):
    with pytest.raises(params.ParamError, match="from the project's folder"):
        params.load(tmp_path / "params.yaml")
