"""What is in Git belongs there."""

import subprocess
from pathlib import Path

import pytest

from tests.conftest import PROJECT
from tools import clean


@pytest.mark.parametrize(("name", "size"), [
    ("scan.png", 1), ("docs.jpg", 1), ("dataset/Training/glioma/a.JPG", 1), ("x/head.nii.gz", 1), ("tests/a.dcm", 1),
    ("notes.txt", clean.MOST_BYTES + 1)])
def test_a_file_that_does_not_belong_is_refused(name, size, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_bytes(bytes(size))
    assert clean.main([name]) == 1 and name in capsys.readouterr().err


def test_all_that_is_tracked_belongs(monkeypatch):
    monkeypatch.chdir(PROJECT)
    tracked = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True).stdout.splitlines()
    assert clean.main([name for name in tracked if Path(name).is_file()]) == 0
