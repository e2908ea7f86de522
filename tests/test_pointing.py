"""Whether heatmaps point at tumours: the game on phantoms, and on images of the public set whose tumours have boxes."""

import json
from dataclasses import replace

import keras
import numpy as np
import pytest

from core import contract, files
from stages import evaluate, prepare
from stages.common import command
from stages.data import boxes, dataset, layouts, patients
from stages.scoring import answers, pointing, reports
from tests.conftest import PROJECT
from tests.support.road import DATA
from tests.test_evaluate import trained

SIZE = 64
HEADER = "figshare_slice,x_centre,y_centre,width,height\n"
MIRRORED, SAME = "Training/glioma/Tr-gl_0121.jpg", "Testing/glioma/Te-glTr_0000.jpg"
"""Files of the public set: the mirror image of a slice, and a slice as it was published."""
WITHOUT = (np.nan,) * 4


@pytest.fixture(scope="module")
def bright():
    """A network whose heatmap of glioma peaks where the image is brightest, and which answers nothing else."""
    pixels = keras.Input((SIZE, SIZE, 3))
    seen = keras.layers.Conv2D(1, 1, kernel_initializer="ones")(keras.layers.AveragePooling2D(4)(pixels))
    head = keras.layers.Dense(len(contract.CLASSES), "softmax", name="head")
    network = keras.Model(pixels, head(keras.layers.GlobalAveragePooling2D()(seen)))
    weights = np.zeros((1, len(contract.CLASSES)))
    weights[0, contract.CLASSES.index("glioma")] = 50.0
    head.set_weights([weights, np.zeros(len(contract.CLASSES))])
    return network


def public(name: str) -> dict[str, str]:
    """Return the row of a file in the public set's table."""
    return next(one for one in patients.public_files().values() if one["path"] == name)


def row(name: str = SAME, label="glioma", group=0, **facts) -> dataset.Row:
    """Return the row of a file of the public set."""
    return dataset.Row("", label, group, "", f"x/{name}", **{"file": public(name)["sha256"], **facts})


def given(rows: list[dataset.Row], *answered: str) -> answers.Answers:
    """Return answers that are sure of one class for each row."""
    labels = np.array([contract.CLASSES.index(one.label) for one in rows])
    return answers.Answers(rows, labels, np.eye(len(contract.CLASSES))[[contract.CLASSES.index(one)
                                                                       for one in answered]])


def spots(*places: tuple[int, int]) -> np.ndarray:
    """Return dark images with one bright square each, whose first row and column are given: uint8 [n, s, s, 1]."""
    pixels = np.zeros((len(places), SIZE, SIZE, 1), np.uint8)
    for image, (top, left) in zip(pixels, places, strict=True):
        image[top : top + 4, left : left + 4] = 255
    return pixels


def table(folder, text: str):
    """Write a file of boxes: text, with a header unless it has its own."""
    path = folder / "boxes.csv"
    path.write_text(text if text.startswith(("figshare", "sha")) else HEADER + text)
    return path


def test_a_peak_in_or_near_the_tumour_is_a_hit():
    masks = np.zeros((4, 28, 28), bool)
    masks[:, 13:15, 13:15] = True
    seen = np.zeros((4, 7, 7), np.float32)
    seen[0, 3, 3] = seen[1, 3, 5] = seen[2, 6, 6] = 1.0  # the fourth shows nothing
    hits, chance = pointing.score(seen, masks)
    assert hits == 0.25 and 4 / 28**2 < chance < 0.06


def test_the_game_is_played_with_new_weights_and_leaves_the_network_alone(bright, monkeypatch):
    monkeypatch.setattr(pointing, "PER_CLASS", 2)
    before = [np.array(weight) for weight in bright.weights]
    played = pointing.game(bright, SIZE, average_flip=False)
    assert played["images"] == 6 and 0 < played["chance"] < 0.5
    assert all(np.array_equal(one, now) for one, now in zip(before, bright.weights, strict=True))
    new = pointing.untrained(bright)
    assert not np.array_equal(new.layers[-1].kernel, bright.layers[-1].kernel)
    assert np.array_equal(new.layers[-1].kernel, pointing.untrained(bright).layers[-1].kernel)


