"""The web application as production runs it: gunicorn with its configuration file, in front of a real Triton."""

import http.client
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from werkzeug.datastructures import FileStorage, MultiDict
from werkzeug.test import encode_multipart

import client
from imaging import contract
from serving.server import Server
from tests.integration.repository import FACTS
from webapp import health

REQUIRED = ["success", "predicted_class", "confidence", "all_probabilities", "model_type"]
ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "gunicorn", "-c", "webapp/gunicorn.conf.py", "webapp:create_app()"]
FURTHER = ["needs_review", "review_threshold", "data_source", "disclaimer", "request_id"]


@contextmanager
def published(triton: str):
    """Run gunicorn in front of a Triton and yield the host:port of the web application once it answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = os.environ | {"BIND": address, "TRITON_URL": triton}
    with subprocess.Popen(COMMAND, env=environment, cwd=ROOT) as process:
        try:
            wait_until_healthy(address, process)
            yield address
        finally:
            process.terminate()


def wait_until_healthy(site: str, process: subprocess.Popen, seconds: float = 30.0) -> None:
    """Return when /health says 200; fail if gunicorn ends or takes too long (pytest shows its output)."""
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(OSError):
            if ask(site, "GET", "/health")[0] == 200:
                return
        time.sleep(0.1)
    pytest.fail(f"gunicorn is not healthy: exit code {process.poll()} after at most {seconds:.0f} s")


@pytest.fixture(scope="module")
def site(server):
    """host:port of the web application in front of the running Triton."""
    with published(server.url) as address:
        yield address


def ask(site: str, method: str, path: str, body: bytes = b"", headers: dict | None = None) -> tuple:
    """Return status, headers and JSON of an answer."""
    connection = http.client.HTTPConnection(site, timeout=20)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.headers, json.loads(answer.read())
    finally:
        connection.close()


def predict(site: str, content: bytes, **fields: str) -> tuple:
    """Send an image to /predict."""
    boundary, body = encode_multipart(MultiDict({"file": FileStorage(io.BytesIO(content), "scan.png"), **fields}))
    return ask(site, "POST", "/predict", body, {"Content-Type": f"multipart/form-data; boundary={boundary}"})


def encoded(mode: str, format: str, **options) -> bytes:
    """Return a picture of a bright ring, in a mode and format."""
    y, x = np.mgrid[-1:1:96j, -1:1:96j]
    ring = np.exp(-20 * (np.hypot(x, y) - 0.6) ** 2)
    image = (
        Image.fromarray((4000 * ring).astype(np.uint16)) if mode == "I;16" else Image.fromarray(np.uint8(255 * ring))
    )
    file = io.BytesIO()
    (image if mode == "I;16" else image.convert(mode)).save(file, format, **options)
    return file.getvalue()


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


@pytest.mark.parametrize("model", contract.NETWORKS)
def test_the_answer_is_that_of_the_client(site, classifier, model):
    status, headers, answer = predict(site, encoded("L", "PNG"), model=model)
    expected = classifier.classify(encoded("L", "PNG"), model)
    assert status == 200
    assert list(answer) == REQUIRED + FURTHER
    assert (answer["model_type"], answer["predicted_class"]) == (model, expected.label)
    assert list(answer["all_probabilities"]) == list(contract.CLASSES)
    assert answer["all_probabilities"] == pytest.approx(expected.probabilities, abs=1e-4)
    assert answer["confidence"] == max(answer["all_probabilities"].values())
    assert answer["data_source"] == contract.PHANTOM
    assert answer["review_threshold"] == float(FACTS[contract.REVIEW_THRESHOLD])
    assert answer["needs_review"] is (expected.confidence < answer["review_threshold"])
    assert answer["request_id"] == headers["X-Request-ID"]


def test_16_bit_images_are_not_blown_out(site):
    deep, shallow = (predict(site, encoded(mode, "PNG"))[2]["all_probabilities"] for mode in ("I;16", "L"))
    assert deep == pytest.approx(shallow, abs=0.05)


def test_no_model_means_the_first(site):
    assert predict(site, encoded("L", "PNG"))[2]["model_type"] == contract.NETWORKS[0]


def test_health_is_true_for_every_network(site):
    status, _, answer = ask(site, "GET", "/health")
    assert status == 200
    assert answer["models"] == dict.fromkeys(contract.NETWORKS, True)


def kill_stubs(triton: int) -> int:
    """Kill the Python processes of a Triton as the out-of-memory killer does; return how many there were."""
    children = subprocess.run(["pgrep", "-P", str(triton)], capture_output=True, text=True).stdout.split()
    for pid in children:
        os.kill(int(pid), signal.SIGKILL)
    return len(children)


def test_health_notices_what_triton_does_not(repository):
    with Server(repository) as broken, published(broken.url) as site:
        assert kill_stubs(broken.pid) > 0
        time.sleep(health.TRUSTED_SECONDS)
        status, _, answer = ask(site, "GET", "/health")
        assert client.Classifier(broken.url).models() == dict.fromkeys(contract.NETWORKS, True)
    assert (status, answer["triton"]) == (503, True)
    assert answer["models"] == dict.fromkeys(contract.NETWORKS, False)


def test_a_repository_may_hold_one_network_only(repository, tmp_path):
    for name in (contract.PREPROCESS, "custom", contract.ensemble("custom")):
        shutil.copytree(repository / name, tmp_path / name)
    with Server(tmp_path) as half, published(half.url) as site:
        status, _, answer = ask(site, "GET", "/health")
        assert (status, answer["models"]) == (200, {"custom": True})
        assert ask(site, "GET", "/health?model=resnet50")[0] == 503
        assert predict(site, encoded("L", "PNG"))[0] == 200
        status, _, answer = predict(site, encoded("L", "PNG"), model="resnet50")
        assert (status, answer["code"]) == (503, "model_not_ready")


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
        started = time.monotonic()
        assert predict(site, encoded("L", "PNG"))[0] == 200
    assert time.monotonic() - started < 5
