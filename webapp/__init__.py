"""The web page and JSON API: takes an image, asks Triton through `client`, shows the answer.

Development: `python -m webapp`. Production: `gunicorn -c webapp/gunicorn.conf.py 'webapp:create_app()'`.
"""

import logging
import os
import threading

from flask import Flask

from webapp import (
    audit,
    errors,
    health,
    journal,
    keys,
    limits,
    metrics,
    openapi,
    security,
    triton,
    turns,
    uploads,
    views,
)

DEFAULTS = {
    "TRITON_URL": "127.0.0.1:8000",
    "MODEL_REPOSITORY": None,
    # A file in which `python -m serving` names both, as they change with releases.
    "TRITON_STATE": None,
    # A folder for the record of every prediction, see webapp/audit.py, and a file with its key.
    "AUDIT_LOG": None,
    "AUDIT_KEY_FILE": None,
    # A file of keys, see webapp/keys.py; images a minute and at once of one client, the file in which workers count
    # them, and the number of proxies in front, see webapp/limits.py.
    "API_KEYS": None,
    "RATE_LIMIT": 0,
    "RATE_BURST": 20,
    "RATE_STATE": None,
    "TRUSTED_PROXIES": 0,
    # Seconds for one classification, and for the questions behind / and /health: those must answer soon or say no.
    "CLASSIFY_TIMEOUT": 10.0,
    "STATUS_TIMEOUT": 3.0,
    # Images handed to Triton at the same time. More would wait in a queue until their deadline: better an early 503.
    "MAX_IN_FLIGHT": 16,
    **uploads.LIMITS,
}


ENVIRONMENT = ("TRITON_URL", "MODEL_REPOSITORY", "TRITON_STATE", "AUDIT_LOG", "AUDIT_KEY_FILE", "API_KEYS",
               "RATE_LIMIT", "RATE_BURST", "RATE_STATE", "TRUSTED_PROXIES")


def create_app(config: dict | None = None) -> Flask:
    """Return the web application.

    Args:
        config: settings that override DEFAULTS and the environment variables TRITON_URL (host:port of Triton's HTTP
            port), MODEL_REPOSITORY (folder whose `<network>/1/provenance.json` the page may show), TRITON_STATE (see
            webapp/triton.py), and the others in ENVIRONMENT; Flask's own settings are accepted too. None: defaults and
            environment.

    Raises:
        ValueError: TRITON_URL is not host:port, or a number is out of its range.
        OSError, audit.AuditError: the audit log cannot be opened. keys.KeyFileError: the file of keys cannot be read.

    The application starts and shows its page without Triton; only answers need it.
    """
    app = Flask(__name__)
    environment = {key: os.environ[key] for key in ENVIRONMENT if os.environ.get(key)}
    app.config.from_mapping(DEFAULTS | environment | (config or {}))
    app.json.sort_keys = False
    app.logger.setLevel(logging.INFO)
    app.extensions["slots"] = threading.BoundedSemaphore(app.config["MAX_IN_FLIGHT"])
    for part in (triton, turns, journal, security, limits, keys, errors, health, uploads, metrics, audit, openapi):
        part.register(app)
    app.register_blueprint(views.blueprint)
    return app
