"""README says what the files say."""

import re
import shlex
import subprocess
import sys

import pytest
import yaml

from core import contract, files
from tests.conftest import PROJECT
from tools import results

README = (PROJECT / "README.md").read_text()


def flat(tree: dict, prefix: str = "") -> dict:
    """Return nested params by dotted name."""
    pairs = {}
    for key, value in tree.items():
        pairs |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return pairs


@pytest.mark.parametrize(("page", "name"), results.tables())
def test_the_results_are_those_of_the_files(page, name):
    text = (PROJECT / page).read_text()
    assert results.START.format(name) + results.tables()[page, name] + results.END.format(name) in text


def test_what_int8_changes_is_shown_for_the_networks_of_the_table_only(tmp_path):
    test = {"same_class": 0.9955, "macro_f1": 0.9758, "float32_macro_f1": 0.9804}
    records = {"custom": {"precision": "int8", "test": test}, "together": {"precision": "int8", "test": test},
               "resnet50": {"precision": "float32"}}
    files.write_json(tmp_path / "reports/export/metrics.json", records)
    lines = results.served(tmp_path).splitlines()
    assert lines == ["", "custom, served in int8: 99.6 % of these test images get the same class, macro F1 is 0.976 "
                         "instead of 0.980."]


def test_every_param_is_explained_with_its_default():
    rows = dict(re.findall(r"^\| `([\w.]+)` \| `([^`]+)` \|", README, re.MULTILINE))
    written = {name: yaml.safe_dump(value, default_flow_style=True).split("\n")[0] for name, value in
               flat(yaml.safe_load((PROJECT / "params.yaml").read_text())).items()}
    assert rows == written


def test_the_tree_names_every_module_and_folder():
    tree = README.split("## The tree")[1].split("```")[1]
    listed = subprocess.run(["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True, check=True)
    tracked = listed.stdout.split()
    tops = {f"{name.split('/')[0]}/" for name in tracked if "/" in name} - {".dvc/", ".ci/"}
    modules = {path.stem for path in (PROJECT / "stages").glob("*.py")} - {"__init__"}
    assert all(name in tree for name in tops | modules)


def test_pictures_exist():
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README)
    assert len(pictures) >= 3 and all((PROJECT / path).is_file() for path in pictures)


def test_the_disclaimer_is_the_one_on_every_prediction():
    assert contract.DISCLAIMER in README


@pytest.mark.parametrize("command", [
    "python -m stages.prepare", "python -m stages.train_custom", "python -m stages.train_resnet",
    "python -m stages.train_transfer", "python -m stages.evaluate", "python -m stages.export",
    "python -m stages.crossval", "python -m stages.data.phantom",
    "python -m serving", "python -m client", "python -m webapp", "python demo.py"])
def test_help_shows_an_example(command):
    words = [sys.executable, *shlex.split(command)[1:], "--help"]
    run = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=True)
    assert run.stdout.count(command) >= 1


def test_make_targets_of_the_readme_exist():
    makefile = (PROJECT / "Makefile").read_text()
    named = set(re.findall(r"(?:^|`)make (\w+)", README, re.MULTILINE))
    assert {"demo", "test", "serve"} <= named
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in named)
