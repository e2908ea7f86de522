"""Tumours are moved out of slices and into others: only they change, and the rows of `prepare` say what was made."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import imaging
from core import contract, files
from stages import prepare
from stages.common import command
from stages.data import boxes, dataset, making, moving, phantom
from stages.folds import assignment
from stages.scoring import external
from tests.conftest import PROJECT

SIZES = [(96, 96), (150, 110)]


def random() -> np.random.Generator:
    return np.random.default_rng(5)


def box_of(mask: np.ndarray) -> tuple[float, ...]:
    """Return the box around a tumour's mask [h, w], as shares of the sides."""
    (top, bottom), (left, right) = ((line.start, line.stop) for line in moving.around(mask, 0))
    height, width = mask.shape
    return (left + right) / 2 / width, (top + bottom) / 2 / height, (right - left) / width, (bottom - top) / height


def ill(shape: tuple[int, int] = (96, 96), seed: int = 4) -> tuple[np.ndarray, moving.Place, np.ndarray]:
    """Return a phantom with a bright tumour, stretched to a shape; the tumour's place; and which pixels it covers."""
    drawn = phantom.draw("meningioma", seed, 96)
    image, mask = (np.array(Image.fromarray(one).resize(shape[::-1])) for one in (drawn.image, drawn.mask))
    image[mask] = 250
    return image, moving.place_of(box_of(mask), shape), mask


def healthy(seed: int = 5) -> np.ndarray:
    return phantom.draw("notumor", seed, 96).image


def replaced(image: np.ndarray, tumour: moving.Place) -> np.ndarray:
    """Return which pixels move_out() may change."""
    return moving.ellipse(image.shape, moving.widened(tumour, moving.WIDER_OUT, moving.LEAST_OUT
                                                      * moving.unit(image.shape)))


@pytest.mark.parametrize("shape", SIZES)
def test_a_tumour_that_is_moved_out_is_gone_and_nothing_else_changes(shape):
    image, tumour, mask = ill(shape)
    before, free = image.copy(), moving.move_out(image, tumour)
    place = replaced(image, tumour)
    assert np.array_equal(image, before) and free.dtype == np.uint8
    assert np.array_equal(free[~place], image[~place])
    ring = moving.ellipse(shape, moving.widened(tumour, 2, 0)) & ~place
    contrasts = [abs(float(one[mask].mean() - one[ring].mean())) for one in (image, free)]
    assert contrasts[1] < 0.3 * contrasts[0]
    assert np.array_equal(free, moving.move_out(image, tumour))


def test_texture_that_goes_on_at_the_other_side_is_found_there():
    """The slice is symmetric but for the tumour, so that the mirrored other side is what was there."""
    half = np.random.default_rng(0).integers(60, 120, (64, 32), np.uint8)
    whole = np.hstack([half, half[:, ::-1]])
    image, place = whole.copy(), moving.Place(16, 30, 12, 14)
    image[moving.ellipse(image.shape, place)] = 255
    assert np.array_equal(moving.fill(image, place, np.zeros(image.shape, bool)), whole)


def test_what_is_forbidden_is_not_copied():
    """The two best places are equal; each is taken when the other is forbidden. All others are noise, too unlike."""
    image = np.random.default_rng(0).integers(60, 120, (64, 96), np.uint8)
    for left, value in ((32, 121), (64, 122)):
        image[:32, left : left + 32] = image[:32, :32]
        image[14:18, left + 14 : left + 18] = value
    place, columns = moving.Place(16, 16, 12, 12), np.arange(96)
    first, second = np.broadcast_to(abs(columns - 48) < 4, image.shape), np.broadcast_to(columns > 60, image.shape)
    assert [moving.fill(image, place, one)[16, 16] for one in (second, first)] == [121, 122]
    assert moving.fill(image, place, first | second) is None


@pytest.mark.parametrize("tumour", [moving.Place(4, 40, 20, 20), moving.Place(48, 90, 10, 10)])
def test_a_tumour_at_the_rim_stays(tumour):
    image, random = ill()[0], np.random.default_rng(0)
    assert moving.move_out(image, tumour) is None
    assert moving.paste(healthy(), image, tumour, random) is None


