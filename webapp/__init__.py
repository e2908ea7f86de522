"""The web page and JSON API: takes an image, asks Triton through `client`, shows the answer.

Development: `python -m webapp`. Production: `gunicorn -c webapp/gunicorn.conf.py 'webapp:create_app()'`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flask import Flask


def create_app(config: dict[str, Any] | None = None) -> Flask:
    """Return the web application; see webapp.application.create_app()."""
    from webapp import application  # not before it is needed: `python -m webapp.keys` runs a module that this imports

    return application.create_app(config)
