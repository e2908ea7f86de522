"""A number for every request, and one log line: method, path, status, milliseconds, request id.

File names, form fields, query strings and addresses stay out of the log: they can name patients.
"""

import time
import uuid
from urllib.parse import quote

from flask import Flask, Response, current_app, g, request

LONGEST_PATH = 200


def request_id() -> str:
    """Return the id of the current request: 32 hexadecimal digits, never taken from the caller."""
    if "request_id" not in g:
        g.request_id = uuid.uuid4().hex
    return g.request_id


def start() -> None:
    """Note the moment at which the request began."""
    g.started = time.perf_counter()


def finish(response: Response) -> Response:
    """Write the log line and put the id into the X-Request-ID header."""
    response.headers["X-Request-ID"] = request_id()
    milliseconds = 1000 * (time.perf_counter() - g.get("started", time.perf_counter()))
    # Quoted, so that a line break in a path cannot forge a second log line.
    path = quote(request.path[:LONGEST_PATH])
    current_app.logger.info(
        "method=%s path=%s status=%d ms=%.1f request_id=%s",
        request.method, path, response.status_code, milliseconds, request_id(),
    )  # fmt: skip
    return response


def register(app: Flask) -> None:
    """Log every request of an application."""
    app.before_request(start)
    app.after_request(finish)
