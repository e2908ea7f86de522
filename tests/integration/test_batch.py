"""`python -m client FOLDER --output TABLE`: whole tables, whatever is in the folder and whenever it is interrupted."""

import csv
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tritonclient.http import InferenceServerClient

import client
from client import __main__ as command
from client import batch
from core import contract
from tests.support.repository import MAX_BATCH_SIZE

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path, scans):
    """Forty images in two folders, and one file that is none."""
    (tmp_path / "slices/more").mkdir(parents=True)
    for index in range(40):
        (tmp_path / "slices" / ("more" if index % 4 == 0 else "") / f"{index:02}.png").write_bytes(scans[index % 12])
    (tmp_path / "slices/bad, \"one\".png").write_bytes(b"no image")
    return tmp_path / "slices"


def read(path: Path) -> list[dict]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder_becomes_a_table_in_the_order_of_its_files(folder, server, classifier, tmp_path):
    output = tmp_path / "results.csv"
    assert command.main([str(folder), "--recursive", "--output", str(output), "--url", server.url]) == 1
    rows = read(output)
    assert [row["file"] for row in rows] == sorted(str(path) for path in folder.rglob("*.png"))
    assert {row["error_code"]: row["file"] for row in rows if row["error_code"]} == {
        "unsupported_format": str(folder / "bad, \"one\".png")}
    for row in rows[1:4]:
        wanted = classifier.answer(Path(row["file"]).read_bytes())
        assert row["predicted_class"] == wanted.predicted_class and row["disclaimer"] == contract.DISCLAIMER
        values = [float(row[name]) for name in contract.CLASSES]
        assert np.allclose(values, list(wanted.all_probabilities.values()), atol=1.5e-4)
        assert row["needs_review"] == str(float(row["confidence"]) < 0.5) and row["data_source"] == contract.PHANTOM


def test_a_table_can_be_averaged_with_the_mirror_images(folder, server, classifier, tmp_path):
    output = tmp_path / "results.jsonl"
    assert command.main([str(folder), "--output", str(output), "--url", server.url, "--tta"]) == 1
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert all(row["tta"] for row in rows) and {row["error_code"] for row in rows} == {"", "unsupported_format"}
    for row in rows[1:4]:
        wanted = classifier.answer(Path(row["file"]).read_bytes(), tta=True)
        values = [row[name] for name in contract.CLASSES]
        assert values == pytest.approx(list(wanted.all_probabilities.values()), abs=2e-4)
        assert row["needs_review"] == (row["confidence"] < 0.6)


def test_json_lines_hold_the_same(folder, server, tmp_path):
    for name in ("a.csv", "a.jsonl"):
        command.main([str(folder), "--output", str(tmp_path / name), "--url", server.url])
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [{key: str(value) for key, value in row.items()} for row in rows] == read(tmp_path / "a.csv")


@pytest.mark.parametrize("suffix", batch.SUFFIXES)
def test_a_killed_run_goes_on_where_it_was(folder, server, scans, tmp_path, suffix):
    for index in range(400):
        (folder / f"x{index:03}.png").write_bytes(scans[index % 12])
    words = [str(folder), "--output", str(tmp_path / f"out{suffix}"), "--url", server.url, "--concurrency", "2"]
    part = tmp_path / f"out{suffix}.part"
    run = subprocess.Popen([sys.executable, "-m", "client", *words], cwd=ROOT, stderr=subprocess.DEVNULL)
    while not part.exists() or part.stat().st_size < 5000:
        assert run.poll() is None
        time.sleep(0.01)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    with part.open("ab") as file:
        file.write(b'"half a row')
    before = part.read_bytes()[:-20]
    assert not (tmp_path / f"out{suffix}").exists()
    assert command.main(words) == 1
    whole = (tmp_path / f"out{suffix}").read_bytes()
    assert whole.startswith(before) and not part.exists()
    names = ([row["file"] for row in read(tmp_path / "out.csv")] if suffix == ".csv" else
             [json.loads(line)["file"] for line in whole.splitlines()])
    assert names == sorted(map(str, folder.glob("*.png")))


def test_no_name_is_a_formula_and_a_run_goes_on_behind_it(server, scans, tmp_path, monkeypatch):
    names = ["'quoted.png", "+2.png", "=1+1.png"]
    for name in names:
        (tmp_path / name).write_bytes(scans[0])
    monkeypatch.chdir(tmp_path)
    words = [*names, "--output", "results.csv", "--url", server.url]
    assert command.main(words) == 0
    assert [row["file"] for row in read(Path("results.csv"))] == ["'" + name for name in names]
    Path("results.csv").rename("results.csv.part")
    assert command.main(words) == 0 and len(read(Path("results.csv"))) == 3  # none a second time


def test_an_output_is_never_overwritten(folder, server, tmp_path, capsys):
    (tmp_path / "results.csv").write_text("mine")
    assert command.main([str(folder), "--output", str(tmp_path / "results.csv"), "--url", server.url]) == 2
    assert (tmp_path / "results.csv").read_text() == "mine" and "choose another name" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["a,b\n1,2\n", "\x00\n", "{}\n"])
