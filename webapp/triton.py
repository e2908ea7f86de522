"""Which Triton answers the current request: always the same one, or the one that `python -m serving` names in a file.

A request asks one Triton from beginning to end, so that no answer mixes two releases.
"""

import json
from pathlib import Path

from flask import Flask, current_app, g

from client import Classifier, GatheringClassifier
from webapp.turns import in_turn


class Backend:
    """One Triton.

    Args:
        url: host:port of its HTTP endpoint.
        repository: what it serves, for the provenance files; None if unknown.
        classify_timeout: seconds for one classification.
        status_timeout: seconds for each question behind / and /health.

    Attributes:
        repository: as given. classifier, status: ask with the first and the second timeout.

    Raises:
        ValueError: the url is not host:port, or a timeout is not positive.
    """

    def __init__(self, url: str, repository: str | None, classify_timeout: float, status_timeout: float):
        self.repository = Path(repository) if repository else None
        self.classifier = GatheringClassifier(url, classify_timeout, in_turn)
        self.status = Classifier(url, status_timeout)

    def close(self) -> None:
        """Close the connections that nobody uses at the moment."""
        self.classifier.close()
        self.status.close()


class Backends:
    """Knows the Triton that new requests should ask.

    Args:
        config: of the application: TRITON_URL, MODEL_REPOSITORY, TRITON_STATE and both timeouts.

    Raises:
        ValueError: as Backend.
    """

    def __init__(self, config: dict):
        self._timeouts = config["CLASSIFY_TIMEOUT"], config["STATUS_TIMEOUT"]
        self._state = Path(config["TRITON_STATE"]) if config["TRITON_STATE"] else None
        self._stamp: tuple | None = None
        self._now = Backend(config["TRITON_URL"], config["MODEL_REPOSITORY"], *self._timeouts)

    def current(self) -> Backend:
        """Return the Triton to ask; the last one known while the file cannot be read."""
        if self._state is None:
            return self._now
        try:
            found = self._state.stat()
            stamp = found.st_ino, found.st_mtime_ns
            if stamp != self._stamp:
                state = json.loads(self._state.read_text(encoding="utf-8"))
                old, self._now = self._now, Backend(state["url"], state["repository"], *self._timeouts)
                self._stamp = stamp
                old.close()
        except (OSError, ValueError, KeyError) as error:
            current_app.logger.warning("Expected a server's address in TRITON_STATE: %s", type(error).__name__)
        return self._now


def served() -> Backend:
    """Return the Triton of the current request."""
    if "served" not in g:
        g.served = current_app.extensions["backends"].current()
    return g.served


def register(app: Flask) -> None:
    """Give an application its Triton. Raises ValueError as Backend."""
    app.extensions["backends"] = Backends(app.config)
