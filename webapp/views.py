"""The three addresses: the page, /predict, /health."""

from contextlib import contextmanager

from flask import Blueprint, current_app, jsonify, request

import client
from imaging import contract
from webapp.errors import RETRY_SECONDS, TRY_AGAIN, Refused, wants_page
from webapp.health import canaries
from webapp.journal import request_id
from webapp.page import render, review_threshold, served_facts
from webapp.uploads import chosen_model, read_upload

blueprint = Blueprint("views", __name__)
DIGITS = 4


@blueprint.get("/")
def page():
    """Show the form."""
    return render()


@blueprint.post("/predict")
def predict():
    """Classify the uploaded image: JSON, or the page for a form sent by a browser without JavaScript."""
    image, model = read_upload()
    with slot():
        prediction = current_app.extensions["classifier"].classify(image, model)
    answer = describe(prediction)
    return render(result=answer, model=model) if wants_page() else jsonify(answer)


@blueprint.get("/health")
def health():
    """Say whether Triton and its networks answer: 200 if all that was asked for do, else 503.

    `?model=custom` asks about one network only.
    """
    live, answering = canaries()
    asked = [chosen_model({"model": [request.args["model"]]})] if "model" in request.args else answering
    models = {name: answering.get(name, False) for name in asked}
    healthy = live and all(models.values())
    body = {"status": "ok" if healthy else "unavailable", "triton": live, "models": models, "request_id": request_id()}
    response = jsonify(body)
    if not healthy:
        response.status_code = 503
        response.headers["Retry-After"] = str(RETRY_SECONDS)
    return response


@contextmanager
def slot():
    """Hold one of the MAX_IN_FLIGHT places. Raises Refused (503 busy) at once when all are taken."""
    slots = current_app.extensions["slots"]
    if not slots.acquire(blocking=False):
        raise Refused(503, "busy", f"Too many images are being classified. {TRY_AGAIN}")
    try:
        yield
    finally:
        slots.release()


def describe(prediction: client.Prediction) -> dict:
    """Return the JSON answer for a prediction: probabilities rounded to 4 digits, in the order of the classes.

    A person must look when the confidence is below the served model's threshold, or when it names none.
    """
    facts = served_facts(prediction.model)
    threshold = review_threshold(facts)
    probabilities = {name: round(float(prediction.probabilities[name]), DIGITS) for name in contract.CLASSES}
    return {
        "success": True,
        "predicted_class": prediction.label,
        "confidence": round(float(prediction.confidence), DIGITS),
        "all_probabilities": probabilities,
        "model_type": prediction.model,
        "needs_review": threshold is None or prediction.confidence < threshold,
        "review_threshold": threshold,
        "data_source": facts.get(contract.DATA_SOURCE),
        "disclaimer": contract.DISCLAIMER,
        "request_id": request_id(),
    }
