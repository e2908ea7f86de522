"""The API as an OpenAPI 3.1 document, at /openapi.json (https://spec.openapis.org/oas/v3.1.1.html)."""

from flask import Flask, jsonify

from core import contract
from imaging import decode, slices
from webapp.uploads import BATCH_FILES

ERRORS = {
    400: "The request is malformed: no file or several, unknown fields, a form that cannot be read.",
    401: "The server wants an API key, and none came or a wrong one.",
    403: "A browser sent the form on behalf of another site.",
    404: "There is no such model or release, or it was exported without heatmaps.",
    405: "The address does not take this method.",
    408: "The upload took too long.",
    413: "The file is larger than 10 MiB, or the image than 16 megapixels.",
    415: "The body is no multipart form, or the file is none of the accepted formats.",
    422: "The image is damaged, too small, or of another modality; or a file has several and none was chosen.",
    429: "This client sends too many images: try again after Retry-After seconds.",
    500: "The server made a mistake.",
    503: "The model server is down, late or busy: try again after Retry-After seconds.",
}
"""Status -> what it means, for every status that /predict can have beside 200."""

MODEL = {"type": "string", "pattern": f"^{contract.MODEL_NAME.pattern}$", "examples": list(contract.SERVED)}
PROBABILITY = {"type": "number", "minimum": 0, "maximum": 1}
REQUEST_ID = {"type": "string", "pattern": "^[0-9a-f]{32}$"}
PLANES = (*slices.PLANES, slices.FRAMES)
NUMBER = {"type": "integer", "minimum": 1}
WARNINGS = {"type": "array", "items": {"type": "string"}}
TEXT_OR_NULL = {"type": ["string", "null"]}


def record(example: dict | None = None, **properties: dict) -> dict:
    """Return the schema of an object that has all of some properties and no others."""
    schema = {"type": "object", "required": list(properties), "properties": properties, "additionalProperties": False}
    return schema | ({"examples": [example]} if example else {})


def schemas() -> dict[str, dict]:
    """Return the shapes of the answers by name."""
    shares = dict(zip(contract.CLASSES, (0.9712, 0.0154, 0.0089, 0.0045), strict=True))
    prediction = {"success": True, "predicted_class": contract.CLASSES[0], "confidence": 0.9712,
                  "all_probabilities": shares, "model_type": contract.NETWORKS[0], "tta": False,
                  "needs_review": False, "review_threshold": 0.8,
                  "data_source": contract.PHANTOM, "warnings": [], "disclaimer": contract.DISCLAIMER,
                  "request_id": "0" * 32}
    status = {"enum": ["ok", "unavailable"]}
    predicted = {
        "success": {"const": True}, "predicted_class": {"enum": list(contract.CLASSES)}, "confidence": PROBABILITY,
        "all_probabilities": record(**dict.fromkeys(contract.CLASSES, PROBABILITY)), "model_type": MODEL,
        "tta": {"type": "boolean"}, "needs_review": {"type": "boolean"},
        "review_threshold": {"type": ["number", "null"], "minimum": 0, "maximum": 1}, "data_source": TEXT_OR_NULL,
        "warnings": WARNINGS, "disclaimer": {"const": contract.DISCLAIMER}, "request_id": REQUEST_ID}
    explained = {"explained_class": {"enum": list(contract.CLASSES)},
                 "heatmap": {"type": "array", "items": {"type": "array", "items": PROBABILITY}}}
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