def test_a_tumour_that_is_moved_in_is_one_spot_in_the_head():
    donor, tumour, _ = ill()
    image = np.minimum(healthy(), 150)
    made = moving.paste(image, donor, tumour, random())
    changed = made != image
    window = moving.around(changed, 0)
    assert made.dtype == np.uint8 and np.array_equal(made, moving.paste(image, donor, tumour, random()))
    assert changed[window].mean() > 0.5 and moving.head(image)[changed].mean() > 0.95
    brightest = [np.percentile(one[changed], 90) for one in (image, made)]
    assert brightest[1] > brightest[0] + 20


def test_no_tumour_is_moved_into_air():
    donor, tumour, _ = ill()
    assert moving.paste(np.zeros((96, 96), np.uint8), donor, tumour, random()) is None
    spots = np.zeros((96, 96), np.uint8)
    spots[::9, ::9] = 200  # a head without a place for anything
    assert moving.paste(spots, donor, tumour, random()) is None and moving.sham(spots, None, random()) is None


def test_a_sham_changes_another_place_than_the_tumour_and_copies_nothing_of_it():
    image, tumour, _ = ill()
    made = moving.sham(image, tumour, random())
    changed = made != image
    assert changed.any() and not (changed & replaced(image, tumour)).any() and made[changed].max() < 245
    assert np.array_equal(made, moving.sham(image, tumour, random()))
    without = moving.sham(healthy(), None, random())
    assert 0 < (without != healthy()).mean() < 0.08


def test_a_membrane_continues_a_slope():
    rows, columns = np.mgrid[:40, :40].astype(float)
    slope, inside = 3 * columns + 2 * rows, np.hypot(columns - 20, rows - 18) < 9
    assert np.allclose(moving.membrane(np.where(inside, 999, slope), inside)[inside], slope[inside])


def test_colour_is_left_alone(tmp_path):
    for name, colour in (("grey", (90, 90, 90)), ("red", (90, 80, 80))):
        Image.new("RGB", (64, 64), colour).save(tmp_path / f"{name}.png")
    assert moving.grey(tmp_path / "grey.png").shape == (64, 64) and moving.grey(tmp_path / "red.png") is None
    task = moving.Task(moving.SHAM, tmp_path / "red.png", None, (), (1,))
    assert moving.carry_out(7, task) == (7, b"", "")


def test_tumours_of_the_pituitary_gland_are_put_in_half_as_often_as_others():
    counts = {"glioma": 5, "meningioma": 50, "pituitary": 20}
    donors = {label: [moving.Tumour(Path(), (), label)] * count for label, count in counts.items()}
    tried = [one.label for number in range(300)
             for one in making.drawn(donors, dataset.Row("", "notumor", 0, f"{number:x}", ""), 1)]
    assert [tried.count(label) / len(tried) for label in counts] == pytest.approx([0.4, 0.4, 0.2], abs=0.05)
    assert making.drawn({}, dataset.Row("", "notumor", 0, "a", ""), 1) == ()


