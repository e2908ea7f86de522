"""Whether Triton and its networks work, which is more than what Triton says of itself.

After the crash of a Python stub Triton keeps answering "ready" while every request fails. So /health sends a golden
image (imaging.golden) through each ensemble and believes only the right prediction.
"""

import threading
import time

from flask import current_app

import client
from webapp import metrics
from webapp.services import services
from webapp.triton import Backend, served

TRUSTED_SECONDS = 5.0
"""How long one answer of canaries() holds, so that /health cannot be used to keep the networks busy."""


class Canaries:
    """Remembers the last answer of canaries(). Safe for threads and greenlets."""

    def __init__(self) -> None:
        self._lock, self._asked = threading.Lock(), float("-inf")
        self._backend: Backend | None = None
        self._answer: tuple[bool, dict[str, bool]] = False, {}

    def answer(self) -> tuple[bool, dict[str, bool]]:
        """Return canaries() of the current request's Triton."""
        with self._lock:
            if self._backend is not served() or time.monotonic() - self._asked >= TRUSTED_SECONDS:
                live, ready = readiness()
                self._answer = live, {name: is_ready and answers(name) for name, is_ready in ready.items()}
                metrics.note_canaries(self._answer[1])
                self._asked, self._backend = time.monotonic(), served()
            return self._answer


def readiness() -> tuple[bool, dict[str, bool]]:
    """Ask Triton whether it lives and which of the networks that it holds are ready.

    When it does not answer, or holds no network, everything that its repository is known to hold counts as not ready.
    """
    backend = served()
    try:
        live = backend.status.is_live()
        models = backend.models() if live else {}
    except client.ClientError:
        live, models = False, {}
    return live, models or dict.fromkeys(backend.expected(), False)


def canaries() -> tuple[bool, dict[str, bool]]:
    """Return whether Triton lives, and for each network whether it just knew a golden image within STATUS_TIMEOUT.

    An answer is used again for TRUSTED_SECONDS.
    """
    return services().canaries.answer()


def answers(model: str) -> bool:
    """Say whether a network gives the answer to a golden image that was exported with it, within STATUS_TIMEOUT."""
    try:
        served().status.verify(model, most=1)
    except client.ClientError as error:
        current_app.logger.error("canary", extra={"model": model, "code": error.code, "detail": error.detail})
        return False
    return True
