"""Whose an image is, as far as it is known; and labels that contradict each other."""

import csv

import numpy as np
import pytest

from core import contract
from stages.common.command import StageError
from stages.data import labels, layouts, patients
from stages.data.dataset import Row
from stages.data.patients import Known
from tests.support import medical

DIGEST = "ab" * 32


def file(path, name="glioma/1.png", patient="", origin="") -> layouts.File:
    return layouts.File(path, name, "glioma", patient, origin)


@pytest.fixture
def image(tmp_path):
    (tmp_path / "glioma").mkdir()
    (tmp_path / "glioma/1.png").write_bytes(b"no DICOM")
    return tmp_path / "glioma/1.png"


def listed(folder, text: str) -> patients.Patients:
    (folder / "list.csv").write_text(text)
    return patients.Patients(folder / "list.csv")


@pytest.mark.parametrize("text", [
    "path,patient,source\nglioma/1.png,Jane Doe,north\n", f"sha256,patient,source\n{DIGEST},Jane Doe,north\n",
    f"source,patient,sha256\nnorth,Jane Doe,{DIGEST.upper()}\n",
    "\ufeffpath,patient,source\nglioma/1.png,Jane Doe,north\n"])
def test_a_list_names_the_patient_and_the_source_but_no_id_goes_on(image, tmp_path, text):
    found = listed(tmp_path, text).known(file(image), DIGEST, tmp_path)
    assert found == Known("listed-1", "north")


def test_a_list_is_told_about(image, tmp_path, capsys):
    whose = listed(tmp_path, "path,patient\nglioma/1.png,a\nglioma/2.png,b\n")
    other = file(image.with_name("3.png"), "glioma/3.png")
    other.path.write_bytes(b"")
    patients.of_scan([file(image), other], [DIGEST, "cd" * 32], tmp_path, whose)
    said = "".join(capsys.readouterr())
    assert "1 of 2 rows name a file of the source, 1 name none; 1 files are in no row" in said
    assert "1 of 2 files belong to 1 known patients" in said


@pytest.mark.parametrize("text, words", [
    ("name,patient\n", "Received: name, patient"), ("path\n", "Received: path"), ("", "Received: no header"),
    ("path,patient\n,a\n", "sha256 in line 2"),
    ("path,patient\na.png,a\na.png,b\n", "another one for a.png in line 3")])
def test_a_wrong_list_is_refused(tmp_path, text, words):
    with pytest.raises(StageError, match=words):
        listed(tmp_path, text)


def test_a_missing_list_is_refused(tmp_path):
    with pytest.raises(StageError, match="prepare.patients to be a CSV file"):
        patients.Patients(tmp_path / "none.csv")


def test_the_public_set_is_known_by_the_digest_whatever_the_file_is_called(image, tmp_path):
    with patients.PUBLIC_TABLE.open(newline="") as table:
        rows = list(csv.DictReader(table))
    tumour = next(row for row in rows if row["figshare_label"] not in ("", row["label"]))
    found = patients.Patients(None).known(file(image, patient="P1"), tumour["sha256"], tmp_path)
    assert found == Known(f"public-{tumour['patient']}", "figshare", f"slice {tumour['figshare_slice']}", "meningioma")
    healthy = next(row for row in rows if row["source"] == "br35h")
    found = patients.Patients(None).known(file(image), healthy["sha256"], tmp_path)
    assert found == Known("", "br35h", healthy["picture"], "")


def test_a_dicom_file_tells_whose_it_is(tmp_path):
    for name, patient in (("1", "A"), ("2", "B"), ("3", "A"), ("4", "")):
        (tmp_path / name).write_bytes(medical.dicom(np.zeros((8, 8), np.uint16), PatientID=patient))
    whose = patients.Patients(None)
    found = [whose.known(file(tmp_path / name), DIGEST, tmp_path).patient for name in "1234"]
    assert found == ["dicom-1", "dicom-2", "dicom-1", ""]


@pytest.mark.parametrize("name, subject", [
    ("glioma/sub-01/anat/sub-01_T1w.nii.gz", "sub-01"), ("glioma/BraTS-GLI-00012-001/3.png", "BraTS-GLI-00012"),
    ("glioma/BraTS2021_00012_t1.png", "BraTS2021_00012"),
    ("glioma/BraTS20_Training_001_t1.png", "BraTS20_Training_001"),
    ("glioma/TCGA-DU-5872_19950223_4.tif", "TCGA-DU-5872"), ("glioma/subject-1.png", ""), ("glioma/mysub-1.png", "")])
