"""A program that serves over HTTP: started, waited for until it answers, and ended with all that it has started."""

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib import error, request

from serving.errors import ServingError

POLL = 0.05
LOG_BYTES = 2000


@contextlib.contextmanager
def started(command: list[str], url: str | request.Request, seconds: float, log: Path | None = None,
            stop_timeout: float = 20.0, **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """Start a command, yield its process once a URL answers with status 200, and end it when the block does.

    Args:
        command: program and arguments; it gets a session of its own.
        url: or a whole request.
        seconds: until the first answer.
        log: gets what the program prints; None leaves it to the terminal.
        stop_timeout: see end().
        options: of subprocess.Popen.

    Raises:
        ServingError: the program ended before, or did not answer in time.
    """
    with log.open("wb") if log else contextlib.nullcontext() as output:
        printed: dict[str, Any] = {"stdout": output, "stderr": subprocess.STDOUT} if output else {}
        process = subprocess.Popen(command, start_new_session=True, **printed, **options)
    try:
        deadline = time.monotonic() + seconds
        while not answers(url):
            if (code := process.poll()) is not None or time.monotonic() > deadline:
                happened = "no answer" if code is None else f"exit code {code}"
                last = log.read_bytes()[-LOG_BYTES:].decode("utf-8", "replace") if log else ""
                raise ServingError(f"Expected {' '.join(command[:4])} ... to answer within {seconds:.0f} s. Received: "
                                   f"{happened}.", last)
            time.sleep(POLL)
        yield process
    finally:
        end(process, stop_timeout)


def answers(url: str | request.Request) -> bool:
    """Return whether a URL, or a whole request, is answered with status 200."""
    try:
        with request.urlopen(url, timeout=30) as answer:
            return answer.status == 200
    except error.HTTPError as refusal:
        refusal.close()
    except (OSError, http.client.HTTPException):
        pass
    return False


def end(process: subprocess.Popen[Any], seconds: float) -> None:
    """End a program that leads a process group, and whatever is left of the group: TERM, wait so long, KILL."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            print(f"The command did not end within {seconds:.0f} s of TERM; killing it.", file=sys.stderr)
    kill_group(process.pid)
    process.wait()


def kill_group(pid: int) -> None:
    """KILL every process of a group that is still there."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
