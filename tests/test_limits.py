"""The limit on a client's requests."""

import logging
import socket
import time

import pytest

from tests.support.storage import running
from webapp import create_app, limits


@pytest.fixture(scope="module")
def storage(tmp_path_factory):
    """The address of a Redis of our own."""
    with running(tmp_path_factory.mktemp("redis")) as address:
        yield address


@pytest.fixture(params=["memory", "Redis"])
def counted(request):
    """Each storage in turn."""
    return "memory://" if request.param == "memory" else request.getfixturevalue("storage")


@pytest.mark.parametrize(("per_minute", "burst", "images", "seconds"), [
    (120, 20, 20, 10), (6, 10, 10, 100), (60, 1, 1, 1), (600, 1, 10, 1), (7, 20, 20, 172), (0.1, 5, 5, 3000)])
def test_a_burst_passes_within_the_time_in_which_the_rate_lets_so_many_pass(per_minute, burst, images, seconds):
    window = limits.window(per_minute, burst)
    assert (window.amount, window.get_expiry()) == (images, seconds)


def test_a_burst_passes_and_again_when_its_time_is_over(counted):
    limiter = limits.Limiter(counted, per_minute=60, burst=2)
    assert [limiter.wait("a") for _ in range(3)] == [0, 0, 2]
    assert limiter.wait("b") == 0
    time.sleep(limiter.wait("a") + 0.05)
    assert limiter.wait("a") == 0


def test_of_a_batch_all_images_count_or_none(counted):
    limiter = limits.Limiter(counted, per_minute=30, burst=5)
    assert limiter.wait("batch", 3) == 0
    assert limiter.wait("batch", 3) > 0
    assert [limiter.wait("batch", 2, count=False), limiter.wait("batch", 2)] == [0, 0]
    assert 9 <= limiter.wait("batch", 1) <= 10 == limiter.wait("batch", 5)


def test_two_replicas_count_together(storage):
    sides = [create_app({"RATE_STORAGE": storage, "RATE_LIMIT": 6, "RATE_BURST": 5, "TRITON_URL": "127.0.0.1:1"})
             .test_client() for _ in range(2)]
    statuses = [sides[number % 2].post("/predict").status_code for number in range(8)]
    assert statuses == [415] * 5 + [429] * 3


def test_without_its_storage_every_image_passes_and_the_log_says_so_once(caplog):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        limiter = limits.Limiter(f"redis://127.0.0.1:{closed.getsockname()[1]}", per_minute=6, burst=1)
        assert [limiter.wait("a") for _ in range(3)] == [0, 0, 0]
        limiter._failed -= limits.PAUSE
        assert limiter.wait("a") == 0
    line, = caplog.records
    assert line.levelno == logging.ERROR and "not limited" in line.getMessage()


@pytest.mark.parametrize(("address", "client"), [
    ("192.0.2.7", "192.0.2.7"), ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"), ("::ffff:192.0.2.7", "192.0.2.7"),
    ("192.0.2.7:5555", "192.0.2.7"), ("[2001:db8:1:2:3::6]:5555", "2001:db8:1:2::/64"), ("", "unknown"),
    ("[", "unknown"), ("unix:", "unknown"), ("fe80::1%eth0", "fe80::/64")])
def test_who_a_client_is(address, client):
    with create_app().test_request_context(environ_base={"REMOTE_ADDR": address}):
        assert limits.client() == client
