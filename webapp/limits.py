"""How often one client may ask, counted over all workers of one machine.

RATE_LIMIT=120 lets each client send so many images a minute, evenly or RATE_BURST at once (leaky bucket as a meter: the
generic cell rate algorithm, ITU-T I.371, annex A). A client is an API key, else an address; the network prefix of 64
bits in IPv6. Behind a proxy set TRUSTED_PROXIES=1, or all clients are the proxy.

The counts lie in a file that all workers map, under keyed digests of the clients: no address is stored. A table of
fixed size bounds the memory; when it is full, the client that has been away the longest is forgotten.
"""

import fcntl
import hashlib
import ipaddress
import math
import mmap
import os
import secrets
import struct
import tempfile
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flask import Flask, current_app, request
from werkzeug.middleware.proxy_fix import ProxyFix

from webapp.keys import key_name
from webapp.refused import Refused

ENTRY = struct.Struct("<Qd")
"""The digest of a client, 0 for none, and the moment (seconds of the machine's monotonic clock) at which its bucket is
empty again."""
PLACES, PROBES = 2**16, 8
SECRET_BYTES = 16


class Limiter:
    """Counts requests. Safe for threads, greenlets, and several processes that map the same file.

    Args:
        path: the shared file; is made. None counts for this process alone.
        per_minute: requests a minute of one client, above 0.
        burst: requests that may come at once, 1 or more.

    Raises:
        ValueError: a number is out of its range.
        OSError: the file cannot be made.
    """

    def __init__(self, path: str | None, per_minute: float, burst: int):
        if not per_minute > 0 or burst < 1:
            raise ValueError(f"Expected RATE_LIMIT above 0 and RATE_BURST from 1. Received: {per_minute}, {burst}.")
        self._interval, self._burst, self._lock = 60.0 / per_minute, burst, threading.Lock()
        self._file = opened(path)
        weakref.finalize(self, os.close, self._file)
        with self._alone():
            if os.fstat(self._file).st_size == 0:
                os.truncate(self._file, SECRET_BYTES + PLACES * ENTRY.size)
                os.pwrite(self._file, secrets.token_bytes(SECRET_BYTES), 0)
            self._table = mmap.mmap(self._file, SECRET_BYTES + PLACES * ENTRY.size)
        self._secret = self._table[:SECRET_BYTES]

    def wait(self, client: str, now: float | None = None) -> float:
        """Count a request; return 0, or the seconds after which it would be allowed (it is not counted then).

        Args:
            client: who asks.
            now: seconds of time.monotonic(), which all processes of a machine share.
        """
        now = time.monotonic() if now is None else now
        digest = hashlib.blake2b(client.encode(), digest_size=8, key=self._secret).digest()
        number = int.from_bytes(digest, "little") or 1
        with self._alone():
            offset, empty = self._place(number)
            empty = max(empty, now)
            wait = empty - now - (self._burst - 1) * self._interval
            if wait <= 0:
                ENTRY.pack_into(self._table, offset, number, empty + self._interval)
        return max(0.0, wait)

    def _place(self, number: int) -> tuple[int, float]:
        """Return where a client's entry is, or should be, and the moment in it."""
        offsets = [SECRET_BYTES + (number + probe) % PLACES * ENTRY.size for probe in range(PROBES)]
        entries = [(*ENTRY.unpack_from(self._table, offset), offset) for offset in offsets]
        for known, empty, offset in entries:
            if known == number:
                return offset, empty
        return min(entries, key=lambda entry: entry[1])[2], -math.inf

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the table against threads and processes."""
        with self._lock:
            fcntl.flock(self._file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)


def opened(path: str | None) -> int:
    """Return the descriptor of a file, which is made, or of a new file without a name."""
    if path:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    descriptor, name = tempfile.mkstemp()
    Path(name).unlink()
    return descriptor


def client() -> str:
    """Return who sends the current request: the name of its API key, else its address."""
    if name := key_name():
        return f"key {name}"
    try:
        address = ipaddress.ip_address(request.remote_addr or "")
    except ValueError:
        return "unknown"
    return str(ipaddress.ip_network((address, 64), strict=False) if address.version == 6 else address)


def refuse_too_many() -> None:
    """Count the current request if it sends an image. Raises Refused (429 too_many_requests) when they are too many."""
    limiter = current_app.extensions["limiter"]
    if limiter is None or request.method != "POST":
        return
    if wait := limiter.wait(client()):
        raise Refused(429, "too_many_requests", f"Too many requests. Try again in {math.ceil(wait)} seconds.",
                      retry_seconds=math.ceil(wait))


def register(app: Flask) -> None:
    """Limit the requests of an application, if RATE_LIMIT says so. Raises ValueError and OSError as Limiter."""
    config = app.config
    if proxies := int(config["TRUSTED_PROXIES"]):
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=proxies, x_proto=proxies, x_prefix=proxies)
    limit, burst = float(config["RATE_LIMIT"]), int(config["RATE_BURST"])
    app.extensions["limiter"] = Limiter(config["RATE_STATE"], limit, burst) if limit else None
    app.before_request(refuse_too_many)
