"""The API as an OpenAPI 3.1 document, at /openapi.json (https://spec.openapis.org/oas/v3.1.1.html)."""

from typing import Any, TypeAlias

from flask import Flask, jsonify

from client import Answer, Prediction
from client.answer import DIGITS
from core import contract
from imaging import decode, limits, slices
from webapp.services import services
from webapp.uploads import BATCH_BYTES, BATCH_FILES

Schema: TypeAlias = dict[str, Any]

FILE_LIMIT, BATCH_LIMIT = (f"{count // 2**20} MiB" for count in (limits.MAX_BYTES, BATCH_BYTES))
PIXEL_LIMIT = f"{limits.MAX_PIXELS // 2**20} megapixels"
ERRORS = {
    400: "The request is malformed: no file or several, unknown fields, a form that cannot be read.",
    401: "An API key is required, and none came or a wrong one.",
    403: "A browser sent the form on behalf of another site.",
    404: "There is no such model or release, or it was exported without heatmaps.",
    405: "The address does not take this method.",
    408: "The upload took too long.",
    413: f"The file is larger than {FILE_LIMIT}, the image than {PIXEL_LIMIT}, a batch than {BATCH_LIMIT}; or the form "
         "has too many or too long fields.",
    415: "The body is no multipart form, or the file is none of the accepted formats.",
    422: "The image is damaged, too small, or of another modality; or a file has several and none was chosen.",
    429: "This client sends too many images: try again after Retry-After seconds.",
    500: "The server made a mistake.",
    503: "The model server is down, late or busy: try again after Retry-After seconds.",
}
"""Status -> what it means, for every status that /predict can have beside 200."""

FIELDS = {name: {key: value for key, value in field.items() if key != "title"}
          for name, field in Answer.model_json_schema(mode="serialization")["properties"].items()}
"""Schemas of an answer's fields by name, in their order."""
CLASS = {"enum": list(contract.CLASSES)}
MODEL = {key: FIELDS["model_type"][key] for key in ("type", "pattern", "examples")}
PROBABILITY = {"type": "number", "minimum": 0, "maximum": 1}
REQUEST_ID = {"type": "string", "pattern": "^[0-9a-f]{32}$"}
PLANES = (*slices.PLANES, slices.FRAMES)
NUMBER = {"type": "integer", "minimum": 1}
WARNINGS = {"type": "array", "items": {"type": "string"}}
TEXT_OR_NULL = {"type": ["string", "null"]}


def record(example: Schema | None = None, **properties: Schema) -> Schema:
    """Return the schema of an object that has all of some properties and no others."""
    schema = {"type": "object", "required": list(properties), "properties": properties, "additionalProperties": False}
    return schema | ({"examples": [example]} if example else {})


def example() -> Schema:
    """Return an answer as /predict gives it, of a network that is fairly sure of the first class."""
    others = dict.fromkeys(contract.CLASSES[1:], round(0.0288 / (len(contract.CLASSES) - 1), DIGITS))
    first = contract.CLASSES[0]
    probabilities = {first: 1 - sum(others.values()), **others}
    facts = {contract.REVIEW_THRESHOLD: "0.8", contract.DATA_SOURCE: contract.PHANTOM}
    prediction = Prediction(MODEL["examples"][0], first, probabilities[first], probabilities)
    return {"success": True, **Answer.of(prediction, facts).model_dump(mode="json"), "request_id": "0" * 32}


def schemas() -> dict[str, Schema]:
    """Return the shapes of the answers by name."""
    prediction = example()
    status = {"enum": ["ok", "unavailable"]}
    predicted: dict[str, Schema] = {"success": {"const": True}, **FIELDS, "request_id": REQUEST_ID}
    explained: dict[str, Schema] = {
        "explained_class": CLASS, "heatmap": {"type": "array", "items": {"type": "array", "items": PROBABILITY}}}
    return {
        "Prediction": record(prediction, **predicted),
        "Batch": record(
            results={"type": "array", "items": {"oneOf": [{"$ref": "#/components/schemas/Prediction"},
                                                          {"$ref": "#/components/schemas/Error"}]}},
            disclaimer={"const": contract.DISCLAIMER}, request_id=REQUEST_ID),
        "Explanation": record(
            prediction | {"explained_class": contract.CLASSES[0], "heatmap": [[0.0, 0.2], [0.1, 1.0]]},
            **predicted, **explained),
        "Slice": record(
            {"success": True, "slices": {"axial": 155, "coronal": 240, "sagittal": 240}, "plane": "axial", "slice": 78,
             "warnings": [], "image": "data:image/png;base64,iVBORw0KGgo=", "disclaimer": contract.DISCLAIMER,
             "request_id": "0" * 32},
            success={"const": True}, plane={"enum": list(PLANES)}, slice=NUMBER, warnings=WARNINGS,
            slices={"type": "object", "additionalProperties": NUMBER, "minProperties": 1},
            image={"type": "string", "pattern": "^data:image/png;base64,"}, disclaimer={"const": contract.DISCLAIMER},
            request_id=REQUEST_ID),
        "Error": record(
            {"success": False, "error": "No image was sent.", "code": "missing_file", "request_id": "0" * 32},
            success={"const": False}, error={"type": "string"}, code={"type": "string", "pattern": "^[a-z_]+$"},
            request_id=REQUEST_ID),
        "Live": record(status={"const": "ok"}, request_id=REQUEST_ID),
        "Ready": record(status=status, request_id=REQUEST_ID),
        "Health": record(
            status=status, triton={"type": "boolean"}, request_id=REQUEST_ID,
            models={"type": "object", "additionalProperties": {"type": "boolean"}},
            computing={"type": "object", "additionalProperties": record(runtime=TEXT_OR_NULL, precision=TEXT_OR_NULL)}),
    }