def test_a_strange_part_file_is_refused_and_kept(folder, server, tmp_path, capsys, content):
    (tmp_path / "results.csv.part").write_text(content)
    assert command.main([str(folder), "--output", str(tmp_path / "results.csv"), "--url", server.url]) == 2
    assert (tmp_path / "results.csv.part").read_text() == content and "Delete it" in capsys.readouterr().err


def test_rows_of_another_model_are_not_mixed_in(folder, server, tmp_path):
    words = [str(folder), "--output", str(tmp_path / "results.csv"), "--url", server.url]
    command.main(words)
    (tmp_path / "results.csv").rename(tmp_path / "results.csv.part")
    assert command.main([*words, "--model", "resnet50"]) == 2
    assert command.main([*words, "--tta"]) == 2


def test_rows_of_two_exports_are_never_in_one_table(folder, server, tmp_path, monkeypatch, capsys):
    describe, asked = client.Classifier.describe, []

    def redeployed(self, model, trusted=60.0):
        asked.append(model)
        return describe(self, model, trusted) | ({contract.GOLDEN: "others"} if len(asked) > 5 else {})

    words = [str(folder), "--output", str(tmp_path / "results.csv"), "--url", server.url, "--concurrency", "1"]
    part = tmp_path / "results.csv.part"
    with monkeypatch.context() as patch:
        patch.setattr(client.Classifier, "describe", redeployed)
        assert command.main([*words, "--model", "custom"]) == 2  # in the middle
        before = part.read_bytes()
        assert 0 < len(read(part)) < 31 and "Expected export" in capsys.readouterr().err
        assert command.main([*words, "--model", "custom"]) == 2  # and when it goes on
        assert part.read_bytes() == before and "Received: export" in capsys.readouterr().err
    assert command.main(words) == 1  # the former one is back
    rows = read(tmp_path / "results.csv")
    assert len(rows) == 31 and {row["export"] for row in rows} == {client.Classifier(server.url).answer(
        (folder / "01.png").read_bytes()).export}


@pytest.mark.parametrize("words", [["--output", "a.txt"], ["--output", "a.csv", "--json"],
                                   ["--output", "a.csv", "--concurrency", "0"]])
def test_mistakes_in_the_command_are_told(folder, server, words):
    try:
        code = command.main([str(folder), "--url", server.url, *words])
    except SystemExit as error:
        code = error.code
    assert code == 2


def test_a_server_that_is_gone_ends_the_run_and_keeps_the_rows(folder, server, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(batch, "PAUSES", (0.01,))
    answer, count = client.Classifier.classify_all, []

    def dying(self, images, model, tta):
        count.append(1)
        if len(count) > 2:
            raise client.ServerUnavailable("The model server cannot be reached.")
        return answer(self, images, model, tta)

    # One after the other, so that it is the first two requests that are answered.
    words = [str(folder), "--output", str(tmp_path / "results.csv"), "--url", server.url, "--concurrency", "1"]
    with monkeypatch.context() as patch:
        patch.setattr(client.Classifier, "classify_all", dying)
        assert command.main(words) == 1
    assert "give the command again" in capsys.readouterr().err
    assert len(read(tmp_path / "results.csv.part")) == 2 * batch.PER_REQUEST
    assert command.main(words) == 1 and len(read(tmp_path / "results.csv")) == 31


def test_several_images_share_requests_and_large_ones_go_alone(classifier, scans, monkeypatch):
    alone = [classifier.classify(scan) for scan in scans]
    infer, requests = InferenceServerClient.infer, []

    def counted(*arguments, **options):
        requests.append(1)
        return infer(*arguments, **options)

    monkeypatch.setattr(InferenceServerClient, "infer", counted)
    together = classifier.classify_all(scans)
    assert len(requests) == math.ceil(len(scans) / MAX_BATCH_SIZE)
    requests.clear()
    monkeypatch.setattr("client.classifier.SMALL", 0)
    apart = classifier.classify_all(scans)
    assert len(requests) == len(scans)
    for found in (together, apart):
        for one, other in zip(alone, found, strict=True):
            assert one.label == other.label and one.probabilities == pytest.approx(other.probabilities, abs=1e-5)


def test_a_damaged_image_spoils_none_of_its_request(classifier, scans, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("client.classifier.canonical", lambda data, is_decoded_next: data)  # so that the server finds it
        found = classifier.classify_all([scans[0], b"no image", scans[1]])
    assert [getattr(one, "code", None) for one in found] == [None, "corrupt_image", None]
    assert [found[0].label, found[2].label] == [classifier.classify(scan).label for scan in scans[:2]]
    assert [type(one) for one in classifier.classify_all([b"no image", b""])] == [client.BadImage] * 2


def test_every_image_has_its_time(server, scans):
    def slowly(work, image):
        time.sleep(0.4)
        return work(image)

    classifier = client.Classifier(server.url, timeout=1, run=slowly)
    assert all(isinstance(one, client.Prediction) for one in classifier.classify_all(scans[:4]))
    classifier.close()


def test_few_images_are_held_at_a_time(tmp_path):
    started, yielded = [], 0
    with batch.ThreadPoolExecutor(4) as pool:
        for _ in batch.in_order(pool, started.append, range(1000), 8):
            yielded += 1
            assert len(started) <= yielded + 8
    assert yielded == 1000
