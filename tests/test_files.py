"""A file or folder is whole or absent."""

import pytest

from stages import files


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


def test_json_has_short_floats(tmp_path):
    files.write_json(tmp_path / "metrics.json", {"a": 0.1 + 0.2, "b": [1 / 3, 1]})
    assert '"a": 0.3,' in (tmp_path / "metrics.json").read_text()
    assert "0.333333," in (tmp_path / "metrics.json").read_text()
