"""The addresses: pages, classification, health."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from flask import Blueprint, Response, jsonify, render_template, request
from flask.typing import ResponseReturnValue

import client
from client.answer import DIGITS, columns
from core import contract
from imaging import readers, slices
from webapp import audit, heat, openapi, volumes
from webapp.access_log import request_id
from webapp.errors import failure, from_client, not_served, wants_page
from webapp.health import canaries
from webapp.limits import count
from webapp.page import about as page_about
from webapp.page import render
from webapp.provenance import served_facts
from webapp.refused import RETRY_SECONDS, TRY_AGAIN, Refused
from webapp.services import services
from webapp.triton import served
from webapp.uploads import chosen_model, chosen_tta, read_batch, read_upload
from webapp.worker import run_in_worker

Result = TypeVar("Result")

blueprint = Blueprint("views", __name__)
SLICE = ("plane", "slice")
"""Fields of a form that choose one slice of its file."""
BATCH_CONCURRENCY = 4
"""Images of one batch that are with Triton at the same time; they take one place of MAX_IN_FLIGHT."""


@blueprint.get("/")
def page() -> ResponseReturnValue:
    """Show the form."""
    return render()


@blueprint.get("/about")
def about() -> ResponseReturnValue:
    """Say what the networks are, where they come from and how well they did."""
    return page_about()


@blueprint.get("/api")
def api() -> ResponseReturnValue:
    """Show /openapi.json to a person."""
    document = openapi.document(services().keys is not None)
    return render_template("api.html", document=document, disclaimer=contract.DISCLAIMER,
                           prefix=request.script_root, root=request.url_root.rstrip("/"))


@blueprint.post("/predict")
def predict() -> ResponseReturnValue:
    """Classify the uploaded image: JSON, or the page for a form sent by a browser without JavaScript."""
    refuse_if_busy()  # before the form is read: a refusal must cost little
    upload, model, form = read_upload("tta", *SLICE)
    tta = chosen_tta(form)
    picture = volumes.picture(upload, volumes.choice(form))
    classifier, question = served().classifier, (picture.encoded, model, tta, picture.warnings)
    if not wants_page():
        return jsonify(recorded((picture, asked(classifier.answer, *question)))[0])
    seen: dict[str, Any] | None = None
    try:
        answer, heatmaps = asked(classifier.answer_with_heatmaps, *question)
    except client.UnknownModel:  # exported before there were heatmaps
        answer = asked(classifier.answer, *question)
    else:
        seen = {"picture": heat.address(run_in_worker(heat.picture, picture.encoded)),
                "maps": {name: heat.address(heat.overlay(one)) for name, one in heatmaps.items()}}
    return render(result=recorded((picture, answer))[0], model=model, seen=seen, picture=picture)


@blueprint.post("/predict/batch")
def batch() -> ResponseReturnValue:
    """Classify several uploaded images: JSON with a result or an error for each, in their order."""
    refuse_if_busy()
    uploads, model, form = read_batch("tta")
    tta = chosen_tta(form)
    count(len(uploads))
    classifier, metrics = served().classifier, services().metrics
    pictures = [opened(upload) for upload in uploads]

    def answered(picture: slices.Picture | Refused) -> tuple[slices.Picture, client.Answer] | Refused:
        if isinstance(picture, Refused):
            return picture
        try:
            return picture, classifier.answer(picture.encoded, model, tta, picture.warnings)
        except client.BadImage as error:
            return from_client(error)

    with slot(), metrics.in_flight.track_inprogress(), ThreadPoolExecutor(BATCH_CONCURRENCY) as pool:
        answers = list(pool.map(answered, pictures))
    shown = iter(recorded(*[one for one in answers if not isinstance(one, Refused)]))
    results = [failure(one) if isinstance(one, Refused) else next(shown) for one in answers]
    return jsonify(results=results, disclaimer=contract.DISCLAIMER, request_id=request_id())


def opened(upload: bytes) -> slices.Picture | Refused:
    """Return volumes.picture(), or why there is none."""
    try:
        return volumes.picture(upload)
    except Refused as refused:
        if refused.status == 503:
            raise
        return refused


@blueprint.post("/slice")
def slice_of() -> ResponseReturnValue:
    """Show one slice of a DICOM or NIfTI file, the middle one unless the form names another; say how many it has."""
    upload, _, form = read_upload(*SLICE)
    if not slices.is_medical(upload):
        known = readers.listed(readers.SLICE_READERS)
        raise Refused(415, "unsupported_format", f"This file has no slices to choose from. Send a {known} file.")
    one = volumes.shown(upload, volumes.choice(form))
    return jsonify(success=True, slices=one.counts, plane=one.plane, slice=one.number, warnings=one.warnings,
                   image=heat.address(run_in_worker(heat.picture, one.encoded())), disclaimer=contract.DISCLAIMER,
                   request_id=request_id())


@blueprint.post("/explain")
def explain() -> ResponseReturnValue:
    """Classify the uploaded image and say where the network saw a class: JSON, or for `Accept: image/png` a picture."""
    refuse_if_busy()
    upload, model, form = read_upload("class", *SLICE)
    names = form.get("class", [])
    if len(names) > 1 or not set(names) <= set(contract.CLASSES):
        raise Refused(400, "unknown_class", f"Expected one class at most, out of: {', '.join(contract.CLASSES)}.")
    picture = volumes.picture(upload, volumes.choice(form))
    try:
        answer, heatmaps = asked(served().classifier.answer_with_heatmaps, picture.encoded, model, False,
                                 picture.warnings)
    except client.UnknownModel as error:
        if not served().status.models().get(model):
            raise
        raise Refused(404, "no_explanation", "This model has no heatmaps.") from error
    wanted, (shown,) = names[0] if names else answer.predicted_class, recorded((picture, answer))
    if request.accept_mimetypes.best_match(["application/json", "image/png"]) == "image/png":
        blended = run_in_worker(heat.blended, picture.encoded, heatmaps[wanted])
        return Response(heat.png(blended), content_type="image/png")
    rows = [[round(float(value), DIGITS) for value in row] for row in heatmaps[wanted]]
    return jsonify(shown | {"explained_class": wanted, "heatmap": rows})


def asked(ask: Callable[..., Result], *question: object) -> Result:
    """Return what Triton answers to a question about an image, within MAX_IN_FLIGHT. Raises Refused (503 busy)."""
    metrics = services().metrics
    with slot(), metrics.in_flight.track_inprogress():
        return ask(*question)


def recorded(*answers: tuple[slices.Picture, client.Answer]) -> list[dict[str, Any]]:
    """Return the JSON of answers about pictures, once they are on the audit log and counted."""
    audit.record(*answers)
    for _, answer in answers:
        services().metrics.predictions.labels(answer.model_type, answer.predicted_class).inc()
    return [{"success": True, **answer.model_dump(), "request_id": request_id()} for _, answer in answers]


@blueprint.app_context_processor
def declared() -> dict[str, Any]:
    """Let templates know what an answer's fields are and where they are shown."""
    return {"columns": columns}


