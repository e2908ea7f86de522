"""The web application as production runs it: gunicorn with its configuration file, in front of a real Triton."""

import base64
import http.client
import io
import json
import os
import pty
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import numpy as np
import pytest
from PIL import Image
from urllib3.filepost import encode_multipart_formdata

import client
from core import contract, manifest, triton_config
from imaging import decode
from serving.server import Server, free_port
from tests.support import storage
from tests.support.repository import FACTS, NETWORKS, SERVED
from tests.support.site import COMMAND, ROOT, ask, encoded, form, predict, published
from webapp import audit


@pytest.fixture(scope="module")
def site(server):
    """host:port of the web application in front of the running Triton."""
    with published(server.url) as address:
        yield address


PICTURES = {
    "grey PNG": ("L", "PNG"),
    "16-bit PNG": ("I;16", "PNG"),
    "RGBA PNG": ("RGBA", "PNG"),
    "palette GIF": ("P", "GIF"),
    "CMYK JPEG": ("CMYK", "JPEG"),
    "1-bit TIFF": ("1", "TIFF"),
    "WebP": ("RGB", "WEBP"),
    "BMP": ("L", "BMP"),
}


@pytest.mark.parametrize(("mode", "format"), PICTURES.values(), ids=PICTURES)
def test_every_kind_of_image_is_classified(site, mode, format):
    status, _, answer = predict(site, encoded(mode, format))
    assert status == 200
    assert sum(answer["all_probabilities"].values()) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("model", SERVED)
def test_the_answer_is_that_of_the_client(site, classifier, model):
    status, headers, answer = predict(site, encoded("L", "PNG"), model=model)
    expected = classifier.classify(encoded("L", "PNG"), model)
    assert status == 200
    assert list(answer) == ["success", *client.Answer.model_fields, "request_id"]
    assert (answer["model_type"], answer["predicted_class"]) == (model, expected.label)
    assert list(answer["all_probabilities"]) == list(contract.CLASSES)
    assert answer["all_probabilities"] == pytest.approx(expected.probabilities, abs=1e-4)
    assert answer["confidence"] == max(answer["all_probabilities"].values())
    assert answer["data_source"] == contract.PHANTOM
    assert answer["review_threshold"] == float(FACTS[contract.REVIEW_THRESHOLD])
    assert answer["needs_review"] is (answer["confidence"] < answer["review_threshold"])
    assert answer["request_id"] == headers["X-Request-ID"]


@pytest.mark.parametrize("model", SERVED)
def test_an_average_with_the_mirror_image_is_the_mean_of_both(site, classifier, scans, model):
    for scan in scans[:4]:
        with Image.open(io.BytesIO(decode.canonical(scan))) as image:
            file = io.BytesIO()
            image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(file, "PNG")
        sides = [classifier.classify(one, model).probabilities for one in (scan, file.getvalue())]
        status, _, answer = predict(site, scan, model=model, tta="1")
        wanted = [np.mean([side[name] for side in sides]) for name in contract.CLASSES]
        assert status == 200 and list(answer["all_probabilities"].values()) == pytest.approx(wanted, abs=1e-4)
        assert answer["tta"] and answer["review_threshold"] == float(FACTS[contract.TTA_REVIEW_THRESHOLD])
    assert not predict(site, scans[0], model=model, tta="0")[2]["tta"]


def test_other_wishes_for_averages_are_refused(site, scans):
    assert predict(site, scans[0], tta="yes")[2]["code"] == "bad_tta"


def test_16_bit_images_are_not_blown_out(site):
    deep, shallow = (predict(site, encoded(mode, "PNG"))[2]["all_probabilities"] for mode in ("I;16", "L"))
    assert deep == pytest.approx(shallow, abs=0.05)


def test_no_model_means_the_first(site):
    assert predict(site, encoded("L", "PNG"))[2]["model_type"] == NETWORKS[0]


def test_health_is_true_for_every_network(site):
    status, _, answer = ask(site, "GET", "/health")
    assert status == 200
    assert answer["models"] == dict.fromkeys(SERVED, True)


