"""A number for every request, and one log line: method, path, status, milliseconds, request id.

The log is JSON, one object a line. File names, form fields, query strings and addresses stay out of it: they can name
patients.
"""

import json
import logging
import time
import uuid
from urllib.parse import quote

from flask import Flask, Response, current_app, g, request
from flask.logging import default_handler

LONGEST_PATH = 200


class JsonLines(logging.Formatter):
    """Writes a log record as a JSON object: time, level, message, what it was given as `fields`, and a traceback."""

    converter = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        entry = {"time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{record.msecs:03.0f}Z",
                 "level": record.levelname, "message": record.getMessage(), **getattr(record, "fields", {})}
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry)


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
    fields = {"method": request.method, "path": quote(request.path[:LONGEST_PATH]), "status": response.status_code,
              "ms": round(milliseconds, 1), "request_id": request_id()}
    current_app.logger.info("request", extra={"fields": fields})
    return response


def register(app: Flask) -> None:
    """Log every request of an application."""
    default_handler.setFormatter(JsonLines())
    app.before_request(start)
    app.after_request(finish)
