"""Numbers for Prometheus at /metrics: requests, how long they took, images in flight, canaries, what is served.

They count in one process; webapp/gunicorn.conf.py runs one. No label carries anything that a caller can choose freely.
Close /metrics to the outside in the proxy, as docs/nginx.conf does.
"""

import time

from flask import Response, g, request
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from core import contract
from webapp.health import readiness
from webapp.provenance import provenance, revision, served_facts
from webapp.services import services

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
METHODS = ("GET", "HEAD", "POST", "OPTIONS")


class Metrics:
    """The numbers of one application.

    Attributes:
        registry: holds them all. requests: by endpoint, method and status. seconds: of requests, by endpoint.
        in_flight: images that Triton is classifying. predictions: by model and class. canary: 1 if a network answered
        its last golden image rightly. served: 1 for each network, its labels say what it is.
    """

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.requests = Counter("http_requests", "Requests answered", ("endpoint", "method", "status"),
                                registry=registry)
        self.seconds = Histogram("http_request_duration_seconds", "Time to the answer", ("endpoint",), buckets=SECONDS,
                                 registry=registry)
        self.in_flight = Gauge("images_in_flight", "Images that Triton is classifying", registry=registry)
        self.predictions = Counter("predictions", "Images classified", ("model", "predicted_class"), registry=registry)
        self.canary = Gauge("canary_up", "Whether a network knew its last golden image", ("model",), registry=registry)
        facts = ("model", "revision", "exported", "data_source", "runtime", "precision")
        self.served = Gauge("served_model", "What is served", facts, registry=registry)


def count(response: Response) -> Response:
    """Count the current request."""
    metrics, endpoint = services().metrics, request.endpoint or "unknown"
    method = request.method if request.method in METHODS else "other"
    metrics.requests.labels(endpoint, method, response.status_code).inc()
    metrics.seconds.labels(endpoint).observe(time.perf_counter() - g.get("started", time.perf_counter()))
    return response


def show() -> Response:
    """Return all numbers in Prometheus's text format."""
    metrics = services().metrics
    metrics.served.clear()
    for name in readiness()[1]:
        if facts := served_facts(name):
            file = provenance(name)
            metrics.served.labels(name, revision(file) or "", str(file.get("exported") or ""), *(
                facts.get(key, "") for key in (contract.DATA_SOURCE, contract.RUNTIME, contract.PRECISION))).set(1)
    return Response(generate_latest(metrics.registry), content_type=CONTENT_TYPE_LATEST)