def test_a_repository_may_hold_one_network_only(repository, tmp_path):
    for name in (contract.PREPROCESS, "custom", contract.classifier("custom")):
        shutil.copytree(repository / name, tmp_path / name)
    manifest.write(tmp_path)
    with Server(tmp_path) as half, published(half.url) as site:
        status, _, answer = ask(site, "GET", "/health")
        assert (status, answer["models"]) == (200, {"custom": True})
        assert ask(site, "GET", "/health?model=resnet50")[2]["code"] == "unknown_model"
        assert predict(site, encoded("L", "PNG"))[0] == 200
        status, _, answer = predict(site, encoded("L", "PNG"), model="resnet50")
        assert (status, answer["code"]) == (404, "unknown_model") and answer["error"].endswith("Choose one of: custom.")


def test_a_network_that_no_list_names_is_served_by_its_own_rank_and_title(repository, tmp_path):
    for name in (contract.PREPROCESS, "custom", contract.classifier("custom"), contract.explain("custom")):
        shutil.copytree(repository / name, tmp_path / name)
    known = tmp_path / contract.classifier("custom")
    classifier = tmp_path / contract.classifier("vit_b16")
    shutil.copytree(known, classifier)
    ranked = {known: {contract.RANK: "1"}, classifier: {contract.TITLE: "ViT-B/16", contract.RANK: "0"}}
    for folder, facts in ranked.items():
        config = triton_config.read(folder / triton_config.FILE)
        config.name = folder.name
        triton_config.set_parameters(config, facts)
        triton_config.write(folder / triton_config.FILE, config)
    manifest.write(tmp_path)
    with Server(tmp_path) as half, published(half.url) as site:
        assert list(ask(site, "GET", "/health")[2]["models"].items()) == [("vit_b16", True), ("custom", True)]
        assert predict(site, encoded("L", "PNG"))[2]["model_type"] == "vit_b16"
        assert "ViT-B/16" in page(site)
        body, kind = form(encoded("L", "PNG"), model="vit_b16")
        assert ask(site, "POST", "/explain", body, kind)[2]["code"] == "no_explanation"


def page(site: str) -> str:
    """Return the page."""
    with urllib.request.urlopen(f"http://{site}/", timeout=20) as answer:
        return answer.read().decode()


def test_an_unknown_model_is_answered_with_what_is_served(site):
    status, _, answer = predict(site, encoded("L", "PNG"), model="vgg16")
    assert (status, answer["code"]) == (404, "unknown_model") and "custom, resnet50, ensemble" in answer["error"]
    assert ask(site, "GET", "/health?model=vgg16")[2]["code"] == "unknown_model"
    assert send_batch(site, b"no image", model="null")[0] == 404


def test_no_header_moves_the_application(site):
    assert ask(site, "GET", "/health/live", headers={"SCRIPT_NAME": "/health"})[0] == 200
    assert ask(site, "GET", "/x/health/live", headers={"SCRIPT_NAME": "/x"})[0] == 404


def test_a_body_of_50_mb_gets_an_answer_and_no_reset(site):
    status, _, answer = predict(site, bytes(50_000_000))
    assert (status, answer["code"]) == (413, "file_too_large")


def test_a_corrupt_image_does_not_harm_its_neighbours(site):
    good, bad = encoded("L", "PNG"), encoded("L", "PNG")[:-40]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda content: predict(site, content)[0], [good, bad] * 6))
    assert answers == [200, 422] * 6


