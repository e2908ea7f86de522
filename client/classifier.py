"""From the bytes of one image to the probabilities of the four classes, through Triton."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from geventhttpclient.response import HTTPConnectionClosed
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from client.connections import Connections
from client.errors import BadImage, ClientError, ServerError, ServerUnavailable, translated, unknown_model
from imaging import contract
from imaging.decode import ImageError, canonical

ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[\w.-]+):[0-9]{1,5}")

LABELS_TRUSTED = 60.0
"""Seconds until the order of the served classes is compared with contract.CLASSES again: the server may be another."""

STALE = (ConnectionResetError, BrokenPipeError, HTTPConnectionClosed)
"""What a kept connection raises when its server has gone since the last request."""

SUM_TOLERANCE = 1e-3
"""How far from 1 a row of float32 probabilities may sum up to."""


@dataclass(frozen=True)
class Prediction:
    """What a network says about one image.

    Attributes:
        model: name out of contract.NETWORKS.
        label: the most probable class, out of contract.CLASSES.
        confidence: its probability, in [0, 1].
        probabilities: class name -> probability in [0, 1], in the order of contract.CLASSES; they sum to 1.
    """

    model: str
    label: str
    confidence: float
    probabilities: dict[str, float]


class Classifier:
    """Asks Triton. One instance may be used by many threads or greenlets at once.

    Args:
        url: host:port of Triton's HTTP endpoint, without a scheme.
        timeout: seconds that a whole call may take, waiting for the server in every form included.

    Raises:
        ValueError: the url carries a scheme, or the timeout is not positive.
    """

    def __init__(self, url: str, timeout: float = 10.0):
        if not ADDRESS.fullmatch(url):
            raise ValueError(f"Expected a url of the form host:port without a scheme. Received: url={url!r}.")
        if not timeout > 0:
            raise ValueError(f"Expected a timeout above 0 seconds. Received: timeout={timeout!r}.")
        self.url = url
        self.timeout = timeout
        self._connections = Connections(url)
        self._checked: dict[str, float] = {}

    def classify(self, image: bytes, model: str = contract.NETWORKS[0]) -> Prediction:
        """Classify one encoded image.

        Args:
            image: the content of a file in any format that imaging opens.
            model: name out of contract.NETWORKS.

        Returns:
            The prediction.

        Raises:
            BadImage: the bytes are no image, or the server cannot decode them.
            UnknownModel: the model does not exist, or the server does not serve it.
            DeadlineExceeded: no answer within the timeout.
            ServerUnavailable: no server, or its queue is full.
            ServerError: anything else that the server did wrong.
        """
        if model not in contract.NETWORKS:
            raise unknown_model(model)
        deadline = time.monotonic() + self.timeout
        try:
            encoded = canonical(image)
        except ImageError as error:
            raise BadImage(str(error), code=error.code) from error
        if time.monotonic() - self._checked.get(model, -LABELS_TRUSTED) >= LABELS_TRUSTED:
            self._check_labels(encoded, model, deadline)
        values = self._infer(encoded, model, deadline, class_count=0)
        return _prediction(values, model)

    def models(self) -> dict[str, bool]:
        """Return for every network that the server's repository holds whether its ensemble is ready.

        Raises:
            DeadlineExceeded, ServerUnavailable, ServerError: as classify does.
        """

        def ready(client: InferenceServerClient) -> dict[str, bool]:
            states = {name: client.is_model_ready(contract.ensemble(name)) for name in contract.NETWORKS}
            return {name: state for name, state in states.items() if state or _is_held(client, contract.ensemble(name))}

        return self._call(ready, "", time.monotonic() + self.timeout)

    def is_live(self) -> bool:
        """Return whether a server answers within the timeout. Never raises ClientError."""
        try:
            return self._call(lambda client: client.is_server_live(), "", time.monotonic() + self.timeout)
        except ClientError:
            return False

    def describe(self, model: str) -> dict[str, str]:
        """Return the parameters in the configuration of a network's ensemble, such as contract.DATA_SOURCE.

        Raises:
            UnknownModel, DeadlineExceeded, ServerUnavailable, ServerError: as classify does.
        """
        if model not in contract.NETWORKS:
            raise unknown_model(model)
        name = contract.ensemble(model)
        config = self._call(lambda client: client.get_model_config(name), model, time.monotonic() + self.timeout)
        return {key: value["string_value"] for key, value in config.get("parameters", {}).items()}

    def close(self) -> None:
        """Close the idle connections of the calling thread."""
        self._connections.close()

    def _call(self, ask: Callable[[InferenceServerClient], Any], model: str, deadline: float) -> Any:
        """Run one question to the server on a borrowed connection, within the time that is left."""
        try:
            return self._call_once(ask, model, deadline)
        except ServerUnavailable as error:
            self._checked.clear()
            self._connections.close()
            if not isinstance(error.__cause__, STALE):
                raise
        # A kept connection that the server closed meanwhile fails at once. Asking again is safe, as inference changes
        # nothing, and the second try opens a new connection.
        return self._call_once(ask, model, deadline)

    def _call_once(self, ask: Callable[[InferenceServerClient], Any], model: str, deadline: float) -> Any:
        with translated(deadline - time.monotonic(), model), self._connections.lend() as client:
            return ask(client)

    def _infer(self, encoded: bytes, model: str, deadline: float, class_count: int) -> np.ndarray:
        """Return the output: [1, 4] float32, or with a class count [1, 4] strings probability:index:label."""
        # An object array, because numpy's "S" type would cut zero bytes off the end of the file.
        tensor = InferInput(contract.IMAGE_INPUT, [1, 1], "BYTES")
        tensor.set_data_from_numpy(np.array([[encoded]], dtype=np.object_))
        output = InferRequestedOutput(contract.PROBABILITIES, class_count=class_count)

        def ask(client: InferenceServerClient) -> np.ndarray:
            left = max(1, int((deadline - time.monotonic()) * 1e6))  # microseconds, so that Triton drops it when late
            answer = client.infer(contract.ensemble(model), [tensor], outputs=[output], timeout=left)
            values = answer.as_numpy(contract.PROBABILITIES)
            if values is None:
                raise ServerError("The served model gave no usable answer.", detail=str(answer.get_response()))
            return values

        return self._call(ask, model, deadline)

    def _check_labels(self, encoded: bytes, model: str, deadline: float) -> None:
        """Compare the labels that the server gives its outputs with contract.CLASSES, position by position."""
        entries = self._infer(encoded, model, deadline, class_count=len(contract.CLASSES)).ravel()
        fields = [entry.decode("utf-8", "replace").split(":") for entry in entries]
        served = {index: "".join(label) for _, index, *label in fields}
        if served != {str(index): label for index, label in enumerate(contract.CLASSES)}:
            detail = f"labels of {contract.ensemble(model)}: {served}; expected: {contract.CLASSES}"
            raise ServerError("The served model names its classes differently from this program.", detail=detail)
        self._checked[model] = time.monotonic()


def _is_held(client: InferenceServerClient, model: str) -> bool:
    """Say whether the server's repository holds a model, be it loaded or not; the index of models may be closed."""
    try:
        client.get_model_config(model)
    except InferenceServerException as error:
        return "is not found" not in (error.message() or "")
    return True


def _prediction(values: np.ndarray, model: str) -> Prediction:
    """Turn an output into a Prediction; refuse what is no row of probabilities, as a broken server can say anything."""
    expected = (1, len(contract.CLASSES))
    if values.shape != expected or not np.isfinite(values).all():
        raise ServerError("The served model gave no usable answer.", detail=f"expected {expected}, came {values!r}")
    if (values < 0).any() or abs(float(values.sum()) - 1.0) > SUM_TOLERANCE:
        raise ServerError("The served model gave numbers that are no probabilities.", detail=repr(values))
    probabilities = dict(zip(contract.CLASSES, map(float, values[0]), strict=True))
    label = max(probabilities, key=probabilities.__getitem__)
    return Prediction(model, label, probabilities[label], probabilities)
