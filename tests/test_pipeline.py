"""dvc.yaml, dvc.lock, params, code and the committed results belong together."""

import ast
import contextlib
import json
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo

from stages.common import command, params
from stages.networks import resnet50
from stages.networks.registry import NETWORKS
from tests.conftest import PROJECT

PIPELINE = yaml.safe_load((PROJECT / "dvc.yaml").read_text())
STAGES = PIPELINE["stages"]
DOORS = STAGES | yaml.safe_load((PROJECT / "crossval/dvc.yaml").read_text())["stages"]
"""With those of a pipeline that `dvc repro` leaves alone."""
FLOORS = ("common",), ("data",), ("layers",), ("scoring", "training"), ("folds", "reporting", "triton", "networks")
"""The rooms of stages/: each imports only those of the floors below it. The doors are above all."""
TRAININGS = {network.stage for network in NETWORKS.values()}
OURS = ("bench", "client", "core", "imaging", "serving", "stages", "webapp")


def entries(stage: dict, *kinds: str) -> dict[str, dict]:
    """Return the paths that a stage lists under some keys, each with its settings."""
    listed = [entry for kind in kinds for entry in stage.get(kind, [])]
    return {path: facts for entry in listed for path, facts in
            (entry.items() if isinstance(entry, dict) else [(entry, {})])}


def outputs(stage: dict) -> dict[str, dict]:
    return entries(stage, "outs", "metrics", "plots")


def imports(path: Path) -> Iterator[Path]:
    """Give the project's files that one of them imports, and the packages that they are in."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            parts = name.split(".")
            for length in range(1, len(parts) + 1 if parts[0] in OURS else 1):
                place = PROJECT.joinpath(*parts[:length])
                yield from (one for one in (place.with_suffix(".py"), place / "__init__.py") if one.is_file())


def reached(start: Path) -> set[str]:
    """Return the project's files that run when one of them does."""
    todo, found = [start, PROJECT / "stages/__init__.py"], set()
    while todo:
        path = todo.pop()
        if path not in found:
            found.add(path)
            todo += imports(path)
    return {path.relative_to(PROJECT).as_posix() for path in found}


def is_only_a_docstring(path: str) -> bool:
    return len(ast.parse((PROJECT / path).read_text()).body) <= 1


def covers(dependency: str, path: str) -> bool:
    return path == dependency or path.startswith(f"{dependency}/")


@pytest.mark.parametrize("name", DOORS)
def test_whatever_a_stage_imports_is_covered_by_a_dependency(name):
    uncovered = [path for path in reached(PROJECT / f"stages/{name}.py")
                 if not any(covers(dependency, path) for dependency in DOORS[name]["deps"])]
    assert not [path for path in uncovered if not is_only_a_docstring(path)]


@pytest.mark.parametrize("name", DOORS)
def test_a_stage_does_not_depend_on_code_that_it_cannot_run(name):
    run = reached(PROJECT / f"stages/{name}.py")
    run |= {one for network in NETWORKS.values() for one in reached(PROJECT / f"stages/networks/{network.name}.py")
            if "stages/networks/registry.py" in run and one.startswith("stages/networks/")}
    listed = {dep for dep in DOORS[name]["deps"] if dep.startswith(("stages", "core", "imaging"))}
    if "core/contract.py" in listed:
        listed.remove("core/classes.json")  # which the contract reads
    assert not [dependency for dependency in listed if not any(covers(dependency, path) for path in run)]


@pytest.mark.parametrize("path", sorted((PROJECT / "stages").rglob("*.py")), ids=lambda path: path.stem)
def test_a_room_imports_only_rooms_below_it(path):
    floors = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    home = path.relative_to(PROJECT / "stages").parts[0]
    for imported in imports(path):
        top, *inside = imported.relative_to(PROJECT).parts
        assert top in ("core", "imaging", "stages"), imported
        if top == "stages" and inside != ["__init__.py"]:
            floor = floors[inside[0]]  # a KeyError: it imports a door
            assert inside[0] == home or floor < floors.get(home, len(FLOORS)), imported


