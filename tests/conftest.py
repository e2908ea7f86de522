"""Shared by all tests: small params, a small data set, and in CI a skipped test is a failure."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

from core import contract
from stages.common import params

PROJECT = Path(__file__).resolve().parents[1]
ROAD = ("test_road.py", "test_interruptions.py")
"""Files whose tests share one road on phantoms, trained once; they take longest."""
REAL_DATA = os.environ.get("BRAIN_MRI_DATA") or next(
    (str(folder) for folder in [PROJECT.parent / "shared/data/brain-mri"] if folder.is_dir()), None)
"""The folder with the public set as its publisher packs it, for tests marked real_data: Training/<class>/*.jpg."""
skipped = []


def pytest_runtest_logreport(report):
    """Note what was skipped."""
    if report.skipped:
        skipped.append(report.nodeid)


def pytest_collectreport(report):
    """Note modules that were skipped as a whole."""
    if report.skipped:
        skipped.append(report.nodeid)


def pytest_report_header() -> str:
    """Say which real images are tested with."""
    return f"real data: {REAL_DATA or 'none, so that its tests are left out: BRAIN_MRI_DATA is not set'}"


def pytest_collection_modifyitems(config, items):
    """Let what takes longest begin first; leave out what needs real images where BRAIN_MRI_DATA names none."""
    items.sort(key=lambda item: item.path.name not in ROAD)
    without = [item for item in items if not REAL_DATA and item.get_closest_marker("real_data")]
    config.hook.pytest_deselected(items=without)
    items[:] = [item for item in items if item not in without]


class Files(LoadScopeScheduling):
    """Gives all tests of a file to one worker of pytest-xdist, and those of all files in ROAD."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::")[0]
        return "road" if file.endswith(ROAD) else file


def pytest_xdist_make_scheduler(config, log):
    """Return who shares out the tests."""
    return Files(config, log)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session, exitstatus):
    """In CI everything that a test needs is present: a skip means that something was not tested."""
    if os.environ.get("CI") == "true" and skipped and exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter):
    """Say why a run without failures is red."""
    if os.environ.get("CI") == "true" and skipped:
        terminalreporter.write_line(f"CI: {len(skipped)} skipped, which counts as failed: {', '.join(skipped)}")


@pytest.fixture(scope="session")
def defaults() -> params.Params:
    """The committed params."""
    return params.load(PROJECT / "params.yaml")


@pytest.fixture(scope="session")
def tiny(defaults) -> params.Params:
    """Params for a run of seconds."""
    start = replace(defaults.train.start, epochs=2)
    return replace(
        defaults,
        prepare=replace(defaults.prepare, image_size=64, phantom_per_class=12),
        train=replace(defaults.train, epochs=4, batch_size=8, lr=0.001, start=start),
        export=replace(defaults.export, max_batch_size=4))


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory) -> Path:
    """A folder of class folders with six phantoms each."""
    from stages.data import phantom

    folder = tmp_path_factory.mktemp("data") / contract.PHANTOM
    phantom.write_dataset(folder, 6, 64, 7)
    return folder
