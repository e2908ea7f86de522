"""Measures what our server does when things break: killed processes, four times the load, slow clients, hours of work.

    python -m bench.reliability watchdog --rounds 20
    python -m bench.reliability overload --seconds 180
    python -m bench.reliability slow --connections 200
    python -m bench.reliability soak --seconds 1800
    python -m bench.reliability hostile --rounds 100

Each starts the server as `make serve` runs it, in int8, on phantoms (see bench/serving.py), prints its figures and
writes them into bench/reliability.json under its name.
"""

import argparse
import contextlib
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from bench import serving
from core import files
from tests.support import hostile as corpus

OUTPUT = Path("bench/reliability.json")
HUNG_SECONDS = 15.0


@dataclass
class Asked:
    """One request: when it was sent, seconds to its answer, its status (0 for none), and whether Retry-After came."""

    sent: float
    seconds: float
    status: int
    retry_after: bool


@dataclass
class Load:
    """Threads that post images, each on a connection of its own.

    Attributes:
        port: of the page. bodies: forms, sent in turn. threads: connections. rate: requests a second of all threads
        together; 0 for as many as are answered. asked: what was found.
    """

    port: int
    bodies: list[bytes]
    threads: int
    rate: float = 0.0
    asked: list[Asked] = field(default_factory=list)

    def __enter__(self) -> "Load":
        self._over = threading.Event()
        self._running = [threading.Thread(target=self._run, args=(number,)) for number in range(self.threads)]
        for thread in self._running:
            thread.start()
        return self

    def __exit__(self, *_exception) -> None:
        self._over.set()
        for thread in self._running:
            thread.join()

    def _run(self, number: int) -> None:
        turn, connection, due = number, None, time.perf_counter() + random.random() * self._pause()
        while not self._over.is_set():
            if self.rate:
                time.sleep(max(0.0, due - time.perf_counter()))
                due += self._pause()
            turn += self.threads
            sent = time.perf_counter()
            try:
                connection = connection or socket.create_connection(("127.0.0.1", self.port), HUNG_SECONDS)
                status, retry_after, keeps = post(connection, self.bodies[turn % len(self.bodies)])
            except OSError:
                status, retry_after, keeps = 0, False, False
            self.asked.append(Asked(sent, time.perf_counter() - sent, status, retry_after))
            if not keeps and connection:
                connection.close()
                connection = None
            if status == 0:
                time.sleep(0.05)

    def _pause(self) -> float:
        return self.threads / self.rate if self.rate else 0.0

    def since(self, start: float) -> list[Asked]:
        """Return what was sent from a moment on."""
        return [one for one in self.asked if one.sent >= start]


def post(connection: socket.socket, body: bytes, path: str = "/predict") -> tuple[int, bool, bool]:
    """Send a form; return the status, whether Retry-After came, and whether the connection stays open.

    Raises:
        OSError: no answer, or none within HUNG_SECONDS.
    """
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=bench\r\n"
    connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    received = b""
    while b"\r\n\r\n" not in received:
        received += more(connection)
    headers, _, rest = received.partition(b"\r\n\r\n")
    low = headers.lower()
    length = int(low.partition(b"content-length:")[2].split(b"\r\n")[0])
    while len(rest) < length:
        rest += more(connection)
    return int(headers.split()[1]), b"retry-after:" in low, b"connection: close" not in low


def more(connection: socket.socket) -> bytes:
    """Return what comes next. Raises OSError at the end of the stream."""
    data = connection.recv(65536)
    if not data:
        raise OSError("the connection was closed")
    return data


def percentile(seconds: list[float], share: float) -> float:
    """Return a percentile of durations in ms; 0.0 of none."""
    return float(np.percentile(seconds, share)) * 1000 if seconds else 0.0


def bodies(folder: Path) -> list[bytes]:
    """Return the large ones of the forms that bench.serving.prepare wrote."""
    return [path.read_bytes() for path in serving.forms(folder, serving.LARGE)]


def victims(root: int) -> dict[str, int]:
    """Return the ids of the processes that are killed, by name."""
    found = {}
    for process in serving.family(root):
        words = serving.words(process)
        for name, part in (("preprocess stub", "preprocess_0_0"), ("network stub", "custom_0_0"),
                           ("tritonserver", "bin/tritonserver")):
            if part in words and "-m serving" not in words:
                found.setdefault(name, process.pid)
    return found


