"""prepare reads what serving would read, rejects what is wrong, and splits without a leak."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from core import contract
from stages import prepare
from stages.common import command
from stages.data import dataset, grouping, phantom, preprocess, probe, reading, report, splitting
from stages.data.copies import Pairs
from tests.support import medical


@pytest.fixture
def source(phantoms, tmp_path, monkeypatch):
    """A copy of the phantoms that a test may change; the current folder is an empty one."""
    shutil.copytree(phantoms, tmp_path / "source")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "source"


@pytest.fixture
def params(tiny, source):
    return replace(tiny, prepare=replace(tiny.prepare, source=str(source), max_bad_fraction=0.1))


def changed(params, **values):
    """Return params with other values in the section prepare."""
    return replace(params, prepare=replace(params.prepare, **values))


def homes(part: str) -> set[str]:
    """Return the splits that hold images whose file name contains `part`."""
    return {name for name in dataset.SPLITS for row in dataset.read_manifest(name) if part in row.source}


def read_report() -> dict:
    """Return the report; NaN and Infinity, which are not JSON, are errors."""
    def refuse(name):
        raise ValueError(f"Expected numbers in {dataset.REPORT}. Received: {name}")

    return json.loads(dataset.REPORT.read_text(), parse_constant=refuse)


def plant_copies(original: Path) -> None:
    """Write copies of every kind of a picture beside it."""
    picture = Image.open(original)
    picture.save(original.with_name("copy-jpeg.jpg"), quality=60)
    picture.resize((50, 50)).save(original.with_name("copy-resized.png"))
    ImageEnhance.Contrast(picture).enhance(1.3).save(original.with_name("copy-contrast.png"))
    ImageEnhance.Brightness(picture).enhance(0.8).save(original.with_name("copy-darker.png"))
    picture.filter(ImageFilter.SHARPEN).save(original.with_name("copy-sharpened.png"))
    shutil.copy(original, original.with_name("copy-exact.png"))


def plant_series(original: Path, count: int) -> None:
    """Write adjacent slices beside a picture: each turned by some degrees more, similar but no copies."""
    picture = Image.open(original).convert("L")
    for number in range(count):
        moved = picture.rotate(7 * (number + 1), Image.Resampling.BICUBIC)
        moved.save(original.with_name(f"run_{number + 8}.png"))


def test_splits_hold_every_image_once_and_every_class(params):
    prepare.main(params)
    splits = {name: dataset.read_manifest(name) for name in dataset.SPLITS}
    digests = [row.digest for rows in splits.values() for row in rows]
    assert len(digests) == len(set(digests)) == 24
    assert all({row.label for row in rows} == set(contract.CLASSES) for rows in splits.values())


def test_planted_copies_stay_in_one_split(params, source):
    for index in range(4):
        shutil.copy(source / "glioma" / "ph-gl_0001.png", source / "glioma" / f"copy_{index}.png")
    prepare.main(params)
    homes = {name: [row.source for row in dataset.read_manifest(name)] for name in dataset.SPLITS}
    holders = [name for name, sources in homes.items() if any("copy" in one or "gl_0001" in one for one in sources)]
    found = json.loads(dataset.REPORT.read_text())
    assert len(holders) == 1 and found["exact_duplicates"] == 4 and found["near_duplicates"] == 4


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("group_by", ["duplicates", "runs"])
def test_copies_of_every_kind_never_cross_a_split(params, source, seed, group_by):
    original = source / "meningioma" / "ph-me_0003.png"
    plant_copies(original)
    prepare.main(changed(params, seed=seed, group_by=group_by))
    assert len(homes("copy-") | homes(original.stem)) == 1
    found = read_report()
    assert found["exact_duplicates"] == 1 and found["near_duplicates"] == 6 and found["largest_group"] >= 7


@pytest.mark.parametrize("seed", range(4))
def test_series_never_cross_a_split(params, source, seed):
    plant_series(source / "pituitary" / "ph-pi_0002.png", 6)
    prepare.main(changed(params, seed=seed))
    assert len(homes("/run_")) == 1


def test_group_by_duplicates_joins_no_series(params, source):
    plant_series(source / "pituitary" / "ph-pi_0002.png", 6)
    prepare.main(changed(params, group_by="duplicates"))
    alone = read_report()
    prepare.main(params)
    joined = read_report()
    assert (alone["group_by"], joined["group_by"]) == ("duplicates", "patients")
    assert alone["runs_joined"] == 0 and alone["largest_group"] == 1 and alone["groups_by_class"]["pituitary"] == 12
    assert joined["runs_joined"] == 5 and joined["largest_group"] == 6
    for found in (alone, joined):
        assert found["images"] == found["groups"] + found["near_duplicates"] + found["runs_joined"] == 30


def test_series_lie_within_one_source_folder(params, source, tmp_path):
    shutil.copytree(source, tmp_path / "Testing")
    plant_series(source / "glioma" / "ph-gl_0001.png", 4)
    for number in (8, 10):
        (source / "glioma" / f"run_{number}.png").rename(tmp_path / "Testing" / "glioma" / f"run_{number}.png")
    scans = reading.read_sources(changed(params, test_source=str(tmp_path / "Testing")).prepare, Path("images"))
    names = [row.source for one in scans for row in one.rows]
    groups = grouping.group(scans, params.prepare).final
    assert len({groups[index] for index, name in enumerate(names) if "run_" in name}) == 4


def test_blank_copies_are_equal_files_all_the_same(params, source):
    for name in ("blank-1.png", "blank-4.png"):
        Image.new("L", (64, 64), 90).save(source / "glioma" / name)
    prepare.main(params)
    assert len(homes("blank-")) == 1 and read_report()["near_duplicates"] == 1


def test_the_report_counts_sizes_and_classes(params, source):
    Image.open(source / "glioma" / "ph-gl_0001.png").resize((80, 40)).save(source / "glioma" / "wide.png")
    prepare.main(params)
    found = read_report()
    assert found["sizes"] == {"64x64": 24, "80x40": 1}
    assert found["groups"] == sum(found["groups_by_class"].values()) == 25 - found["near_duplicates"] - \
        found["runs_joined"]


def test_rare_sizes_are_counted_together():
    features = np.ones((40, len(probe.NAMES)), np.float32)
    features[:12, probe.NAMES.index("width")] = np.arange(100, 112)
    counted = report.sizes(features)
    assert list(counted)[0] == "1x1" and counted["1x1"] == 28
    assert len(counted) == 11 and counted["other"] == 3 and sum(counted.values()) == 40


def test_a_planted_border_shows_in_the_source_probe(params, tmp_path):
    phantom.write_dataset(tmp_path / "more", 20, 64, 3)
    prepare.main(changed(params, source=str(tmp_path / "more")))
    before = read_report()["source_probe"]
    for path in (tmp_path / "more" / "notumor").iterdir():
        picture = Image.open(path).convert("L").crop((3, 3, 61, 61))
        ImageOps.expand(picture, border=3, fill=255).save(path)
    prepare.main(changed(params, source=str(tmp_path / "more")))
    after = read_report()["source_probe"]
    assert after["notumor_roc_auc"] == 1 > before["notumor_roc_auc"]
    assert after["recall"]["notumor"] == 1 > before["recall"]["notumor"]
    assert set(after) == {"accuracy", "majority_accuracy", "macro_f1", "notumor_roc_auc", "recall"}


def test_the_probe_does_not_see_the_test_split(params):
    scans = reading.read_sources(params.prepare, Path("images"))
    splits = splitting.split([replace(row, group=index) for index, row in enumerate(scans[0].rows)], np.zeros(24, bool),
                           params.prepare)
    assert report.source_probe(splits, scans) == report.source_probe(splits | {"test": []}, scans)


def test_the_counts_are_those_of_the_manifests(params):
    prepare.main(params)
    with (prepare.REPORTS / "counts.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["split"], line["label"]) for line in lines[:4]] == [("test", label) for label in contract.CLASSES]
    for line in lines:
        rows = [row for row in dataset.read_manifest(line["split"]) if row.label == line["label"]]
        assert (int(line["images"]), int(line["groups"])) == (len(rows), len({row.group for row in rows}))


def test_conflicts_are_listed_by_digest(params, source):
    shutil.copy(source / "glioma" / "ph-gl_0001.png", source / "notumor" / "same.png")
    prepare.main(params)
    text = (prepare.REPORTS / "label_conflicts.csv").read_text()
    lines = list(csv.DictReader(text.splitlines()))
    assert {line["label"] for line in lines} >= {"glioma", "notumor"} and len({line["group"] for line in lines}) == 1
    assert read_report()["label_conflicts"] == 2 and "ph-gl" not in text and "same" not in text
    digests = {row.digest for name in dataset.SPLITS for row in dataset.read_manifest(name)}
    assert list(lines[0]) == ["kind", "group", "label", "original", "digest"]
    assert all(line["digest"] in digests for line in lines)


@pytest.mark.parametrize("count, words", [(0, "No images with a doubtful label.\n"),
                                          (1, "1 image with a doubtful label, see label_conflicts.csv.\n"),
                                          (2, "2 images with a doubtful label, see label_conflicts.csv.\n")])
def test_the_sentences_count_conflicts(count, words):
    summary = {"images": 9, "source": "x", "unreadable": 0, "groups": 9, "splits": {}, "label_conflicts": count,
               "patients": 0, "patients_alone": 0, "left_out": {},
               "source_probe": {"accuracy": 0.5, "majority_accuracy": 0.25}}
    assert words in report.sentences(summary)


def test_the_weakest_pairs_of_both_kinds_come_first():
    alike = np.random.default_rng(0).random(20).astype(np.float32)
    kinds = {"picture": [Pairs(np.stack([np.arange(20), np.arange(20) + 20]), alike)],
             "run": [Pairs(np.array([[0], [1]]), np.float32([0.5]))]}
    shown = grouping.weakest(kinds, 8)
    assert [pair.similarity for pair in shown] == sorted(pair.similarity for pair in shown)
    assert [pair.similarity for pair in shown if pair.kind == "picture"] == np.sort(alike)[:4].tolist()
    assert [(pair.first, pair.second) for pair in shown if pair.kind == "run"] == [(0, 1)]


def test_figures_are_the_same_bytes_again_and_are_there_without_pairs(params, source):
    prepare.main(changed(params, group_by="duplicates"))
    pictures = [prepare.REPORTS / "counts.png", prepare.SHOWN / "duplicates.png"]
    empty = [path.read_bytes() for path in pictures]
    plant_copies(source / "glioma" / "ph-gl_0001.png")
    prepare.main(changed(params, group_by="duplicates"))
    first = [path.read_bytes() for path in pictures]
    prepare.main(changed(params, group_by="duplicates"))
    assert [path.read_bytes() for path in pictures] == first
    assert all(one != other and one.startswith(b"\x89PNG") for one, other in zip(empty, first, strict=True))


def test_the_same_seed_splits_the_same_way(params):
    prepare.main(params)
    first = dataset.read_manifest("test")
    prepare.main(params)
    assert dataset.read_manifest("test") == first


@pytest.mark.parametrize("change, message", [
    (lambda source: (source / "glioma").rename(source / "gliom"), r"unknown: gliom \(rename it to glioma\?\)"),
    (lambda source: [path.unlink() for path in (source / "glioma").iterdir()], "Expected images in .*glioma"),
    (lambda source: [path.unlink() for path in sorted((source / "glioma").iterdir())[1:]], "every class in the .* spl"),
])
def test_wrong_folders_are_named(params, source, change, message):
    change(source)
    with pytest.raises(command.StageError, match=message):
        prepare.main(params)
    assert not dataset.FOLDER.exists() and not list(dataset.FOLDER.parent.iterdir())


def test_a_missing_source_says_what_to_do(params):
    with pytest.raises(command.StageError, match="'nowhere', which is not a folder"):
        prepare.main(changed(params, source="nowhere"))


def test_few_bad_files_are_listed_and_many_stop_the_stage(params, source, capsys):
    (source / "glioma" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    prepare.main(params)
    assert "broken.png" in capsys.readouterr().out and "broken.png" in (dataset.FOLDER / "unreadable.csv").read_text()
    for index in range(5):
        (source / "glioma" / f"broken{index}.png").write_bytes(b"text")
    with pytest.raises(command.StageError, match="6 of 30"):
        prepare.main(params)


def test_dicom_files_are_read_as_pictures_are(params, source):
    pixels = np.random.default_rng(2).integers(0, 4096, (64, 64), np.uint16)
    (source / "glioma" / "IM1.dcm").write_bytes(medical.dicom(pixels))
    (source / "glioma" / "IM2.dcm").write_bytes(medical.dicom(pixels, Modality="CT"))
    prepare.main(params)
    assert homes("IM1.dcm") and not homes("IM2.dcm")
    assert "IM2.dcm" in (dataset.FOLDER / "unreadable.csv").read_text()


def test_an_external_test_set_is_cleared_of_training_images(params, source, tmp_path):
    shutil.copytree(source, tmp_path / "Testing")
    for label in contract.CLASSES:
        kept = sorted((tmp_path / "Testing" / label).iterdir())[:3]
        for path in (source / label).iterdir():
            if path.name in [one.name for one in kept[:2]]:
                path.unlink()
    prepare.main(changed(params, test_source=str(tmp_path / "Testing")))
    test, leaked = (dataset.read_manifest(name) for name in ("test", "test_duplicates"))
    assert len(test) == 8 and len(leaked) == 16


@pytest.fixture
def further(source, tmp_path) -> Path:
    """A list of a source that lacks classes: pictures of unknown type, one of them a copy, and healthy patients."""
    folder = tmp_path / "clinic"
    phantom.write_dataset(folder, 4, 64, 11)
    shutil.copy(source / "pituitary" / "ph-pi_0002.png", folder / "copy.png")
    lines = [f"glioma/{path.name},tumour,,ward\n" for path in sorted((folder / "glioma").iterdir())]
    lines += [f"notumor/{path.name},healthy,{index // 2},\n"
              for index, path in enumerate(sorted((folder / "notumor").iterdir()))]
    (folder / "scans.csv").write_text("path,label,patient,source\ncopy.png,yes,,\n" + "".join(lines))
    return folder / "scans.csv"


def test_further_sources_join_the_pool_with_what_they_have(params, further, capsys):
    prepare.main(changed(params, further_sources=[str(further)], test_fraction=0.3, validation_fraction=0.4))
    names = (*dataset.SPLITS, "untyped")
    splits = {name: dataset.read_manifest(name) for name in names if (dataset.FOLDER / f"{name}.csv").is_file()}
    rows = [row for part in splits.values() for row in part]
    assert {(row.origin, row.label) for row in rows if row.origin} == {
        ("ward", "tumour"), ("scans", "tumour"), ("scans", "notumor")} and len(rows) == 24 + 9
    assert all({row.label for row in splits[name]} >= set(contract.CLASSES) for name in dataset.SPLITS)
    copy, original = (next(row for row in rows if row.source.endswith(name)) for name in ("copy.png", "pi_0002.png"))
    assert copy.picture == original.picture and len({row.patient for row in rows if row.patient}) == 2
    assert len(splits["untyped"]) > 0 and {row.label for row in splits["untyped"]} == {"tumour"}
    found = read_report()
    assert found["splits"]["untyped"]["tumour"] == len(splits["untyped"]) and found["label_conflicts"] == 0
    assert found["source"].endswith("source + clinic/scans.csv") and found["origins"]["ward"]["tumour"] == 4
    assert f"untyped,tumour,{len(splits['untyped'])}," in (prepare.REPORTS / "counts.csv").read_text()
    loaded = dataset.load("untyped", 64)
    assert set(loaded.labels) == {dataset.UNKNOWN} and f"{len(loaded)} untyped" in capsys.readouterr().out


@pytest.mark.parametrize("values, message", [
    ({"further_sources": ["nowhere"]}, "prepare.further_sources to list folders and CSV files. Received: 'nowhere'"),
    ({"further_sources": ["../clinic/scans.csv"] * 2}, "Received: scans twice"),
    ({"further_sources": ["../source"]}, "each source once in prepare.source, further_sources.*'../source' twice"),
    ({"further_sources": ["../clinic"], "test_source": "../clinic"}, "'../clinic' twice"),
    ({"further_sources": ["../clinic"], "source": contract.PHANTOM}, "real images beside.*'phantom'")])
def test_wrong_further_sources_are_named(params, further, values, message):
    with pytest.raises(command.StageError, match=message):
        prepare.main(changed(params, **values))


def test_max_per_class_draws_a_sample(params):
    prepare.main(changed(params, max_per_class=5))
    assert json.loads(dataset.REPORT.read_text())["images"] == 20


def test_phantoms_are_the_default(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    prepare.main(tiny)
    found = json.loads(dataset.REPORT.read_text())
    assert found["source"] == contract.PHANTOM and found["images"] == 48
    sentences = capsys.readouterr().out.splitlines()
    assert sentences[0].startswith("Read 48 images of phantom (0 unreadable, 0 files left out) in ")
    assert "{" not in "".join(sentences)
    assert sentences[-1] == "Written: data/prepared, reports/prepare and data/shown/prepare."


def test_phantoms_of_a_class_without_a_painter_end_in_a_message(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(contract, "CLASSES", (*contract.CLASSES, "metastasis"))
    with pytest.raises(command.StageError, match="metastasis.*prepare.source"):
        prepare.main(tiny)


def test_no_private_path_is_recorded(tmp_path):
    assert report.data_name(str(tmp_path / "brain" / "Training")) == "brain/Training"


def test_pixels_in_memory_are_the_served_pixels(params):
    prepare.main(params)
    row = dataset.read_manifest("test")[0]
    served = preprocess.Preprocess(64).serve([[(dataset.FOLDER / row.path).read_bytes()]])[contract.PIXELS]
    kept = next(iter(dataset.batches(dataset.load("test", 64), 1)))[0]
    assert np.array_equal(served, kept)
