"""Other sources: what is read of them, what is left out, and what can be said of a network that answers to them."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageOps

from core import contract
from stages.common import command
from stages.data import copies, dataset, layouts
from stages.data.dataset import Row
from stages.reporting import card, tables
from stages.scoring import external, scores, sources
from stages.scoring.answers import Answers

NONE = np.zeros((0, 1024), np.float32)
HEALTHY = contract.HEALTHY


def read(path, trained=NONE):
    return external.read("elsewhere", path, trained, 64, 0.98)


@pytest.fixture
def elsewhere(phantoms, tmp_path):
    """Six tumours of unknown type, of which one lies there upside down as well, and six healthy slices."""
    folder = tmp_path / "elsewhere"
    shutil.copytree(phantoms / "glioma", folder / "tumour")
    shutil.copytree(phantoms / HEALTHY, folder / "normal")
    first = sorted((folder / "tumour").iterdir())[0]
    ImageOps.flip(Image.open(first)).save(folder / "tumour" / "again.png")
    return folder


def test_a_folder_of_tumours_of_unknown_type_is_read_with_copies_as_one_picture(elsewhere):
    found = read(elsewhere)
    assert np.bincount(found.images.labels + 1).tolist() == [7, 0, 0, 6]
    assert found.images.pixels.shape == (13, 64, 64, 3) and (found.known, found.unreadable) == (0, 0)
    again, pictures = [row.source.endswith("again.png") for row in found.rows], [row.picture for row in found.rows]
    assert len(set(pictures)) == 12 and pictures.count(pictures[again.index(True)]) == 2


def test_training_pictures_in_any_orientation_are_left_out_and_counted(elsewhere, phantoms, capsys):
    thumbnails = [np.asarray(Image.open(path).convert("L").resize((32, 32), Image.Resampling.BOX), np.float32)
                  for path in sorted((phantoms / "glioma").iterdir())[:2]]
    found = read(elsewhere, copies.unit_vectors(np.stack(thumbnails)))
    assert found.known == 3 and len(found.rows) == 10 and found.facts["known"] == 3
    assert "left out: 3 of 13 images of elsewhere: they show training pictures" in capsys.readouterr().out


def test_a_held_out_source_of_training_pictures_only_is_said_not_scored(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    dataset.write_manifest(dataset.FOLDER / "held_out.csv", [])
    dataset.write_manifest(dataset.FOLDER / "held_out_duplicates.csv", [Row("", "glioma", 0, "", "", origin="web")] * 2)
    assert list(external.sources({}, 64, 0.98)) == []
    assert capsys.readouterr().out == "web: not scored, since all 2 images of it copy training pictures.\n"


def test_an_unreadable_file_is_named_and_counted(elsewhere, capsys):
    (elsewhere / "tumour" / "torn.png").write_bytes((elsewhere / "tumour" / "again.png").read_bytes()[:300])
    found = read(elsewhere)
    assert found.unreadable == 1 and len(found.rows) == 13
    assert f"unreadable: {elsewhere}/tumour/torn.png: " in capsys.readouterr().out


def test_a_csv_says_whose_the_images_are(elsewhere):
    listed = "".join(f"{path.relative_to(elsewhere)},{'tumor-free' if 'normal' in str(path) else 'tumour'},"
                     f"{index % 2},{'a' if index < 6 else 'b'}\n"
                     for index, path in enumerate(sorted(elsewhere.glob("*/*.*"))))
    (elsewhere / "list.csv").write_text(f"path,label,patient,source\n{listed}")
    rows = read(elsewhere / "list.csv").rows
    assert {row.patient for row in rows} == {f"given-{number}" for number in range(1, 5)}
    assert {row.origin for row in rows} == {"a", "b"}
    assert all(len({row.group for row in rows if row.patient == name}) == 1 for name in {row.patient for row in rows})


def test_a_source_without_an_image_left_is_an_error(tmp_path):
    (tmp_path / "tumour").mkdir()
    (tmp_path / "tumour" / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n torn")
    with pytest.raises(command.StageError, match="none of 1; 1 are unreadable, 0 were trained on"):
        read(tmp_path)


def test_pixels_are_those_of_the_splits(elsewhere, tmp_path):
    """The same decoder reads both: what a network answers does not depend on the way in."""
    found = read(elsewhere)
    rows = [replace(row, path=row.source, label=HEALTHY) for row in found.rows]
    dataset.write_manifest(tmp_path / "other.csv", rows)
    shutil.copytree(elsewhere, tmp_path, dirs_exist_ok=True)
    assert (dataset.load("other", 64, tmp_path).pixels == found.images.pixels).all()


@pytest.mark.parametrize("entries, message", [
    (["nowhere"], "'nowhere', which is neither"), (["a/b.txt"], "neither"),
    (["a/same", "b/same"], "same twice, 'a/same' and 'b/same'. Rename one")])
def test_entries_that_name_no_source_are_an_error(entries, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a/same", "b/same"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "a/b.txt").touch()
    with pytest.raises(command.StageError, match=message):
        layouts.places(entries, "evaluate.external")


def test_a_source_is_called_like_its_folder_and_never_like_a_class_alone(tmp_path):
    for name in ("br35h/tumour", "clinic/test", "web"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "list.csv").touch()
    entries = [str(tmp_path / name) for name in ("br35h/tumour", "clinic/test", "web", "list.csv")]
    assert list(layouts.places(entries, "evaluate.external")) == ["br35h/tumour", "clinic/test", "web", "list"]


def given(labels: list[int], predicted: list[int], origins: list[str] | None = None) -> Answers:
    """Return sure answers to images of one patient each."""
    rows = [Row("", "", index, "", "", index, f"a-{index}", origin)
            for index, origin in enumerate(origins or [""] * len(labels))]
    return Answers(rows, np.array(labels), np.eye(4)[predicted] * 0.6 + 0.1)


DECISION = {"temperature": 1.0, "review_threshold": 0.5}


@pytest.fixture
def params(defaults):
    return replace(defaults.evaluate, bootstrap=20)


def test_of_tumours_of_unknown_type_only_tumour_or_not_is_scored(params):
    found = sources.scored(given([dataset.UNKNOWN] * 4, [0, 1, 3, scores.HEALTHY]), DECISION, params)
    undefined = {name for name, value in found.items() if value is None}
    assert undefined == {"accuracy", "macro_f1", "ece", "specificity", "balanced_accuracy", "roc_auc"}
    assert (found["missed"], found["tumours"], found["patients"], found["reviewed"]) == (0.25, 4, 4, 0)
    assert found["intervals"]["missed"][0] < 0.25 < found["intervals"]["missed"][1]


def test_macro_scores_are_over_the_classes_that_a_source_has(params):
    both = sources.scored(given([0, 0, scores.HEALTHY], [0, 1, scores.HEALTHY]), DECISION, params)
    assert both["macro_f1"] == pytest.approx((2 / 3 + 1) / 2) and both["balanced_accuracy"] == 1
    healthy = sources.scored(given([scores.HEALTHY] * 3, [scores.HEALTHY, 0, 0]), DECISION, params)
    assert healthy["macro_f1"] is None and healthy["accuracy"] == healthy["specificity"] == pytest.approx(1 / 3)
    assert healthy["missed"] is None and healthy["intervals"]["missed"] is None


def test_nothing_missed_among_few_patients_leaves_doubt(params):
    found = sources.scored(given([0, 0, 0], [1, 0, 1]), DECISION, params)
    assert found["intervals"]["missed"] == (0, pytest.approx(0.708, abs=1e-3))


def test_the_test_split_and_mixed_sources_are_scored_by_origin():
    split = {"test": given([0, 2], [0, 2], ["figshare", ""]), "mirrored test": given([0, 2], [0, 2], ["figshare", ""]),
             f"{sources.EXTERNAL}web": given([0, 2], [0, 2], ["a", "b"]),
             f"{sources.EXTERNAL}clinic": given([0, 2], [0, 2], ["clinic", "clinic"])}
    counted = {name: len(one.rows) for name, one in sources.parts(split).items()}
    assert counted == {"test/figshare": 1, "test/unknown": 1, "web": 2, "web/a": 1, "web/b": 1, "clinic": 2}
    assert sources.parts({"test": given([0], [0])}) == {}


def test_a_network_works_on_a_source_where_no_doubt_is_left(params):
    both = [0] * 40 + [2] * 40
    sides = {"web": (both, both), "few": ([0, 2], [0, 2]), "tumours": ([-1] * 40, [1] * 40),
             "healthy": ([2] * 40, [2] * 40), "sees all": (both, [0] * 80)}
    found = {name: sources.scored(given(*one), DECISION, params) for name, one in sides.items()}
    assert sources.holding(found) == ["web", "tumours (tumours only)", "healthy (tumour-free only)"]
    unknown = {"web": sources.scored(given(*sides["web"]), DECISION, replace(params, bootstrap=0))}
    assert sources.holding(unknown) == []


def test_people_see_a_line_for_each_source(params):
    facts = {"known": 3, "unreadable": 1, "digest": "d"}
    found = {"web": sources.scored(given([0, 2], [0, 2]), DECISION, params) | facts,
             "br35h": sources.scored(given([dataset.UNKNOWN], [0]), DECISION, params)}
    header, web, br35h = tables.sources_csv({"custom": {"sources": found}}).splitlines()
    assert header.startswith("network,source,images,pictures,patients,") and web.endswith(",3,1,d")
    assert br35h.startswith("custom,br35h,1,1,1,0,1,,,0.000 (0.000-0.975),")
    assert "web, 2 patients: images 2" in tables.sources_text(found) and tables.sources_text({}) == ""
    said = card.known_of(found)
    assert said.startswith("Measured on web. On br35h only in part") and "another source" in said
    assert card.known_of({}).startswith("How the networks answer")
