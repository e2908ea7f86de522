"""The audit log: whole, in order, and no change goes unnoticed."""

import hmac
import io
import json
import os
import resource
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

import client
from core import contract
from imaging import volume
from tests.conftest import PROJECT
from tests.support import medical
from webapp import audit, create_app, keys

RECORD = {"time": "2026-01-01", "class": contract.CLASSES[0]}
KEY = bytes(range(32))
RECORDED = ("sequence", "previous", "time", "request_id", "key", "image", "slice", "model", "revision", "class",
            "probabilities", "ms", "code")
"""What records hold, under names that programs know."""


@pytest.fixture
def folder(tmp_path):
    """A log of six records in two files, under KEY."""
    (tmp_path / "audit").mkdir()
    (tmp_path / "audit/key").write_text(KEY.hex())
    (tmp_path / "audit/key").chmod(0o600)
    log = audit.AuditLog(tmp_path / "audit", most_bytes=700)
    for number in range(6):
        log.append(RECORD | {"number": number})
    return tmp_path / "audit"


def lines(folder) -> list[bytes]:
    """Return all records, over all files."""
    return [line for path in sorted(folder.glob("audit-*.jsonl")) for line in path.read_bytes().splitlines(True)]


def verify(folder) -> dict:
    return audit.verify(folder, audit.read_key(folder / "key"))


def test_records_are_chained_over_several_files(folder):
    assert len(list(folder.glob("audit-*.jsonl"))) > 1 and len(lines(folder)) == 6
    assert verify(folder)["sequence"] == 6
    records = [json.loads(line) for line in lines(folder)]
    assert [record["number"] for record in records] == list(range(6))
    assert [record["previous"] for record in records] == ["", *(record["code"] for record in records[:-1])]
    assert (folder / "key").stat().st_mode & 0o777 == 0o600


def edit(all_lines):
    all_lines[2] = all_lines[2].replace(contract.CLASSES[0].encode(), contract.HEALTHY.encode())


def delete(all_lines):
    del all_lines[1]


def delete_last(all_lines):
    del all_lines[-1]


def reorder(all_lines):
    all_lines[0], all_lines[1] = all_lines[1], all_lines[0]


def insert(all_lines):
    all_lines.insert(3, all_lines[3])


def forge(all_lines):
    all_lines[1], _ = audit.sealed({**json.loads(all_lines[1]), "class": contract.HEALTHY}, bytes(32))


def insert_head(all_lines):
    all_lines.insert(1, audit.sealed({"sequence": 2, "last": "", "file": 1, "size": 0}, KEY)[0])


@pytest.mark.parametrize("change", [edit, delete, delete_last, reorder, insert, forge, insert_head],
                         ids=lambda one: one.__name__)
def test_every_change_is_found(folder, change, capsys):
    path = sorted(folder.glob("audit-*.jsonl"))[0 if change is not delete_last else -1]
    kept = path.read_bytes().splitlines(True)
    if len(kept) < 4 and change in (edit, insert):  # these need more lines than the small files have
        path, kept = folder / "audit-000001.jsonl", lines(folder)
        for other in folder.glob("audit-00000[2-9].jsonl"):
            other.unlink()
    change(kept)
    path.write_bytes(b"".join(kept))
    with pytest.raises(audit.AuditError):
        verify(folder)
    assert audit.main(["verify", str(folder)]) == 1 and str(folder) in capsys.readouterr().err


def test_a_changed_head_is_found(folder):
    head = json.loads((folder / "head.json").read_text())
    (folder / "head.json").write_text(json.dumps(head | {"sequence": 5}))
    with pytest.raises(audit.AuditError, match="changed"):
        verify(folder)
    (folder / "head.json").write_bytes(lines(folder)[-1])
    with pytest.raises(audit.AuditError, match="changed"):
        verify(folder)
    (folder / "head.json").unlink()
    with pytest.raises(audit.AuditError, match="no such file"):
        verify(folder)


def test_appending_to_a_shortened_log_is_refused(folder):
    path = sorted(folder.glob("audit-*.jsonl"))[-1]
    os.truncate(path, path.stat().st_size - 10)
    with pytest.raises(audit.AuditError, match="deleted"):
        audit.AuditLog(folder, most_bytes=10**6).append(RECORD)


def test_the_remains_of_a_crash_are_cut_off_and_a_whole_record_is_kept(folder):
    path = sorted(folder.glob("audit-*.jsonl"))[-1]
    with path.open("ab") as file:
        file.write(b'{"sequence": 7, "half')
    audit.AuditLog(folder, most_bytes=10**6).append(RECORD)
    assert verify(folder)["sequence"] == 7
    head, key = (folder / "head.json").read_bytes(), audit.read_key(folder / "key")
    audit.AuditLog(folder, most_bytes=10**6).append(RECORD)
    (folder / "head.json").write_bytes(head)  # as if the crash came between the record and the head
    assert audit.verify(folder, key)["sequence"] == 8
    audit.AuditLog(folder, most_bytes=10**6).append(RECORD)
    assert audit.verify(folder, key)["sequence"] == 9


