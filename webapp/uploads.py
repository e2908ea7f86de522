"""Reading the form: one image in `file`, optionally the network in `model`. Everything else is refused."""

import io

from flask import Request, request
from werkzeug.exceptions import HTTPException
from werkzeug.formparser import FormDataParser

from imaging import contract, decode
from webapp.errors import Refused

FIELDS = ("file", "model")
LIMITS = {
    # A file of exactly MAX_BYTES and the form around it.
    "MAX_CONTENT_LENGTH": decode.MAX_BYTES + 64 * 2**10,
    # The parser counts its own 64 KiB read buffer into this limit: at 64 kB images are refused at random, depending on
    # where their line feeds fall (MultipartDecoder.receive_data in Werkzeug 3.1).
    "MAX_FORM_MEMORY_SIZE": 128 * 2**10,
    "MAX_FORM_PARTS": 8,
}


class StrictParser(FormDataParser):
    """A form parser that reports a malformed body; Werkzeug's default reads it as an empty form."""

    def __init__(self, **options) -> None:
        super().__init__(silent=False, **options)


class UploadRequest(Request):
    """A request whose uploads stay in memory: they show patients, and Werkzeug writes 500 kB and more to disk."""

    form_data_parser_class = StrictParser

    def _get_file_stream(self, *_args, **_kwargs) -> io.BytesIO:
        return io.BytesIO()


def read_upload() -> tuple[bytes, str]:
    """Return the uploaded image, undecoded, and the name of the network asked for (default: the first one).

    Raises:
        Refused: 415 not_multipart; 400 malformed_body, missing_file, several_files, several_models, unknown_field;
            404 unknown_model.
        werkzeug.exceptions.RequestEntityTooLarge: the body or a part of it is over LIMITS.
    """
    if request.mimetype != "multipart/form-data":
        raise Refused(
            415, "not_multipart", "Expected a multipart/form-data body with the image in the field `file`. "
            "Try: curl -F file=@scan.jpg .../predict",
        )  # fmt: skip
    files, form = parse_body()
    if unknown := (set(files) | set(form)) - set(FIELDS):
        raise Refused(400, "unknown_field", f"Expected only the fields {FIELDS}, received {len(unknown)} other(s).")
    return chosen_file(files), chosen_model(form)


def parse_body() -> tuple[dict, dict]:
    """Return the files and the form fields of the request, each a dict from field name to all its values.

    Raises Refused (400 malformed_body) if the body is not what its content type says.
    """
    try:
        # A file input left empty arrives as a file without a name and without content: that is no file.
        files = {name: [f for f in request.files.getlist(name) if f.filename] for name in request.files}
        return files, request.form.to_dict(flat=False)
    except HTTPException:
        raise
    except ValueError as error:
        raise Refused(
            400, "malformed_body", "The form cannot be read: it is cut off or its boundary is wrong. Send it again."
        ) from error


def chosen_file(files: dict) -> bytes:
    """Return the content of the one uploaded file. Raises Refused: 400 missing_file, several_files."""
    uploads = files.get("file", [])
    if not uploads:
        raise Refused(400, "missing_file", "No image was sent. Choose a file (form field `file`) and send again.")
    if len(uploads) > 1:
        raise Refused(400, "several_files", f"Expected one image, received {len(uploads)}. Send them one by one.")
    return uploads[0].read()


def chosen_model(form: dict) -> str:
    """Return the network asked for. Raises Refused: 400 several_models, 404 unknown_model."""
    names = form.get("model", [contract.NETWORKS[0]])
    if len(names) > 1:
        raise Refused(400, "several_models", f"Expected one model, received {len(names)}.")
    if names[0] not in contract.NETWORKS:
        raise Refused(404, "unknown_model", f"There is no such model. Choose one of: {', '.join(contract.NETWORKS)}.")
    return names[0]
