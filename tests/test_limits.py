"""The limit on a client's requests."""

import subprocess
import sys

import pytest

from tests.conftest import PROJECT
from webapp import create_app, limits


def test_a_burst_passes_and_then_one_in_each_interval():
    limiter = limits.Limiter(None, per_minute=60, burst=3)
    assert [limiter.wait("a", now=100.0) for _ in range(4)] == [0, 0, 0, pytest.approx(1.0)]
    assert limiter.wait("a", now=100.5) == pytest.approx(0.5)
    assert limiter.wait("a", now=101.0) == 0
    assert limiter.wait("a", now=101.0) > 0
    assert limiter.wait("b", now=101.0) == 0
    assert [limiter.wait("a", now=200.0) for _ in range(3)] == [0, 0, 0]


def test_requests_that_were_refused_do_not_count():
    limiter = limits.Limiter(None, per_minute=60, burst=1)
    waits = [limiter.wait("a", now=10.0 + step / 100) for step in range(99)]
    assert waits[0] == 0 and all(waits[1:]) and limiter.wait("a", now=11.0) == 0


def test_two_processes_count_together(tmp_path):
    path = str(tmp_path / "rates")
    limiter = limits.Limiter(path, per_minute=0.1, burst=5)
    assert [limiter.wait("a") for _ in range(3)] == [0, 0, 0]
    code = (f"from webapp.limits import Limiter; limiter = Limiter({path!r}, 0.1, 5); "
            "print([limiter.wait('a') > 0 for _ in range(4)])")
    other = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert other.stdout.strip() == "[False, False, True, True]"
    assert limiter.wait("a") > 0


def test_more_clients_than_places_cost_no_memory_and_forget_the_idle_ones(monkeypatch):
    monkeypatch.setattr(limits, "PLACES", 64)
    limiter = limits.Limiter(None, per_minute=60, burst=1)
    size = len(limiter._table)
    for number in range(1000):
        assert limiter.wait(f"client {number}", now=float(number)) == 0
    assert limiter.wait("client 999", now=999.5) > 0
    assert len(limiter._table) == size == limits.SECRET_BYTES + 64 * limits.ENTRY.size


@pytest.mark.parametrize("numbers", [(0, 1), (-1, 1), (float("nan"), 1), (1, 0)])
def test_numbers_out_of_range_are_refused(numbers):
    with pytest.raises(ValueError, match="RATE_LIMIT above 0"):
        limits.Limiter(None, *numbers)


@pytest.mark.parametrize(("address", "client"), [
    ("192.0.2.7", "192.0.2.7"), ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"), ("", "unknown")])
def test_who_a_client_is(address, client):
    with create_app().test_request_context(environ_base={"REMOTE_ADDR": address}):
        assert limits.client() == client
