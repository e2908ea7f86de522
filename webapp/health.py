"""Whether Triton and its networks work, which is more than what Triton says of itself.

After the crash of a Python stub Triton keeps answering "ready" while every request fails. So /health sends a picture
through each ensemble and believes only a prediction.
"""

import io
import threading
import time

from flask import Flask, current_app
from PIL import Image

import client
from imaging import contract

TRUSTED_SECONDS = 5.0
"""How long one answer of canaries() holds, so that /health cannot be used to keep the networks busy."""


def readiness() -> tuple[bool, dict[str, bool]]:
    """Ask Triton whether it lives and which of the networks that it holds are ready.

    When it does not answer, or holds no network, every network of the contract counts as not ready.
    """
    status = current_app.extensions["status"]
    try:
        live = status.is_live()
        models = status.models() if live else {}
    except client.ClientError:
        live, models = False, {}
    return live, models or dict.fromkeys(contract.NETWORKS, False)


def canaries() -> tuple[bool, dict[str, bool]]:
    """Return whether Triton lives, and for each network whether it just classified a picture within STATUS_TIMEOUT.

    An answer is used again for TRUSTED_SECONDS.
    """
    kept = current_app.extensions["health"]
    with kept["lock"]:
        if time.monotonic() - kept["asked"] >= TRUSTED_SECONDS:
            live, ready = readiness()
            kept["answer"] = live, {name: is_ready and answers(name) for name, is_ready in ready.items()}
            kept["asked"] = time.monotonic()
        return kept["answer"]


def answers(model: str) -> bool:
    """Say whether a network classifies a grey picture within STATUS_TIMEOUT."""
    try:
        current_app.extensions["status"].classify(grey_picture(), model)
    except client.ClientError as error:
        current_app.logger.error("canary of %s: code=%s detail=%r", model, error.code, error.detail)
        return False
    return True


def grey_picture() -> bytes:
    """Return a PNG of 64 x 64 grey pixels."""
    file = io.BytesIO()
    Image.new("L", (64, 64), 128).save(file, "PNG")
    return file.getvalue()


def register(app: Flask) -> None:
    """Give an application its memory of the last answer."""
    app.extensions["health"] = {"lock": threading.Lock(), "asked": float("-inf"), "answer": None}