@pytest.mark.parametrize("size", [10**6, 700], ids=["one file", "several files"])
def test_behind_an_older_head_no_record_is_lost(tmp_path, size):
    log = audit.AuditLog(tmp_path / "audit", most_bytes=size)
    log.append(RECORD)
    head = (log.folder / "head.json").read_bytes()
    log.append(*[RECORD | {"number": number} for number in range(3)])
    log.append(RECORD)
    log.append(RECORD)
    (log.folder / "head.json").write_bytes(head)
    with sorted(log.folder.glob("audit-*.jsonl"))[-1].open("ab") as file:
        file.write(b'{"half')
    assert verify(log.folder)["sequence"] == 6
    audit.AuditLog(log.folder, most_bytes=size).append(RECORD)
    assert verify(log.folder)["sequence"] == len(lines(log.folder)) == 7


def test_what_stands_behind_the_end_and_is_no_record_is_refused_and_kept(folder):
    path = sorted(folder.glob("audit-*.jsonl"))[-1]
    with path.open("ab") as file:
        file.write(lines(folder)[-1])
    with pytest.raises(audit.AuditError, match="behind the end: record 6 follows record 6"):
        audit.AuditLog(folder).append(RECORD)
    assert len(lines(folder)) == 7


def test_only_the_owner_may_look_into_a_new_folder_and_the_log_says_where_it_ends(tmp_path, caplog):
    caplog.set_level("INFO")
    log = audit.AuditLog(tmp_path / "a/audit")
    log.remind(log.append(RECORD, RECORD))
    log.remind(log.append(RECORD))
    assert log.folder.stat().st_mode & 0o777 == 0o700
    line, = caplog.records  # one an hour
    assert (line.records, line.last) == (2, json.loads(lines(log.folder)[1])["code"])


WRITER = """
import sys
from pathlib import Path
from webapp import audit
log = audit.AuditLog(Path(sys.argv[1]), most_bytes=3000)
for number in range(int(sys.argv[2])):
    log.append({"number": number})
"""


def write(folder, count) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", WRITER, str(folder), str(count)], cwd=PROJECT)


def test_processes_and_threads_share_one_chain(tmp_path):
    writers = [write(tmp_path / "audit", 100) for _ in range(2)]
    log = audit.AuditLog(tmp_path / "audit", most_bytes=3000)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: log.append({"number": number}), range(100)))
    assert [writer.wait(60) for writer in writers] == [0, 0]
    assert verify(tmp_path / "audit")["sequence"] == 300


def test_kill_leaves_a_log_that_goes_on(tmp_path):
    for _ in range(5):
        writer = write(tmp_path / "audit", 100_000)
        before = time.monotonic()
        while not (tmp_path / "audit/head.json").exists() or time.monotonic() - before < 1.5:
            time.sleep(0.01)
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        audit.AuditLog(tmp_path / "audit").append(RECORD)
        assert verify(tmp_path / "audit")["sequence"] > 1


def test_the_command_says_how_many(folder, capsys):
    assert audit.main(["verify", str(folder)]) == 0
    assert "6 records, all as written" in capsys.readouterr().out
    with pytest.raises(SystemExit) as caught:
        audit.main(["verify", str(folder / "nowhere")])
    assert caught.value.code == 2


@pytest.fixture
def web(tmp_path, monkeypatch):
    """The application with an audit log, and a classifier that needs no Triton."""
    label, *others = contract.CLASSES
    answer = client.Prediction("custom", label, 0.7, {label: 0.7, **dict.fromkeys(others, 0.3 / len(others))})
    monkeypatch.setattr(client.Classifier, "classify", lambda *_arguments: answer)
    monkeypatch.setattr(client.Classifier, "describe", lambda *_arguments: {})
    app = create_app({"AUDIT_LOG": str(tmp_path / "audit")})
    return app.test_client()


def send(web, content: bytes = volume.png(Image.new("L", (64, 64), 99))):
    return web.post("/predict", data={"file": (io.BytesIO(content), "Jane Doe.png")})


def test_an_answer_has_its_record_without_names(web, tmp_path):
    answers = [send(web), send(web)]
    records = [json.loads(line) for line in lines(tmp_path / "audit")]
    assert [record["request_id"] for record in records] == [answer.json["request_id"] for answer in answers]
    assert records[0]["image"] == records[1]["image"] and len(records[0]["image"]) == 64
    assert records[0]["probabilities"] == answers[0].json["all_probabilities"] and records[0]["ms"] >= 0
    said = {name: value for name, value in answers[0].json.items() if name not in ("success", "disclaimer")}
    assert {audit.NAMES.get(name, name): value for name, value in said.items()}.items() <= records[0].items()
    assert set(RECORDED) <= set(records[0])
    assert b"Jane" not in b"".join(lines(tmp_path / "audit")) and verify(tmp_path / "audit")["sequence"] == 2


