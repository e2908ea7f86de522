"""Settings of gunicorn: `gunicorn -c webapp/gunicorn.conf.py 'webapp:create_app()'`.

Environment: BIND (host:port), or PORT alone on 127.0.0.1. Put a buffering proxy (nginx, a load balancer) in front.
"""

import os

bind = os.environ.get("BIND") or f"127.0.0.1:{os.environ.get('PORT', '5000')}"

# One gevent worker: sync and gthread workers are all taken by as many slow connections as they have threads. The
# work is Triton's; the bound on images in flight (webapp.DEFAULTS) counts inside one worker.
worker_class = "gevent"
workers = 1
# Each connection may hold one upload of 10 MiB in memory.
worker_connections = 64

# Seconds without a heartbeat until the worker is replaced; seconds for the last answers after SIGTERM.
timeout = 30
graceful_timeout = 15
keepalive = 5

# The control socket of gunicorn 25 and later is one more door, and fails where the home folder is read-only.
control_socket_disable = True
# The application writes one line for each request itself, without query strings and addresses.
accesslog = None
errorlog = "-"
