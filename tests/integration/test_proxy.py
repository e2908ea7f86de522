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

import pytest
from urllib3.filepost import encode_multipart_formdata

from tests.conftest import PROJECT
from tests.support.site import encoded, published


@pytest.fixture(scope="module")
def proxy(server, tmp_path_factory):
    """host:port of nginx with docs/nginx.conf, a certificate of its own, and the page behind it."""
    if not shutil.which("nginx"):
        pytest.skip("no nginx: apt-get install nginx")
    folder = tmp_path_factory.mktemp("nginx")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
                    "-keyout", folder / "key.pem", "-out", folder / "cert.pem"], check=True, capture_output=True)
    with published(server.url) as site:
        text = (PROJECT / "docs/nginx.conf").read_text()
        for old, new in (("listen 443", f"listen 127.0.0.1:{port}"), ("127.0.0.1:5000", site),
                         ("/etc/ssl/certs/YOUR.pem", folder / "cert.pem"),
                         ("/etc/ssl/private/YOUR.key", folder / "key.pem")):
            assert old in text
            text = text.replace(old, str(new))
        temporary = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in
                            ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        (folder / "nginx.conf").write_text(f"daemon off; pid {folder}/pid; events {{}} "
                                           f"http {{ access_log off; {temporary} {text} }}")
        nginx = subprocess.Popen(["nginx", "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")])
        deadline = time.monotonic() + 10
        while not is_open(port):
            assert nginx.poll() is None and time.monotonic() < deadline, (folder / "error.log").read_text()
            time.sleep(0.05)
        yield port
        nginx.terminate()
        nginx.wait(10)


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def ask(port: int, method: str, path: str, body: bytes | None = None, **headers):
    """Return the status, the headers and the body of a request over TLS."""
    context = ssl._create_unverified_context()
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=30, context=context)
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


def test_the_numbers_are_not_for_strangers(proxy):
    assert ask(proxy, "GET", "/metrics")[0] == 403


def test_one_address_is_slowed_down(proxy):
    time.sleep(4)
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: ask(proxy, "GET", "/health/live"), range(120)))
    refused = [(headers, body) for status, headers, body in found if status == 429]
    assert {status for status, _, _ in found} == {200, 429} and len(refused) > 20
    assert all(headers["Retry-After"] and json.loads(body)["code"] == "too_many_requests" for headers, body in refused)


def test_what_stands_in_capitals_is_all_that_must_change():
    text = re.sub(r"(?m)#.*$", "", (PROJECT / "docs/nginx.conf").read_text())
    assert set(re.findall(r"\bYOUR\S*", text)) == {"YOUR.HOST.NAME;", "YOUR.pem;", "YOUR.key;"}
