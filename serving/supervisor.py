"""Keeps a server, and a command that uses it, together: when one ends, so does the other.

The command learns from a file which Triton to ask: serving a store of releases, a second Triton starts on a release
that has become the current one, and only when it answers rightly does the file name it. The first ends when the last
request that it may have been given has had its time.
"""

import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from client import ClientError, DeadlineExceeded, ServerBroken, ServerError
from core import files
from serving import releases
from serving.errors import Rejected, ServingError
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
LONGEST_PAUSE = 60.0
"""Seconds between two tries to start a server, at most: the first pause is one second, each further one is doubled."""
MOST_TRIES = 8
"""Of a release that does not start, for a reason that may pass such as a full memory: two minutes."""
DRAIN = 90.0
"""Seconds until a replaced Triton ends: longer than the page lets a batch last, which asks one Triton from the first
image to the last: 32 images, 4 at a time, CLASSIFY_TIMEOUT for each."""


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
        except Exception as error:  # an answer that nobody foresaw is no sign of health, and this thread must live
            print(f"A test image failed: {type(error).__name__}: {error}", file=sys.stderr)
            return False
        return True


class Attempt(threading.Thread):
    """Starts a server while everything else goes on: a start takes seconds, or minutes until it fails.

    Args:
        server: to start. start: how: its start() or restart().

    Attributes:
        server: as given.
        error: why it does not serve; None if it does. Only when the thread has ended.
    """

    def __init__(self, server: Server, start: Callable[[], None]):
        super().__init__(name="attempt", daemon=True)
        self.server = server
        self.error: Exception | None = None
        self._work = start
        self.start()

    def run(self) -> None:
        """Start the server."""
        try:
            self._work()
        except Exception as error:  # whatever it is: it is reported, and tried again
            self.error = error

    def abandon(self) -> None:
        """Give up and wait until nothing runs any more but, perhaps, the server."""
        self.server.cancel()
        self.join()


class Tries:
    """Counts failures, and says when to try again: after a pause that is longer each time."""

    def __init__(self):
        self.failures, self._next = 0, 0.0

    def are_due(self) -> bool:
        """Return whether the pause is over."""
        return time.monotonic() >= self._next

    def failed(self) -> float:
        """Count a failure and return the seconds of the pause that begins."""
        pause = min(LONGEST_PAUSE, 2.0**self.failures)
        self.failures, self._next = self.failures + 1, time.monotonic() + pause
        return pause

    def give_up(self) -> None:
        """Let the pause last for ever."""
        self._next = math.inf


