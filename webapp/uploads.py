"""Reading the form: one image in `file`, optionally the network in `model`. Everything else is refused."""

import errno
import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import BinaryIO

import gevent
from flask import Response, g, request
from multipart import MultipartError, MultipartSegment, ParserLimitReached, PushMultipartParser
from werkzeug.exceptions import RequestEntityTooLarge

from core import contract
from imaging import decode
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
REST = 4 * BATCH_BYTES
"""Most bytes that are read of what a refused request still sends; then its connection is closed, answer or not."""
PARSED = 2**16
"""Bytes of a form that are read and parsed at a time."""


class Budget:
    """A number of bytes that requests take and give back. Safe for threads and greenlets.

    They hold them until they are answered: a classification may take longer than the upload.
    """

    def __init__(self, most: int) -> None:
        self._left, self._lock = most, threading.Lock()

    def take(self, count: int) -> None:
        """Hold so many bytes until give(count). Raises Refused (503 busy) when fewer are left."""
        with self._lock:
            if self._left < count:
                raise Refused(503, "busy", "Too many images are being received. Try again in a few seconds.")
            self._left -= count

    def give(self, count: int) -> None:
        """Give so many bytes back."""
        with self._lock:
            self._left += count


def read_upload(*more: str) -> tuple[bytes, str, dict[str, list[str]]]:
    """Return the uploaded image, undecoded, the network asked for (see chosen_model()), and the form's fields.

    Args:
        more: names of fields that the form may have beside FIELDS.

    Raises:
        Refused: 415 not_multipart; 400 malformed_body, missing_file, several_files, several_models, unknown_field;
            404 unknown_model; 408 upload_too_slow; 413 file_too_large, too_many_parts, field_too_long; 503 busy.
    """
    require_form()
    most = services().settings.MAX_CONTENT_LENGTH
    files, form = receive(most, Refused(413, "file_too_large", f"The upload is larger than {mebibytes(most)} MiB. Send "
                                        "a smaller image, as PNG or JPEG."))
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


def mebibytes(most: int) -> str:
    """Return the size of the largest image in a body of so many bytes, as text: what surrounds it does not count."""
    return f"{min(most, decode.MAX_BYTES) / 2**20:.3g}"


def receive(most: int, too_large: Refused) -> tuple[dict[str, list[bytes]], dict[str, list[str]]]:
    """Return parse_body(), within UPLOAD_TIMEOUT and MAX_UPLOADS_MEMORY; that memory is given back with the answer.

    Args:
        most: bytes that the body may have; so many are set aside when it does not announce its length.
        too_large: what to raise for a larger body.

    Raises:
        Refused: 408 upload_too_slow; 503 busy; 413 and 400 as parts().
    """
    announced = most if request.content_length is None else min(request.content_length, most)
    limit = gevent.Timeout(services().settings.UPLOAD_TIMEOUT)
    services().uploads.take(announced)
    g.upload = announced
    try:
        with limit:
            return parse_body()
    except RequestEntityTooLarge:
        raise too_large from None
    except gevent.Timeout as error:
        if error is not limit:
            raise
        raise Refused(408, "upload_too_slow", "The upload took too long. Send it again, or a smaller file.") from None


def give_back(_error: BaseException | None = None) -> None:
    """Give back the memory of the current request's upload, which may have been with Triton until now."""
    services().uploads.give(g.pop("upload", 0))


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
        Refused: 400 malformed_body, if the body is not what its content type says; 413 too_many_parts, field_too_long.
        werkzeug.exceptions.RequestEntityTooLarge: the body is over its limit.
    """
    boundary, left = request.mimetype_params.get("boundary", ""), services().settings.MAX_FORM_MEMORY_SIZE
    most = request.max_form_parts or 0
    part: MultipartSegment = None  # the parser gives a header before its content
    pieces: list[bytes] = []
    begun = 0
    try:
        # Latin 1 takes every file name, and all that matters of one is whether it is empty.
        parser = PushMultipartParser(boundary, max_header_size=left, max_segment_count=most,
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
                    raise field_too_long()
            else:
                part, pieces, begun = event, [], begun + 1
    except ParserLimitReached as error:
        if begun < most:
            raise field_too_long() from error
        text = f"Expected at most {most} fields and images in a form. Send fewer."
        raise Refused(413, "too_many_parts", text) from error
    except MultipartError as error:
        raise Refused(
            400, "malformed_body", "The form cannot be read: it is cut off or its boundary is wrong. Send it again."
        ) from error


def field_too_long() -> Refused:
    """Return the answer to a form whose fields, or what they are called, are too long."""
    most = services().settings.MAX_FORM_MEMORY_SIZE // 1024
    return Refused(413, "field_too_long", f"The fields of a form that are no images may have {most} KiB. Send the "
                   "image as a file, and nothing that /openapi.json does not name.")


def read_batch(*more: str) -> tuple[list[bytes], str, dict[str, list[str]]]:
    """Return the uploaded images, undecoded, the network asked for, and the form's fields. Args: as read_upload().

    Raises:
        Refused: as read_upload; 400 too_many_files; 413 batch_too_large.
    """
    request.max_content_length = BATCH_BYTES
    request.max_form_parts = BATCH_FILES + services().settings.MAX_FORM_PARTS
    require_form()
    files, form = receive(BATCH_BYTES, Refused(413, "batch_too_large", f"The images are larger than "
                                               f"{BATCH_BYTES // 2**20} MiB together. Send them in several requests."))
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
        seconds = services().settings.UPLOAD_TIMEOUT
        response.call_on_close(partial(read_rest, request.environ["wsgi.input"], seconds))
    return response


def read_rest(body: BinaryIO, seconds: float) -> None:
    """Read a body to its end and drop it, letting other requests in between.

    Raises:
        ConnectionResetError: it has not ended after so many seconds or REST bytes. gunicorn then closes the connection.
    """
    with gevent.Timeout(seconds, False), suppress(Exception):  # of gunicorn and of the socket; it is closed then too
        for _ in range(REST // PIECE):
            if not body.read(PIECE):
                return
            gevent.sleep(0)
    raise ConnectionResetError(errno.ECONNRESET, "The rest of a refused upload did not end.")