def test_slow_connections_do_not_block_the_others(site):
    host, port = site.split(":")
    with ExitStack() as stack:
        for _ in range(40):
            slow = stack.enter_context(socket.create_connection((host, int(port))))
            slow.sendall(b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 9999\r\n")
        assert predict(site, encoded("L", "PNG"))[0] == 200  # while they are open


def test_a_refused_upload_that_drips_is_cut_off(server):
    with published(server.url, {"UPLOAD_TIMEOUT": "1"}) as address, ExitStack() as stack:
        slow = stack.enter_context(socket.create_connection(address.split(":"), timeout=0.2))
        slow.sendall(b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999\r\n\r\n")
        for _ in range(100):
            with suppress(TimeoutError):
                if not slow.recv(9999):
                    return
            slow.sendall(b"x")
    pytest.fail("The connection is still open.")


def send_batch(site: str, *contents: bytes, **fields: str) -> tuple:
    """Send images to /predict/batch."""
    files = [("file", (f"{index}.png", content)) for index, content in enumerate(contents)]
    body, kind = encode_multipart_formdata([*files, *fields.items()])
    return ask(site, "POST", "/predict/batch", body, {"Content-Type": kind})


def test_a_batch_gets_an_answer_for_each_image_in_order(site, scans):
    status, _, answer = send_batch(site, *scans[:8], b"no image", *scans[8:], model="resnet50")
    assert status == 200 and len(answer["results"]) == 13
    alone = [predict(site, scan, model="resnet50")[2] for scan in scans]
    good = [one for index, one in enumerate(answer["results"]) if index != 8]
    assert [one["all_probabilities"] for one in good] == [one["all_probabilities"] for one in alone]
    assert {one["model_type"] for one in good} == {"resnet50"}
    bad = answer["results"][8]
    assert (bad["success"], bad["code"]) == (False, "unsupported_format")
    assert answer["disclaimer"] == contract.DISCLAIMER


def test_a_batch_can_be_averaged_with_the_mirror_images(site, scans):
    status, _, answer = send_batch(site, *scans[:2], b"no image", tta="1")
    assert status == 200 and [one.get("tta") for one in answer["results"]] == [True, True, None]
    alone = predict(site, scans[0], tta="1")[2]["all_probabilities"]
    assert answer["results"][0]["all_probabilities"] == pytest.approx(alone, abs=2e-4)
    assert send_batch(site, scans[0], tta="yes")[2]["code"] == "bad_tta"


def test_a_batch_is_bounded(site, scans):
    assert send_batch(site, *[scans[0]] * 32)[0] == 200
    status, _, answer = send_batch(site, *[scans[0]] * 33)
    assert (status, answer["code"]) == (400, "too_many_files")
    status, _, answer = send_batch(site)
    assert (status, answer["code"]) == (400, "missing_file")
    assert send_batch(site, *[bytes(9 * 2**20)] * 8)[0] == 413


def test_of_a_batch_all_images_count_or_none(server, scans):
    with published(server.url, {"RATE_LIMIT": "6", "RATE_BURST": "5"}) as address:
        assert send_batch(address, *scans[:3])[0] == 200
        assert send_batch(address, *scans[:4])[0] == 429
        assert send_batch(address, *scans[:2])[0] == 200
        assert send_batch(address, scans[0])[0] == 429


def test_a_batch_that_can_never_pass_is_told_how_many_can(server, scans):
    with published(server.url, {"RATE_LIMIT": "6", "RATE_BURST": "5"}) as address:
        status, _, answer = send_batch(address, *scans[:6])
    assert (status, answer["code"]) == (400, "too_many_files") and "at most 5 images" in answer["error"]


def test_a_batch_may_hold_a_large_picture(site, scans):
    file = io.BytesIO()
    Image.new("L", (2000, 1600), 99).save(file, "PNG")
    status, _, answer = send_batch(site, *[scans[0]] * 31, file.getvalue())
    assert status == 200 and all(one["success"] for one in answer["results"]) and len(answer["results"]) == 32


def explain(site: str, content: bytes, accept: str = "application/json", **fields: str):
    """Send an image to /explain and return the answer."""
    body, headers = form(content, **fields)
    connection = http.client.HTTPConnection(site, timeout=20)
    connection.request("POST", "/explain", body, headers | {"Accept": accept})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer, content


@pytest.mark.parametrize("model", NETWORKS)
def test_an_explanation_is_the_prediction_and_a_heatmap(site, server, scans, model):
    wanted = client.Classifier(server.url).explain(scans[0], model)
    predicted = predict(site, scans[0], model=model)[2]
    answer = json.loads(explain(site, scans[0], model=model)[1])
    assert {name: answer[name] for name in predicted if name != "request_id"} == {
        name: value for name, value in predicted.items() if name != "request_id"}
    assert answer["explained_class"] == predicted["predicted_class"]
    for label in contract.CLASSES:
        answer = json.loads(explain(site, scans[0], model=model, **{"class": label})[1])
        assert answer["explained_class"] == label
        assert np.allclose(answer["heatmap"], wanted.heatmaps[label], atol=1e-3)


def test_an_explanation_as_a_picture_is_the_image_under_its_heatmap(site, server):
    grey = encoded("L", "PNG")
    answer, content = explain(site, grey, accept="image/png")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "image/png")
    with Image.open(io.BytesIO(content)) as shown:
        assert shown.size == (96, 96)
        colour = np.ptp(np.asarray(shown.convert("RGB"), int), axis=2)
    seen = client.Classifier(server.url).explain(grey)
    heat = seen.heatmaps[seen.prediction.label]
    assert (colour.max() > 20) == (heat.max() > 0)


@pytest.mark.parametrize(("fields", "status", "code"), [
    ({"class": "none"}, 400, "unknown_class"), ({"model": "vgg"}, 404, "unknown_model"),
    ({"x": "1"}, 400, "unknown_field"), ({"model": "ensemble"}, 404, "no_explanation"),
    ({"model": "custom.2020"}, 404, "unknown_release")])
def test_bad_questions_for_an_explanation_are_refused(site, scans, fields, status, code):
    answer, content = explain(site, scans[0], accept="image/png", **fields)
    assert (answer.status, json.loads(content)["code"]) == (status, code)


def test_a_wrong_address_of_triton_is_one_line():
    environment = os.environ | {"TRITON_URL": "http://127.0.0.1:8000/", "PORT": "0"}
    run = subprocess.run(COMMAND, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert run.returncode == 1 and "Traceback" not in run.stderr
    assert "TRITON_URL: expected a url of the form host:port without a scheme." in run.stderr


def test_a_taken_port_is_one_line_and_the_last_line_of_a_start_is_the_pages_address(server):
    terminal, stderr = pty.openpty()
    environment = os.environ | {"TRITON_URL": server.url, "PORT": str(free_port(0))}
    with subprocess.Popen(COMMAND, env=environment, cwd=ROOT, stderr=stderr) as first:
        try:
            said = b""
            while f"The page: http://127.0.0.1:{environment['PORT']} ".encode() not in said:
                assert select.select([terminal], [], [], 60)[0], said
                said += os.read(terminal, 4096)
            second = subprocess.run(COMMAND, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60)
        finally:
            first.terminate()
    assert second.returncode == 1 and "PORT=5001" in second.stderr.splitlines()[1] and "retrying" not in second.stderr


def test_a_limit_on_requests_holds_over_two_workers_and_counts_each_client_alone(server, scans, tmp_path):
    settings = {"WEB_CONCURRENCY": "2", "RATE_LIMIT": "6", "RATE_BURST": "10", "TRUSTED_PROXIES": "1"}
    with storage.running(tmp_path) as counts, published(server.url, settings | {"RATE_STORAGE": counts}) as address:
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: predict(address, scans[0]), range(40)))
        assert ask(address, "GET", "/health")[0] == 200
        forwarded = [send_from(address, scans[0], "192.0.2.7, 198.51.100.9") for _ in range(2)]
    assert Counter(status for status, *_ in answers) == {200: 10, 429: 30}
    refused = next(one for one in answers if one[0] == 429)
    assert refused[2]["code"] == "too_many_requests" and 90 <= int(refused[1]["Retry-After"]) <= 100
    # The last address is the one that the trusted proxy has seen.
    assert [status for status, *_ in forwarded] == [200, 200]


