"""docs/nginx.conf in front of the page, as README tells to run it: TLS, limits, and nothing lost on the way."""

import http.client
import json
import re
import shutil
import socket
import ssl
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from urllib3.filepost import encode_multipart_formdata

from tests.conftest import PROJECT
from tests.support.site import encoded, published
from webapp.settings import Settings
from webapp.uploads import BATCH_FILES
from webapp.views import BATCH_CONCURRENCY

BURST = 25
"""Images of one address that the page itself takes at once."""


@pytest.fixture(scope="module")
def proxy(server, tmp_path_factory):
    """The port of nginx in front of the page, which believes it."""
    folder = tmp_path_factory.mktemp("nginx")
    settings = {"TRUSTED_PROXIES": "1", "RATE_LIMIT": "60", "RATE_BURST": str(BURST)}
    with published(server.url, settings) as site, nginx(folder, site) as port:
        yield port
    assert not [one.name for one in folder.iterdir() if one.is_dir() and any(one.rglob("*"))]  # no upload on disk
    log = (folder / "access.log").read_text()
    assert log and "127.0.0" not in log and "/predict" not in log


@contextmanager
def nginx(folder: Path, site: str):
    """Run nginx with docs/nginx.conf and a certificate of its own in front of host:port, and yield its port."""
    if not shutil.which("nginx"):
        pytest.skip("no nginx: apt-get install nginx")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
                    "-keyout", folder / "key.pem", "-out", folder / "cert.pem"], check=True, capture_output=True)
    text = (PROJECT / "docs/nginx.conf").read_text()
    for old, new in (("listen 443", f"listen 127.0.0.1:{port}"), ("127.0.0.1:5000", site),
                     ("/etc/ssl/certs/YOUR.pem", folder / "cert.pem"),
                     ("/etc/ssl/private/YOUR.key", folder / "key.pem"),
                     ("/var/log/nginx/classifier.log", folder / "access.log")):
        assert old in text
        text = text.replace(old, str(new))
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in
                        ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (folder / "nginx.conf").write_text(f"daemon off; pid {folder}/pid; events {{}} "
                                       f"http {{ {temporary} {text} }}")
    run = subprocess.Popen(["nginx", "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")])
    deadline = time.monotonic() + 10
    while not is_open(port):
        assert run.poll() is None and time.monotonic() < deadline, (folder / "error.log").read_text()
        time.sleep(0.05)
    try:
        yield port
    finally:
        run.terminate()
        run.wait(10)


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def ask(port: int, method: str, path: str, body: bytes | None = None, source: str = "127.0.0.1", **headers):
    """Return the status, the headers and the body of a request over TLS from an address."""
    context = ssl._create_unverified_context()
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=30, context=context, source_address=(source, 0))
    try:
        connection.request(method, path, body, {key.replace("_", "-"): value for key, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def predict(port: int, content: bytes, **headers):
    body, kind = encode_multipart_formdata({"file": ("scan.png", content)})
    return ask(port, "POST", "/predict", body, Content_Type=kind, **headers)


def test_an_upload_is_answered_over_tls_with_all_headers(proxy):
    status, headers, body = predict(proxy, encoded("L", "PNG"))
    assert status == 200 and json.loads(body)["success"]
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "max-age" in headers["Strict-Transport-Security"]


def test_our_own_form_passes_and_another_sites_does_not(proxy):
    assert predict(proxy, encoded("L", "PNG"), Origin=f"https://127.0.0.1:{proxy}")[0] == 200
    assert predict(proxy, encoded("L", "PNG"), Origin="https://elsewhere.example")[0] == 403


def test_too_large_a_file_gets_the_pages_own_message(proxy):
    status, _, body = predict(proxy, bytes(11 * 2**20))
    assert status == 413 and json.loads(body)["code"] == "file_too_large"


def test_a_batch_passes_up_to_the_pages_own_limit(proxy):
    parts = [("file", ("scan.png", encoded("L", "PNG"))), *[("file", ("x", bytes(9 * 2**20)))] * 3]
    for images, expected in ((parts, 200), ([*parts, *parts], 200), (parts[1:] * 3, 413)):
        body, kind = encode_multipart_formdata(images)
        status, headers, found = ask(proxy, "POST", "/predict/batch", body, Content_Type=kind)
        assert status == expected, found
    check_error(headers, found, "file_too_large")


def check_error(headers, body: bytes, code: str) -> None:
    """Assert that an answer is an error as /openapi.json describes it."""
    found = json.loads(body)
    assert set(found) == {"success", "error", "code", "request_id"} and found["success"] is False
    assert found["code"] == code and re.fullmatch("[0-9a-f]{32}", found["request_id"])
    assert headers["X-Request-ID"] == found["request_id"]


def test_no_client_chooses_its_address_or_the_pages(proxy):
    """A form of another kind costs little and counts as an image."""
    forged = {"X_Forwarded_For": "6.6.6.6", "X_Forwarded_Prefix": "/evil", "X_Forwarded_Proto": "ftp",
              "X_Forwarded_Host": "evil.example", "Forwarded": "for=6.6.6.6;host=evil.example"}
    page = ask(proxy, "GET", "/", Accept="text/html", **forged)[2]
    assert b"evil" not in page and b"ftp:" not in page
    found = [ask(proxy, "POST", "/predict", b"x", **forged | {"X_Forwarded_For": f"6.6.6.{last}"})
             for last in range(BURST + 1)]
    status, headers, body = found[-1]
    assert status == 429 and "seconds" in json.loads(body)["error"] and int(headers["Retry-After"]) > 0
    assert ask(proxy, "POST", "/predict", b"x", source="127.0.0.2", X_Forwarded_For="127.0.0.1")[0] == 415


def test_the_numbers_are_not_for_strangers(proxy):
    assert ask(proxy, "GET", "/metrics")[0] == 403


def test_one_address_is_slowed_down(proxy):
    time.sleep(4)

    def several(_number):
        connection = http.client.HTTPSConnection("127.0.0.1", proxy, context=ssl._create_unverified_context())
        for _ in range(12):
            connection.request("GET", "/health/live")
            answer = connection.getresponse()
            yield answer.status, answer.headers, answer.read()
        connection.close()

    with ThreadPoolExecutor(10) as pool:
        found = [one for part in pool.map(lambda number: list(several(number)), range(10)) for one in part]
    refused = [(headers, body) for status, headers, body in found if status == 429]
    assert {status for status, _, _ in found} == {200, 429} and len(refused) > 20
    assert all(headers["Retry-After"] for headers, _ in refused)
    for headers, body in refused:
        check_error(headers, body, "too_many_requests")


def test_a_page_that_is_down_is_told_as_the_pages_own_errors(tmp_path):
    with nginx(tmp_path, "127.0.0.1:1") as port:
        status, headers, body = ask(port, "GET", "/health")
    assert status == 503 and headers["Retry-After"]
    check_error(headers, body, "server_unavailable")


def test_the_proxy_waits_longer_than_a_batch_may_take():
    text = (PROJECT / "docs/nginx.conf").read_text()
    seconds = re.search(r"location = /predict/batch \{[^}]*proxy_read_timeout (\d+)s;", text)[1]
    rounds = -(-BATCH_FILES // BATCH_CONCURRENCY)
    assert int(seconds) > rounds * Settings.model_fields["CLASSIFY_TIMEOUT"].default


def test_what_stands_in_capitals_is_all_that_must_change():
    text = re.sub(r"(?m)#.*$", "", (PROJECT / "docs/nginx.conf").read_text())
    assert set(re.findall(r"\bYOUR\S*", text)) == {"YOUR.HOST.NAME;", "YOUR.pem;", "YOUR.key;"}
