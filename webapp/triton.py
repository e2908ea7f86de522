"""Which Triton answers the current request: always the same one, or the one that `python -m serving` names in a file.

A request asks one Triton from beginning to end, so that no answer mixes two releases.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from flask import current_app, g

from client import BatchingClassifier, Classifier, ClientError
from client.served import TITLES, order
from core import contract
from webapp.services import services
from webapp.settings import Settings


class Backend:
    """One Triton.

    Args:
        url: host:port of its HTTP endpoint.
        repository: what it serves, for the provenance files; None if unknown.
        settings: with the timeouts.
        run: does the work of reading an image, see client.Classifier.

    Attributes:
        repository: as given. classifier, status: ask within CLASSIFY_TIMEOUT and STATUS_TIMEOUT.

    Raises:
        ValueError: the url is not host:port.
    """

    def __init__(self, url: str, repository: Path | None, settings: Settings, run: Callable[..., bytes]):
        self.repository = repository
        self.classifier = BatchingClassifier(url, settings.CLASSIFY_TIMEOUT, run)
        self.status = Classifier(url, settings.STATUS_TIMEOUT)
        self._known: tuple[str, ...] = ()

    def models(self) -> dict[str, bool]:
        """Return what it serves and whether each is ready, the default first. Raises ClientError."""
        models = self.status.models(self.expected())
        self._known = tuple(models)
        return models

    def expected(self) -> tuple[str, ...]:
        """Return the networks in its repository's folder, without asking it; else those that it named last."""
        folders = self.repository.glob(f"{contract.classifier('')}*") if self.repository else ()
        names = filter(None, (contract.model(folder.name) for folder in folders))
        return tuple(sorted(names, key=lambda name: order(name, {}))) or self._known

    def default(self) -> str:
        """Return the network that answers when a request names none; asks only before the first answer of models()."""
        if not self._known:
            with suppress(ClientError):
                self.models()
        return next(iter(self._known or self.expected() or TITLES))

    def lacks(self, name: str) -> bool:
        """Say whether it certainly does not serve a network; asks only about those that models() did not name last."""
        try:
            return name not in self._known and name not in self.models()
        except ClientError:
            return False

    def close(self) -> None:
        """Close the connections that nobody uses at the moment."""
        self.classifier.close()
        self.status.close()


class Backends:
    """Knows the Triton that new requests should ask.

    Args:
        settings: of the application. run: as Backend.

    Raises:
        ValueError: as Backend.
    """

    def __init__(self, settings: Settings, run: Callable[..., bytes]):
        self._settings, self._run = settings, run
        self._stamp: tuple[int, int] | None = None
        self._now = Backend(settings.TRITON_URL, settings.MODEL_REPOSITORY, settings, run)

    def current(self) -> Backend:
        """Return the Triton to ask; the last one known while the file cannot be read."""
        if (file := self._settings.TRITON_STATE) is None:
            return self._now
        try:
            found = file.stat()
            stamp = found.st_ino, found.st_mtime_ns
            if stamp != self._stamp:
                state = json.loads(file.read_text(encoding="utf-8"))
                repository = Path(state["repository"]) if state["repository"] else None
                old, self._now = self._now, Backend(state["url"], repository, self._settings, self._run)
                self._stamp = stamp
                old.close()
        except (OSError, ValueError, KeyError) as error:
            current_app.logger.warning("Expected a server's address in TRITON_STATE: %s", type(error).__name__)
        return self._now


def served() -> Backend:
    """Return the Triton of the current request."""
    if "served" not in g:
        g.served = services().backends.current()
    backend: Backend = g.served
    return backend