def send_from(site: str, content: bytes, addresses: str) -> tuple:
    """Send an image as a proxy does."""
    body, headers = form(content)
    return ask(site, "POST", "/predict", body, headers | {"X-Forwarded-For": addresses})


def test_with_api_keys_only_their_owners_get_in(server, scans, tmp_path):
    file = tmp_path / "keys"
    words = [sys.executable, "-m", "webapp.keys"]
    made = subprocess.run([*words, "add", file, "ward-7"], capture_output=True, text=True, cwd=ROOT, check=True)
    key = made.stdout.split()[-1]
    assert key not in file.read_text()
    body, kind = form(scans[0])

    def send(**headers: str) -> tuple:
        return ask(address, "POST", "/predict", body, kind | headers)

    with published(server.url, {"API_KEYS": str(file), "AUDIT_LOG": str(tmp_path / "audit")}) as address:
        status, headers, answer = send()
        assert (status, headers["WWW-Authenticate"], answer["code"]) == (401, "Bearer", "no_key")
        assert send(Authorization=f"Bearer {key}x")[0] == 401
        with ThreadPoolExecutor(8) as pool:
            assert {one[0] for one in pool.map(lambda _: send(Authorization=f"Bearer {key}"), range(20))} == {200}
        assert send(Authorization="Basic " + base64.b64encode(f"me:{key}".encode()).decode())[0] == 200
        assert ask(address, "GET", "/metrics")[0] == 401
        subprocess.run([*words, "remove", file, "ward-7"], cwd=ROOT, check=True)
        assert send(Authorization=f"Bearer {key}")[0] == 401
    assert audit.verify(tmp_path / "audit", audit.read_key(tmp_path / "audit/key"))["sequence"] == 21
    records = [json.loads(line) for line in (tmp_path / "audit/audit-000001.jsonl").read_bytes().splitlines()]
    assert {one["key"] for one in records} == {"ward-7"}


