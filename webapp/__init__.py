"""The web page and JSON API: takes an image, asks Triton through `client`, shows the answer.

Development: `python -m webapp`. Production: `gunicorn -c webapp/gunicorn.conf.py 'webapp:create_app()'`.
"""

import logging
import os
import threading

from flask import Flask

from client import Classifier
from webapp import errors, health, journal, security, uploads, views

DEFAULTS = {
    "TRITON_URL": "127.0.0.1:8000",
    "MODEL_REPOSITORY": None,
    # Seconds for one classification, and for the questions behind / and /health: those must answer soon or say no.
    "CLASSIFY_TIMEOUT": 10.0,
    "STATUS_TIMEOUT": 3.0,
    # Images handed to Triton at the same time. More would wait in a queue until their deadline: better an early 503.
    "MAX_IN_FLIGHT": 16,
    **uploads.LIMITS,
}


def create_app(config: dict | None = None) -> Flask:
    """Return the web application.

    Args:
        config: settings that override DEFAULTS and the environment variables TRITON_URL (host:port of Triton's HTTP
            port) and MODEL_REPOSITORY (folder whose `<network>/1/provenance.json` the page may show); Flask's own
            settings are accepted too. None: defaults and environment.

    Raises:
        ValueError: TRITON_URL is not host:port, or a timeout is not positive.

    The application starts and shows its page without Triton; only answers need it.
    """
    app = Flask(__name__)
    app.request_class = uploads.UploadRequest
    environment = {key: os.environ[key] for key in ("TRITON_URL", "MODEL_REPOSITORY") if os.environ.get(key)}
    app.config.from_mapping(DEFAULTS | environment | (config or {}))
    app.json.sort_keys = False
    app.logger.setLevel(logging.INFO)
    app.extensions["classifier"] = Classifier(app.config["TRITON_URL"], timeout=app.config["CLASSIFY_TIMEOUT"])
    app.extensions["status"] = Classifier(app.config["TRITON_URL"], timeout=app.config["STATUS_TIMEOUT"])
    app.extensions["slots"] = threading.BoundedSemaphore(app.config["MAX_IN_FLIGHT"])
    for part in (journal, security, errors, health):
        part.register(app)
    app.register_blueprint(views.blueprint)
    return app
