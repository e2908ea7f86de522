"""Threads for work that would hold up other requests. One for images that take up to a second, which are large
pictures, DICOM files and NIfTI volumes: one after the other, as each needs memory. One that waits for the disk."""

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import gevent
import simplejpeg
from gevent import monkey
from gevent.threadpool import ThreadPool

from imaging import decode, slices
from webapp.refused import TRY_AGAIN, Refused
from webapp.services import services

Result = TypeVar("Result")

PLACES, PATIENCE = 12, 3.0
"""How many may be at it or wait, and seconds that one waits: fewer than may be in flight, so that others find room."""
LARGE = 2 * 2**20
"""Pixels of a picture from which on its decoding would be noticed: some 0.1 s."""


class Worker:
    """The worker thread of one application and the queue in front of it. Safe for threads and greenlets."""

    def __init__(self) -> None:
        self._places, self._turn = threading.BoundedSemaphore(PLACES), threading.BoundedSemaphore()

    def run(self, work: Callable[..., Result], image: bytes, *more: object) -> Result:
        """Return work(image, *more); done by the worker thread if it may take long.

        Raises:
            Refused: 503 busy.
            Exception: what `work` raises.
        """
        if not slices.is_medical(image) and area(image) < LARGE:
            return work(image, *more)
        with held(self._places, timeout=0), held(self._turn, timeout=PATIENCE):
            return in_thread("images", work, image, *more)


def run_in_worker(work: Callable[..., Result], image: bytes, *more: object) -> Result:
    """Return Worker.run() of the current application's."""
    return services().worker.run(work, image, *more)


def area(image: bytes) -> int:
    """Return decode.area(); of a JPEG without Pillow, which opens it a second time for the work that follows."""
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(image)
    except (ValueError, KeyError):  # no JPEG, or one with a header that simplejpeg does not know
        return decode.area(image)
    return int(height * width)


@contextmanager
def held(semaphore: threading.BoundedSemaphore, timeout: float) -> Iterator[None]:
    """Hold a semaphore. Raises Refused (503 busy) when it cannot be had within so many seconds."""
    if not semaphore.acquire(timeout=timeout):
        raise Refused(503, "busy", f"Too many large images are being read. {TRY_AGAIN}")
    try:
        yield
    finally:
        semaphore.release()


def in_thread(name: str, work: Callable[..., Result], *arguments: object) -> Result:
    """Return work(*arguments), done by the thread of that name, one call after the other. Raises what `work` raises.

    Where every request has a thread of its own, as in the development server, that one does it.
    """
    if not monkey.is_module_patched("threading"):
        return work(*arguments)
    answer: tuple[Result, None] | tuple[None, Exception]
    answer = one_thread(gevent.get_hub(), name).apply(_attempt, (work, *arguments))
    if answer[1] is not None:
        raise answer[1]
    return answer[0]


@functools.lru_cache(maxsize=2)
def one_thread(hub: gevent.hub.Hub, name: str) -> ThreadPool:
    """Return a thread of a hub: always the same one for a name, as each keeps what its allocator has once taken."""
    return ThreadPool(1, hub)


def _attempt(work: Callable[..., Result], *arguments: object) -> tuple[Result, None] | tuple[None, Exception]:
    """Return a function's result, or what it raised: gevent prints what is raised in its threads."""
    try:
        return work(*arguments), None
    except Exception as error:
        return None, error