@pytest.mark.parametrize("settings", [{"API_KEYS": "none"}, {"RATE_LIMIT": "-1"}, {"MAX_IN_FLIGHT": "many"},
                                      {"AUDIT_KEY_FILE": "README.md", "AUDIT_LOG": "AUDIT"}])
def test_settings_that_cannot_work_are_one_line(settings, tmp_path):
    settings = {name: str(tmp_path / "audit") if value == "AUDIT" else value for name, value in settings.items()}
    run = subprocess.run(COMMAND, env=os.environ | {"PORT": "0"} | settings, cwd=ROOT, capture_output=True, text=True,
                         timeout=60)
    assert run.returncode == 1 and "Traceback" not in run.stderr
    assert "The settings cannot be used." in run.stderr


def test_all_log_lines_are_json_and_tell_of_nobody(server, capfd):
    with published(server.url) as address:
        with socket.create_connection(address.split(":")) as typed:
            typed.sendall(b"GET /Jane Doe HTTP/1.1\r\n\r\n")
            assert b" 400 " in typed.recv(99)
        assert ask(address, "GET", "/Jane?name=Jane")[0] == 404
    lines = capfd.readouterr().err.splitlines()
    entries = [json.loads(line) for line in lines]
    assert any("Booting worker" in one["message"] for one in entries)
    assert [one["status"] for one in entries if one["message"] == "request"][-1] == 404
    assert any(one["message"] == "Invalid request: InvalidHTTPVersion" for one in entries)
    assert "Jane" not in "".join(lines) and not any("127.0.0.1:" not in one["message"] and "127.0.0.1" in one["message"]
                                                    for one in entries)


def metrics(site: str) -> str:
    """Return what /metrics says."""
    connection = http.client.HTTPConnection(site, timeout=20)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def test_metrics_tell_what_is_served_and_how_well(site):
    assert predict(site, encoded("L", "PNG"))[0] == 200
    text = metrics(site)
    assert 'canary_up{model="custom"} 1.0' in text and "images_in_flight 0.0" in text
    assert 'runtime="openvino"' in text and 'predictions_total{model="custom",predicted_class="' in text


def test_term_ends_no_accepted_request(server):
    with ThreadPoolExecutor(8) as pool:
        with published(server.url) as site:
            os.kill(server.pid, signal.SIGSTOP)
            threading.Timer(4.0, os.kill, (server.pid, signal.SIGCONT)).start()
            answers = [pool.submit(predict, site, encoded("L", "PNG")) for _ in range(8)]
            time.sleep(2)  # so that they surely wait for the stopped Triton
            assert not any(answer.done() for answer in answers)
        assert {answer.result()[0] for answer in answers} == {200}
