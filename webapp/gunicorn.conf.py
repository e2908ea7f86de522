"""Settings of gunicorn: `gunicorn -c webapp/gunicorn.conf.py 'webapp:create_app()'`.

Environment: BIND (host:port), or PORT alone on 127.0.0.1, WEB_CONCURRENCY, and the application's own settings
(`python -m webapp --help`). Put a buffering proxy (nginx, a load balancer) in front.
"""

import ctypes
import os
import socket
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[1]
sys.path.insert(0, str(PROJECT))  # gunicorn does so after this file

from gunicorn import glogging, util  # noqa: E402
from gunicorn.workers.base import Worker  # noqa: E402

from webapp import logs, settings  # noqa: E402

try:
    known = settings.load()
except settings.SettingsError as error:
    sys.exit(f"The settings cannot be used. {error}")

bind = os.environ.get("BIND") or f"127.0.0.1:{os.environ.get('PORT', '5000')}"

# One gevent worker: sync and gthread workers are all taken by as many slow connections as they have threads. The
# work is Triton's; the bound on images in flight (MAX_IN_FLIGHT) and /metrics count inside one worker.
worker_class = "gevent"
workers = known.WEB_CONCURRENCY
# Slow connections only wait; what their uploads may hold in memory is bounded by webapp/uploads.py.
worker_connections = 512

# Seconds without a heartbeat until the worker is replaced; seconds for the last answers after SIGTERM.
timeout = 30
graceful_timeout = 15
keepalive = 5

# No header of a caller may change the address that the application sees: TRUSTED_PROXIES alone says who is believed.
forwarded_allow_ips = ""
forwarder_headers = ""

# The control socket of gunicorn 25 and later is one more door, and fails where the home folder is read-only.
control_socket_disable = True
logconfig_dict = logs.CONFIG


class logger_class(glogging.Logger):  # type: ignore[misc]  # noqa: N801 -- gunicorn has no types
    """Writes no line for a request: the application does so itself, without paths and addresses."""

    def access(self, *_arguments: object, **_options: object) -> None:
        """Write nothing; gunicorn would as soon as logconfig_dict is set."""

    def warning(self, text: str, *arguments: object, **options: object) -> None:
        """Write a warning; of a request that is no HTTP only why: gunicorn quotes its first line, and the address."""
        if text.startswith("Invalid request"):
            text = f"Invalid request: {type(sys.exc_info()[1]).__name__}"
        super().warning(text, *arguments, **options)


# glibc learns from each large buffer that is freed to keep the next one (mallopt(3), M_MMAP_THRESHOLD), up to 32 MiB.
# With a fixed threshold it gives large uploads back; other C libraries know nothing of this.
M_MMAP_THRESHOLD, LARGE = -3, 2**22
if hasattr(libc := ctypes.CDLL(None), "mallopt"):
    libc.mallopt(M_MMAP_THRESHOLD, LARGE)


def refuse_taken_port() -> None:
    """End in one line if another program has the address: gunicorn would try for five seconds, in ten lines."""
    address = util.parse_address(bind)
    if "GUNICORN_FD" in os.environ or not isinstance(address, tuple):
        return  # it takes over the sockets of another gunicorn, or has none of TCP
    with socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            sys.exit(f"Expected an address that is free. Received: {bind} ({error.strerror}). Stop the program that "
                     "has it, or choose another with PORT or BIND, such as PORT=5001.")


def on_starting(server: object) -> None:
    """Refuse a taken port, and files that cannot be used, in one line; a worker would end in a traceback."""
    refuse_taken_port()
    if not (known.API_KEYS or known.AUDIT_LOG):
        return
    if subprocess.run([sys.executable, "-m", logs.__package__, "--check"], cwd=PROJECT).returncode:
        sys.exit(1)


def post_worker_init(worker: Worker) -> None:
    """Tell people at a terminal, in the last line of the start, where the page is."""
    names = [one.getsockname() for one in worker.sockets if one.family in (socket.AF_INET, socket.AF_INET6)]
    if names and sys.stderr.isatty():
        addresses = ", ".join(f"http://{host}:{port}" for host, port, *_ in names)
        print(f"The page: {addresses} (Ctrl-C stops it)", file=sys.stderr, flush=True)


def post_fork(server: object, worker: object) -> None:
    """Let go of a connection that sends nothing for so many seconds; gunicorn itself would wait for ever."""
    socket.setdefaulttimeout(30)
