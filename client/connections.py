"""Connections to Triton that stay open between requests and are never shared by two callers."""

import contextlib
import os
import weakref
from collections.abc import Iterator

import gevent
from gevent import monkey
from tritonclient.http import InferenceServerClient
from tritonclient.utils import InferenceServerException

# One pool per operating-system thread, because each has its own gevent hub and a socket of one hub hangs for ever in
# another (8 threads on one tritonclient: 7 hang). Under gevent's monkey patching threading.local would be one per
# request instead, and no connection would ever be used twice.
_thread = monkey.get_original("_thread", "_local")()
_ident = monkey.get_original("_thread", "get_ident")

FAR = 3600.0
"""Seconds; tritonclient's own time-outs, out of the way because client.errors.translated limits the whole call."""


class _Thread:
    """What one thread keeps for as long as it lives: its idle clients and its gevent hub.

    gevent leaves it to the owner of a thread to destroy its hub; otherwise every thread that has ended keeps two file
    descriptors and a resolver thread, which adds up in a server with a thread for each request.
    """

    def __init__(self) -> None:
        self.idle: weakref.WeakKeyDictionary[Connections, list[InferenceServerClient]] = weakref.WeakKeyDictionary()
        self.hub = gevent.get_hub()
        self.place = (os.getpid(), _ident())

    def __del__(self) -> None:
        if self.place != (os.getpid(), _ident()) or self.hub.main_hub:
            return  # the end of the program, or a forked child: nothing to save
        gevent.hub.set_hub(self.hub)  # gevent has forgotten it by now, and closing would make a new one
        for clients in self.idle.values():
            while clients:
                clients.pop().close()
        self.hub.destroy(destroy_loop=True)


class Connections:
    """A pool of tritonclient clients for one address. Safe for threads, for greenlets, and after a fork.

    Args:
        url: host:port without a scheme.
    """

    def __init__(self, url: str):
        self.url = url

    @contextlib.contextmanager
    def lend(self) -> Iterator[InferenceServerClient]:
        """Lend a client to one caller.

        If the block raises, the client is closed, as an answer may still be under way; unless that is the server's
        answer, which was read to its end.
        """
        idle = self._idle()
        client = idle.pop() if idle else InferenceServerClient(self.url, connection_timeout=FAR, network_timeout=FAR)
        try:
            yield client
        except InferenceServerException as error:
            if error.status() is None:
                client.close()
            else:
                idle.append(client)
            raise
        except BaseException:  # gevent.Timeout and GreenletExit are no Exception
            client.close()
            raise
        idle.append(client)

    def close(self) -> None:
        """Close the idle clients of the calling thread; those of other threads close when their threads end."""
        idle = self._idle()
        while idle:
            idle.pop().close()

    def _idle(self) -> list[InferenceServerClient]:
        mine = getattr(_thread, "kept", None)
        if mine is None or mine.place[0] != os.getpid():  # after a fork the sockets belong to the parent
            mine = _thread.kept = _Thread()
        return mine.idle.setdefault(self, [])
