"""Serve the exported models on this machine.

    python -m serving
    python -m serving --http-port 8000 -- gunicorn --worker-class gevent 'webapp:create_app()'

Copies the model repository, starts Triton on 127.0.0.1, checks that it answers rightly and stays until Ctrl-C. With a
command after --, runs it with TRITON_URL in its environment and ends with it. Given a store of releases
(serving/releases.py) it serves the current one and follows its changes; Triton's port then changes with the release.
"""

import argparse
import contextlib
import os
import shutil
import sys
from pathlib import Path

from serving import releases
from serving.errors import ServingError
from serving.server import Server, free_port
from serving.supervisor import DRAIN, Signals, supervise

PORT = 8000
"""Triton's usual one."""


def arguments(argv: list[str]) -> argparse.Namespace:
    """Read the command line; a mistake in it ends the program with exit code 2."""
    split = argv.index("--") if "--" in argv else len(argv)
    parser = argparse.ArgumentParser(
        prog="python -m serving",
        usage="python -m serving [options] [-- COMMAND ...]",
        description="Run Triton on a checked copy of the model repository, and a command beside it.",
        epilog="example: python -m serving --http-port 8000 -- python -m client scan.jpg",
    )
    parser.add_argument("--repository", type=Path, default=Path("model_repository"),
                        help="or a store of releases; default: %(default)s")
    parser.add_argument("--http-port", type=int,
                        help=f"0 picks a free one; default: {PORT}, or a free one if that is taken")
    parser.add_argument("--log-file", type=Path, default=Path("logs/triton.log"), help="default: %(default)s")
    parser.add_argument("--start-timeout", type=float, default=180.0, help="seconds; default: %(default)s")
    parser.add_argument("--drain", type=float, default=DRAIN,
                        help="seconds that a replaced release goes on, for what it has begun; above eight times the "
                             "page's CLASSIFY_TIMEOUT, which a batch may take; default: %(default)s")
    options = parser.parse_args(argv[:split])
    options.command = argv[split + 1 :]
    if split < len(argv) and not options.command:
        parser.error("Expected a command after --. Received: none.")
    if options.command and not shutil.which(options.command[0]):
        parser.error(f"Expected a command that exists after --. Received: {options.command[0]!r}.")
    if not 0 <= (options.http_port or 0) <= 65535:
        parser.error(f"Expected --http-port from 0 to 65535. Received: {options.http_port}.")
    return options


def chosen_port(asked: int | None) -> int:
    """Return the port that was asked for, which Server checks; PORT, or a free one if it is taken, if none was."""
    if asked is not None:
        return asked
    try:
        return free_port(PORT)
    except ServingError:
        return free_port(0)


def let_work_finish() -> None:
    """Let this program and all that it starts compute for a whole time slice: nothing of it interrupts another part.

    Otherwise each request that arrives or is handed on interrupts the network that computes for another one, which then
    finds its caches overwritten (sched(7), SCHED_BATCH). A program outside may interrupt, so a machine stays usable.
    """
    with contextlib.suppress(OSError, AttributeError):  # a container may forbid it, other systems lack it
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code: that of COMMAND, 1 if serving failed, 128 + signal, 2 for usage."""
    options = arguments(sys.argv[1:] if argv is None else argv)
    signals = Signals()
    signals.listen()
    let_work_finish()
    print(f"Starting Triton on {options.repository} (log: {options.log_file}) ...", file=sys.stderr, flush=True)
    try:
        store = options.repository if releases.is_store(options.repository) else None
        with Server(
            releases.current(store) if store else options.repository,
            chosen_port(options.http_port),
            options.log_file,
            start_timeout=options.start_timeout,
            cancelled=lambda: bool(signals.received),
        ) as server:
            print(f"Ready: Triton on {server.url} serves {', '.join(server.networks)}", file=sys.stderr, flush=True)
            return supervise(server, options.command, signals, store=store, drain=options.drain)
    except (ServingError, OSError) as error:
        if signals.received:
            return 128 + signals.received
        print(f"{error}\n{getattr(error, 'log', '')}".rstrip(), file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