@pytest.mark.parametrize("x, y, hit", [(22, 42, True), (28, 42, True), (29, 42, False), (16, 42, True),
                                       (22, 48, False), (42, 22, False)])
def test_a_peak_in_the_box_or_just_beside_it_is_a_hit(x, y, hit):
    """The box reaches from 17 to 28 of 100 pixels to the right, and a tenth wider from 16.45 to 28.55."""
    seen = np.zeros((2, 100, 100), np.float32)  # the second shows nothing
    seen[0, y, x] = 1.0
    assert pointing.inside(seen, np.tile([0.225, 0.425, 0.11, 0.1], (2, 1)), 100).tolist() == [hit, False]


def test_chance_is_the_share_of_the_image_that_boxes_take():
    assert pointing.areas(np.array([[0.5, 0.5, 0.2, 0.1], [0.0, 0.5, 0.2, 0.1]])) == pytest.approx([0.0242, 0.0121])


def test_a_box_is_mirrored_with_the_image_and_others_have_none(tmp_path, capsys):
    path = table(tmp_path, "".join(f"{public(name)['figshare_slice']},0.3,0.4,0.2,0.1\n" for name in (SAME, MIRRORED)))
    rows = [row(SAME), row(MIRRORED), row(file="0" * 64), row(file=""), row(label="notumor", file="")]
    found = boxes.of_rows(rows, path, "evaluate.boxes")
    assert found[:2] == pytest.approx(np.array([[0.3, 0.4, 0.2, 0.1], [0.7, 0.4, 0.2, 0.1]]))
    assert boxes.has(found).tolist() == [True, True, False, False, False]
    assert capsys.readouterr().out == f"{path}: boxes for 2 of 4 images of tumours.\n"


def test_a_box_may_be_that_of_a_file_and_is_not_mirrored_then(tmp_path):
    """Its own box counts more than that of the slice that it shows."""
    facts = public(MIRRORED)
    text = (f"sha256,{HEADER}{facts['sha256'].upper()},,0.3,0.4,0.2,0.1\n,{facts['figshare_slice']},0.8,0.4,0.2,0.1\n"
            f"{'a' * 64},,0.5,0.4,0.2,0.1\n")
    found = boxes.of_rows([row(MIRRORED), row(file="a" * 64)], table(tmp_path, text), "evaluate.boxes")
    assert found[:, 0].tolist() == [0.3, 0.5]


@pytest.mark.parametrize("text, words", [
    ("1,0.3,0.4,0.2\n", "1,0.3,0.4,0.2, in line 2"), ("1,0.3,0.4,0.2,nan\n", "in line 2"), ("1,0,0,0,1.2\n", "line 2"),
    ("1,0,0,0,1\n1,0,0,0,1\n", "each file or slice once.*line 3"), (",0,0,0,1\n", "line 2"),
    ("figshare_slice,x_centre,width,height\n", "no y_centre"), ("999999,0,0,0,1\n", "none for 1 images, 1 of them"),
    (HEADER.replace("figshare_slice", "sha265"), "evaluate.boxes.*no sha256, nor figshare_slice")])
def test_wrong_boxes_are_refused_in_words(tmp_path, text, words):
    with pytest.raises(command.StageError, match=words):
        boxes.of_rows([row()], table(tmp_path, text), "evaluate.boxes")


def test_missing_boxes_are_refused_in_words(tmp_path):
    with pytest.raises(command.StageError, match="prepare.boxes to be a CSV file.*nowhere.csv, which cannot be read"):
        boxes.read(tmp_path / "nowhere.csv", "prepare.boxes")


def test_only_right_answers_with_a_box_are_played(bright, defaults):
    """The second points elsewhere, the third is answered wrongly, the fourth has no box."""
    rows = [row(group=one, patient=f"public-{one}") for one in range(4)]
    images = dataset.Images(spots((8, 40), (40, 8), (8, 40), (8, 40)), np.zeros(4, int))
    around = np.array([(42 / SIZE, 10 / SIZE, 0.1, 0.1)] * 3 + [WITHOUT])
    test = given(rows, "glioma", "glioma", "pituitary", "glioma")
    played = pointing.game_on_boxes(bright, test, images, around, defaults.evaluate)
    assert (played["images"], played["patients"], played["hits"]) == (2, 2, 0.5)
    assert played["chance"] == pytest.approx(0.11**2) and played["intervals"]["hits"] == (0.0, 1.0)
    nothing = pointing.game_on_boxes(bright, given(rows, *["pituitary"] * 4), images, around, defaults.evaluate)
    assert nothing["images"] == 0 and nothing["hits"] is None