def watchdog(folder: Path, options: argparse.Namespace) -> dict:
    """Kill a process of Triton under load, round after round."""
    rounds = []
    with serving.running(serving.ours(folder, "int8"), folder / "server.log") as (port, process, _), \
            Load(port, bodies(folder), 8) as load:
        time.sleep(3)
        for number in range(options.rounds):
            name, pid = sorted(victims(process.pid).items())[number % 3]
            start = time.perf_counter()
            os.kill(pid, signal.SIGKILL)
            failed_last = wait_until_well(load, start)
            asked = load.since(start - 0.5)
            failures = [one for one in asked if one.status != 200]
            rounds.append({"killed": name, "serving_again_s": failed_last,
                           "statuses": dict(Counter(str(one.status) for one in failures)),
                           "slowest_failure_s": max((one.seconds for one in failures), default=0.0),
                           "without_retry_after": sum(one.status == 503 and not one.retry_after for one in failures)})
            print(f"round {number + 1}/{options.rounds} {rounds[-1]}", flush=True)
            time.sleep(1)
    left = subprocess.run(["pgrep", "-fc", str(folder / ".serving")], capture_output=True, text=True).stdout.strip()
    return {"rounds": options.rounds, "slowest_failure_s": max(one["slowest_failure_s"] for one in rounds),
            "slowest_return_s": max(one["serving_again_s"] for one in rounds),
            "statuses_of_failures": dict(sum((Counter(one["statuses"]) for one in rounds), Counter())),
            "without_retry_after": sum(one["without_retry_after"] for one in rounds),
            "processes_left": int(left), "shared_memory_left": len(list(Path("/dev/shm").glob(f"{process.pid}-*"))),
            "all": rounds}


def wait_until_well(load: Load, start: float, most: float = 60.0) -> float:
    """Return the seconds from a moment to the last failure before a whole second without one.

    Args:
        load: running. start: the moment. most: seconds to wait.
    """
    while time.perf_counter() - start < most:
        time.sleep(0.2)
        asked = load.since(start)
        bad = [one.sent + one.seconds for one in asked if one.status != 200]
        good = [one.sent for one in asked if one.status == 200]
        if good and (not bad or max(good) - max(bad) > 1.0) and time.perf_counter() - start > 2:
            return max(bad, default=start) - start
    return most


def overload(folder: Path, options: argparse.Namespace) -> dict:
    """Ask four times as often as can be answered."""
    with serving.running(serving.ours(folder, "int8"), folder / "server.log") as (port, _, _):
        with Load(port, bodies(folder), 16) as load:
            time.sleep(3)
            start = time.perf_counter()
            time.sleep(10)
            peak = sum(one.status == 200 for one in load.since(start)) / 10
        with Load(port, bodies(folder), options.connections, rate=4 * peak) as load:
            time.sleep(2)
            start = time.perf_counter()
            time.sleep(options.seconds)
            end = time.perf_counter()
        asked = load.since(start)
        answered = [one.seconds for one in asked if one.status == 200]
        refused = [one.seconds for one in asked if one.status in (429, 503)]
        with socket.create_connection(("127.0.0.1", port), HUNG_SECONDS) as connection:
            normal = []
            while time.perf_counter() - end < 4:
                sent = time.perf_counter()
                normal.append((sent - end, post(connection, bodies(folder)[0])[0], time.perf_counter() - sent))
    slow = [moment for moment, status, seconds in normal if status != 200 or seconds > 0.05]
    return {"peak_per_s": peak, "asked_per_s": len(asked) / options.seconds,
            "goodput_of_peak": len(answered) / options.seconds / peak,
            "statuses": dict(Counter(str(one.status) for one in asked)),
            "without_retry_after": sum(one.status in (429, 503) and not one.retry_after for one in asked),
            "refusal_p99_ms": percentile(refused, 99), "answer_p99_ms": percentile(answered, 99),
            "normal_again_s": max(slow, default=0.0)}


def slow(folder: Path, options: argparse.Namespace) -> dict:
    """Open connections that drip, and ask for health and for predictions meanwhile."""
    with serving.running(serving.ours(folder, "int8"), folder / "server.log") as (port, process, _):
        before = serving.memory(process.pid)
        dripping = [dripper(port, number) for number in range(options.connections)]
        health, predictions, statuses = [], [], Counter()
        end = time.perf_counter() + options.seconds
        while time.perf_counter() < end:
            for number, connection in enumerate(dripping):
                try:
                    connection.sendall(b"x")
                except OSError:
                    statuses["dripping connections replaced"] += 1
                    dripping[number] = dripper(port, number)
            for path, found in (("/health/live", health), ("/health/ready", health), ("/predict", predictions)):
                sent = time.perf_counter()
                with socket.create_connection(("127.0.0.1", port), HUNG_SECONDS) as connection:
                    if path == "/predict":
                        status, *_ = post(connection, bodies(folder)[0])
                    else:
                        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
                        status = int(more(connection).split()[1])
                found.append(time.perf_counter() - sent)
                statuses[f"{path} {status}"] += 1
            time.sleep(0.5)
        after = serving.memory(process.pid)
        for connection in dripping:
            connection.close()
    return {"connections": options.connections, "statuses": dict(statuses), "health_p50_ms": percentile(health, 50),
            "health_max_ms": percentile(health, 100), "predict_p50_ms": percentile(predictions, 50),
            "memory_grown_mb": after - before}


def dripper(port: int, number: int) -> socket.socket:
    """Return a connection whose request is not complete: every other one lacks the end of its headers, or its form."""
    connection = socket.create_connection(("127.0.0.1", port))
    head = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=bench\r\n"
    body = b'Content-Length: 100000\r\n\r\n--bench\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    connection.sendall(head + (body if number % 2 else b"X-Slow: "))
    return connection


