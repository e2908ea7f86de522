"""The synthetic slices: the same every time, anatomically where they should be, and written whole or not at all."""

import shutil
import subprocess
import sys

import numpy as np
import psutil
import pytest
from PIL import Image
from scipy import ndimage

from core import contract
from core.contract import CLASSES, HEALTHY
from imaging.slices import PLANES
from stages.data import phantom
from stages.data.phantom import anatomy, draw, drawing, noise, signals, tumours
from stages.data.phantom.__main__ import main
from tests.conftest import PROJECT

TUMOURS = [label for label in CLASSES if label != HEALTHY]


def some(label: str, count: int = 12, **wanted) -> list:
    """Return the first `count` phantoms of a class whose fields are as wanted."""
    found = (draw(label, seed, 64) for seed in range(1000))
    matching = (p for p in found if all(getattr(p, name) == value for name, value in wanted.items()))
    return [next(matching) for _ in range(count)]


@pytest.mark.parametrize("label", CLASSES)
@pytest.mark.parametrize("size", [32, 97, 224])
def test_same_arguments_give_the_same_pixels_whatever_ran_before(label, size):
    first = draw(label, 5, size)
    np.random.seed(1)
    draw("glioma", 9, 64)
    again = draw(label, 5, size)
    assert np.array_equal(first.image, again.image) and np.array_equal(first.mask, again.mask)
    assert first.image.shape == first.mask.shape == (size, size)
    assert first.image.dtype == np.uint8 and first.mask.dtype == bool


def test_seeds_and_classes_give_different_pictures():
    pictures = {draw(label, seed, 64).image.tobytes() for label in CLASSES for seed in range(5)}
    assert len(pictures) == 20


@pytest.mark.parametrize("label", CLASSES)
def test_size_changes_the_sharpness_not_the_head(label):
    big, small = draw(label, 3, 224), draw(label, 3, 112)
    halved = big.image.reshape(112, 2, 112, 2).mean((1, 3))
    assert np.corrcoef(halved.ravel(), small.image.ravel())[0, 1] > 0.97


@pytest.mark.parametrize(
    ("label", "seed", "size", "words"),
    [
        ("tumor", 0, 224, "glioma.*meningioma.*notumor.*pituitary.*'tumor'"),
        ("glioma", 0, 31, "size >= 32.*31"),
        ("glioma", -1, 224, "seed >= 0.*-1"),
    ],
)
def test_bad_arguments_are_named(label, seed, size, words):
    with pytest.raises(ValueError, match=words):
        draw(label, seed, size)


def test_no_tumour_no_mask():
    assert not any(p.mask.any() for p in some(HEALTHY))


@pytest.mark.parametrize("label", TUMOURS)
def test_every_slice_of_a_tumour_cuts_it_and_its_size_is_realistic(label):
    areas = np.array([p.mask.mean() for p in some(label, 40)])
    assert areas.min() > 0.001 and areas.max() < 0.08  # of the picture: about 8 to 65 mm across


@pytest.mark.parametrize("label", TUMOURS)
def test_tumours_take_up_contrast_agent(label):
    brighter = []
    for p in some(label, 20, weighting="t1c"):
        ring = ndimage.binary_dilation(p.mask, iterations=7) & ~ndimage.binary_dilation(p.mask, iterations=3)
        brighter.append(np.quantile(p.image[p.mask], 0.8) > 1.15 * np.median(p.image[ring]))
    assert np.mean(brighter) >= 0.9


@pytest.mark.parametrize("label", CLASSES)
def test_planes_and_contrasts_do_not_give_the_class_away(label):
    plans = [drawing.plan(label, np.random.default_rng(seed)) for seed in range(1500)]
    for plane in PLANES:
        assert np.mean([p.plane == plane for p in plans]) == pytest.approx(1 / 3, abs=0.05)
    for weighting, fraction in zip(signals.WEIGHTINGS, signals.WEIGHTING_FRACTIONS, strict=True):
        assert np.mean([p.weighting == weighting for p in plans]) == pytest.approx(fraction, abs=0.05)


def geometry(kind: str, seed: int):
    """Return a tumour and the distance to the inner skull at points on its surface (negative inside), mm."""
    tumour = tumours.PAINTERS[kind].place(np.random.default_rng(seed))
    way = np.random.default_rng(0).normal(size=(400, 3))
    surface = np.float32(tumour.centre + tumour.radii * way / np.linalg.norm(way, axis=1, keepdims=True))
    return tumour, anatomy.inner_skull(*surface.T)


@pytest.mark.parametrize("seed", range(25))
def test_meningioma_touches_the_inner_skull_and_grows_inwards(seed):
    tumour, distance = geometry("meningioma", seed)
    assert distance.max() > 0 and anatomy.inner_skull(*np.float32(tumour.centre)) < 0


@pytest.mark.parametrize("seed", range(25))
def test_glioma_lies_inside_the_brain(seed):
    assert geometry("glioma", seed)[1].max() < -2


@pytest.mark.parametrize("seed", range(25))
def test_pituitary_tumour_sits_on_the_sella_in_the_midline(seed):
    tumour, _ = geometry("pituitary", seed)
    bottom = tumour.centre[2] - tumour.radii[2]
    assert abs(tumour.centre[0]) < 6 and abs(bottom - anatomy.SELLA[2]) < 15


