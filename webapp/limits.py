"""How often one client may ask.

RATE_LIMIT=120 with RATE_BURST=20 lets each client send 20 images within any 10 seconds: all at once, or evenly 120 a
minute. In general RATE_BURST images within any 60 * RATE_BURST / RATE_LIMIT seconds, rounded up to whole seconds (a
moving window); where that is less than a second, RATE_LIMIT / 60 images within any second. Images that are refused do
not count, and of a batch all images count or none. A client is an API key, else an address; the network prefix of 64
bits in IPv6. Behind a proxy set TRUSTED_PROXIES=1, or all clients are the proxy.

The counts lie in the memory of the one worker, or with RATE_STORAGE=redis://host:port in a Redis or Valkey that several
workers and replicas share; addresses are in it for the length of a window. While it is out of reach every image passes,
and a line in the log says so once a minute: a limit that protects the service must not take it down.
"""

import ipaddress
import logging
import math
import threading
import time
from urllib.parse import urlsplit

from flask import Response, g, request
from limits import RateLimitItem, RateLimitItemPerSecond
from limits.errors import StorageError
from limits.storage import MemoryStorage, storage_from_string
from limits.strategies import MovingWindowRateLimiter

from webapp.keys import key_name
from webapp.refused import Refused
from webapp.services import services
from webapp.settings import MEMORY

COUNTED_LATER = "views.batch"
"""The endpoint whose images are known only when its form is read."""
PATIENCE, PAUSE, REMINDER = 1.0, 5.0, 60.0
"""Seconds that an answer of the storage may take, that it is left alone after a failure, and between log lines."""
SWEEP = 10.0
"""Seconds between two looks through all clients for those that have been away."""
REDIS = {"socket_timeout": PATIENCE, "socket_connect_timeout": PATIENCE}

log = logging.getLogger(__name__)


def window(per_minute: float, burst: int) -> RateLimitItem:
    """Return how many images may come within how many seconds, as the head of this module says."""
    seconds = max(1, math.ceil(60 * burst / per_minute))
    return RateLimitItemPerSecond(max(burst, int(per_minute * seconds / 60)), seconds)


class Memory(MemoryStorage):
    """Forgets who has been away every SWEEP seconds; its base looks through all clients every 10 ms."""

    STORAGE_SCHEME = []

    @property
    def timer(self) -> threading.Timer:
        """Forgets once it runs."""
        return self._timer

    @timer.setter
    def timer(self, timer: threading.Timer) -> None:
        timer.interval, timer.daemon, self._timer = SWEEP, True, timer


class Limiter:
    """Counts images. Safe for threads and greenlets.

    Args:
        storage: memory:// or the address of a Redis.
        per_minute: images a minute of one client, above 0.
        burst: images that may come at once, 1 or more.

    Attributes:
        most: images that can come at once.
    """

    def __init__(self, storage: str, per_minute: float, burst: int):
        counts = Memory() if storage == MEMORY else storage_from_string(storage, wrap_exceptions=True, **REDIS)
        self._counts = MovingWindowRateLimiter(counts)
        self._window = window(per_minute, burst)
        self.most = self._window.amount
        self._failed = self._said = -math.inf

    def wait(self, client: str, cost: int = 1, count: bool = True) -> int:
        """Count so many images, all or none; return 0, or the whole seconds after which they would be allowed.

        For several images that is the longest time that it can take. 0 too while the storage is out of reach.

        Args:
            client: who asks. cost: images, up to `most`. count: False: only look.
        """
        if time.monotonic() - self._failed < PAUSE:
            return 0
        try:
            ask = self._counts.hit if count else self._counts.test
            if ask(self._window, client, cost=cost):
                return 0
            oldest, left = self._counts.get_window_stats(self._window, client)
        except StorageError as error:
            self._note(error)
            return 0
        seconds = oldest - time.time() if cost - left == 1 else self._window.get_expiry()
        return max(1, math.ceil(seconds))

    def _note(self, error: StorageError) -> None:
        """Remember that the storage failed, and log it once in a while."""
        self._failed = time.monotonic()
        if self._failed - self._said >= REMINDER:
            self._said = self._failed
            log.error("RATE_STORAGE is out of reach: requests are not limited. %s", error)


def client() -> str:
    """Return who sends the current request: the name of its API key, else its address."""
    if name := key_name():
        return f"key {name}"
    try:
        address = address_of(request.remote_addr or "")
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(address.ipv4_mapped or ipaddress.ip_network((address, 64), strict=False))


def address_of(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return the address in a text, to which some proxies add the port. Raises ValueError if there is none."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return ipaddress.ip_address(urlsplit(f"//{text}").hostname or "")


def refuse_too_many() -> None:
    """Count the current request if it sends an image. Raises Refused (429 too_many_requests) when they are too many."""
    if request.method == "POST":
        count(1, later=request.endpoint == COUNTED_LATER)


def count(images: int, later: bool = False) -> None:
    """Count images of the current request, all or none.

    Args:
        images: how many. later: only look whether they would be allowed.

    Raises:
        Refused: 429 too_many_requests; 400 too_many_files, if so many can never come at once.
    """
    if (limiter := services().limiter) is None:
        return
    if images > limiter.most:
        raise Refused(400, "too_many_files", f"Expected at most {limiter.most} images at once, received {images}. Send "
                      "them in several requests.")
    if seconds := limiter.wait(client(), images, count=not later):
        raise Refused(429, "too_many_requests", f"Too many requests. Try again in {seconds} seconds.",
                      retry_seconds=seconds)
    g.is_counted = not later


def count_unread(response: Response) -> Response:
    """Count a request that was refused before its images were counted as one image: reading it was work."""
    limiter = services().limiter
    if limiter and g.get("is_counted") is False and response.status_code != 429:
        limiter.wait(client())
    return response
