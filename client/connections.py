"""Connections to Triton that stay open between requests and are never shared by two callers."""

import contextlib
import os
from collections.abc import Iterator

from gevent import monkey
from tritonclient.http import InferenceServerClient

# One pool per operating-system thread, because each has its own gevent hub and a socket of one hub hangs for ever in
# another (8 threads on one tritonclient: 7 hang). Under gevent's monkey patching threading.local would be one per
# request instead, and no connection would ever be used twice.
_ThreadLocal = monkey.get_original("_thread", "_local")

FAR = 3600.0
"""Seconds; tritonclient's own time-outs, out of the way because client.errors.translated limits the whole call."""


class Connections:
    """A pool of tritonclient clients for one address. Safe for threads, for greenlets, and after a fork.

    Args:
        url: host:port without a scheme.
    """

    def __init__(self, url: str):
        self.url = url
        self._local = _ThreadLocal()

    def _idle(self) -> list[InferenceServerClient]:
        if getattr(self._local, "pid", None) != os.getpid():  # after a fork the sockets belong to the parent
            self._local.pid = os.getpid()
            self._local.idle = []
        return self._local.idle

    @contextlib.contextmanager
    def lend(self) -> Iterator[InferenceServerClient]:
        """Lend a client to one caller. If the block raises, the client is closed: an answer may still be under way."""
        idle = self._idle()
        client = idle.pop() if idle else InferenceServerClient(self.url, connection_timeout=FAR, network_timeout=FAR)
        try:
            yield client
        except BaseException:  # gevent.Timeout and GreenletExit are no Exception
            client.close()
            raise
        idle.append(client)

    def close(self) -> None:
        """Close the idle clients of the calling thread; those of other threads close when their threads end."""
        idle = self._idle()
        while idle:
            idle.pop().close()
