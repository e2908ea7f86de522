"""Numbers for Prometheus at /metrics: requests, how long they took, images in flight, canaries, what is served.

What is served and whether it works is what /health found last, as a scrape must not wait for what it watches: let a
load balancer, or whoever else, ask /health/ready. They count in one process; webapp/gunicorn.conf.py runs one. No label
carries anything that a caller can choose freely. Close /metrics to the outside in the proxy, as docs/nginx.conf does.
"""

import time

from flask import Response, g, request
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from core import contract
from webapp.provenance import provenance, revision, served_facts
from webapp.services import services

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
METHODS = ("GET", "HEAD", "POST", "OPTIONS")


class Metrics:
    """The numbers of one application.

    Attributes:
        registry: holds them all. requests: by endpoint, method and status. seconds: of requests, by endpoint.
        in_flight: images that Triton is classifying. predictions: by model and class. canary: 1 if a network answered
        its last golden image rightly, else 0. canary_time: when that was. served: 1 for each that answered rightly, its
        labels say what it is.
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
        self.canary_time = Gauge("canary_time_seconds", "When golden images were last asked for, as Unix time",
                                 registry=registry)
        facts = ("model", "revision", "exported", "data_source", "runtime", "precision")
        self.served = Gauge("served_model", "What is served", facts, registry=registry)


def count(response: Response) -> Response:
    """Count the current request."""
    metrics, endpoint = services().metrics, request.endpoint or "unknown"
    method = request.method if request.method in METHODS else "other"
    metrics.requests.labels(endpoint, method, response.status_code).inc()
    metrics.seconds.labels(endpoint).observe(time.perf_counter() - g.get("started", time.perf_counter()))
    return response


def note_canaries(answering: dict[str, bool]) -> None:
    """Note which networks have just given a golden answer, and what those are."""
    metrics, served = services().metrics, [described(name) for name, well in answering.items() if well]
    metrics.canary.clear()
    metrics.served.clear()
    metrics.canary_time.set_to_current_time()
    for name, well in answering.items():
        metrics.canary.labels(name).set(well)
    for labels in served:
        metrics.served.labels(*labels).set(1)


def described(model: str) -> tuple[str, ...]:
    """Return the labels of a network that is served."""
    facts, file = served_facts(model), provenance(model)
    served = (facts.get(key, "") for key in (contract.DATA_SOURCE, contract.RUNTIME, contract.PRECISION))
    return model, revision(file) or "", str(file.get("exported") or ""), *served


def show() -> Response:
    """Return all numbers in Prometheus's text format."""
    return Response(generate_latest(services().metrics.registry), content_type=CONTENT_TYPE_LATEST)
