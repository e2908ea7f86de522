"""What can go wrong between an image and its prediction: one class with a stable code per kind of failure."""

import contextlib
import re
from collections.abc import Iterator

import gevent
from geventhttpclient.response import HTTPParseError
from tritonclient.utils import InferenceServerException

from core import contract


class ClientError(Exception):
    """A request that has no prediction.

    str(error) is meant for people and free of paths, addresses and tracebacks; `code` is stable and meant for
    programs; `detail` is what the server or the operating system said: for the log, never for the user.
    """

    code = "client_error"

    def __init__(self, message: str, *, code: str | None = None, detail: str = ""):
        super().__init__(message)
        self.code = code or self.code
        self.detail = detail


class ServerUnavailable(ClientError):
    """Nothing listens, the connection broke, or the server's queue is full: the same request may work later."""

    code = "server_unavailable"


class ServerBusy(ServerUnavailable):
    """The server's queue is full. It is the same server as before, and the connection to it is sound."""

    code = "busy"


class ServerBroken(ServerUnavailable):
    """A process of the server has died: it will not answer until it is started anew."""


class DeadlineExceeded(ClientError):
    """No answer came in time. The server may still be working on the request."""

    code = "deadline_exceeded"


class UnknownModel(ClientError):
    """The server does not serve this `model`, or no name may look like that (contract.MODEL_NAME)."""

    code = "unknown_model"
    model = ""


class UnknownRelease(UnknownModel):
    """The server does not serve this older release (any more)."""

    code = "unknown_release"


class BadImage(ClientError):
    """The bytes are not an image that can be classified. The code is the one of imaging, or corrupt_image."""

    code = "corrupt_image"


class ServerError(ClientError):
    """The server answered with an error or with numbers that are no probabilities: a fault of ours, not of the user."""

    code = "server_error"


# TensorFlow's own words for bytes it cannot decode; natively they come as HTTP 500, from the Python-based backend as
# HTTP 400, so the status alone does not tell a bad image from a fault of the server.
DECODE_FAILURE = re.compile(r"unknown image file format|(decode_?|invalid )(image|png|jpe?g|gif|bmp)", re.I)
DEAD_STUB = re.compile(r"is not healthy|stub process", re.I)
UNKNOWN_MODEL = re.compile(r"unknown model|has no available versions|is not found", re.I)


def unknown_model(model: str, detail: str = "") -> UnknownModel:
    """Return the error for a model name that is not served."""
    is_release = contract.MODEL_NAME.fullmatch(model) and contract.RELEASE in model
    kind, wanted = (UnknownRelease, "release") if is_release else (UnknownModel, "model")
    error = kind(f"Expected a {wanted} that is served. Received: model={model!r}.", detail=detail)
    error.model = model
    return error


def _from_answer(error: InferenceServerException, model: str) -> ClientError:
    """Translate an error answer of Triton by its HTTP status (a string) and its text."""
    detail, status = error.message() or "", error.status()
    if UNKNOWN_MODEL.search(detail):
        return unknown_model(model, detail)
    if status == "503" and "timeout expired" in detail.lower():
        return DeadlineExceeded("The inference server was too busy to answer in time. Try again later.", detail=detail)
    if status == "503":
        return ServerBusy("The inference server is too busy. Try again in a moment.", detail=detail)
    if DEAD_STUB.search(detail):
        return ServerBroken("A process of the inference server has died. Try again in a moment.", detail=detail)
    if status in ("400", "500") and DECODE_FAILURE.search(detail):
        return BadImage("The image is damaged and cannot be decoded. Send another copy of the file.", detail=detail)
    return ServerError("The inference server failed on this request. Its log says why.", detail=detail)


@contextlib.contextmanager
def translated(seconds: float, model: str) -> Iterator[None]:
    """Limit a block to a number of seconds and turn what it raises into this module's errors.

    gevent.Timeout is the only limit that holds when the server is stopped, drips bytes or swallows packets: the
    time-outs of tritonclient start anew with every read.

    Args:
        seconds: time left for the block; must be spent in gevent's calls for the limit to hold.
        model: name for the message of UnknownModel.

    Raises:
        ClientError: the subclass that fits.
    """
    limit = gevent.Timeout(max(seconds, 0.001))
    try:
        with limit:
            yield
    except ClientError:
        raise
    except InferenceServerException as error:
        raise _from_answer(error, model) from error
    except (gevent.Timeout, TimeoutError) as error:
        if isinstance(error, gevent.Timeout) and error is not limit:
            raise  # the deadline of a caller further out, not ours to answer
        raise DeadlineExceeded("The inference server did not answer in time.", detail=repr(error)) from error
    except (OSError, HTTPParseError) as error:
        message = "The inference server does not answer. Start it with: make serve"
        raise ServerUnavailable(message, detail=repr(error)) from error
    except ValueError as error:  # JSON or a tensor that cannot be read
        raise ServerError("What answers at this address is no working inference server.", detail=repr(error)) from error