@pytest.mark.parametrize(("signal", "mean", "deviation"), [(0, 1.2533, 0.6551), (3, 3.1726, 0.9668), (50, 50.01, 1)])
def test_noise_is_rician(signal, mean, deviation):
    noisy = noise.rician(np.full((400, 400), signal, np.float32), 1.0, np.random.default_rng(0))
    assert noisy.mean() == pytest.approx(mean, rel=0.01) and noisy.std() == pytest.approx(deviation, rel=0.02)


def test_background_is_dark_but_not_empty():
    corners = np.array([p.image[:8, :8] for p in some(HEALTHY, 20, plane="axial")])
    assert 0 < corners.mean() < 12 and corners.max() < 60


@pytest.mark.parametrize("weighting", signals.WEIGHTINGS)
def test_signals_order_the_tissues_as_on_a_scanner(weighting):
    s = signals.tissue_signals(weighting, np.random.default_rng(0))
    order = {"t1c": "csf grey white meningioma", "t2": "bone white grey csf", "flair": "csf white grey oedema"}
    values = [s[tissue] for tissue in order[weighting].split()]
    assert values == sorted(values)


def test_phantoms_of_a_class_are_not_near_duplicates():
    for label in CLASSES:
        thumbnails = np.array([draw(label, seed, 32).image.ravel() for seed in range(60)], float)
        thumbnails -= thumbnails.mean(1, keepdims=True)
        thumbnails /= np.linalg.norm(thumbnails, axis=1, keepdims=True)
        alike = (thumbnails @ thumbnails.T)[np.triu_indices(60, 1)]
        assert (alike > 0.97).mean() < 0.002


def files(folder) -> dict:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_dataset_layout(tmp_path):
    seen = []
    phantom.write_dataset(tmp_path / "set", 2, 48, 7, lambda *now: seen.append(now), masks=tmp_path / "masks")
    names = [f"{label}/ph-{label[:2]}_000{i}.png" for label in CLASSES for i in (1, 2)]
    assert list(files(tmp_path / "set")) == list(files(tmp_path / "masks")) == names
    assert seen == [(i, 8) for i in range(1, 9)]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["masks", "set"]


def test_files_hold_the_phantoms(tmp_path):
    phantom.write_dataset(tmp_path / "set", 1, 48, 7, masks=tmp_path / "masks")
    expected = draw("glioma", phantom.phantom_seed(7, "glioma", 0), 48)
    with Image.open(tmp_path / "set/glioma/ph-gl_0001.png") as image, Image.open(
        tmp_path / "masks/glioma/ph-gl_0001.png"
    ) as mask:
        assert image.mode == mask.mode == "L"
        assert np.array_equal(image, expected.image) and np.array_equal(np.array(mask) == 255, expected.mask)


def test_one_and_two_processes_write_the_same_bytes(tmp_path):
    done = []
    for processes in (1, 2):
        phantom.write_dataset(tmp_path / str(processes), 3, 64, 1, lambda *now: done.append(now), processes=processes)
        assert done[-1] == (12, 12)
    assert files(tmp_path / "1") == files(tmp_path / "2")


@pytest.mark.parametrize("processes", [1, 2])
def test_a_failed_write_leaves_nothing(tmp_path, processes):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        phantom.write_dataset(tmp_path / "set", 3, 32, 0, stop, processes=processes)
    assert not list(tmp_path.iterdir())


def test_a_process_that_dies_is_an_error_and_leaves_nothing(tmp_path):
    def kill(done, total):
        for child in psutil.Process().children():
            if any("LokyProcess" in word for word in child.cmdline()):
                child.kill()

    with pytest.raises(RuntimeError, match="terminated"):
        phantom.write_dataset(tmp_path / "set", 200, 32, 0, kill, processes=2)
    assert not list(tmp_path.iterdir())


def test_an_error_in_a_process_arrives_and_leaves_nothing(tmp_path):
    def block(done, total):
        for draft in tmp_path.glob(".writing-*/set/pituitary"):
            shutil.rmtree(draft)

    with pytest.raises(FileNotFoundError, match="pituitary"):
        phantom.write_dataset(tmp_path / "set", 20, 32, 0, block, processes=2)
    assert not list(tmp_path.iterdir())


def test_the_painting_processes_do_not_import_tensorflow():
    code = "import sys; import stages.data.phantom.writing; print('tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_class_without_a_painter_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(contract, "CLASSES", (*CLASSES, "metastasis"))
    with pytest.raises(phantom.NoPainter, match="metastasis.*PAINTERS in stages/data/phantom/tumours.py"):
        draw("metastasis", 0, 64)
    assert main([str(tmp_path / "set")]) == 2 and "metastasis" in capsys.readouterr().err
    assert not list(tmp_path.iterdir()) and draw(HEALTHY, 0, 64).image.any()


def test_an_existing_folder_is_kept(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("precious")
    assert main([str(tmp_path), "--size", "32"]) == 2
    assert "Remove it first" in capsys.readouterr().err and (tmp_path / "mine.txt").exists()


@pytest.mark.parametrize("option", ["--images-per-class=0", "--size=16", "--seed=-4"])
def test_the_command_refuses_bad_numbers_in_one_line(tmp_path, capsys, option):
    assert main([str(tmp_path / "set"), option]) == 2
    assert capsys.readouterr().err.count("\n") == 1 and not list(tmp_path.iterdir())