def answer(text: str, schema: str, later: bool = False) -> Schema:
    """Return the description of a JSON answer.

    Args:
        text: what it means. schema: name out of schemas(). later: whether it carries Retry-After.
    """
    headers = {"X-Request-ID": {"description": "The id of the request in the log.", "schema": REQUEST_ID}}
    if later:
        headers["Retry-After"] = {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {"description": text, "headers": headers, "content": content}


def errors(*statuses: int) -> dict[str, Schema]:
    """Return the descriptions of some errors."""
    return {str(status): answer(ERRORS[status], "Error", later=status in (429, 503)) for status in statuses}


def check(name: str, schema: str, text: str) -> Schema:
    """Return the description of a health check that answers 200 or 503 in the same shape."""
    return {"operationId": name, "summary": text, "responses": {
        "200": answer("All is well.", schema), "503": answer("Not all is well.", schema, later=True)}}


def fields(**more: Schema) -> Schema:
    """Return the schema of a form with one image, a model, and more fields."""
    file = {"type": "string", "format": "binary", "description": f"The image: {decode.ACCEPTED}, at most {FILE_LIMIT}."}
    model = MODEL | {"description": "Which network answers, by default the first of /health; NAME.RELEASE: what it "
                     "was in an older release that is served as well."}
    return {"type": "object", "required": ["file"], "additionalProperties": False,
            "properties": {"file": file, "model": model, **more}}


def upload(name: str, summary: str, form: Schema, found: Schema) -> Schema:
    """Return the description of an address that takes a form.

    Args:
        name: of the operation. summary: what it does. form: schema. found: answer() for 200.
    """
    return {"operationId": name, "summary": summary, "description": contract.DISCLAIMER,
            "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}}},
            "responses": {"200": found, **errors(*ERRORS)}}


def posts() -> dict[str, Schema]:
    """Return the descriptions of the addresses that take images."""
    plane = {"enum": [*PLANES, ""],
             "description": "Of a NIfTI volume, by default axial; of DICOM there are frames only."}
    number = {"anyOf": [NUMBER | {"maximum": 999_999}, {"const": ""}],
              "description": "Which slice or frame of a file with several, from 1."}
    place: dict[str, Schema] = {"plane": plane, "slice": number}
    tta = {"enum": ["0", "1"], "default": "0",
           "description": "1: average with the answer for the mirror image, for twice the work."}
    wanted = CLASS | {"description": "The class to explain; default: the predicted one."}
    several = fields(tta=tta)
    several["properties"]["file"] = {"type": "array", "items": several["properties"]["file"], "minItems": 1,
                                     "maxItems": BATCH_FILES}
    explained = answer("The prediction and the heatmap (Grad-CAM), row by row; or the image with the heatmap over it.",
                       "Explanation")
    explained["content"]["image/png"] = {"schema": {"type": "string", "format": "binary"}}
    return {
        "/predict": upload("predict", "Classify one slice of brain MRI.", fields(**place, tta=tta),
                           answer("The prediction.", "Prediction")),
        "/explain": upload("explain", "Classify one slice and say where the network saw a class.",
                           fields(**place, **{"class": wanted}), explained),
        "/predict/batch": upload("batch", f"Classify up to {BATCH_FILES} slices, together at most {BATCH_LIMIT}.",
                                 several, answer("A result or an error for each image, in their order.", "Batch")),
        "/slice": upload("slice", "Show one slice of a DICOM or NIfTI file, by default the middle one.",
                         fields(**place), answer("The slice, and how many the file has.", "Slice")),
    }


def checks() -> dict[str, Schema]:
    """Return the descriptions of the health checks; they need no key."""
    health = check("health", "Health", "Which networks work, and what computes them.")
    health["parameters"] = [{"name": "model", "in": "query", "description": "Ask about this network only.",
                             "schema": MODEL}]
    health["responses"] |= errors(404)
    live = {"operationId": "live", "summary": "Whether this process answers.",
            "responses": {"200": answer("It does.", "Live")}}
    ready = check("ready", "Ready", "Whether images can be classified.")
    return {"/health": health, "/health/live": live, "/health/ready": ready}


def document(is_keyed: bool = False) -> Schema:
    """Return the OpenAPI document.

    Args:
        is_keyed: whether images are taken with an API key only.
    """
    components = {"schemas": schemas(), "securitySchemes": {"key": {
        "type": "http", "scheme": "bearer", "description": "An API key, where the server wants one (API_KEYS)."}}}
    needed: Schema = {"security": [{"key": []}]} if is_keyed else {}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Brain-MRI classifier", "version": "1", "description": contract.DISCLAIMER},
        "paths": {path: {"post": one | needed} for path, one in posts().items()}
        | {path: {"get": one} for path, one in checks().items()},
        "components": components,
    }


def register(app: Flask) -> None:
    """Show the document of an application."""
    app.add_url_rule("/openapi.json", "openapi", lambda: jsonify(document(services().keys is not None)))
