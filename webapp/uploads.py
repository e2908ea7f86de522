"""Reading the form: one image in `file`, optionally the network in `model`. Everything else is refused."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import BinaryIO

import gevent
from flask import Response, current_app, request
from multipart import MultipartError, MultipartSegment, ParserLimitReached, PushMultipartParser
from werkzeug.exceptions import RequestEntityTooLarge

from core import contract
from webapp.errors import not_served
from webapp.health import readiness
from webapp.refused import Refused
from webapp.services import services
from webapp.triton import served

FIELDS = ("file", "model")
BATCH_FILES, BATCH_BYTES = 32, 64 * 2**20
"""Most images of a request to /predict/batch, and most bytes of its body."""
PIECE = 2**20
"""Bytes of a refused body that are read at a time."""
PARSED = 2**16
"""Bytes of a form that are read and parsed at a time."""


class Budget:
    """A number of bytes that requests take and give back. Safe for threads and greenlets."""

    def __init__(self, most: int) -> None:
        self._left, self._lock = most, threading.Lock()

    @contextmanager
    def taken(self, count: int) -> Iterator[None]:
        """Hold so many bytes. Raises Refused (503 busy) when fewer are left."""
        with self._lock:
            if self._left < count:
                raise Refused(503, "busy", "Too many images are being received. Try again in a few seconds.")
            self._left -= count
        try:
            yield
        finally:
            with self._lock:
                self._left += count


def read_upload(*more: str) -> tuple[bytes, str, dict[str, list[str]]]:
    """Return the uploaded image, undecoded, the network asked for (see chosen_model()), and the form's fields.

    Args:
        more: names of fields that the form may have beside FIELDS.

    Raises:
        Refused: 415 not_multipart; 400 malformed_body, missing_file, several_files, several_models, unknown_field;
            404 unknown_model; 408 upload_too_slow; 503 busy.
        werkzeug.exceptions.RequestEntityTooLarge: the body or a part of it is over its limit.
    """
    require_form()
    files, form = receive(current_app.config["MAX_CONTENT_LENGTH"])
    require_known(files, form, (*FIELDS, *more))
    return chosen_file(files), chosen_model(form), form


def require_form() -> None:
    """Raise Refused (415 not_multipart) unless the body is a form that can hold files."""
    if request.mimetype != "multipart/form-data":
        raise Refused(
            415, "not_multipart", "Expected a multipart/form-data body with the image in the field `file`. "
            "Try: curl -F file=@scan.jpg .../predict",
        )  # fmt: skip


def require_known(files: dict[str, list[bytes]], form: dict[str, list[str]], fields: tuple[str, ...]) -> None:
    """Raise Refused (400 unknown_field) for a form with other fields."""
    if unknown := (set(files) | set(form)) - set(fields):
        raise Refused(400, "unknown_field", f"Expected only the fields {fields}, received {len(unknown)} other(s).")


def receive(most: int) -> tuple[dict[str, list[bytes]], dict[str, list[str]]]:
    """Return parse_body(), within UPLOAD_TIMEOUT and MAX_UPLOADS_MEMORY. Raises Refused (408, 503) otherwise.

    Args:
        most: bytes that the body may have; so many are set aside when it does not announce its length.
    """
    announced = most if request.content_length is None else min(request.content_length, most)
    limit = gevent.Timeout(services().settings.UPLOAD_TIMEOUT)
    try:
        with services().uploads.taken(announced), limit:
            return parse_body()
    except gevent.Timeout as error:
        if error is not limit:
            raise
        raise Refused(408, "upload_too_slow", "The upload took too long. Send it again, or a smaller file.") from None


def parse_body() -> tuple[dict[str, list[bytes]], dict[str, list[str]]]:
    """Return the files and the other fields of the request's form, each a dict from field name to all its values.

    Raises: as parts().
    """
    files: dict[str, list[bytes]] = {}
    fields: dict[str, list[str]] = {}
    for part, content in parts():
        if part.filename is None:
            fields.setdefault(part.name, []).append(content.decode("utf-8", "replace"))
        else:  # a file input that was left empty arrives as a file without a name: that is no file
            files.setdefault(part.name, []).extend([content] if part.filename else [])
    return files, fields


def parts() -> Iterator[tuple[MultipartSegment, bytes]]:
    """Yield the parts of the request's form, header and content.

    All in memory, as they show patients: Werkzeug writes files of 500 kB and more to the disk, and takes much longer.

    Raises:
        Refused: 400 malformed_body, if the body is not what its content type says.
        werkzeug.exceptions.RequestEntityTooLarge: the body or a part of it is over its limit.
    """
    boundary, left = request.mimetype_params.get("boundary", ""), services().settings.MAX_FORM_MEMORY_SIZE
    part: MultipartSegment = None  # the parser gives a header before its content
    pieces: list[bytes] = []
    try:
        # Latin 1 takes every file name, and all that matters of one is whether it is empty.
        parser = PushMultipartParser(boundary, max_header_size=left, max_segment_count=request.max_form_parts,
                                     header_charset="latin-1")
        for event in parser.parse_blocking(request.stream.read, PARSED):
            if event is None:
                content = b"".join(pieces)
                # RFC 2046 lets a part end without the empty line after its header; this parser reads on then.
                if content.startswith(b"--" + parser.boundary):
                    raise MultipartError
                yield part, content
            elif isinstance(event, bytes):
                pieces.append(event)
                left -= len(event) if part.filename is None else 0
                if left < 0:
                    raise RequestEntityTooLarge
            else:
                part, pieces = event, []
    except ParserLimitReached as error:
        raise RequestEntityTooLarge from error
    except MultipartError as error:
        raise Refused(
            400, "malformed_body", "The form cannot be read: it is cut off or its boundary is wrong. Send it again."
        ) from error


def read_batch(*more: str) -> tuple[list[bytes], str, dict[str, list[str]]]:
    """Return the uploaded images, undecoded, the network asked for, and the form's fields. Args: as read_upload().

    Raises:
        Refused: as read_upload; 400 too_many_files.
        werkzeug.exceptions.RequestEntityTooLarge: the body is over BATCH_BYTES, or a part of it over its limit.
    """
    request.max_content_length = BATCH_BYTES
    request.max_form_parts = BATCH_FILES + services().settings.MAX_FORM_PARTS
    require_form()
    files, form = receive(BATCH_BYTES)
    require_known(files, form, (*FIELDS, *more))
    uploads = files.get("file", [])
    if not uploads:
        raise Refused(400, "missing_file", "No image was sent. Send one or more in the form field `file`.")
    if len(uploads) > BATCH_FILES:
        raise Refused(400, "too_many_files", f"Expected at most {BATCH_FILES} images, received {len(uploads)}. Send "
                      "them in several requests.")
    return uploads, chosen_model(form), form


def chosen_file(files: dict[str, list[bytes]]) -> bytes:
    """Return the content of the one uploaded file. Raises Refused: 400 missing_file, several_files."""
    uploads = files.get("file", [])
    if not uploads:
        raise Refused(400, "missing_file", "No image was sent. Choose a file (form field `file`) and send again.")
    if len(uploads) > 1:
        raise Refused(400, "several_files", f"Expected one image, received {len(uploads)}. Send them one by one.")
    return uploads[0]


def chosen_model(form: dict[str, list[str]]) -> str:
    """Return the network asked for, or Backend.default(). Raises Refused: 400 several_models, 404 unknown_model."""
    names = form.get("model") or [served().default()]
    if len(names) > 1:
        raise Refused(400, "several_models", f"Expected one model, received {len(names)}.")
    if not contract.MODEL_NAME.fullmatch(names[0]) or served().lacks(names[0]):
        raise not_served(names[0], readiness()[1])
    return names[0]


def chosen_tta(form: dict[str, list[str]]) -> bool:
    """Return whether the answer shall be averaged with the mirror image's. Raises Refused: 400 bad_tta."""
    values = form.get("tta", ["0"])
    if values not in (["0"], ["1"]):
        raise Refused(400, "bad_tta", "Expected `tta` to be 1, for the average with the mirror image, or 0.")
    return values == ["1"]


def discard_rest(response: Response) -> Response:
    """Let what a refused request still sends be read once its answer is sent, so that the client gets the answer.

    gunicorn does that as well, but 1 KiB at a time out of a buffer that it copies each time: for 11 MiB half a second,
    in which its worker serves nobody.
    """
    if request.environ.get("wsgi.input_terminated"):
        response.call_on_close(partial(read_rest, request.environ["wsgi.input"]))
    return response


def read_rest(body: BinaryIO) -> None:
    """Read a body to its end and drop it, letting other requests in between."""
    with suppress(Exception):  # of gunicorn and of the socket; gunicorn then closes the connection
        while body.read(PIECE):
            gevent.sleep(0)