def test_copies_of_a_picture_have_one_vote_and_intervals_draw_patients(defaults):
    """One patient of three images, two of them copies, and one of whom every image hits."""
    rows = [row(picture=picture, group=group) for picture, group in [(1, 1), (1, 1), (2, 1), (3, 2)]]
    own, hits = given(rows, *["glioma"] * 4), np.array([1, 0, 0, 1])
    found = pointing.voted({"hits": hits, "missed": np.zeros(4)}, own, replace(defaults.evaluate, bootstrap=200))
    assert found["hits"] == pytest.approx((0.5 + 0 + 1) / 3) and found["intervals"]["hits"] == (0.25, 1.0)
    assert found["missed"] == 0 and found["intervals"]["missed"] == pytest.approx((0, 1 - 0.025**0.5))
    assert "intervals" not in pointing.voted({"hits": hits}, own, replace(defaults.evaluate, bootstrap=0))


def test_evaluate_plays_on_boxes_and_the_card_shows_it(tiny, phantoms, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prepare.main(replace(tiny, prepare=replace(tiny.prepare, source=str(phantoms))))
    trained(tmp_path)
    lines = [f"{one.file},0.5,0.5,1,1\n" for one in dataset.read_manifest("test")]
    path = table(tmp_path, HEADER.replace("figshare_slice", "sha256") + "".join(lines))
    evaluate.main(replace(tiny, evaluate=replace(tiny.evaluate, bootstrap=20, boxes=str(path))))
    results, text = json.loads(reports.SCORES.read_text()), evaluate.CARD.read_text()
    played = results["custom"]["pointing_game"]
    right = sum(one["images"] * one["recall"] for one in results["custom"]["classes"].values())
    assert played["images"] == round(right)
    assert played["chance"] == 1 and "pointing_game" not in results[contract.ENSEMBLE]
    assert f"| custom | {played['images']} | 1 | " in text and "made a tenth wider and higher" in text


@pytest.fixture(scope="module")
def real() -> tuple[list[dataset.Row], np.ndarray]:
    """The rows of the real test folder, and their boxes."""
    path, folder = DATA / "figshare_boxes.csv", DATA / "Testing"
    found = layouts.find(folder, contract.CLASSES).files
    digests = [files.digest(one.path) for one in found]
    known = patients.of_scan(found, digests, folder, patients.Patients(None))
    rows = [dataset.Row(str(one.path), one.label, 0, "", one.name, origin=whose.origin, file=digest)
            for one, whose, digest in zip(found, known, digests, strict=True)]
    return rows, boxes.of_rows(rows, path, "evaluate.boxes")


@pytest.mark.real_data
def test_every_real_slice_of_the_boxed_source_has_its_box_and_no_other_image(real):
    rows, around = real
    assert boxes.has(around).tolist() == [one.origin == "figshare" for one in rows] and boxes.has(around).any()


@pytest.mark.real_data
def test_real_meningiomas_are_brighter_in_the_box_than_on_the_other_side(real):
    """They take up the contrast agent: a box that is not mirrored with its image would lie on healthy tissue."""
    chosen = [(one, box) for one, box in zip(*real, strict=True)
              if one.label == "meningioma" and abs(box[0] - 0.5) > box[2] / 2]
    pixels = dataset.load_rows([one for one, _ in chosen], 100, PROJECT).pixels[..., 0]
    brighter = [mean(image, box) > mean(image[:, ::-1], box) for image, (_, box) in zip(pixels, chosen, strict=True)]
    assert len(brighter) > 50 and np.mean(brighter) > 0.95


def mean(image: np.ndarray, box: np.ndarray) -> float:
    """Return the mean of a square image [s, s] in a box."""
    (left, top), (right, bottom) = ((box[:2] + sign * box[2:] / 2) * len(image) for sign in (-1, 1))
    return image[round(top) : round(bottom) + 1, round(left) : round(right) + 1].mean()