def answer(text: str, schema: str, later: bool = False) -> dict:
    """Return the description of a JSON answer.

    Args:
        text: what it means. schema: name out of schemas(). later: whether it carries Retry-After.
    """
    headers = {"X-Request-ID": {"description": "The id of the request in the log.", "schema": REQUEST_ID}}
    if later:
        headers["Retry-After"] = {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {"description": text, "headers": headers, "content": content}


def errors(*statuses: int) -> dict[str, dict]:
    """Return the descriptions of some errors."""
    return {str(status): answer(ERRORS[status], "Error", later=status in (429, 503)) for status in statuses}


def check(name: str, schema: str, text: str) -> dict:
    """Return the description of a health check that answers 200 or 503 in the same shape."""
    return {"operationId": name, "summary": text, "responses": {
        "200": answer("All is well.", schema), "503": answer("Not all is well.", schema, later=True)}}


def document() -> dict:
    """Return the OpenAPI document."""
    file = {"type": "string", "format": "binary", "description": f"The image: {decode.ACCEPTED}, at most 10 MiB."}
    model = MODEL | {"default": contract.NETWORKS[0],
                     "description": "custom.RELEASE: what it was in an older release that is served as well."}
    plane = {"enum": [*PLANES, ""],
             "description": "Of a NIfTI volume, by default axial; of DICOM there are frames only."}
    number = {"anyOf": [NUMBER | {"maximum": 999_999}, {"const": ""}],
              "description": "Which slice or frame of a file with several, from 1."}
    form = {"type": "object", "required": ["file"], "additionalProperties": False, "properties": {
        "file": file, "model": model, "plane": plane, "slice": number}}
    tta = {"enum": ["0", "1"], "default": "0",
           "description": "1: average with the answer for the mirror image, for twice the work."}
    predicted = form | {"properties": form["properties"] | {"tta": tta}}
    predict = {"operationId": "predict", "summary": "Classify one slice of brain MRI.",
               "description": contract.DISCLAIMER,
               "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": predicted}}},
               "responses": {"200": answer("The prediction.", "Prediction"), **errors(*ERRORS)}}
    wanted = {"enum": list(contract.CLASSES), "description": "The class to explain; default: the predicted one."}
    more = form | {"properties": form["properties"] | {"class": wanted}}
    explained = answer("The prediction and the heatmap (Grad-CAM), row by row; or the image with the heatmap over it.",
                       "Explanation")
    explained["content"]["image/png"] = {"schema": {"type": "string", "format": "binary"}}
    explain = {"operationId": "explain", "summary": "Classify one slice and say where the network saw a class.",
               "description": contract.DISCLAIMER,
               "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": more}}},
               "responses": {"200": explained, **errors(*ERRORS)}}
    several = {"type": "array", "items": file, "minItems": 1, "maxItems": BATCH_FILES}
    many = form | {"properties": {"file": several, "model": model}}
    one = {"operationId": "slice", "summary": "Show one slice of a DICOM or NIfTI file, by default the middle one.",
           "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}}},
           "responses": {"200": answer("The slice, and how many the file has.", "Slice"), **errors(*ERRORS)}}
    batch = {"operationId": "batch", "summary": f"Classify up to {BATCH_FILES} slices, together at most 64 MiB.",
             "description": contract.DISCLAIMER,
             "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": many}}},
             "responses": {"200": answer("A result or an error for each image, in their order.", "Batch"),
                           **errors(*ERRORS)}}
    health = check("health", "Health", "Which networks work, and what computes them.")
    health["parameters"] = [{"name": "model", "in": "query", "description": "Ask about this network only.",
                             "schema": MODEL}]
    health["responses"] |= errors(404)
    live = {"operationId": "live", "summary": "Whether this process answers.",
            "responses": {"200": answer("It does.", "Live")}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Brain-MRI classifier", "version": "1", "description": contract.DISCLAIMER},
        "paths": {
            "/predict": {"post": predict},
            "/explain": {"post": explain},
            "/predict/batch": {"post": batch},
            "/slice": {"post": one},
            "/health": {"get": health},
            "/health/live": {"get": live},
            "/health/ready": {"get": check("ready", "Ready", "Whether images can be classified.")},
        },
        "components": {"schemas": schemas()},
    }


def register(app: Flask) -> None:
    """Show the document of an application."""
    app.add_url_rule("/openapi.json", "openapi", lambda: jsonify(document()))
