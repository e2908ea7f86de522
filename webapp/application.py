"""Puts the parts of the web application together."""

import threading
from typing import Any

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from core import contract
from webapp import (
    access_log,
    audit,
    errors,
    health,
    keys,
    limits,
    logs,
    metrics,
    openapi,
    security,
    settings,
    triton,
    uploads,
    views,
    worker,
)
from webapp.services import Services

BEFORE = (access_log.start, security.refuse_cross_site, limits.refuse_too_many, keys.refuse_unauthenticated)
"""Run in this order. The clock first; another site's forms before they use up a visitor's images; the limit before the
key, so that guesses of keys are limited too."""
AFTER = (limits.count_unread, metrics.count, uploads.discard_rest, security.add_headers, access_log.finish)
"""Run in this order: the log line last, as it says what was sent."""


def create_app(config: dict[str, Any] | None = None) -> Flask:
    """Return the web application.

    Args:
        config: values that override the environment variables, see webapp/settings.py; Flask's own settings are
            accepted too. None: environment and defaults.

    Raises:
        settings.SettingsError: a setting is out of its range.
        OSError, audit.AuditError: the audit log cannot be opened. keys.KeyFileError: the file of keys cannot be read.

    The application starts and shows its page without Triton; only answers need it.
    """
    known = settings.load(config)
    logs.configure()
    app = Flask(__package__)
    app.config.from_mapping((config or {}) | known.model_dump())
    app.config["TRUSTED_HOSTS"] = known.TRUSTED_HOSTS.split(",") if known.TRUSTED_HOSTS else None
    app.json.sort_keys = False  # type: ignore[attr-defined]  # Flask names the base class of its provider
    app.jinja_env.globals.update(classes=contract.CLASSES, titles=contract.CLASS_TITLES)
    app.extensions["services"] = built(known)
    if proxies := known.TRUSTED_PROXIES:
        # Each proxy adds an address to X-Forwarded-For; the other two are set once, by one of them.
        through = ProxyFix(app.wsgi_app, x_for=proxies, x_proto=1, x_prefix=1)
        app.wsgi_app = through  # type: ignore[method-assign]  # as Flask's documentation says
    for before in BEFORE:
        app.before_request(before)
    for after in reversed(AFTER):  # Flask runs the last one first
        app.after_request(after)
    app.teardown_request(uploads.give_back)
    errors.register(app)
    app.add_url_rule("/metrics", "metrics", metrics.show)
    openapi.register(app)
    app.register_blueprint(views.blueprint)
    return app


def built(known: settings.Settings) -> Services:
    """Return the parts of an application. Raises as create_app()."""
    thread = worker.Worker()
    return Services(
        settings=known,
        backends=triton.Backends(known, thread.run),
        worker=thread,
        metrics=metrics.Metrics(),
        canaries=health.Canaries(),
        uploads=uploads.Budget(known.MAX_UPLOADS_MEMORY),
        slots=threading.BoundedSemaphore(known.MAX_IN_FLIGHT),
        limiter=limits.Limiter(known.RATE_STORAGE, known.RATE_LIMIT, known.RATE_BURST) if known.RATE_LIMIT else None,
        keys=keys.Keys(known.API_KEYS) if known.API_KEYS else None,
        audit=audit.AuditLog(known.AUDIT_LOG, known.AUDIT_KEY_FILE) if known.AUDIT_LOG else None)
