"""Every failure becomes one shape: {"success": false, "error": text, "code": stable name, "request_id": ...}.

A browser gets the same text and the same status: as the form again where that has been sent, else as a page that
shows nothing of what is served and asks Triton nothing.
"""

from collections.abc import Iterable
from typing import Any

from flask import Flask, Response, current_app, jsonify, render_template, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

import client
from core import contract
from imaging.errors import ImageError
from webapp.access_log import request_id
from webapp.health import readiness
from webapp.page import render
from webapp.refused import TRY_AGAIN, Refused

FORM = "views.predict"
"""The endpoint of the page's form."""
BAD_IMAGE = {
    "empty_file": 400,
    "unsupported_format": 415,
    "corrupt_image": 422,
    "image_too_small": 422,
    "multiple_frames": 422,
    "no_such_slice": 422,
    "wrong_modality": 422,
    "image_too_large": 413,
    "file_too_large": 413,
}

# Werkzeug's own texts name its classes or quote the request; these say what to do.
HTTP = {
    400: ("bad_request", "The request cannot be read. Send it again."),
    404: ("not_found", "There is no such page. The classifier is at / and its API at /predict and /health."),
    405: ("method_not_allowed", "This address does not take that method. Send images to /predict with POST."),
}
OPAQUE = "The server made a mistake while answering. Report the request id below if it happens again."


def wants_page() -> bool:
    """Say whether the caller prefers HTML to JSON; `*/*` and no preference at all mean JSON."""
    return request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html"


def failure(refused: Refused) -> dict[str, Any]:
    """Return the one shape of a failure, as JSON values."""
    return {"success": False, "error": refused.message, "code": refused.code, "request_id": request_id()}


def answer(refused: Refused) -> Response:
    """Return the response for a failure, as the page or as JSON, with Retry-After where waiting helps."""
    response = current_app.make_response(page_of(refused)) if wants_page() else jsonify(failure(refused))
    response.status_code = refused.status
    if refused.status in (429, 503):
        response.headers["Retry-After"] = str(refused.retry_seconds)
    if refused.status == 401:
        response.headers["WWW-Authenticate"] = 'Basic realm="brain-mri"' if wants_page() else "Bearer"
    return response


def page_of(refused: Refused) -> str:
    """Return a failure as HTML: the form again for those who were let in and have sent it, else nothing but the text.

    A stranger learns nothing there, and a server that is busy is not asked for the networks as well.
    """
    if request.endpoint == FORM and refused.status not in (401, 403, 429, 500) and refused.code != "busy":
        return render(error=refused)
    return render_template("error.html", error=refused, request_id=request_id(), disclaimer=contract.DISCLAIMER)


def from_image(error: ImageError | client.BadImage) -> Refused:
    """Translate what is wrong with an image."""
    return Refused(BAD_IMAGE[error.code], error.code, str(error))


def not_served(model: str, served: Iterable[str]) -> Refused:
    """Return the answer for a network that is not among those that are served."""
    if contract.RELEASE in model and contract.MODEL_NAME.fullmatch(model):
        message = "This older release of the model is not served. Choose another."
        return Refused(404, client.UnknownRelease.code, message)
    names = ", ".join(served)
    message = f"There is no such model. Choose one of: {names}." if names else "There is no such model."
    return Refused(404, client.UnknownModel.code, message)


def from_client(error: client.ClientError) -> Refused:
    """Translate a failure of the client; what Triton said about it is logged, not shown: it can hold paths."""
    if isinstance(error, client.BadImage):
        return from_image(error)
    if isinstance(error, client.UnknownModel) and error.model not in (names := readiness()[1]):
        return not_served(error.model, names)
    current_app.logger.error("no prediction", extra={"code": error.code, "request_id": request_id(),
                                                     "detail": error.detail})
    if isinstance(error, client.DeadlineExceeded):
        return Refused(503, error.code, f"The model server is too slow at the moment. {TRY_AGAIN}")
    if isinstance(error, client.ServerBusy):
        return Refused(503, error.code, f"Too many images are being classified. {TRY_AGAIN}")
    if isinstance(error, client.ServerUnavailable):
        return Refused(503, error.code, f"The model server cannot be reached. {TRY_AGAIN}")
    if isinstance(error, client.UnknownModel):
        # It belongs to what is served, but Triton has not loaded it.
        return Refused(503, "model_not_ready", f"This model is not loaded. Choose another, or: {TRY_AGAIN}")
    return Refused(500, error.code, OPAQUE)


def from_http(error: HTTPException) -> ResponseReturnValue:
    """Return the response for a failure found by Flask or Werkzeug, keeping the Allow header of a 405."""
    if error.code is None or error.code < 400:
        return error
    code, message = HTTP.get(error.code, ("bad_request" if error.code < 500 else "server_error", OPAQUE))
    response = answer(Refused(error.code, code, message))
    if "Allow" in (headers := error.get_response().headers):
        response.headers["Allow"] = headers["Allow"]
    return response


def from_fault(error: Exception) -> ResponseReturnValue:
    """Return an opaque 500 and log the traceback under the request's id."""
    current_app.logger.error("fault", exc_info=error, extra={"code": "server_error", "request_id": request_id()})
    return answer(Refused(500, "server_error", OPAQUE))


def register(app: Flask) -> None:
    """Let an application answer every failure in the one shape."""
    app.register_error_handler(Refused, answer)
    app.register_error_handler(client.ClientError, lambda error: answer(from_client(error)))
    app.register_error_handler(HTTPException, from_http)
    app.register_error_handler(Exception, from_fault)