def test_a_record_names_the_uploaded_file_its_slice_and_who_asked(web, tmp_path, capsys):
    keys.main(["add", str(tmp_path / "keys"), "ward-7"])
    allowed = {"Authorization": f"Bearer {capsys.readouterr().out.split()[-1]}"}
    asked = create_app({"AUDIT_LOG": str(tmp_path / "audit"), "API_KEYS": str(tmp_path / "keys")}).test_client()
    scan = medical.nifti(np.arange(64 * 64 * 3, dtype=np.int16).reshape(64, 64, 3))
    assert send(asked, scan).status_code == 401
    chosen = {"file": (io.BytesIO(scan), "scan.nii"), "slice": "2"}
    assert asked.post("/predict", data=chosen, headers=allowed).status_code == 200
    record, = map(json.loads, lines(tmp_path / "audit"))
    key = bytes.fromhex((tmp_path / "audit/key").read_text())
    assert record["image"] == hmac.new(key, scan, "sha256").hexdigest()
    assert (record["slice"], record["key"]) == ("axial 2 of 3", "ward-7")
    send(web)
    assert json.loads(lines(tmp_path / "audit")[-1])["key"] is None  # nobody needs one there


SERVER = """
from gevent import monkey; monkey.patch_all()
import fcntl, io, sys, gevent, client
from core import contract
from webapp import audit, create_app
image = open(sys.argv[2], "rb").read()
shares = dict.fromkeys(contract.CLASSES, 1 / len(contract.CLASSES))
client.Classifier.classify = lambda *_arguments: client.Prediction("custom", contract.CLASSES[0], 0.25, shares)
client.Classifier.describe = lambda *_arguments: {}
web = create_app({"AUDIT_LOG": sys.argv[1]}).test_client
with open(sys.argv[1] + "/" + audit.LOCK, "ab") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)  # as a disk that takes long
    waiting = gevent.spawn(lambda: web().post("/predict", data={"file": (io.BytesIO(image), "a.png")}).status_code)
    gevent.sleep(0.5)
    assert web().get("/health/live").status_code == 200 and not waiting.ready()
print(waiting.get(timeout=20))
"""


def test_while_a_record_is_written_others_are_answered(tmp_path):
    (tmp_path / "a.png").write_bytes(volume.png(Image.new("L", (64, 64), 99)))
    words = [sys.executable, "-c", SERVER, str(tmp_path / "audit"), str(tmp_path / "a.png")]
    done = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "200\n"), done.stderr


def test_the_records_of_a_batch_are_written_at_once(web, monkeypatch):
    written, sync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda opened: written.append(sync(opened)))
    content = volume.png(Image.new("L", (64, 64), 99))
    costs = []
    for images in (1, 1, 5):
        written.clear()
        files = [(io.BytesIO(content), "a.png") for _ in range(images)]
        assert web.post("/predict/batch", data={"file": files}).status_code == 200
        costs.append(len(written))
    assert costs[1] == costs[2] > 0  # the first one has made the file as well


def test_a_batch_has_a_record_for_each_answer(web, tmp_path):
    images = [volume.png(Image.new("L", (64, 64), grey)) for grey in (9, 99)]
    several = medical.nifti(np.zeros((64, 64, 3), np.int16))  # of which no slice is chosen
    files = [(io.BytesIO(content), "a.png") for content in (images[0], several, images[1])]
    answer = web.post("/predict/batch", data={"file": files})
    assert [one["success"] for one in answer.json["results"]] == [True, False, True]
    assert len({json.loads(line)["image"] for line in lines(tmp_path / "audit")}) == 2
    assert verify(tmp_path / "audit")["sequence"] == 2


def test_a_full_disk_withholds_the_answer_and_leaves_the_log_whole(web, tmp_path):
    assert send(web).status_code == 200
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "audit/audit-000001.jsonl").stat().st_size + 50, hard))
    try:
        answer = send(web)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert (answer.status_code, answer.json["code"]) == (503, "audit_unavailable") and answer.headers["Retry-After"]
    counted = web.application.extensions["services"].metrics.predictions.labels("custom", contract.CLASSES[0])
    assert counted._value.get() == 1  # what is withheld does not count
    assert verify(tmp_path / "audit")["sequence"] == 1
    assert send(web).status_code == 200 and verify(tmp_path / "audit")["sequence"] == 2
