"""Whether Triton and its networks work, which is more than what Triton says of itself.

After the crash of a Python stub Triton keeps answering "ready" while every request fails. So /health sends a golden
image (imaging.golden) through each ensemble and believes only the right prediction.
"""

import threading
import time

from flask import Flask, current_app

import client
from core import contract
from webapp.triton import served

TRUSTED_SECONDS = 5.0
"""How long one answer of canaries() holds, so that /health cannot be used to keep the networks busy."""


def readiness() -> tuple[bool, dict[str, bool]]:
    """Ask Triton whether it lives and which of the networks that it holds are ready.

    When it does not answer, or holds no network, everything that the contract names counts as not ready.
    """
    status = served().status
    try:
        live = status.is_live()
        models = status.models() if live else {}
    except client.ClientError:
        live, models = False, {}
    return live, models or dict.fromkeys(contract.SERVED, False)


def canaries() -> tuple[bool, dict[str, bool]]:
    """Return whether Triton lives, and for each network whether it just knew a golden image within STATUS_TIMEOUT.

    An answer is used again for TRUSTED_SECONDS.
    """
    kept = current_app.extensions["health"]
    with kept["lock"]:
        if kept["served"] is not served() or time.monotonic() - kept["asked"] >= TRUSTED_SECONDS:
            live, ready = readiness()
            kept["answer"] = live, {name: is_ready and answers(name) for name, is_ready in ready.items()}
            for name, well in kept["answer"][1].items():
                current_app.extensions["metrics"].canary.labels(name).set(well)
            kept["asked"], kept["served"] = time.monotonic(), served()
        return kept["answer"]


def answers(model: str) -> bool:
    """Say whether a network gives the answer to a golden image that was exported with it, within STATUS_TIMEOUT."""
    try:
        served().status.verify(model, most=1)
    except client.ClientError as error:
        current_app.logger.error("canary of %s: code=%s detail=%r", model, error.code, error.detail)
        return False
    return True


def register(app: Flask) -> None:
    """Give an application its memory of the last answer."""
    app.extensions["health"] = {"lock": threading.Lock(), "asked": float("-inf"), "served": None, "answer": None}
