"""People's folders, MATLAB files and CSV files are read as they come, and no file is passed over in silence."""

import io
import os
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

import imaging
from core import contract
from stages.common.command import StageError
from stages.data import figshare, layouts, patients, reading, spelling
from tests.support import medical

PLAIN = {"glioma": "glioma", "meningioma": "meningioma", "notumor": "notumor", "pituitary": "pituitary"}
SARTAJ = {"glioma_tumor": "glioma", "meningioma_tumor": "meningioma", "no_tumor": "notumor",
          "pituitary_tumor": "pituitary"}
ANY = (*contract.CLASSES, spelling.TUMOUR)


def write(*paths: Path) -> None:
    """Write a different small picture to each path, in the format of its suffix; without one as PNG."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(list(str(path).encode())).integers(0, 256, (32, 32), np.uint8)
        Image.fromarray(pixels).save(path, None if path.suffix.lower() in (".jpg", ".png", ".jfif") else "PNG")


def write_mat(path: Path, label: int, patient: str, pixels: np.ndarray) -> None:
    """Write a slice int16 [height, width] as the figshare set has it: HDF5 behind MATLAB's text, columns first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=512) as file:
        file["cjdata/image"] = pixels.T
        file["cjdata/label"] = np.array([[label]], float)
        file["cjdata/PID"] = np.array([[ord(sign)] for sign in patient], np.uint16)
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: PCWIN64".ljust(512))


def facts(found: layouts.Found) -> dict[str, tuple[str, str, str]]:
    """Return label, patient and origin of each file, by its name."""
    assert len({file.name for file in found.files}) == len(found.files)
    return {file.name: (file.label, file.patient, file.origin) for file in found.files}


def folders(spelt: dict[str, str], *above: str, name: str = "1.png", patient: str = "",
            origin: str = "") -> dict[str, tuple[str, str, str]]:
    """Return the expected facts of a picture in each class folder, below each of some folders."""
    return {"/".join(part for part in (one, folder, patient, name) if part): (label, patient, origin)
            for one in above or [""] for folder, label in spelt.items()}


