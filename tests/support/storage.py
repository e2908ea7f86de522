"""A Redis of our own, as several workers count in."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """Run redis-server in a folder and yield its address once it answers; skip where there is none."""
    if not shutil.which("redis-server"):
        pytest.skip("no redis-server: apt-get install redis-server")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with subprocess.Popen(words, cwd=folder, stdout=subprocess.DEVNULL) as process:
        try:
            with redis.Redis(port=port, retry=Retry(ConstantBackoff(0.1), 100)) as asking:
                assert asking.ping()
            yield f"redis://127.0.0.1:{port}"
        finally:
            process.terminate()
