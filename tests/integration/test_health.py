"""Health tells the truth: the faults of a running server one by one, and what each must be called."""

import os
import re
import signal
import time
from urllib import request

import psutil
import pytest

from core import contract, manifest
from serving.errors import ServingError
from serving.server import Server, children
from tests.support.repository import with_wrong_numbers
from tests.support.site import ask, encoded, predict, published
from webapp import health


def triton(server: Server) -> int:
    """Return the process id of Triton."""
    return server.pid


def custom(server: Server) -> int:
    """Return the process id of the stub of the custom network."""
    return next(pid for pid in children(server.pid)
                if any("custom_0_0" in word for word in psutil.Process(pid).cmdline()))


FAULTS = {  # what gets which signal: Triton lives, custom answers, the others answer
    "in turn": [(triton, signal.SIGSTOP, (False, False, False)), (custom, signal.SIGKILL, (True, False, True)),
                (triton, signal.SIGKILL, (False, False, False))],
    "a stopped stub, with which Triton ends once it goes on": [(custom, signal.SIGSTOP, (True, False, True))],
}


@pytest.mark.parametrize("faults", FAULTS.values(), ids=FAULTS)
def test_every_fault_is_seen_and_called_by_its_name(repository, faults):
    with Server(repository) as server, published(server.url) as site:
        for process, number, expected in faults:
            pid = process(server)
            os.kill(pid, number)
            time.sleep(health.TRUSTED_SECONDS)
            status, headers, answer = ask(site, "GET", "/health")
            live, answers, others = expected
            assert (status, answer["triton"]) == (503, live) and headers["Retry-After"]
            assert answer["models"] == {"custom": answers, "resnet50": others, "ensemble": others}
            assert ask(site, "GET", "/health/ready")[0] == 503
            assert ask(site, "GET", "/health/live")[0] == 200
            with request.urlopen(f"http://{site}/metrics", timeout=10) as numbers:  # as long as Prometheus waits
                assert f'canary_up{{model="custom"}} {float(answers)}' in numbers.read().decode()
            status, headers, answer = predict(site, encoded("L", "PNG"))
            assert status == 503 and headers["Retry-After"]
            if number == signal.SIGSTOP:
                os.kill(pid, signal.SIGCONT)
            if (process, number) == (triton, signal.SIGSTOP):
                wait_until_ready(site)


def wait_until_ready(site: str) -> None:
    """Return once the web application is ready again; fail if it never is."""
    for _ in range(60):
        if ask(site, "GET", "/health/ready")[0] == 200:
            return
        time.sleep(1)
    pytest.fail(f"Not ready: {ask(site, 'GET', '/health')}")


def test_wrong_numbers_are_noticed_while_serving(repository, tmp_path, monkeypatch):
    monkeypatch.setattr(Server, "check", lambda *_arguments, **_options: None)  # the start lets them pass
    healthy = pytest.raises(ServingError, match="no answer")  # from published(), which waits for it
    broken = with_wrong_numbers(repository, tmp_path / "models")
    with Server(broken) as server, healthy, published(server.url):
        pass


def test_a_golden_answer_that_cannot_be_read_is_not_served(repository, tmp_path):
    broken = with_wrong_numbers(repository, tmp_path / "models")
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