LAYOUTS = {
    "class folders": folders(PLAIN),
    "sartaj": folders(SARTAJ, "Training", "Testing"),
    "capitals, spaces and hyphens": folders({"Glioma Tumour": "glioma", "MENINGIOMA": "meningioma",
                                             "No-Tumor": "notumor", "Pituitary tumors": "pituitary"}),
    "pmram": folders({"512Glioma": "glioma", "512Meningioma": "meningioma", "512No Tumor": "notumor",
                      "512Pituitary": "pituitary"}),
    "brisc": folders({**PLAIN, "no_tumor": "notumor"}, "brisc2025/classification_task/train",
                     "brisc2025/classification_task/test", origin="brisc2025"),
    "a validation split too": folders(PLAIN, "train", "test", "val"),
    "patients": folders(PLAIN, patient="Case 7") | folders(PLAIN, patient="Case 8"),
    "patients in splits": folders(PLAIN, "Training", patient="12"),
    "sources": folders(PLAIN, "a", origin="a") | folders(SARTAJ, "b/Training", "b/Testing", origin="b"),
    "a source beside class folders": folders(PLAIN) | folders({"glioma": "glioma"}, "web", origin="web"),
    "splits of sources": folders(PLAIN, "Training/web", "Testing/web", origin="web"),
    "tumours in a folder": folders({"no": "notumor"}) | folders({"glioma": "glioma", "meningioma": "meningioma",
                                                                 "pituitary": "pituitary"}, "tumor"),
    "folders twice": folders({"glioma/glioma": "glioma", "meningioma/train": "meningioma", "notumor": "notumor",
                              "pituitary": "pituitary"}),
    "series of a patient": {name.replace("/P1/", "/P1/T1/axial/"): value
                            for name, value in folders(PLAIN, patient="P1").items()},
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_is_read_by_itself(tmp_path, name):
    write(*(tmp_path / path for path in LAYOUTS[name]))
    found = layouts.find(tmp_path)
    assert facts(found) == LAYOUTS[name] and not found.left_out
    assert [file.path.relative_to(tmp_path).as_posix() for file in found.files] == [file.name for file in found.files]


@pytest.mark.parametrize("spelt", ["no", "No_Tumor", "no tumour", "normal", "HEALTHY", "none", "notumour",
                                   "tumour-free"])
def test_no_tumour_has_many_names(spelt):
    assert spelling.label_of(spelt, contract.CLASSES) == contract.HEALTHY


@pytest.mark.parametrize("spelt", ["", "12", "n", "nor", "tumor", "yes", "glioma 2", "glioma or none"])
def test_a_name_that_may_mean_something_else_is_no_class(spelt):
    assert spelling.label_of(spelt, contract.CLASSES) == ""


def test_splits_are_named_and_their_files_come_class_by_class(tmp_path):
    write(*(tmp_path / path for path in LAYOUTS["sartaj"]))
    found = layouts.find(tmp_path)
    assert found.pooled == ["Testing", "Training"]
    assert [file.label for file in found.files] == sorted(file.label for file in found.files)
    (tmp_path / "val").mkdir()
    assert layouts.find(tmp_path) == found
    assert facts(layouts.find(tmp_path / "Training")) == folders(SARTAJ)


def test_brisc_is_read_beside_its_masks(tmp_path):
    write(*(tmp_path / "classification_task/train" / name / "1.jpg" for name in SARTAJ))
    write(tmp_path / "segmentation_task/train/images/1.jpg", tmp_path / "segmentation_task/train/masks/1.png")
    found = layouts.find(tmp_path)
    assert len(found.files) == 4 and list(found.left_out.values()) == [2]


def test_figshares_files_are_read_as_they_are_published(tmp_path):
    pixels = np.arange(20 * 30, dtype=np.int16).reshape(20, 30) * 4 - 100
    write(tmp_path / "notumor" / "1.png")
    for label in (1, 2, 3):
        write_mat(tmp_path / "figshare" / f"brainTumorDataPublic_{label}" / f"{label}.mat", label, "MR038030C", pixels)
    with h5py.File(tmp_path / "figshare" / "cvind.mat", "w", userblock_size=512) as file:
        file["cvind"] = np.ones((1, 3064))
    found = layouts.find(tmp_path)
    own = "figshare/brainTumorDataPublic"
    assert facts(found) == {
        "notumor/1.png": ("notumor", "", ""), f"{own}_1/1.mat": ("meningioma", "MR038030C", figshare.NAME),
        f"{own}_2/2.mat": ("glioma", "MR038030C", figshare.NAME),
        f"{own}_3/3.mat": ("pituitary", "MR038030C", figshare.NAME)}
    assert found.left_out == {"MATLAB file that is none of the figshare set, or damaged": 1}
    read = reading.read_image(found.files[0].path, 32)
    image = np.asarray(Image.open(io.BytesIO(read.data)))
    assert np.array_equal(image, np.rint(np.arange(600).reshape(20, 30) / 599 * 255)) and image.dtype == np.uint8
    assert read.digest == imaging.digest(found.files[0].path.read_bytes())


def test_figshares_files_beside_and_in_class_folders(tmp_path):
    pixels = np.eye(20, dtype=np.int16)
    write(*(tmp_path / label / "1.png" for label in contract.CLASSES))
    write_mat(tmp_path / "7.mat", 2, "100360", pixels)
    write_mat(tmp_path / "pituitary" / "8.mat", 3, "112649", pixels)
    found = facts(layouts.find(tmp_path))
    assert found["glioma/7.mat"] == ("glioma", "100360", figshare.NAME)
    assert found["pituitary/8.mat"] == ("pituitary", "112649", figshare.NAME)
    write_mat(tmp_path / "pituitary" / "8.mat", 1, "112649", pixels)
    with pytest.raises(StageError, match="8.mat, which names meningioma"):
        layouts.find(tmp_path)


@pytest.mark.parametrize("content", [b"\x89HDF\r\n\x1a\n" + bytes(600), None])
def test_a_damaged_matlab_file_is_an_unreadable_image(tmp_path, content):
    write_mat(tmp_path / "1.mat", 1, "1", np.full((20, 20), np.nan))
    if content:
        (tmp_path / "1.mat").write_bytes(content)
    with pytest.raises(imaging.ImageError, match="MATLAB"):
        reading.read_image(tmp_path / "1.mat", 32)


def test_no_file_is_passed_over_in_silence(tmp_path, tiny, capsys):
    """Eighty of these 120 files were read before, and the other forty not even counted."""
    for label in contract.CLASSES:
        write(*(tmp_path / "in" / label / f"{number}.png" for number in range(20)))
        write(*(tmp_path / "in" / label / f"{number}.jfif" for number in range(3)))
        write(*(tmp_path / "in" / label / "P1" / f"{number}.JPG" for number in range(4)))
        write(tmp_path / "in" / label / "IM0001")
        (tmp_path / "in" / label / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
        (tmp_path / "in" / label / ".DS_Store").write_bytes(b"Bud1")
    scan = reading.scan(tmp_path / "in", tmp_path / "images", tiny.prepare, patients.Patients(None))
    assert len(scan.rows) == 112 and scan.left_out == {"hidden file": 4, "no image (.db)": 4}
    assert len(list((tmp_path / "in").rglob("*.*"))) + 4 == len(scan.rows) + sum(scan.left_out.values())
    assert "left out: 4 files: hidden file\n" in capsys.readouterr().out


LEFT_OUT = {
    "notes.txt": (b"seen by two readers", "no image (.txt)"),
    "labels.csv": (b"path,label\n", "no image (.csv)"),
    "scans.zip": (b"PK\x03\x04" + bytes(40), "a zip archive"),
    "report.jpg.pdf": (b"%PDF-1.7", "a PDF document"),
    "README": (b"T1", "no image (no suffix)"),
    "nothing": (b"", "empty file"),
    "._1.png": (b"\x00\x05\x16\x07", "hidden file"),
    "volume.nii.gz": (medical.nifti(np.zeros((20, 20, 4), np.int16)), "NIfTI volume: export its slices as images"),
}


@pytest.mark.parametrize("name", LEFT_OUT)
@pytest.mark.parametrize("place", ["", "glioma", "glioma/P1"])
def test_what_is_no_image_is_counted_by_its_reason(tmp_path, name, place):
    write(*(tmp_path / path for path in LAYOUTS["class folders"]), tmp_path / "glioma/P1/1.png")
    (tmp_path / place / name).write_bytes(LEFT_OUT[name][0])
    found = layouts.find(tmp_path)
    assert found.left_out == {LEFT_OUT[name][1]: 1} and len(found.files) == 5


def test_a_table_of_contents_is_no_image(tmp_path):
    write(*(tmp_path / path for path in LAYOUTS["class folders"]))
    index = medical.dicom(np.zeros((20, 20), np.uint8), SOPClassUID="1.2.840.10008.1.3.10")
    (tmp_path / "glioma" / "DICOMDIR").write_bytes(index)
    (tmp_path / "glioma" / "IM1").write_bytes(medical.dicom(np.zeros((20, 20), np.uint8)))
    found = layouts.find(tmp_path)
    assert found.left_out == {"DICOM table of contents": 1} and "glioma/IM1" in facts(found)


def test_an_image_by_its_suffix_stays_one_that_cannot_be_read(tmp_path, tiny, capsys):
    write(*(tmp_path / "in" / path for path in LAYOUTS["class folders"]))
    (tmp_path / "in" / "glioma" / "broken.PNG").write_bytes(b"text")
    scan = reading.scan(tmp_path / "in", tmp_path / "images", tiny.prepare, patients.Patients(None))
    assert [name for name, _ in scan.bad] == ["glioma/broken.PNG"] and not scan.left_out
    assert len(scan.rows) == len(scan.files) == len(scan.digests) == 4
    assert "broken.PNG" in capsys.readouterr().out


def test_images_beside_class_folders_and_hidden_folders_are_counted(tmp_path):
    write(*(tmp_path / path for path in LAYOUTS["class folders"]), tmp_path / "stray.png",
          tmp_path / ".cache" / "deep" / "1.png", tmp_path / "glioma" / ".thumbnails" / "1.png")
    found = layouts.find(tmp_path)
    assert found.left_out == {layouts.OUTSIDE: 1, "hidden file": 2} and len(found.files) == 4


def test_links_are_followed_once(tmp_path):
    write(*(tmp_path / "in" / path for path in LAYOUTS["class folders"]), tmp_path / "elsewhere" / "2.png")
    (tmp_path / "in" / "glioma" / "P1").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "glioma" / "P2").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "around").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "glioma" / "lost.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(tmp_path / "in" / "glioma" / "pipe.png")
    (tmp_path / "in" / "itself").symlink_to("itself")
    found = layouts.find(tmp_path / "in")
    assert found.left_out == {layouts.LINK: 2, "broken link, device or pipe": 3}
    assert facts(found)["glioma/P1/2.png"] == ("glioma", "P1", "") and len(found.files) == 5


