"""prepare reads what serving would read, refuses what is wrong, and splits without a leak."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from imaging import contract
from stages import command, dataset, prepare


@pytest.fixture
def source(phantoms, tmp_path, monkeypatch):
    """A copy of the phantoms that a test may change; the current folder is an empty one."""
    shutil.copytree(phantoms, tmp_path / "source")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "source"


@pytest.fixture
def knobs(tiny, source):
    return replace(tiny, prepare=replace(tiny.prepare, source=str(source), max_bad_fraction=0.1))


def changed(knobs, **values):
    """Return params with other values in the section prepare."""
    return replace(knobs, prepare=replace(knobs.prepare, **values))


def test_splits_hold_every_image_once_and_every_class(knobs):
    prepare.main(knobs)
    splits = {name: dataset.read_manifest(name) for name in dataset.SPLITS}
    digests = [row.digest for rows in splits.values() for row in rows]
    assert len(digests) == len(set(digests)) == 24
    assert all({row.label for row in rows} == set(contract.CLASSES) for rows in splits.values())


def test_planted_copies_stay_in_one_split(knobs, source):
    for index in range(4):
        shutil.copy(source / "glioma" / "ph-gl_0001.png", source / "glioma" / f"copy_{index}.png")
    prepare.main(knobs)
    homes = {name: [row.source for row in dataset.read_manifest(name)] for name in dataset.SPLITS}
    holders = [name for name, sources in homes.items() if any("copy" in one or "gl_0001" in one for one in sources)]
    report = json.loads(dataset.REPORT.read_text())
    assert len(holders) == 1 and report["exact_duplicates"] == 4 and report["near_duplicates"] == 4


def test_the_same_seed_splits_the_same_way(knobs):
    prepare.main(knobs)
    first = dataset.read_manifest("test")
    prepare.main(knobs)
    assert dataset.read_manifest("test") == first


@pytest.mark.parametrize("change, message", [
    (lambda source: (source / "glioma").rename(source / "Glioma"), r"unknown: Glioma \(rename it to glioma\?\)"),
    (lambda source: (source / "notumor").rename(source / "no_tumor"), r"missing: notumor; unknown: no_tumor \(rename"),
    (lambda source: shutil.rmtree(source / "pituitary"), "missing: pituitary"),
    (lambda source: (source / "ependymoma").mkdir(), r"unknown: ependymoma \(move it elsewhere\)"),
    (lambda source: [path.unlink() for path in (source / "glioma").iterdir()], "Expected images in .*glioma"),
    (lambda source: [path.unlink() for path in sorted((source / "glioma").iterdir())[1:]], "every class in the .* spl"),
])
def test_wrong_folders_are_named(knobs, source, change, message):
    change(source)
    with pytest.raises(command.StageError, match=message):
        prepare.main(knobs)
    assert not dataset.FOLDER.exists() and not list(dataset.FOLDER.parent.iterdir())


def test_a_missing_source_says_what_to_do(knobs):
    with pytest.raises(command.StageError, match="'nowhere', which is no folder"):
        prepare.main(changed(knobs, source="nowhere"))


def test_few_bad_files_are_listed_and_many_stop_the_stage(knobs, source, capsys):
    (source / "glioma" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    prepare.main(knobs)
    assert "broken.png" in capsys.readouterr().out and "broken.png" in (dataset.FOLDER / "unreadable.csv").read_text()
    for index in range(5):
        (source / "glioma" / f"broken{index}.png").write_bytes(b"text")
    with pytest.raises(command.StageError, match="6 of 30"):
        prepare.main(knobs)


def test_an_external_test_set_is_cleared_of_training_images(knobs, source, tmp_path):
    shutil.copytree(source, tmp_path / "Testing")
    for label in contract.CLASSES:
        kept = sorted((tmp_path / "Testing" / label).iterdir())[:3]
        for path in (source / label).iterdir():
            if path.name in [one.name for one in kept[:2]]:
                path.unlink()
    prepare.main(changed(knobs, test_source=str(tmp_path / "Testing")))
    test, leaked = (dataset.read_manifest(name) for name in ("test", "test_duplicates"))
    assert len(test) == 8 and len(leaked) == 16


def test_max_per_class_draws_a_sample(knobs):
    prepare.main(changed(knobs, max_per_class=5))
    assert json.loads(dataset.REPORT.read_text())["images"] == 20


def test_phantoms_are_the_default(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prepare.main(tiny)
    report = json.loads(dataset.REPORT.read_text())
    assert report["source"] == contract.PHANTOM and report["images"] == 48


def test_no_private_path_is_recorded(tmp_path):
    assert prepare.data_name(str(tmp_path / "brain" / "Training")) == "brain/Training"


def test_pixels_in_memory_are_the_served_pixels(knobs):
    prepare.main(knobs)
    row = dataset.read_manifest("test")[0]
    served = prepare.preprocess.Preprocess(64).serve([[(dataset.FOLDER / row.path).read_bytes()]])[contract.PIXELS]
    kept = next(iter(dataset.batches(dataset.load("test", 64), 1)))[0]
    assert np.array_equal(served, kept)
