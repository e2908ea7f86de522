"""Images that come while enough is under way share requests: less work for everybody than one request for each."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import gevent
from gevent import monkey
from gevent.event import AsyncResult

from client.answer import Prediction
from client.classifier import SMALL, Classifier
from client.errors import translated

UNDER_WAY = 4
"""Requests that a thread has under way before images wait for each other: enough to keep two cores busy."""
PER_REQUEST = 4
"""Images that share a request at most: each of them waits for the last."""


@dataclass(eq=False)
class Waiting:
    """An image that waits for the next request.

    Attributes:
        encoded: the image. model, deadline: see Classifier. answer: gets the prediction, or what is raised instead.
    """

    encoded: bytes
    model: str
    deadline: float
    answer: AsyncResult = field(default_factory=AsyncResult)


@dataclass
class Queue:
    """What the greenlets of one thread share: the images that wait, and how many requests are under way."""

    waiting: list[Waiting] = field(default_factory=list)
    under_way: int = 0


class BatchingClassifier(Classifier):
    """A Classifier for a thread with many greenlets, such as a gevent worker; threads do not wait for each other.

    Nothing changes until UNDER_WAY requests are under way. Images that come then wait until one of these is answered,
    and up to PER_REQUEST of them go together in the next one. If one of them is damaged, each is asked for alone.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._queues = monkey.get_original("_thread", "_local")()  # of real threads, see client/connections.py

    def _predicted(self, encoded: bytes, model: str, deadline: float) -> Prediction:
        queue = self._queue()
        if queue.under_way >= UNDER_WAY and len(encoded) <= SMALL:
            return self._awaited(Waiting(encoded, model, deadline), queue)
        queue.under_way += 1
        try:
            return super()._predicted(encoded, model, deadline)
        finally:
            if queue.waiting:
                gevent.spawn(self._go_on, queue)
            else:
                queue.under_way -= 1

    def _queue(self) -> Queue:
        """Return the queue of the calling thread."""
        if not hasattr(self._queues, "mine"):
            self._queues.mine = Queue()
        queue: Queue = self._queues.mine
        return queue

    def _awaited(self, one: Waiting, queue: Queue) -> Prediction:
        """Return the prediction for an image as soon as another greenlet has it. Raises as classify()."""
        queue.waiting.append(one)
        try:
            with translated(one.deadline - time.monotonic(), one.model):
                prediction: Prediction = one.answer.get()
                return prediction
        finally:
            if one in queue.waiting:
                queue.waiting.remove(one)

    def _go_on(self, queue: Queue) -> None:
        """Answer what waits until nothing does, in place of a request that was under way."""
        try:
            while queue.waiting:
                fitting = (one for one in queue.waiting if one.model == queue.waiting[0].model)
                together = list(islice(fitting, PER_REQUEST))
                queue.waiting[:] = [one for one in queue.waiting if one not in together]
                self._answer(together)
        finally:
            queue.under_way -= 1

    def _answer(self, together: list[Waiting]) -> None:
        """Answer images of one model."""
        model, deadline = together[0].model, max(one.deadline for one in together)
        found: Sequence[Prediction | Exception]
        try:
            found = self._together([one.encoded for one in together], model, deadline)
        except Exception as error:  # whatever it is, those who wait hear of it
            found = [error] * len(together)
        for one, answer in zip(together, found, strict=True):
            if isinstance(answer, Exception):
                one.answer.set_exception(answer)
            else:
                one.answer.set(answer)
