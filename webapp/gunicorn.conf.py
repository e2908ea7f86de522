"""Settings of gunicorn: `gunicorn -c webapp/gunicorn.conf.py 'webapp:create_app()'`.

Environment: BIND (host:port), or PORT alone on 127.0.0.1. Put a buffering proxy (nginx, a load balancer) in front.
"""

import ctypes
import os
import re
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from gunicorn.http import wsgi

bind = os.environ.get("BIND") or f"127.0.0.1:{os.environ.get('PORT', '5000')}"

# One gevent worker: sync and gthread workers are all taken by as many slow connections as they have threads. The
# work is Triton's; the bound on images in flight (webapp.DEFAULTS) and /metrics count inside one worker, the limit on
# a client's requests over all.
worker_class = "gevent"
workers = int(os.environ.get("WEB_CONCURRENCY", "1"))
if not os.environ.get("RATE_STATE"):
    descriptor, os.environ["RATE_STATE"] = tempfile.mkstemp(prefix="brain-mri-rates-")
    os.close(descriptor)
    os.environ["RATE_STATE_MADE"] = "1"
# Slow connections only wait; what their uploads may hold in memory is bounded by webapp/uploads.py.
worker_connections = 512

# Seconds without a heartbeat until the worker is replaced; seconds for the last answers after SIGTERM.
timeout = 30
graceful_timeout = 15
keepalive = 5

# glibc learns from each large buffer that is freed to keep the next one (mallopt(3), M_MMAP_THRESHOLD), up to 32 MiB.
# With a fixed threshold it gives large uploads back; other C libraries know nothing of this.
M_MMAP_THRESHOLD, LARGE = -3, 2**22
if hasattr(libc := ctypes.CDLL(None), "mallopt"):
    libc.mallopt(M_MMAP_THRESHOLD, LARGE)

CHECKED = ("API_KEYS", "AUDIT_LOG", "AUDIT_KEY_FILE", "RATE_LIMIT", "RATE_BURST", "TRUSTED_PROXIES")


def on_starting(server):
    """Refuse settings that cannot work in one line; a worker would end in a traceback. Without any it takes no time."""
    known = re.fullmatch(r"[^/\s]+:[0-9]{1,5}", os.environ.get("TRITON_URL", "127.0.0.1:8000"))
    if known and not any(map(os.environ.get, CHECKED)):
        return
    if subprocess.run([sys.executable, "-m", "webapp", "--check"], cwd=Path(__file__).parents[1]).returncode:
        sys.exit(1)


def on_exit(server):
    """Remove the file in which the workers counted."""
    if os.environ.get("RATE_STATE_MADE"):
        Path(os.environ["RATE_STATE"]).unlink(missing_ok=True)


class Kept(list):
    """Stands for a socket: keeps what is sent."""

    sendall = list.append


class Response(wsgi.Response):
    """Sends the head with the first bytes of the body. gunicorn sends it alone, which wakes who waits for it twice."""

    def write(self, arg):
        """Send the next bytes of the body."""
        if self.headers_sent:
            super().write(arg)
            return
        connection, self.sock = self.sock, Kept()
        try:
            super().write(arg)
        finally:
            kept, self.sock = self.sock, connection
        connection.sendall(b"".join(kept))


def post_fork(server, worker):
    """Send an answer at once, and let go of a connection that sends nothing for so many seconds."""
    wsgi.Response = Response
    socket.setdefaulttimeout(30)  # gunicorn itself would wait for ever


# The control socket of gunicorn 25 and later is one more door, and fails where the home folder is read-only.
control_socket_disable = True
# The application writes one line for each request itself, without query strings and addresses.
accesslog = None
errorlog = "-"
