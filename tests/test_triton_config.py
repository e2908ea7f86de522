"""Triton's configurations as messages: what is read, changed and written again says the same."""

import json

import pytest
import yaml

from core import triton_config
from tests.conftest import PROJECT

CONFIG = '''# A comment, with "quotes" and { braces
name: "custom" platform: "ensemble"
output [ { name: "p" label_filename: "labels.txt" }, { name: "q" label_filename: "labels.txt" }, { name: "r" } ]
parameters { key: "note" value: { string_value: "a # b } c \\"d\\"" } }
ensemble_scheduling { step [ { model_name: "one" }, { model_name: "two" } ] }
'''


@pytest.fixture
def path(tmp_path):
    """A configuration in the forms that people and older releases write."""
    file = tmp_path / triton_config.FILE
    file.write_text(CONFIG)
    return file


def test_comments_and_signs_inside_texts_mislead_nobody(path):
    found = triton_config.read(path)
    assert triton_config.steps(found) == ("one", "two") and triton_config.labels(found) == ("labels.txt",)
    assert triton_config.parameters(found) == {"note": 'a # b } c "d"'}


def test_what_is_written_is_read_again(path):
    found = triton_config.read(path)
    triton_config.set_parameters(found, {"note": "new", "rank": "0"})
    triton_config.write(path, found, "edits are lost")
    assert triton_config.read(path) == found and path.read_text().startswith("# edits are lost\n")
    assert triton_config.parameters(found) == {"note": "new", "rank": "0"}


def test_a_mistake_is_named_with_file_and_line(path):
    path.write_text(CONFIG.replace("label_filename", "labels", 1))
    with pytest.raises(triton_config.ConfigError, match=rf"{path}.*3:\d+.*labels"):
        triton_config.read(path)


def test_the_published_configurations_can_be_read(tmp_path):
    objects = PROJECT / "published/remote/files/md5"
    pointer = yaml.safe_load((PROJECT / "published/model_repository.dvc").read_text())["outs"][0]["md5"]
    listed = json.loads((objects / pointer[:2] / pointer[2:]).read_text())
    configs = [one for one in listed if one["relpath"].endswith(triton_config.FILE)]
    for one in configs:
        (tmp_path / triton_config.FILE).write_bytes((objects / one["md5"][:2] / one["md5"][2:]).read_bytes())
        assert triton_config.read(tmp_path / triton_config.FILE).name == one["relpath"].split("/")[0]
    assert len(configs) == 4