def test_names_by_the_rules_of_bids_brats_and_tcia(name, subject):
    assert patients.name_id(name) == subject


def test_a_folder_of_a_patient_counts_within_its_source(image, tmp_path):
    whose = patients.Patients(None)
    found = [whose.known(file(image, patient=patient, origin=origin), DIGEST, tmp_path).patient
             for patient, origin in (("1", "a"), ("1", "b"), ("1", "a"))]
    assert found == ["given-1", "given-2", "given-1"]


def test_one_id_in_two_sources_is_two_patients_unless_it_counts_everywhere(image, tmp_path):
    whose = patients.Patients(None)
    (tmp_path / "scan").write_bytes(medical.dicom(np.zeros((8, 8), np.uint16), PatientID="1"))
    asked = {"given": file(image, patient="1"), "dicom": file(tmp_path / "scan"),
             "named": file(image, "glioma/sub-01/1.png"), "TCIA": file(image, "glioma/TCGA-DU-5872_1.png")}
    found = {kind: [whose.known(one, DIGEST, tmp_path, source).patient for source in ("", "ward", "", "ward")]
             for kind, one in asked.items()}
    assert all(found[kind] == [f"{kind}-1", f"{kind}-2"] * 2 for kind in ("given", "dicom", "named"))
    assert len(set(found["TCIA"])) == 1
    assert whose.known(file(image), DIGEST, tmp_path, "ward").origin == "ward"
    assert whose.known(file(image, origin="south"), DIGEST, tmp_path, "ward").origin == "south"


def test_a_path_in_a_list_means_no_file_of_a_further_source_with_that_path(image, tmp_path):
    (tmp_path / "lists").mkdir()
    whose = listed(tmp_path / "lists", "path,patient\nglioma/1.png,Jane Doe\n")
    assert whose.known(file(image), DIGEST, tmp_path).patient == "listed-1"
    assert whose.known(file(image), DIGEST, tmp_path, "ward").patient == ""


def rows(*facts: tuple[str, int, str]) -> list[Row]:
    return [Row("", label, picture, f"digest {index}", "", picture, patient)
            for index, (label, picture, patient) in enumerate(facts)]


IMAGES = rows(("glioma", 0, "p-1"), ("meningioma", 1, "p-1"), ("notumor", 2, "p-2"), ("glioma", 3, "p-2"),
              ("glioma", 4, ""), ("notumor", 4, ""), ("pituitary", 5, "p-3"))
KNOWN = [Known()] * 6 + [Known(original="meningioma")]


def test_conflicts_are_found_but_a_patient_may_have_slices_without_a_tumour():
    found = labels.conflicts(IMAGES, KNOWN)
    assert [(one.kind, one.index) for one in found] == [
        ("original", 6), ("picture", 4), ("picture", 5), ("patient", 0), ("patient", 1)]
    assert labels.conflicts_csv(IMAGES, found).splitlines()[1] == "original,p-3,pituitary,meningioma,digest 6"


@pytest.mark.parametrize("found, wanted", [
    ({"glioma"}, False), ({"tumour", "glioma"}, False), ({"glioma", "pituitary"}, True), ({"tumour", "notumor"}, True),
    ({"tumour", "glioma", "pituitary"}, True)])
def test_a_tumour_of_unknown_type_contradicts_no_type_but_none(found, wanted):
    assert labels.contradict(found) == wanted


@pytest.mark.parametrize("policy, left, last", [
    ("original", 7, "meningioma"), ("keep", 7, "pituitary"), ("drop", 2, None)])
def test_the_policy_decides(policy, left, last):
    settled = labels.settled(IMAGES, labels.conflicts(IMAGES, KNOWN), policy)
    assert sum(row is not None for row in settled) == left
    assert (settled[6] and settled[6].label) == last


def test_each_denied_label_is_told():
    lines = labels.told(IMAGES, labels.conflicts(IMAGES, KNOWN), "drop")
    assert "is pituitary by its folder, meningioma by its original: it is left out" in lines[0]
    assert "1 times copies of one picture" in lines[1] and "1 times one patient's slices" in lines[2]


def test_all_classes_of_the_table_are_classes():
    with patients.PUBLIC_TABLE.open(newline="") as table:
        found = {row[column] for row in csv.DictReader(table) for column in ("label", "figshare_label")}
    assert found - {""} == set(contract.CLASSES)
