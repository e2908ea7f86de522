"""Keeps a server, and a command that uses it, together: when one ends, so does the other.

The command learns from a file which Triton to ask: serving a store of releases, a second Triton starts on a release
that has become the current one, and only when it answers rightly does the file name it. The first ends when the last
request that it may have been given has had its time.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from client import ClientError, DeadlineExceeded, ServerBroken, ServerError
from core import files
from serving import releases
from serving.errors import ServingError
from serving.server import POLL, Server, private
from serving.started import end

CHECK_EVERY = 5.0
"""Seconds between two canary images."""
CHECK_AGAIN = 1.0
"""Seconds until the next one after a failure."""
FAILURES = 3
"""Canary images that fail in a row before Triton is replaced."""
MOST_RESTARTS = 25
"""Within RESTART_WINDOW seconds; a server that dies more often needs a person."""
RESTART_WINDOW = 600.0
STOP_TIMEOUT = 10.0
"""Seconds that the command gets to end after TERM."""
DRAIN = 15.0
"""Seconds until a replaced Triton ends: longer than the page lets one classification last."""


class Signals:
    """Remembers SIGINT and SIGTERM instead of letting them interrupt a clean-up halfway.

    Attributes:
        received: the first signal's number, or 0.
    """

    def __init__(self):
        self.received = 0

    def listen(self) -> None:
        """Take over both signals, in the main thread."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._remember)

    def _remember(self, number: int, frame) -> None:
        self.received = self.received or number


class Canary(threading.Thread):
    """Sends a known image through every classifier from time to time.

    Triton goes on reporting ready when the process behind a model has died; every request then fails for ever
    (observed on 2.51 after kill -9 of a stub). Only an answer proves that it works.

    Args:
        server: started.
        every: seconds between two images.
    """

    def __init__(self, server: Server, every: float = CHECK_EVERY):
        super().__init__(name="canary", daemon=True)
        self.sick = threading.Event()
        self._server = server
        self._every = every
        self._ended = threading.Event()

    def run(self) -> None:
        """Check until end() is called or FAILURES checks in a row have failed; then set `sick`."""
        failures = 0
        while not self._ended.wait(min(CHECK_AGAIN, self._every) if failures else self._every):
            failures = 0 if self._is_well() else failures + 1
            if failures == FAILURES:
                self.sick.set()
                return

    def end(self) -> None:
        """Stop checking; returns at once."""
        self._ended.set()

    def _is_well(self) -> bool:
        """Return whether the server works. A refusal for a full queue is a sign of life, not of illness."""
        try:
            self._server.check()
        except (ServerError, ServerBroken, DeadlineExceeded) as error:
            print(f"A test image failed: {error} {error.detail}", file=sys.stderr)
            return False
        except ClientError:
            return True
        return True


class Keeper:
    """Holds the Triton that serves: starts it anew when it fails, and replaces it when a release does.

    Args:
        server: started, and stopped by who has started it.
        store: of releases, whose current one is to be served; None to stay with the server's repository.
        check_every: seconds between two canary images.

    Attributes:
        server: the one that serves now.
        state: the file that says which one that is.
    """

    def __init__(self, server: Server, store: Path | None, check_every: float):
        self.server, self._own = server, private(server.work)
        self.state = self._own.path / "state.json"
        self._store, self._check_every = store, check_every
        self._first = server
        self._release = self._refused = server.repository.resolve()
        self._restarts: list[float] = []
        self._retired: list[tuple[float, Server]] = []
        self._write_state()
        self._watch()

    def environment(self) -> dict[str, str]:
        """Return what a command must know: where Triton is, what it serves, and the file that says when it changes."""
        return {"TRITON_URL": self.server.url, "MODEL_REPOSITORY": str(self.server.copy),
                "TRITON_STATE": str(self.state)}

    def look(self) -> bool:
        """Do what is due now; return whether there is a server that may go on.

        Raises:
            ServingError: a replacement of a sick server does not come up.
        """
        if self._canary.sick.is_set() or not self.server.is_running():
            return self._restart()
        if self._store:
            self._follow(self._store)
        while self._retired and time.monotonic() >= self._retired[0][0]:
            self._retired.pop(0)[1].stop()
        return True

    def end(self) -> None:
        """Stop every server that was started or replaced here, and the canary."""
        self._canary.end()
        for _, old in self._retired:
            old.stop()
        if self.server is not self._first:
            self.server.stop()
        self._own.remove()

    def _watch(self) -> None:
        self._canary = Canary(self.server, self._check_every)
        self._canary.start()

    def _write_state(self) -> None:
        files.write_json(self.state, {"url": self.server.url, "repository": str(self.server.copy)})

    def _restart(self) -> bool:
        """Start the server anew on its port; return False when that has happened too often."""
        self._canary.end()
        reason = "gives no right answers" if self._canary.sick.is_set() else "or one of its stubs has ended"
        now = time.monotonic()
        self._restarts = [then for then in self._restarts if now - then < RESTART_WINDOW] + [now]
        if len(self._restarts) > MOST_RESTARTS:
            print(f"Triton {reason}, again and again: giving up.\n{self.server.log_excerpt()}", file=sys.stderr)
            return False
        print(f"Triton {reason}; starting it anew.", file=sys.stderr, flush=True)
        self.server.restart()
        print("Triton answers again.", file=sys.stderr, flush=True)
        self._watch()
        return True

    def _follow(self, store: Path) -> None:
        """Replace the server if another release has become the current one; one that fails is tried once."""
        try:
            wanted = releases.current(store)
        except ServingError:
            return
        if wanted in (self._release, self._refused):
            return
        new = self.server.successor(wanted)
        try:
            new.start()
        except (ServingError, OSError) as error:
            self._refused = wanted
            print(f"Release {wanted.name} is refused, {self._release.name} goes on: {error}", file=sys.stderr,
                  flush=True)
            return
        self._canary.end()
        self._retired.append((time.monotonic() + DRAIN, self.server))
        self.server, self._release, self._refused = new, wanted, wanted
        self._write_state()
        self._watch()
        print(f"Release {wanted.name} serves.", file=sys.stderr, flush=True)


def supervise(server: Server, command: list[str], signals: Signals, check_every: float = CHECK_EVERY,
              store: Path | None = None) -> int:
    """Run a command beside a started server until the command ends, the server ends too often, or a signal comes.

    Args:
        server: started; replaced here when it or a stub of it has ended or it is sick; stopped by the caller.
        command: program and arguments, with Keeper.environment() in its environment; empty for none.
        signals: listening.
        check_every: seconds between two canary images.
        store: of releases to follow, or None.

    Returns:
        The command's exit code; 1 after MOST_RESTARTS; 128 + the signal's number after a signal.

    Raises:
        ServingError: a replacement of a sick server does not come up.
        OSError: the command cannot be started.
    """
    keeper, child = Keeper(server, store, check_every), None
    try:
        if command:
            child = subprocess.Popen(command, env=os.environ | keeper.environment(), start_new_session=True)
        while not signals.received:
            if child and child.poll() is not None:
                return child.returncode if child.returncode >= 0 else 128 - child.returncode
            if not keeper.look():
                return 1
            time.sleep(POLL)
        return 128 + signals.received
    finally:
        if child:
            end(child, STOP_TIMEOUT)
        keeper.end()