@blueprint.get("/health/live")
def live() -> ResponseReturnValue:
    """Say that this process answers."""
    return jsonify(status="ok", request_id=request_id())


@blueprint.get("/health/ready")
def ready() -> ResponseReturnValue:
    """Say whether images can be classified, in one word: 200, or 503 as /health."""
    is_live, answering = canaries()
    return verdict({}, is_live and is_well(answering))


@blueprint.get("/health")
def health() -> ResponseReturnValue:
    """Say whether Triton and its networks answer: 200 if all that was asked for do, else 503.

    `?model=custom` asks about one network only.
    """
    is_live, answering = canaries()
    asked = [chosen_model({"model": [request.args["model"]]})] if "model" in request.args else answering
    if is_live and (absent := set(asked) - set(answering)):
        raise not_served(absent.pop(), answering)
    models = {name: answering.get(name, False) for name in asked}
    details = {"triton": is_live, "models": models,
               "computing": {name: computing(name) for name, works in models.items() if works}}
    return verdict(details, is_live and is_well(models))


def is_well(models: dict[str, bool]) -> bool:
    """Say whether there are networks and all of them answer."""
    return bool(models) and all(models.values())


def verdict(details: dict[str, Any], is_healthy: bool) -> ResponseReturnValue:
    """Return the answer of a health check: 200, or 503 with Retry-After."""
    status = "ok" if is_healthy else "unavailable"
    response = jsonify(status=status, **details, request_id=request_id())
    if not is_healthy:
        response.status_code = 503
        response.headers["Retry-After"] = str(RETRY_SECONDS)
    return response


def computing(model: str) -> dict[str, str | None]:
    """Return what computes a network, and in which precision, as its configuration says."""
    facts = served_facts(model)
    return {key: facts.get(key) for key in (contract.RUNTIME, contract.PRECISION)}


def busy() -> Refused:
    """Return the answer when MAX_IN_FLIGHT images are with Triton."""
    return Refused(503, "busy", f"Too many images are being classified. {TRY_AGAIN}")


def refuse_if_busy() -> None:
    """Raise Refused (503 busy) when all places are taken; takes none."""
    slots = services().slots
    if not slots.acquire(blocking=False):
        raise busy()
    slots.release()


@contextmanager
def slot() -> Iterator[None]:
    """Hold one of the MAX_IN_FLIGHT places. Raises Refused (503 busy) at once when all are taken."""
    slots = services().slots
    if not slots.acquire(blocking=False):
        raise busy()
    try:
        yield
    finally:
        slots.release()
