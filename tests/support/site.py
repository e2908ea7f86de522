"""The web application as production runs it, for tests that ask it over HTTP."""

import http.client
import io
import json
import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from urllib3.filepost import encode_multipart_formdata

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "gunicorn", "-c", "webapp/gunicorn.conf.py", "webapp:create_app()"]


@contextmanager
def published(triton: str, settings: dict[str, str] | None = None):
    """Run gunicorn in front of a Triton and yield the host:port of the web application once it answers.

    Args:
        triton: host:port.
        settings: further environment variables.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = os.environ | {"BIND": address, "TRITON_URL": triton} | (settings or {})
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
    body, headers = form(content, **fields)
    return ask(site, "POST", "/predict", body, headers)


def form(content: bytes, **fields: str) -> tuple[bytes, dict[str, str]]:
    """Return the body and the headers of a form with an image."""
    body, kind = encode_multipart_formdata({"file": ("scan.png", content), **fields})
    return body, {"Content-Type": kind}


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
