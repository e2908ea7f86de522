"""DICOM files and NIfTI volumes from the form to the answer, and nothing that names a patient on the way."""

import base64
import gzip
import io
import json
import threading
import time

import numpy as np
import pytest
from PIL import Image

from client import __main__ as command
from imaging import dicom, slices
from imaging.volume import Choice
from tests.support import medical
from tests.support.site import ask, form, predict, published

NOISE = np.random.default_rng(4).integers(0, 4000, (60, 70, 5)).astype(np.int16)
UPRIGHT = np.eye(4)
VOLUME = medical.nifti(NOISE, UPRIGHT)
FRAMES = medical.dicom(np.moveaxis(NOISE, 2, 0).astype(np.uint16), WindowCenter=2000, WindowWidth=4000,
                       BurnedInAnnotation="YES")
SCAN = medical.dicom(NOISE[..., 0].astype(np.uint16), PatientComments=medical.SECRET)


@pytest.fixture(scope="module")
def site(server):
    """host:port of the web application in front of the running Triton."""
    with published(server.url) as address:
        yield address


def post(site: str, path: str, content: bytes, **fields: str) -> tuple:
    """Return status, headers and JSON of the answer to a form."""
    return ask(site, "POST", path, *form(content, **fields))


def told(answer: dict) -> dict:
    """Return an answer without what differs from request to request."""
    return {name: value for name, value in answer.items() if name not in ("request_id", "warnings")}


@pytest.mark.parametrize(("content", "fields", "choice"), [
    (SCAN, {}, Choice()), (FRAMES, {"slice": "4"}, Choice(None, 4)),
    (FRAMES, {"plane": "frames", "slice": "1"}, Choice(None, 1)),
    (VOLUME, {"plane": "", "slice": "2"}, Choice("axial", 2)),
    (VOLUME, {"plane": "axial", "slice": "5"}, Choice("axial", 5))])
def test_a_slice_is_classified_as_its_picture_is(site, content, fields, choice):
    status, _, answer = predict(site, content, **fields)
    assert status == 200 and told(answer) == told(predict(site, slices.read(content, choice).encoded())[2])


def test_the_slices_differ(site):
    assert len({json.dumps(told(predict(site, VOLUME, slice=str(number))[2])) for number in range(1, 6)}) > 1


def test_what_a_person_should_know_is_in_the_answer(site):
    assert predict(site, FRAMES, slice="1")[2]["warnings"] == [dicom.BURNED_IN]
    assert predict(site, SCAN)[2]["warnings"] == []


def test_a_slice_is_shown(site):
    status, _, answer = post(site, "/slice", VOLUME)
    assert (status, answer["slices"]) == (200, {"axial": 5, "coronal": 70, "sagittal": 60})
    assert (answer["plane"], answer["slice"]) == ("axial", 3)
    content = base64.b64decode(answer["image"].removeprefix("data:image/png;base64,"))
    with Image.open(io.BytesIO(content)) as shown:
        assert np.array_equal(np.asarray(shown.convert("L")), slices.read(VOLUME, Choice("axial", 3)).pixels)
    status, _, answer = post(site, "/slice", FRAMES, slice="2")
    assert (status, answer["slices"], answer["slice"], answer["warnings"]) == (200, {"frames": 5}, 2, [dicom.BURNED_IN])


PNG = slices.read(SCAN).encoded()
BAD = {
    "no slice": ("/predict", FRAMES, {}, 422, "multiple_frames"),
    "a slice too high": ("/predict", VOLUME, {"slice": "6"}, 422, "no_such_slice"),
    "slice 0": ("/explain", VOLUME, {"slice": "0"}, 422, "no_such_slice"),
    "a plane of DICOM": ("/predict", SCAN, {"plane": "axial"}, 422, "no_such_slice"),
    "no plane": ("/slice", VOLUME, {"plane": "oblique"}, 400, "unknown_plane"),
    "no number": ("/predict", VOLUME, {"slice": "two"}, 400, "bad_slice"),
    "a number of another script": ("/predict", VOLUME, {"slice": "٣"}, 400, "bad_slice"),
    "a long number": ("/predict", VOLUME, {"slice": "1" * 5000}, 400, "bad_slice"),
    "a slice of a picture": ("/predict", PNG, {"slice": "1"}, 422, "no_such_slice"),
    "a picture": ("/slice", PNG, {}, 415, "unsupported_format"),
    "computed tomography": ("/predict", medical.dicom(NOISE[..., 0].astype(np.uint16), Modality="CT"), {}, 422,
                            "wrong_modality"),
    "a damaged volume": ("/slice", gzip.compress(gzip.decompress(VOLUME)[:20_000]), {}, 422, "corrupt_image"),
    "a slice in a batch": ("/predict/batch", VOLUME, {"slice": "1"}, 400, "unknown_field"),
}


@pytest.mark.parametrize(("path", "content", "fields", "status", "code"), BAD.values(), ids=BAD)
def test_bad_questions_are_refused(site, path, content, fields, status, code):
    found, _, answer = post(site, path, content, **fields)
    assert (found, answer["code"]) == (status, code) and medical.SECRET not in json.dumps(answer)


