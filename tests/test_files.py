"""A file or folder is whole or absent."""

import subprocess
import sys

import pytest

from core import files
from tests.conftest import PROJECT


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "report.txt"
    files.write_text(target, "old")
    with pytest.raises(RuntimeError), files.replacing(target) as new:
        new.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    target = tmp_path / "version"
    for name in ("first", "second"):
        with files.replacing(target) as new:
            new.mkdir()
            (new / name).touch()
    assert [path.name for path in target.iterdir()] == ["second"] and list(tmp_path.iterdir()) == [target]


def test_a_folder_is_there_at_any_moment_of_its_replacement(tmp_path):
    target = tmp_path / "version"
    code = (f"import os; from pathlib import Path; from core import files; target = Path({str(target)!r})\n"
            "while True:\n  with files.replacing(target) as new:\n    new.mkdir(); (new / 'part').touch()")
    process = subprocess.Popen([sys.executable, "-c", code], cwd=PROJECT)
    while not target.exists():
        assert process.poll() is None
    seen = [(target / "part").exists() for _ in range(20_000)]
    process.kill()
    process.wait()
    assert all(seen) and (target / "part").exists()


def test_where_nothing_can_change_places_a_killed_replacement_keeps_the_previous_version(tmp_path):
    target = tmp_path / "version"
    code = (f"import os; from pathlib import Path; from core import files; target = Path({str(target)!r})\n"
            "files.exchanged = lambda one, other: False\n"
            "Path.replace = lambda self, other: os.kill(os.getpid(), 9)\n"
            "with files.replacing(target) as new:\n    new.mkdir()")
    (target / "part").mkdir(parents=True)
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT)
    assert not target.exists()
    files.sweep(tmp_path)
    assert [path.name for path in tmp_path.glob(".writing-*/.previous/*")] == ["part"]


def test_json_has_short_floats(tmp_path):
    files.write_json(tmp_path / "metrics.json", {"a": 0.1 + 0.2, "b": [1 / 3, 1]})
    assert '"a": 0.3,' in (tmp_path / "metrics.json").read_text()
    assert "0.333333," in (tmp_path / "metrics.json").read_text()


def test_what_a_killed_process_was_writing_is_cleared_away_and_other_work_is_not(tmp_path):
    code = (f"import os; from pathlib import Path; from core import files; target = Path({str(tmp_path)!r}, 'a')\n"
            "with files.replacing(target) as new:\n    new.write_text('half'); os.kill(os.getpid(), 9)")
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT)
    assert len(list(tmp_path.iterdir())) == 1
    with files.replacing(tmp_path / "b") as other:
        other.write_text("b")
        files.write_text(tmp_path / "a", "whole")
        assert {path.name for path in tmp_path.iterdir()} == {"a", other.parent.name}
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b"}
