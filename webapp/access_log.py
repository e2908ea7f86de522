"""A number for every request, and one log line: method, route, status, milliseconds, request id.

File names, form fields, query strings, paths as they were asked for and addresses stay out of it: they can name
patients.
"""

import time
import uuid

from flask import Response, current_app, g, request


def request_id() -> str:
    """Return the id of the current request: 32 hexadecimal digits, never taken from the caller."""
    if "request_id" not in g:
        g.request_id = uuid.uuid4().hex
    found: str = g.request_id
    return found


def start() -> None:
    """Note the moment at which the request began."""
    g.started = time.perf_counter()


def finish(response: Response) -> Response:
    """Write the log line and put the id into the X-Request-ID header."""
    response.headers["X-Request-ID"] = request_id()
    milliseconds = 1000 * (time.perf_counter() - g.get("started", time.perf_counter()))
    current_app.logger.info("request", extra={
        "method": request.method, "route": request.url_rule.rule if request.url_rule else None,
        "status": response.status_code, "ms": round(milliseconds, 1), "request_id": request_id()})
    return response
