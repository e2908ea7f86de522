"""What the parts of one application share, made once by webapp.application.create_app()."""

from __future__ import annotations

from dataclasses import dataclass
from threading import BoundedSemaphore
from typing import TYPE_CHECKING

from flask import current_app

if TYPE_CHECKING:
    from webapp.audit import AuditLog
    from webapp.health import Canaries
    from webapp.keys import Keys
    from webapp.limits import Limiter
    from webapp.metrics import Metrics
    from webapp.settings import Settings
    from webapp.triton import Backends
    from webapp.uploads import Budget
    from webapp.worker import Worker


@dataclass(frozen=True)
class Services:
    """The parts of an application.

    Attributes:
        settings: as they were checked. backends: which Triton answers. worker: the thread for large images. metrics:
        for Prometheus. canaries: whether the networks answer. uploads: memory for what is being received. slots: one
        for each image that may be with Triton. limiter, keys, audit: None where they are not switched on.
    """

    settings: Settings
    backends: Backends
    worker: Worker
    metrics: Metrics
    canaries: Canaries
    uploads: Budget
    slots: BoundedSemaphore
    limiter: Limiter | None = None
    keys: Keys | None = None
    audit: AuditLog | None = None


def services() -> Services:
    """Return the parts of the current application."""
    found: Services = current_app.extensions["services"]
    return found
