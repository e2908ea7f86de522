"""Keeps a server, and a command that uses it, together: when one ends, so does the other."""

import os
import signal
import subprocess
import sys
import threading
import time

from client import ClientError, DeadlineExceeded, ServerError
from serving.server import POLL, Server, kill_group

CHECK_EVERY = 10.0
"""Seconds between two canary images."""
CHECK_AGAIN = 1.0
"""Seconds until the next one after a failure."""
FAILURES = 3
"""Canary images that fail in a row before Triton is replaced."""
STOP_TIMEOUT = 10.0
"""Seconds that the command gets to end after TERM."""


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
    """Sends a known image through every ensemble from time to time.

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
        except (ServerError, DeadlineExceeded) as error:
            print(f"A test image failed: {error} {error.detail}", file=sys.stderr)
            return False
        except ClientError:
            return True
        return True


def supervise(server: Server, command: list[str], signals: Signals, check_every: float = CHECK_EVERY) -> int:
    """Run a command beside a started server until the command ends, the server ends, or a signal comes.

    Args:
        server: started; replaced here when it is sick, stopped by the caller.
        command: program and arguments, with TRITON_URL=host:port in its environment; empty for none.
        signals: listening.
        check_every: seconds between two canary images.

    Returns:
        The command's exit code; 1 if the server ended first; 128 + the signal's number after a signal.

    Raises:
        ServingError: a replacement of a sick server does not come up.
        OSError: the command cannot be started.
    """
    child = None
    if command:
        child = subprocess.Popen(command, env={**os.environ, "TRITON_URL": server.url}, start_new_session=True)
    canary = Canary(server, check_every)
    canary.start()
    try:
        while not signals.received:
            if child and child.poll() is not None:
                return child.returncode if child.returncode >= 0 else 128 - child.returncode
            if canary.sick.is_set():
                print("Triton runs but does not answer; starting it anew.", file=sys.stderr, flush=True)
                server.restart()
                canary = Canary(server, check_every)
                canary.start()
            elif not server.is_running():
                print(f"Triton has ended by itself.\n{server.log_excerpt()}", file=sys.stderr)
                return 1
            time.sleep(POLL)
        return 128 + signals.received
    finally:
        canary.end()
        if child:
            end(child)


def end(child: subprocess.Popen) -> None:
    """End a command and whatever it has started in its process group: TERM, wait, KILL."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            print(f"The command did not end within {STOP_TIMEOUT:.0f} s of TERM; killing it.", file=sys.stderr)
    kill_group(child.pid)
    child.wait()
