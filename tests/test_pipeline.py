"""dvc.yaml, dvc.lock, params and the committed results belong together."""

import ast
import hashlib
import json
import subprocess

import pytest
import yaml

from stages import train_resnet
from stages.common import params
from tests.conftest import PROJECT

PIPELINE = yaml.safe_load((PROJECT / "dvc.yaml").read_text())
STAGES = PIPELINE["stages"]


def lock() -> dict:
    return yaml.safe_load((PROJECT / "dvc.lock").read_text())["stages"]


def imported(module: str) -> set[str]:
    """Return the project files that a stage's module imports, directly or not, as paths that dvc.yaml lists."""
    todo, found = [f"stages/{module}.py"], {"stages/__init__.py"}
    while todo:
        path = todo.pop()
        if path in found:
            continue
        found.add(path)
        for node in ast.walk(ast.parse((PROJECT / path).read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            home = getattr(node, "module", None)
            for name in [f"{home}.{name}" for name in names] + ([home] if home else []) + names:
                if name.split(".")[0] == "imaging":
                    found.add("imaging")
                candidate = name.replace(".", "/") + ".py"
                if name.startswith("stages.") and (PROJECT / candidate).is_file():
                    todo.append(candidate)
    return found


def outputs(stage: dict) -> list[str]:
    """Return the paths that a stage writes."""
    entries = stage.get("outs", []) + stage.get("metrics", []) + stage.get("plots", [])
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


@pytest.mark.parametrize("name", STAGES)
def test_every_imported_module_is_a_dependency(name):
    listed = {dep for dep in STAGES[name]["deps"] if dep.startswith(("stages", "imaging"))}
    assert listed == imported(name)


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_is_a_module_and_every_params_section_is_read(name):
    assert STAGES[name]["cmd"] == f"python -m stages.{name}"
    sections = set(params.Params.__dataclass_fields__)
    assert {entry.split(".")[0] for entry in STAGES[name]["params"]} <= sections


def test_every_params_section_belongs_to_a_stage():
    used = {entry.split(".")[0] for stage in STAGES.values() for entry in stage["params"]}
    assert used == set(params.Params.__dataclass_fields__)


def test_auto_weights_came_to_what_train_resnet_says():
    record = json.loads((PROJECT / "reports/train_resnet/metrics.json").read_text())
    assert record["weights"] == train_resnet.COMMITTED_WEIGHTS


def md5(path) -> str:
    """Return the digest that dvc.lock records for a file."""
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("name", STAGES)
def test_the_lock_was_made_with_the_committed_code(name):
    recorded = {entry["path"]: entry["md5"] for entry in lock()[name]["deps"]}
    code = {path: md5(PROJECT / path) for path in recorded if path.endswith(".py")}
    assert {path: recorded[path] for path in code} == code and set(recorded) == set(STAGES[name]["deps"])


@pytest.mark.parametrize("name", STAGES)
def test_the_lock_was_made_with_the_committed_params(name):
    tree = yaml.safe_load((PROJECT / "params.yaml").read_text())
    for entry, recorded in lock()[name]["params"]["params.yaml"].items():
        value = tree
        for key in entry.split("."):
            value = value[key]
        assert value == recorded, entry


@pytest.mark.parametrize("name", STAGES)
def test_the_committed_results_are_those_of_the_lock(name):
    recorded = {entry["path"]: entry["md5"] for entry in lock()[name]["outs"]}
    tracked = subprocess.run(["git", "ls-files", *recorded], cwd=PROJECT, capture_output=True, text=True,
                             check=True).stdout.split()
    assert {path: recorded[path] for path in tracked} == {path: md5(PROJECT / path) for path in tracked}
    uncached = {next(iter(entry)) for kind in ("outs", "metrics", "plots") for entry in STAGES[name].get(kind, [])
                if isinstance(entry, dict) and next(iter(entry.values())).get("cache") is False}
    assert set(tracked) == uncached


def test_each_stage_reads_only_what_an_earlier_one_wrote():
    written = set()
    for stage in STAGES.values():
        made = {dep for dep in stage["deps"] if dep.startswith(("data/", "models/", "reports/"))}
        assert made <= written
        written |= set(outputs(stage))


def test_outputs_outside_git_are_ignored_by_exact_path():
    lines = (PROJECT / ".gitignore").read_text().split()
    cached = [entry if isinstance(entry, str) else next(iter(entry)) for stage in STAGES.values()
              for entry in stage.get("outs", []) if isinstance(entry, str)
              or next(iter(entry.values())).get("cache", True)]
    assert cached and all(f"/{path}" in lines for path in cached)