def soak(folder: Path, options: argparse.Namespace) -> dict:
    """Work at 70 % of the peak, one image in a hundred damaged, and watch memory, descriptors and shared memory."""
    good = bodies(folder)
    bad = [good[0][: len(good[0]) // 2] + b"\r\n--bench--\r\n", serving.form(b"no image"), serving.form(b"")]
    with serving.running(serving.ours(folder, "int8"), folder / "server.log") as (port, process, _):
        with Load(port, good, 16) as load:
            time.sleep(8)
        peak = sum(one.status == 200 for one in load.asked[len(load.asked) // 2 :]) / 4
        mixed = (good * 7)[:99] + bad[:1] + (good * 7)[:99] + bad[1:2] + (good * 7)[:99] + bad[2:]
        rows = []
        with Load(port, mixed, 8, rate=0.7 * peak) as load:
            end = time.perf_counter() + options.seconds
            while time.perf_counter() < end:
                time.sleep(min(10.0, options.seconds / 20))
                rows.append((options.seconds - (end - time.perf_counter()), anonymous(process.pid),
                             descriptors(process.pid), shared_memory(process.pid)))
    moments, memories, opened, shared = map(list, zip(*rows[len(rows) // 3 :], strict=True))
    slope = float(np.polyfit(moments, memories, 1)[0]) * 3600
    return {"seconds": options.seconds, "asked_per_s": len(load.asked) / options.seconds,
            "statuses": dict(Counter(str(one.status) for one in load.asked)),
            "p99_ms": percentile([one.seconds for one in load.asked], 99), "memory_mb": [memories[0], memories[-1]],
            "memory_slope_mb_per_hour": slope, "descriptors": [min(opened), max(opened)],
            "shared_memory_mb": [min(shared), max(shared)]}


def hostile(folder: Path, options: argparse.Namespace) -> dict:
    """Send every upload of tests/support/hostile.py, in rounds; the first do not count for the memory."""
    cases, slowest, wrong, before = corpus.cases(), {}, Counter(), 0.0
    with serving.running(serving.ours(folder, "int8"), folder / "server.log") as (port, process, _):
        for number in range(options.rounds):
            if number == max(1, options.rounds // 10):
                before = anonymous(process.pid)
            for case in cases:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=HUNG_SECONDS)
                sent = time.perf_counter()
                connection.request("POST", "/predict", case.body, {"Content-Type": case.kind} if case.kind else {})
                status = connection.getresponse().status
                slowest[case.name] = max(slowest.get(case.name, 0.0), time.perf_counter() - sent)
                wrong[case.name] += status not in case.statuses
                connection.close()
            print(f"round {number + 1}/{options.rounds}: {sum(wrong.values())} wrong answers", flush=True)
        time.sleep(3)
        after = anonymous(process.pid)
    name = max(slowest, key=slowest.get)
    return {"cases": len(cases), "requests": len(cases) * options.rounds, "wrong_answers": sum(wrong.values()),
            "slowest_answer_s": slowest[name], "slowest_case": name, "memory_grown_mb": after - before}


def anonymous(root: int) -> float:
    """Return the memory in MB that a process and its descendants have filled themselves.

    Unlike the proportional set size it does not change when other programs come and go that map the same libraries.
    """
    total = 0
    for process in serving.family(root):
        with contextlib.suppress(psutil.Error):
            total += sum(part.anonymous for part in process.memory_maps())
    return total / 1e6


def descriptors(root: int) -> int:
    """Return the open descriptors of a process and its descendants."""
    total = 0
    for process in serving.family(root):
        with contextlib.suppress(psutil.Error):
            total += process.num_fds()
    return total


def shared_memory(root: int) -> float:
    """Return the size of the shared memory of a server that a process has started, in MB."""
    return sum(path.stat().st_size for path in Path("/dev/shm").glob(f"{root}-*")) / 1e6


KINDS = {"watchdog": watchdog, "overload": overload, "slow": slow, "soak": soak, "hostile": hostile}


def main() -> int:
    """Run one measurement and keep its figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.reliability", description=__doc__.splitlines()[0],
                                     epilog="example: python -m bench.reliability overload --seconds 180")
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--rounds", type=int, default=20, help="of watchdog and hostile; default: %(default)s")
    parser.add_argument("--seconds", type=float, default=60.0, help="of the others; default: %(default)s")
    parser.add_argument("--connections", type=int, default=200, help="default: %(default)s")
    options = parser.parse_args()
    folder = (serving.PROJECT / serving.WORK).resolve()
    serving.prepare(folder)
    found = KINDS[options.kind](folder, options)
    print(json.dumps(files.rounded(found), indent=2))
    path = serving.PROJECT / OUTPUT
    known = json.loads(path.read_text()) if path.exists() else {}
    files.write_json(path, known | {options.kind: found})
    return 0


if __name__ == "__main__":
    sys.exit(main())