class Keeper:
    """Holds the Triton that serves: starts it anew when it fails, and replaces it when a release does.

    Args:
        server: started, and stopped by who has started it.
        store: of releases, whose current one is to be served; None to stay with the server's repository.
        check_every: seconds between two canary images.
        drain: seconds until a replaced Triton ends.

    Attributes:
        server: the one that serves now.
        state: the file that says which one that is.
    """

    def __init__(self, server: Server, store: Path | None, check_every: float, drain: float = DRAIN):
        self.server, self._own = server, private(server.work)
        self.state = self._own.path / "state.json"
        self._store, self._check_every, self._drain = store, check_every, drain
        self._first = server
        self._release = self._wanted = server.repository.resolve()
        self._restarts: list[float] = []
        self._revival: Attempt | None = None
        self._coming: Attempt | None = None
        self._starts, self._arrivals = Tries(), Tries()
        self._retired: list[tuple[float, Server]] = []
        self._write_state()
        self._watch()
        self._record(releases.SERVES)

    def environment(self) -> dict[str, str]:
        """Return what a command must know: where Triton is, what it serves, and the file that says when it changes."""
        return {"TRITON_URL": self.server.url, "MODEL_REPOSITORY": str(self.server.copy),
                "TRITON_STATE": str(self.state)}

    def look(self) -> bool:
        """Do what is due now, without waiting for a start; return whether there is a server that may go on."""
        if not self._keep_up():
            return False
        if self._store:
            self._follow(self._store)
        while self._retired and time.monotonic() >= self._retired[0][0]:
            self._retired.pop(0)[1].stop()
        return True

    def end(self) -> None:
        """Stop every server that was started or replaced here, and the canary."""
        self._canary.end()
        for attempt in filter(None, (self._revival, self._coming)):
            attempt.abandon()
        servers = [old for _, old in self._retired] + [self.server] + ([self._coming.server] if self._coming else [])
        for server in servers:
            if server is not self._first:
                server.stop()
        self._own.remove()

    def _watch(self) -> None:
        self._canary = Canary(self.server, self._check_every)
        self._canary.start()

    def _write_state(self) -> None:
        files.write_json(self.state, {"url": self.server.url, "repository": str(self.server.copy)})

    def _record(self, event: str, release: Path | None = None, reason: str = "") -> None:
        """Write into the store's log what became of a release here."""
        if self._store:
            releases.record(self._store, event, (release or self._release).name, reason=reason)

    def _keep_up(self) -> bool:
        """Start the server anew on its port if it is gone or sick; return False when that has happened too often."""
        if self._revival:
            if not self._revival.is_alive():
                self._revived(self._revival)
            return True
        if self._is_well() or not self._starts.are_due():
            return True
        self._canary.end()
        reason = "gives no right answers" if self._canary.sick.is_set() else "or one of its stubs has ended"
        now = time.monotonic()
        self._restarts = [then for then in self._restarts if now - then < RESTART_WINDOW] + [now]
        if len(self._restarts) > MOST_RESTARTS:
            print(f"Triton {reason}, again and again: giving up.\n{self.server.log_excerpt()}", file=sys.stderr)
            return False
        print(f"Triton {reason}; starting it anew.", file=sys.stderr, flush=True)
        self._revival = Attempt(self.server, self.server.restart)
        return True

    def _is_well(self) -> bool:
        return not self._starts.failures and not self._canary.sick.is_set() and self.server.is_running()

    def _revived(self, attempt: Attempt) -> None:
        """Watch the server that was started anew, or try again later."""
        self._revival = None
        if attempt.error:
            pause = self._starts.failed()
            print(f"Triton does not start, next try in {pause:.0f} s: {attempt.error}", file=sys.stderr, flush=True)
            return
        self._starts = Tries()
        print("Triton answers again.", file=sys.stderr, flush=True)
        self._watch()

    def _follow(self, store: Path) -> None:
        """Start a server beside this one if another release has become the current one, and replace this one by it."""
        if self._coming:
            if not self._coming.is_alive() and not self._revival:
                self._arrived(self._coming)
            return
        try:
            wanted = releases.current(store)
        except ServingError:
            return
        if wanted != self._wanted:
            self._wanted, self._arrivals = wanted, Tries()
        if wanted != self._release and self._arrivals.are_due():
            new = self.server.successor(wanted)
            self._coming = Attempt(new, new.start)

    def _arrived(self, attempt: Attempt) -> None:
        """Let a release serve that has started; a rejected one is not tried again, another one is, some times."""
        self._coming, release = None, attempt.server.repository
        if error := attempt.error:
            pause = self._arrivals.failed()
            goes_on = f"{self._release.name} goes on"
            if isinstance(error, Rejected) or self._arrivals.failures >= MOST_TRIES:
                self._arrivals.give_up()
                self._record(releases.REJECTED, release, str(error))
                print(f"Release {release.name} is refused, {goes_on}: {error}", file=sys.stderr, flush=True)
            else:
                print(f"Release {release.name} does not start, {goes_on}, next try in {pause:.0f} s: {error}",
                      file=sys.stderr, flush=True)
            return
        self._canary.end()
        self._retired.append((time.monotonic() + self._drain, self.server))
        self.server, self._release = attempt.server, release
        self._starts = Tries()
        self._write_state()
        self._watch()
        self._record(releases.SERVES)
        print(f"Release {release.name} serves.", file=sys.stderr, flush=True)


def supervise(server: Server, command: list[str], signals: Signals, check_every: float = CHECK_EVERY,
              store: Path | None = None, drain: float = DRAIN) -> int:
    """Run a command beside a started server until the command ends, the server ends too often, or a signal comes.

    Args:
        server: started; replaced here when it or a stub of it has ended or it is sick; stopped by the caller.
        command: program and arguments, with Keeper.environment() in its environment; empty for none.
        signals: listening.
        check_every: seconds between two canary images.
        store: of releases to follow, or None.
        drain: seconds until a replaced Triton ends.

    Returns:
        The command's exit code; 1 after MOST_RESTARTS; 128 + the signal's number after a signal.

    Raises:
        OSError: the command cannot be started.
    """
    keeper, child = Keeper(server, store, check_every, drain), None
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