@pytest.mark.parametrize("package", ["client", "core", "imaging", "serving", "webapp"])
def test_what_serves_imports_nothing_of_training_and_core_nothing_of_ours(package):
    allowed = {"core": {"core"}, "imaging": {"core", "imaging"}}.get(package, set(OURS) - {"stages", "bench"})
    found = {one.relative_to(PROJECT).parts[0] for path in (PROJECT / package).rglob("*.py") for one in imports(path)}
    assert found <= allowed


@pytest.mark.parametrize("name", DOORS)
def test_a_stage_is_a_door_that_gets_the_params_that_dvc_yaml_lists(name, monkeypatch):
    asked = []
    monkeypatch.setattr(command, "run", lambda main, description, entries=None, *_: asked.append(entries))
    monkeypatch.delitem(sys.modules, f"stages.{name}", raising=False)  # another test may have imported it
    runpy.run_module(f"stages.{name}", run_name="__main__")
    assert DOORS[name]["cmd"] == f"python -m stages.{name}"
    assert set(DOORS[name]["params"]) == set(asked[0] or params.classes())


def test_every_params_section_belongs_to_a_stage():
    used = {entry.split(".")[0] for stage in DOORS.values() for entry in stage["params"]}
    assert used == set(params.classes())


def test_dvc_yaml_trains_scores_and_exports_every_network():
    assert set(STAGES) >= TRAININGS
    for network in NETWORKS.values():
        record, model = f"reports/{network.stage}/metrics.json", str(network.model)
        assert {record, model} <= set(outputs(STAGES[network.stage]))
        for stage in ("evaluate", "export"):
            listed = STAGES[stage]["deps"]
            assert model in listed and any(covers(dependency, record) for dependency in listed)
        assert {f"reports/evaluate/{network.name}/{table}.csv" for table in ("predictions", "reliability")} <= set(
            STAGES["export"]["deps"])


def test_auto_weights_came_to_what_resnet50_says():
    record = json.loads((PROJECT / "reports/train_resnet/metrics.json").read_text())
    assert record["weights"] == resnet50.COMMITTED_WEIGHTS


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Iterator[Path]:
    """A copy of the code in which DVC holds every stage for up to date; outputs are stand-ins."""
    folder = tmp_path_factory.mktemp("copy")
    for name in ("core", "dataset", "imaging", "stages", "dvc.yaml", "params.yaml", ".dvcignore"):
        (shutil.copytree if (PROJECT / name).is_dir() else shutil.copyfile)(PROJECT / name, folder / name)
    for path in [dep for stage in STAGES.values() for dep in [*outputs(stage), *stage["deps"]]]:
        target = folder / path if Path(path).suffix else folder / path / "file.txt"
        if not (folder / path).exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(path)
    with contextlib.chdir(folder), Repo.init(no_scm=True) as repo:
        repo.commit(force=True)
    yield folder


def stale(folder: Path) -> set[str]:
    """Return the stages that DVC would run again."""
    with contextlib.chdir(folder), Repo() as repo:
        return set(repo.status())


def test_without_a_change_nothing_is_rerun(copy):
    assert stale(copy) == set()


@pytest.mark.parametrize("path, expected", [
    ("core/contract.py", set(STAGES)), ("core/files.py", set(STAGES)), ("core/processor.py", TRAININGS | {"export"}),
    ("imaging/decode.py", {"prepare", "evaluate", "export"}), ("stages/__init__.py", set(STAGES)),
    ("stages/common/command.py", set(STAGES)), ("stages/common/params.py", set(STAGES)),
    ("stages/data/dataset.py", set(STAGES)), ("stages/data/params.py", set(STAGES)),
    ("stages/layers/answer.py", set(STAGES) - {"prepare"}),
    ("stages/training/params.py", TRAININGS), ("stages/training/fit.py", TRAININGS),
    ("stages/networks/custom.py", {"train_custom", "evaluate", "export"}),
    ("stages/networks/resnet50.py", {"train_resnet", "evaluate", "export"}),
    ("stages/networks/transfer.py", {"train_transfer", "evaluate", "export"}),
    ("stages/networks/efficientnet_lite.py", {"train_transfer", "evaluate", "export"}),
    ("stages/networks/registry.py", {"evaluate", "export"}),
    ("stages/scoring/params.py", {"evaluate", "export"}), ("stages/scoring/scores.py", {"evaluate", "export"}),
    ("stages/reporting/card.py", {"evaluate"}), ("stages/reporting/figures.py", {"prepare", "evaluate"}),
    ("stages/triton/params.py", {"export"}), ("stages/triton/quantization.py", {"export"}),
    *((f"stages/{name}.py", {name}) for name in STAGES)])