MISTAKES = {
    "misspelt": (lambda source: (source / "glioma").rename(source / "gliom"), r"missing: glioma; unknown: gliom "
                 r"\(rename it to glioma\?\)"),
    "missing": (lambda source: shutil.rmtree(source / "pituitary"), "missing: pituitary"),
    "unknown": (lambda source: (source / "ependymoma").mkdir(), r"unknown: ependymoma \(move it elsewhere\)"),
    "unknown below": (lambda source: write(source / "web" / "chordoma" / "a" / "1.png",
                                           source / "web" / "glioma" / "1.png"), r"unknown: web/chordoma \(move"),
    "not typed": (lambda source: write(source / "yes" / "1.png"), r"unknown: yes \(tumours of unknown type"),
    "a class in another": (lambda source: write(source / "glioma" / "no" / "1.png"), r"unknown: glioma/no \(a class"),
    "a split without classes": (lambda source: write(source / "test" / "1.png"), r"unknown: test \(no class folder"),
    "empty": (lambda source: (source / "glioma" / "1.png").unlink(), "Expected images in .*glioma. Received: none"),
    "only text": (lambda source: (source / "glioma" / "1.png").rename(source / "glioma" / ".1.png"),
                  "Received: none. Left out: 1 x hidden file"),
    "nothing": (lambda source: [shutil.rmtree(source / label) for label in PLAIN], "Received: none of them"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_what_is_not_understood_is_one_error_that_names_it(tmp_path, name):
    write(*(tmp_path / path for path in LAYOUTS["class folders"]))
    change, message = MISTAKES[name]
    change(tmp_path)
    with pytest.raises(StageError, match=message):
        layouts.find(tmp_path)


def test_an_outside_source_may_lack_classes_and_the_tumours_type(tmp_path):
    write(tmp_path / "yes" / "1.png", tmp_path / "no" / "2.png")
    assert {file.label for file in layouts.find(tmp_path, ANY).files} == {"tumour", "notumor"}
    assert facts(layouts.find(tmp_path / "yes", ANY)) == {"yes/1.png": ("tumour", "", "")}
    write(tmp_path / "yes" / "glioma" / "P3" / "3.png")
    assert facts(layouts.find(tmp_path, ANY))["yes/glioma/P3/3.png"] == ("glioma", "P3", "")
    with pytest.raises(StageError, match=r"Expected the class folders .*, tumour in .*unknown: pics \(move"):
        write(tmp_path / "pics" / "1.png")
        layouts.find(tmp_path, ANY)
    with pytest.raises(StageError, match="none of them. Left out: 1 x image outside"):
        layouts.find(tmp_path / "pics", ANY)
    (tmp_path / "only" / "no").mkdir(parents=True)
    with pytest.raises(StageError, match="Expected images in .*only/no. Received: none"):
        layouts.find(tmp_path / "only", ANY)


def listed(folder: Path, *lines: str) -> Path:
    """Write the lines of a CSV file in a folder beside the pictures of class folders; return its path."""
    write(*(folder / path for path in LAYOUTS["class folders"]))
    (folder / "images.csv").write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
    return folder / "images.csv"


ROWS = [f"{label}/1.png,{label}" for label in PLAIN]


def test_a_csv_file_lists_paths_labels_patients_and_sources(tmp_path):
    write(tmp_path / "x.png", tmp_path / "sub" / "y.jpg")
    found = layouts.find(listed(tmp_path, "source,path,label,patient", *(f"a,{row},{7}" for row in ROWS),
                                "web, x.png, No Tumour,", ",sub/../sub/y.jpg,glioma_tumor,Case 9"))
    assert facts(found) == {f"{label}/1.png": (label, "7", "a") for label in PLAIN} | {
        "notumor/x.png": ("notumor", "", "web"), "sub/y.jpg": ("glioma", "Case 9", "")}
    assert all(file.path.is_file() for file in found.files)


@pytest.mark.parametrize("lines, message", [
    (["path,label", *ROWS, "glioma/2.png,glioma"], "line 6: there is no file glioma/2.png"),
    (["path,label", *ROWS, "./glioma/1.png,glioma"], "line 6: ./glioma/1.png is on line 2 already"),
    (["path,label", *ROWS[1:], "glioma/1.png,gliosis"], "line 5: the label 'gliosis' is none of glioma, "),
    (["path,label", *ROWS[1:], "glioma/1.png"], "line 5: the label '' is none of glioma, "),
    (["path,label", *ROWS[1:], "glioma/1.png,yes"], "line 5: the label 'yes' is none of"),
    (["path,label", *ROWS[1:], "/etc/hostname,glioma"], "line 5: the path '/etc/hostname' is not relative"),
    (["path,label", *ROWS[1:], ",glioma"], "line 5: the path '' is not relative"),
    (["path,label", *ROWS, "a,b,c"], "line 6: it has more cells than line 1"),
    (["path,label", *[f"{number}.png,glioma" for number in range(30)]], "and 20 more"),
    (["path,label", *ROWS[1:]], "Expected lines of every class .* none of glioma"),
    (["path,label,patients", *ROWS], "Expected the columns path,label .*Received: path,label,patients"),
    (["path;label", *ROWS], "separated by commas. Received: path;label"),
    (["path,label,label", *ROWS], "Received: path,label,label"),
    ([""], "Expected the columns"),
    (["path,label", 'glioma/1.png,"glioma'], "to be a CSV file in UTF-8. Received: unexpected end of data"),
])
def test_mistakes_in_a_csv_file_are_named_with_their_line(tmp_path, lines, message):
    with pytest.raises(StageError, match=message):
        layouts.find(listed(tmp_path, *lines))


def test_a_csv_file_in_another_encoding_is_refused(tmp_path):
    (tmp_path / "images.csv").write_bytes("path,label\nGlioma/Müller.png,glioma\n".encode("latin-1"))
    with pytest.raises(StageError, match="UTF-8"):
        layouts.find(tmp_path / "images.csv")


def test_an_outside_csv_file_may_name_tumours_of_unknown_type(tmp_path):
    assert layouts.find(listed(tmp_path, "path,label", "glioma/1.png,Tumor"), ANY).files[0].label == "tumour"


def test_a_csv_file_is_a_source_of_prepare(tmp_path, tiny):
    source = listed(tmp_path, "path,label", *ROWS)
    scan, = reading.read_sources(replace(tiny.prepare, source=str(source)), tmp_path / "images")
    assert [row.source for row in scan.rows] == [f"{label}/1.png" for label in PLAIN]
    assert [row.label for row in scan.rows] == list(PLAIN)
    with pytest.raises(StageError, match="which is not a folder, nor a CSV file"):
        reading.read_sources(replace(tiny.prepare, source=str(tmp_path / "glioma" / "1.png")), tmp_path / "images")


def test_outside_files_are_read_without_a_manifest(tmp_path):
    write(tmp_path / "yes" / "1.png", tmp_path / "no" / "2.png")
    (tmp_path / "no" / "3.png").write_bytes(b"text")
    read = {file.name: found for file, found in reading.read_images(layouts.find(tmp_path, ANY).files, 32)}
    assert isinstance(read["yes/1.png"], reading.Original) and isinstance(read["no/2.png"], reading.Original)
    assert read["yes/1.png"].data.startswith(b"\x89PNG") and "Unsupported file" in read["no/3.png"]