def test_a_batch_takes_what_has_one_slice(site):
    results = post(site, "/predict/batch", SCAN)[2]["results"] + post(site, "/predict/batch", FRAMES)[2]["results"]
    assert told(results[0]) == told(predict(site, PNG)[2]) and results[1]["code"] == "multiple_frames"


def test_a_slice_is_explained(site):
    status, _, answer = post(site, "/explain", VOLUME, slice="2", plane="axial")
    assert status == 200 and answer["heatmap"]
    assert told(predict(site, VOLUME, slice="2")[2]).items() <= told(answer).items()


def test_nothing_that_names_a_patient_is_answered_or_logged(server, capfd, tmp_path):
    settings = {"AUDIT_LOG": str(tmp_path / "audit")}
    with published(server.url, settings) as site:
        for content in (SCAN, FRAMES, VOLUME, SCAN[:-100]):
            for path in ("/predict", "/slice", "/explain"):
                for fields in ({}, {"slice": "1"}):
                    assert medical.SECRET not in json.dumps(post(site, path, content, **fields)[2])
    records = [path.read_text() for path in sorted((tmp_path / "audit").iterdir()) if path.suffix == ".jsonl"]
    printed = "".join([*capfd.readouterr(), *records])
    assert records and printed.count('"route": "/slice"') >= 8 and medical.SECRET not in printed


def large_volume() -> bytes:
    return medical.nifti(np.zeros((512, 512, 200), np.int16), UPRIGHT)


def large_picture() -> bytes:
    """Return a WebP of 4 megapixels in few bytes, which takes half a second to be written as PNG."""
    rows, columns = np.mgrid[:2048, :2048]
    file = io.BytesIO()
    Image.fromarray(np.dstack([rows, columns, rows + columns]).astype(np.uint8)).save(file, "WEBP", method=0)
    return file.getvalue()


@pytest.mark.parametrize(("make", "path", "fields"), [
    (large_volume, "/slice", {"plane": "sagittal", "slice": "500"}),
    (large_picture, "/predict", {"tta": "1"}),
    (large_picture, "/explain", {}),
])
def test_a_large_file_holds_nobody_up(site, make, path, fields):
    large, answers = make(), []
    sender = threading.Thread(target=lambda: answers.append(post(site, path, large, **fields)))
    begun, waits = time.monotonic(), []
    sender.start()
    while sender.is_alive():
        started = time.monotonic()
        assert ask(site, "GET", "/health/live")[0] == 200
        waits.append(time.monotonic() - started)
    whole = time.monotonic() - begun
    assert answers[0][0] == 200 and max(waits) < whole / 2  # held up, one of them would wait for all of the work


def test_many_large_files_leave_room_for_others(site):
    large, answers = large_picture(), []
    senders = [threading.Thread(target=lambda: answers.append(predict(site, large))) for _ in range(20)]
    for sender in senders:
        sender.start()
    time.sleep(0.5)
    small = predict(site, PNG)
    for sender in senders:
        sender.join()
    assert small[0] == 200 and len(answers) == 20
    assert {(status, answer.get("code")) for status, _, answer in answers} == {(200, None), (503, "busy")}
    assert all(headers["Retry-After"] for status, headers, _ in answers if status == 503)


@pytest.fixture
def files(tmp_path):
    """A folder with the files."""
    for name, data in (("head.nii.gz", VOLUME), ("frames.dcm", FRAMES), ("scan.dcm", SCAN), ("scan.png", PNG)):
        (tmp_path / name).write_bytes(data)
    return tmp_path


@pytest.mark.parametrize(("name", "options", "code", "message"), [
    ("head.nii.gz", ["--slice", "2"], 0, ""), ("head.nii.gz", ["--plane", "axial", "--slice", "9"], 1, "axial 1-5"),
    ("head.nii.gz", [], 1, "Choose one: axial 1-5"), ("frames.dcm", ["--slice", "1"], 0, dicom.BURNED_IN),
    ("scan.dcm", ["--tta"], 0, ""), ("scan.png", ["--slice", "1"], 1, "a DICOM or NIfTI file")])
def test_the_command_takes_a_slice(server, files, capsys, name, options, code, message):
    assert command.main([str(files / name), "--url", server.url, *options]) == code
    output = capsys.readouterr()
    assert message in output.err and output.out.count("pituitary") == 1 - code and medical.SECRET not in output.err


def test_a_folder_with_dicom_becomes_a_table(server, files, tmp_path):
    assert command.main([str(files), "--url", server.url, "--output", str(tmp_path / "out.csv")]) == 1
    lines = {line.split(",")[0].rpartition("/")[2]: line for line in (tmp_path / "out.csv").read_text().splitlines()}
    assert "multiple_frames" in lines["frames.dcm"] and "0." in lines["scan.dcm"]
    with pytest.raises(SystemExit):
        command.main([str(files), "--output", str(tmp_path / "out.csv"), "--plane", "axial"])
