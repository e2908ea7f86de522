"""`pip install .` gives one package, brain_mri, and one command; pyproject.toml is the one owner of requirements."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from core import contract
from tests.conftest import PROJECT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDERS = ("brain_mri", "client", "core", "imaging", "serving", "webapp")
CONFIGURATION = tomllib.loads((PROJECT / "pyproject.toml").read_text())


def pip(*words: object) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *map(str, words)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder into which the project's wheel is installed, without what it needs: that comes from this Python."""
    work = tmp_path_factory.mktemp("package")
    for name in FOLDERS:
        shutil.copytree(PROJECT / name, work / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, work / "source")
    pip("wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", work, work / "source")
    pip("install", "--no-deps", "--no-index", "--target", work / "site", next(work.glob("*.whl")))
    return work / "site"


def run(installed: Path, *words: str) -> subprocess.CompletedProcess:
    """Run this Python's interpreter on what is installed, outside of the checkout."""
    return subprocess.run([sys.executable, *words], cwd=installed.parent, env={"PYTHONPATH": str(installed)},
                          capture_output=True, text=True, timeout=60)


def brain_mri(installed: Path, *words: str) -> subprocess.CompletedProcess:
    return run(installed, str(installed / "bin" / "brain-mri"), *words)


def test_the_package_is_one_and_whole(installed):
    assert {path.name for path in installed.iterdir() if path.suffix != ".dist-info"} == {"brain_mri", "bin"}
    tracked = subprocess.run(["git", "ls-files", *FOLDERS[1:]], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert [name for name in tracked.stdout.split() if not (installed / "brain_mri" / name).is_file()] == []
    assert (installed / "brain_mri" / "py.typed").is_file()


def test_no_module_names_what_is_only_in_a_checkout(installed):
    for path in (installed / "brain_mri").rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        names = [node.module for node in nodes if isinstance(node, ast.ImportFrom)]
        names += [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
        assert not {name.split(".")[0] for name in names if name} & set(FOLDERS[1:]), path
        told = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
        assert "backends" in path.parts or not re.search(r"python -m (client|serving|webapp)", "".join(told)), path


def test_the_client_comes_without_tensorflow_and_flask(installed):
    code = ("import sys, brain_mri; from brain_mri.client import Classifier; "
            "assert brain_mri.Classifier is Classifier; "
            "print(brain_mri.__file__, *{'tensorflow', 'flask', 'client', 'imaging'} & set(sys.modules))")
    done = run(installed, "-c", code)
    assert (done.stdout.split(), done.stderr) == ([str(installed / "brain_mri" / "__init__.py")], "")


@pytest.mark.parametrize("command", ["classify", "serve", "releases", "web", "keys", "audit"])
def test_each_command_has_a_help_with_an_example(installed, command):
    done = brain_mri(installed, command, "--help")
    assert done.returncode == 0 and done.stdout.count(f"brain-mri {command}") >= 2, done.stderr


def test_the_command_alone_has_a_help_with_an_example(installed):
    assert "example: brain-mri classify scan.jpg" in brain_mri(installed, "--help").stdout


def test_a_server_that_does_not_listen_is_one_line(installed):
    scan = PROJECT / "webapp/static/samples/glioma.png"
    done = brain_mri(installed, "classify", str(scan), "--url", "127.0.0.1:1")
    assert done.returncode == 1 and done.stderr.startswith(contract.DISCLAIMER)
    assert len(done.stderr.splitlines()) == 2 and "127.0.0.1:1" in done.stderr


def test_gunicorn_takes_the_settings_and_the_page_of_the_package(installed):
    configuration = str(installed / "brain_mri/webapp/gunicorn.conf.py")
    done = run(installed, "-m", "gunicorn", "--check-config", "-c", configuration, "brain_mri.webapp:create_app()")
    assert done.returncode == 0, done.stderr


def test_the_page_finds_its_templates_and_static_files(installed):
    code = ("from brain_mri.webapp import create_app; web = create_app().test_client(); "
            "print(*(web.get(path).status_code for path in ('/api', '/static/page.css')))")
    done = run(installed, "-c", code)
    assert done.stdout.split() == ["200", "200"], done.stderr


def test_a_module_named_in_a_string_is_refused():
    building = (PROJECT / "setup.py").read_text().split("\ninner = ")[0]
    done = subprocess.run([sys.executable, "-c", building + "\nmoved('load(\"imaging.dicom\")')"], cwd=PROJECT,
                          capture_output=True, text=True)
    assert done.returncode and "__package__" in done.stderr


def test_a_missing_extra_is_named_in_one_line(installed):
    (installed.parent / "flask.py").write_text("raise ModuleNotFoundError('No module named flask', name='flask')")
    code = "import sys; from brain_mri.__main__ import main; sys.argv = ['brain-mri', 'web']; sys.exit(main())"
    done = run(installed, "-c", code)
    (installed.parent / "flask.py").unlink()
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert 'flask is missing). Run: pip install "brain-mri[serve]"' in done.stderr


def pins(names: list[str]) -> dict[str, set[str]]:
    """Return the versions of each pinned package of a list of requirements."""
    found: dict[str, set[str]] = {}
    for requirement in map(Requirement, names):
        if requirement.specifier:
            found.setdefault(canonicalize_name(requirement.name), set()).add(str(requirement.specifier))
    return found


def listed(path: str) -> list[str]:
    """Return the requirements that a requirements file names, without hashes and comments."""
    lines = (PROJECT / path).read_text().splitlines()
    return [line.rstrip("\\ ") for line in lines if line.strip() and line[0] not in "# -"]


def owned(*extras: str) -> dict[str, set[str]]:
    """Return pyproject.toml's pins of the client and of extras or groups."""
    project = CONFIGURATION["project"]
    sets = project["optional-dependencies"] | CONFIGURATION["dependency-groups"]
    return pins([*project["dependencies"], *(name for extra in extras for name in sets[extra])])


@pytest.mark.parametrize(("path", "extras"), [
    ("requirements.txt", ["serve", "train"]), ("requirements-dev.txt", ["serve", "train", "dev"])])
def test_the_lock_files_hold_what_pyproject_asks_for(path, extras):
    locked = pins(listed(path))
    assert {name: locked.get(name) for name in owned(*extras)} == owned(*extras), "run: make lock"


def test_the_runtime_is_a_part_of_the_whole():
    assert set(listed("requirements.txt")) < set(listed("requirements-dev.txt"))


def test_the_backend_in_a_container_has_our_versions():
    ours = owned("serve", "train")
    ours["tensorflow-cpu"] = ours.pop("tensorflow")
    asked = pins(listed("serving/backends/tensorflow/requirements.txt"))
    assert asked and {name: ours.get(name) for name in asked} == asked