@pytest.fixture(scope="module")
def moved(tiny, phantoms, tmp_path_factory) -> tuple[Path, object]:
    """A folder where `prepare` has moved tumours of phantoms, of one of which there is a copy, and its params."""
    folder = tmp_path_factory.mktemp("moved")
    lines = ["sha256,x_centre,y_centre,width,height"]
    for label in contract.CLASSES:
        (folder / "source" / label).mkdir(parents=True)
        for index, path in enumerate(sorted((phantoms / label).iterdir())):
            drawn = phantom.draw(label, phantom.phantom_seed(7, label, index), 64)
            (folder / "source" / label / path.name).write_bytes(path.read_bytes())
            if drawn.mask.any():
                lines.append(",".join(map(str, (files.digest(path), *box_of(drawn.mask)))))
    Image.open(folder / "source/notumor/ph-no_0001.png").transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(
        folder / "source/notumor/copy.png")
    (folder / "boxes.csv").write_text("\n".join(lines))
    own = replace(tiny.prepare, source="source", boxes="boxes.csv", moved_tumours=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        prepare.main(replace(tiny, prepare=own))
    return folder, replace(tiny, prepare=own)


@pytest.fixture
def here(moved, monkeypatch):
    """Its training rows and its params, with it as the current folder."""
    monkeypatch.chdir(moved[0])
    return dataset.read_manifest("train"), moved[1]


def test_prepare_adds_what_was_made_to_the_training_split_only(here):
    rows, found = here[0], json.loads(dataset.REPORT.read_text())
    made = [row for row in rows if row.made]
    assert found["moved"] == making.counts(made) and min(found["moved"].values()) > 0
    assert sum(found["splits"]["train"].values()) == len(rows) - len(made) and found["images"] == 25
    assert not any(row.made for name in ("validation", "test") for row in dataset.read_manifest(name))
    pictures = {row.picture for row in rows if not row.made}
    assert len([row for row in made if row.made == moving.SHAM]) <= len(pictures)
    loaded = dataset.load("train", 64)
    assert len(loaded) == len(rows) and loaded.pixels.shape[-1] == 1


def test_rows_say_what_was_made_of_which_picture(here):
    originals = {row.source: row for row in here[0] if not row.made}
    for row in (row for row in here[0] if row.made):
        original = originals[row.source]
        assert (row.group, row.patient, row.origin, row.file) == (original.group, original.patient, original.origin, "")
        assert (row.picture == original.picture) == (row.made == moving.SHAM)
        assert (row.label == original.label) == (row.made == moving.SHAM)
        assert (row.label == contract.HEALTHY) == (row.made == moving.FILLED or original.label == contract.HEALTHY
                                                   and row.made == moving.SHAM)
        pixels, before = (np.array(Image.open(dataset.FOLDER / one.path)) for one in (row, original))
        assert 0 < (pixels != before).mean() < 0.5 and row.digest == files.digest(dataset.FOLDER / row.path)
    new = [row.picture for row in here[0] if row.made in (moving.FILLED, moving.PASTED)]
    others = [row.picture for name in dataset.SPLITS for row in dataset.read_manifest(name) if not row.made]
    assert len(set(new)) == len(new) and not set(new) & set(others)


def test_the_same_images_are_made_whatever_else_is_made(here):
    one, params = next(row for row in here[0] if row.label == "glioma" and not row.made), here[1].prepare
    again = making.plan([one], boxes.of_rows([one], Path(params.boxes), ""), dataset.FOLDER, params.seed)
    expected = {row.digest for row in here[0] if row.source == one.source and row.made}
    assert {imaging.digest(moving.carry_out(0, task)[1]) for _, task in again} == expected


def test_what_compares_pictures_and_what_tests_leaves_made_ones_out(here):
    count = sum(not row.made for name in ("train", "validation") for row in dataset.read_manifest(name))
    assert len(external.training_pictures()) == count
    assert len(assignment.pool()) == 25 and not any(row.made for row in assignment.pool())


def test_the_digest_of_the_data_tells_of_made_images(here, tmp_path, monkeypatch):
    own = replace(here[1].prepare, source=str(Path("source").resolve()), moved_tumours=False, boxes=None)
    before = json.loads(dataset.REPORT.read_text())
    monkeypatch.chdir(tmp_path)
    prepare.main(replace(here[1], prepare=own))
    after = json.loads(dataset.REPORT.read_text())
    assert after["digest"] != before["digest"] and "moved" not in after
    assert {name: value for name, value in before.items() if name not in ("digest", "moved")} == {
        name: value for name, value in after.items() if name != "digest"}


@pytest.mark.parametrize("values, message", [
    ({"boxes": None}, "Expected prepare.boxes to name a CSV file.*moved_tumours is true. Received: null"),
    ({"boxes": "nowhere.csv"}, "prepare.boxes to be a CSV file.*nowhere.csv"),
    ({"boxes": "nowhere.csv", "moved_tumours": False}, "prepare.boxes to be a CSV file.*nowhere.csv")])
def test_missing_boxes_are_said_before_anything_is_read(here, values, message):
    with pytest.raises(command.StageError, match=message):
        prepare.main(replace(here[1], prepare=replace(here[1].prepare, source="nowhere", **values)))


def test_what_moves_tumours_starts_without_tensorflow():
    code = "import sys, stages.data.moving; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT).returncode == 0
