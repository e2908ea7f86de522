"""Health tells the truth: the faults of a running server one by one, and what each must be called."""

import os
import re
import shutil
import signal
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from core import contract, manifest, triton_config
from imaging import golden
from serving.errors import ServingError
from serving.server import Server, children
from tests.support.site import ask, encoded, predict, published
from webapp import health


def stub(server: Server, model: str) -> int:
    """Return the process id of a model's stub."""
    return next(pid for pid in children(server.pid)
                if any(f"{model}_0_0" in word for word in psutil.Process(pid).cmdline()))


def kill_stub(server: Server) -> None:
    os.kill(stub(server, "custom"), signal.SIGKILL)


def stop_stub(server: Server) -> None:
    os.kill(stub(server, "custom"), signal.SIGSTOP)


def kill_triton(server: Server) -> None:
    os.kill(server.pid, signal.SIGKILL)


def stop_triton(server: Server) -> None:
    os.kill(server.pid, signal.SIGSTOP)


FAULTS = {  # what is done: Triton lives, custom answers, the others answer
    kill_triton: (False, False, False),
    stop_triton: (False, False, False),
    kill_stub: (True, False, True),
    stop_stub: (True, False, True),
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_is_seen_within_seconds(repository, fault):
    with Server(repository) as server, published(server.url) as site:
        assert ask(site, "GET", "/health/ready")[0] == 200
        fault(server)
        time.sleep(health.TRUSTED_SECONDS)
        status, headers, answer = ask(site, "GET", "/health")
        live, custom, resnet50 = FAULTS[fault]
        assert (status, answer["triton"]) == (503, live) and headers["Retry-After"]
        assert answer["models"] == {"custom": custom, "resnet50": resnet50, "ensemble": resnet50}
        assert ask(site, "GET", "/health/ready")[0] == 503
        assert ask(site, "GET", "/health/live")[0] == 200
        started = time.monotonic()
        status, headers, answer = predict(site, encoded("L", "PNG"))
        assert status == 503 and headers["Retry-After"] and time.monotonic() - started < 15
        for pid in [*children(server.pid), server.pid]:
            os.kill(pid, signal.SIGCONT)


@contextmanager
def wrong_numbers(repository: Path, folder: Path):
    """A repository whose custom network was exported with other answers than it gives."""
    shutil.copytree(repository, folder)
    path = folder / contract.classifier("custom") / triton_config.FILE
    config = triton_config.read(path)
    wrong = ["0.0 1.0 0.0 0.0"] * len(golden.DISCS)  # the class that it takes them for least
    triton_config.set_parameters(config, {contract.GOLDEN: "; ".join(wrong)})
    triton_config.write(path, config)
    manifest.write(folder)
    yield folder


def test_wrong_numbers_are_not_served(repository, tmp_path):
    with wrong_numbers(repository, tmp_path / "models") as broken, pytest.raises(ServingError, match="golden image 0"):
        Server(broken).start()


def test_wrong_numbers_are_noticed_while_serving(repository, tmp_path, monkeypatch):
    monkeypatch.setattr(Server, "check", lambda *_arguments, **_options: None)  # the start lets them pass
    healthy = pytest.raises(ServingError, match="no answer")  # from published(), which waits for it
    with wrong_numbers(repository, tmp_path / "models") as broken, Server(broken) as server, healthy, \
            published(server.url):
        pass


def test_a_golden_answer_that_cannot_be_read_is_not_served(repository, tmp_path):
    with wrong_numbers(repository, tmp_path / "models") as broken:
        path = broken / contract.classifier("custom") / "config.pbtxt"
        path.write_text(re.sub(r"0\.0 1\.0 0\.0 0\.0", "x", path.read_text()))
        manifest.write(broken)
        with pytest.raises(ServingError, match="golden answers cannot be read"):
            Server(broken).start()


def test_the_details_say_what_computes(server):
    with published(server.url) as site:
        answer = ask(site, "GET", "/health")[2]
    assert answer["computing"] == {"custom": {"runtime": "openvino", "precision": "float32"},
                                   "resnet50": {"runtime": "tensorflow", "precision": None},
                                   "ensemble": {"runtime": "openvino", "precision": "float32"}}