def test_a_change_reruns_what_it_must_and_nothing_else(copy, path, expected):
    file = copy / path
    before = file.read_text()
    file.write_text(before + "\n# changed\n")
    try:
        assert stale(copy) == expected
    finally:
        file.write_text(before)


@pytest.mark.parametrize("section, expected", [
    ("prepare", {"prepare", "export"}), ("train", TRAININGS | {"export"}), ("train_custom", {"train_custom", "export"}),
    ("train_resnet", {"train_resnet", "export"}), ("train_transfer", {"train_transfer", "export"}),
    ("evaluate", {"evaluate", "export"}), ("export", {"export"})])
def test_a_changed_param_reruns_the_stages_that_read_it(copy, section, expected):
    file = copy / "params.yaml"
    before = file.read_text()
    tree = yaml.safe_load(before)
    key = next(key for key, value in tree[section].items() if type(value) is float)
    tree[section][key] /= 2
    file.write_text(yaml.safe_dump(tree, sort_keys=False))
    try:
        assert stale(copy) == expected
    finally:
        file.write_text(before)


@pytest.fixture(scope="module")
def lock() -> Iterator[dict]:
    """What dvc.lock does not hold of the working tree: the dependencies and outputs that changed, by stage."""
    with Repo(str(PROJECT)) as repo:
        yield {name: {kind: facts for part in parts if isinstance(part, dict) for kind, facts in part.items()}
               for name, parts in repo.status().items()}


@pytest.mark.parametrize("name", STAGES)
def test_the_lock_was_made_with_the_committed_code_and_params(lock, name):
    changed = lock.get(name, {}).get("changed deps", {})
    # Data and models are in DVC's cache, which a clone may not have.
    assert {path: what for path, what in changed.items() if not path.startswith(("data/", "models/"))} == {}


@pytest.mark.parametrize("name", STAGES)
def test_the_committed_results_are_those_of_the_lock(lock, name):
    uncached = {path for path, facts in outputs(STAGES[name]).items() if facts.get("cache") is False}
    tracked = subprocess.run(["git", "ls-files", *outputs(STAGES[name])], cwd=PROJECT, capture_output=True, text=True,
                             check=True).stdout.split()
    assert all(any(covers(path, file) for path in uncached) for file in tracked)
    assert all(any(covers(path, file) for file in tracked) for path in uncached)
    assert not uncached & set(lock.get(name, {}).get("changed outs", {}))


def test_each_stage_reads_only_what_an_earlier_one_wrote():
    written: set[str] = set()
    for stage in STAGES.values():
        for dependency in [dep for dep in stage["deps"] if dep.startswith(("data/", "models/", "reports/"))]:
            assert any(covers(path, dependency) or covers(dependency, path) for path in written), dependency
        written |= set(outputs(stage))


def test_metrics_and_plots_of_the_pipeline_are_outputs_of_a_stage():
    shown = [*PIPELINE["metrics"], *(next(iter(plot)) if isinstance(plot, dict) else plot for plot in
                                     PIPELINE["plots"])]
    files = [name for name in shown if "/" in name]
    files += [path for plot in PIPELINE["plots"] if isinstance(plot, dict) for facts in plot.values()
              if isinstance(facts["y"], dict) for path in facts["y"]]
    written = [path for stage in STAGES.values() for path in outputs(stage)]
    assert len(files) > 12 and all(any(covers(path, file) for path in written) for file in files)
    assert len(set(shown)) == len(shown)
    curves = [columns for plot in PIPELINE["plots"] if isinstance(plot, dict) for facts in plot.values()
              if facts["x"] == "fpr" for columns in facts["y"].values()]
    assert curves == ["${classes}"] * (len(NETWORKS) + 1) and PIPELINE["vars"] == ["core/classes.json"]


def test_outputs_outside_git_are_ignored_by_exact_path():
    lines = (PROJECT / ".gitignore").read_text().split()
    cached = [path for stage in STAGES.values() for path, facts in outputs(stage).items() if facts.get("cache", True)]
    assert len(cached) == 7 and all(f"/{path}" in lines for path in cached)
