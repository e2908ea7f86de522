"""From the bytes of one image to the probabilities of the classes, and to the answer, through Triton."""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
from geventhttpclient.response import HTTPConnectionClosed
from numpy.typing import NDArray
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from client.answer import Answer, Prediction
from client.connections import Connections
from client.errors import (
    BadImage,
    ClientError,
    ServerBusy,
    ServerError,
    ServerUnavailable,
    UnknownModel,
    translated,
    unknown_model,
)
from client.served import TITLES, order
from core import contract
from imaging import golden
from imaging.decode import ImageError, canonical, mirrored

Result = TypeVar("Result")

TRUSTED = 60.0
"""Seconds until the served classes and parameters are looked at again: the server may have become another one."""

STALE = (ConnectionResetError, BrokenPipeError, HTTPConnectionClosed)
"""What a kept connection raises when its server has gone since the last request."""

SMALL = 2**20
"""Bytes of an encoded image up to which it shares a request with others: Triton takes 64 MB a request."""

SUM_TOLERANCE = 1e-3
"""How far from 1 a row of float32 probabilities may sum up to."""


@dataclass(frozen=True)
class Explanation:
    """A prediction, and where the network saw each class.

    Attributes:
        prediction: what classify() returns.
        heatmaps: class name -> float32 [h, w] in [0, 1] (Grad-CAM, see stages/layers/explain.py); stretched over the
            whole image.
    """

    prediction: Prediction
    heatmaps: dict[str, NDArray[np.float32]]


def here(work: Callable[[bytes], bytes], image: bytes) -> bytes:
    """Return work(image)."""
    return work(image)


class Classifier:
    """Asks Triton. One instance may be used by many threads or greenlets at once.

    Args:
        url: host:port of Triton's HTTP endpoint, without a scheme.
        timeout: seconds that a whole call may take, waiting for the server in every form included.
        run: calls a function of imaging with the image's bytes and returns its result, perhaps in a thread of its own:
            a large picture takes a second to decode.

    Raises:
        ValueError: the url carries a scheme, or the timeout is not positive.
    """

    def __init__(self, url: str, timeout: float = 10.0, run: Callable[..., bytes] = here):
        if not contract.ADDRESS.fullmatch(url):
            raise ValueError(f"Expected a url of the form host:port without a scheme. Received: url={url!r}.")
        if not timeout > 0:
            raise ValueError(f"Expected a timeout above 0 seconds. Received: timeout={timeout!r}.")
        self.url = url
        self.timeout = timeout
        self._run = run
        self._connections = Connections(url)
        self._checked: dict[str, float] = {}
        self._configs: dict[str, tuple[float, dict[str, Any]]] = {}
        self._default = -TRUSTED, ""

    def classify(self, image: bytes, model: str | None = None, tta: bool = False) -> Prediction:
        """Classify one encoded image.

        Args:
            image: the content of a file in any format that imaging opens.
            model: name as in contract.MODEL_NAME; None: default().
            tta: average with the answer for the mirror image: twice the work. MODEL_CARD.md says what it gains.

        Returns:
            The prediction.

        Raises:
            BadImage: the bytes are no image, or the server cannot decode them.
            UnknownModel: the model does not exist, or the server does not serve it.
            DeadlineExceeded: no answer within the timeout.
            ServerUnavailable: no server, or its queue is full.
            ServerError: anything else that the server did wrong.
        """
        deadline = time.monotonic() + self.timeout
        encoded, name = self._encoded(image, model, deadline)
        prediction = self._predicted(encoded, name, deadline)
        if not tta:
            return prediction
        return _averaged(prediction, self._predicted(self._made(mirrored, encoded), name, deadline))

    def classify_all(self, images: Sequence[bytes], model: str | None = None,
                     tta: bool = False) -> list[Prediction | BadImage]:
        """Classify several encoded images, those of up to SMALL bytes with as few requests as the server allows.

        Args:
            images: the contents of files, see classify(). model, tta: as in classify().

        Returns:
            for each image the prediction, or why there is none. All together may take the timeout times their number.

        Raises:
            UnknownModel, DeadlineExceeded, ServerUnavailable, ServerError: as classify().
        """
        deadline = time.monotonic() + self.timeout * max(1, len(images))
        read = [_attempted(partial(self._encoded, image, model, deadline)) for image in images]
        name = next((one[1] for one in read if isinstance(one, tuple)), "")
        encoded = [one[0] if isinstance(one, tuple) else one for one in read]
        together = partial(self._together, model=name, deadline=deadline)
        found = _of_the_good(encoded, together)
        if not tta:
            return found
        turned = [_attempted(partial(self._made, mirrored, one)) if isinstance(one, bytes) else one for one in encoded]
        return [_both(one, other) for one, other in zip(found, _of_the_good(turned, together), strict=True)]

    def explain(self, image: bytes, model: str | None = None) -> Explanation:
        """Classify one encoded image and say where the network saw what; takes hardly longer than classify().

        Args, Raises: as classify(). UnknownModel also for a network that was exported without heatmaps.
        """
        deadline, outputs = time.monotonic() + self.timeout, (contract.PROBABILITIES, contract.HEATMAPS)
        encoded, name = self._encoded(image, model, deadline)
        answer = self._infer([encoded], name, contract.explain(name), deadline, outputs)
        prediction = _prediction(answer[contract.PROBABILITIES], name)
        return Explanation(prediction, _heatmaps(answer[contract.HEATMAPS]))

    def answer(self, image: bytes, model: str | None = None, tta: bool = False,
               warnings: Sequence[str] = ()) -> Answer:
        """Return what is said about one encoded image: classify(), and what the server knows of the network.

        Args, Raises: as classify(). warnings: what a person should know of the file, for the answer.
        """
        prediction = self.classify(image, model, tta)
        return Answer.of(prediction, self._facts(prediction.model), warnings)

    def answer_all(self, images: Sequence[bytes], model: str | None = None,
                   tta: bool = False) -> list[Answer | BadImage]:
        """Return classify_all() as answers. Args, Raises: as classify_all()."""
        found = self.classify_all(images, model, tta)
        facts = {name: self._facts(name) for name in {one.model for one in found if isinstance(one, Prediction)}}
        return [Answer.of(one, facts[one.model]) if isinstance(one, Prediction) else one for one in found]

    def answer_with_heatmaps(self, image: bytes, model: str | None = None, tta: bool = False,
                             warnings: Sequence[str] = ()) -> tuple[Answer, dict[str, NDArray[np.float32]]]:
        """Return answer(), and the heatmaps of explain(); those are of the image alone, tta or not.

        Args, Raises: as answer() and explain().
        """
        explanation = self.explain(image, model)
        prediction = self.classify(image, model, tta) if tta else explanation.prediction
        return Answer.of(prediction, self._facts(prediction.model), warnings), explanation.heatmaps

    def _facts(self, model: str) -> dict[str, str]:
        """Return describe(), asked after a prediction, as a lost server is forgotten; {} if the server does not say."""
        try:
            return self.describe(model)
        except ClientError:
            return {}

    def _encoded(self, image: bytes, model: str | None, deadline: float) -> tuple[bytes, str]:
        """Return an image as the server takes it and the network to ask, whose labels were looked at.

        Raises as classify(); of a bad image or name no server hears.
        """
        if model is not None and not contract.MODEL_NAME.fullmatch(model):
            raise unknown_model(model)
        encoded = self._made(partial(canonical, is_decoded_next=True), image)
        name = self.default() if model is None else model
        if time.monotonic() - self._checked.get(name, -TRUSTED) >= TRUSTED:
            self._check_labels(encoded, name, deadline)
        return encoded, name

    def _predicted(self, encoded: bytes, model: str, deadline: float) -> Prediction:
        """Return what a network says about an encoded image. Raises as classify()."""
        return self._rows([encoded], model, deadline)[0]

    def _together(self, encoded: Sequence[bytes], model: str, deadline: float) -> list[Prediction | BadImage]:
        """Return what a network says about each of some encoded images, or why it cannot. Raises as classify_all()."""
        answers: dict[int, Prediction] = {}
        small = [index for index, one in enumerate(encoded) if len(one) <= SMALL]
        most = max(1, self._config(model).get("max_batch_size", 1))
        for group in (small[start : start + most] for start in range(0, len(small), most)):
            with suppress(BadImage):  # one of them is damaged: each is asked for alone then
                rows = self._rows([encoded[index] for index in group], model, deadline)
                answers.update(zip(group, rows, strict=True))
        alone = partial(Classifier._predicted, self)  # a subclass's own may put images together again
        return [answers[index] if index in answers else _attempted(partial(alone, one, model, deadline))
                for index, one in enumerate(encoded)]

    def _rows(self, encoded: Sequence[bytes], model: str, deadline: float) -> list[Prediction]:
        """Return what a network says about encoded images, with one request. Raises as classify()."""
        outputs = (contract.PROBABILITIES,)
        values = self._infer(encoded, model, contract.classifier(model), deadline, outputs)[contract.PROBABILITIES]
        if values.shape[:1] != (len(encoded),):
            raise ServerError("The served model gave no usable answer.", detail=f"{len(encoded)} images, {values!r}")
        return [_prediction(row[None], model) for row in values]

    def _made(self, work: Callable[[bytes], bytes], image: bytes) -> bytes:
        """Return what a function of imaging makes of an image. Raises BadImage."""
        try:
            return self._run(work, image)
        except ImageError as error:
            raise BadImage(str(error), code=error.code) from error

    def models(self, expected: Sequence[str] = ()) -> dict[str, bool]:
        """Return for everything that the server can be asked for, older releases too, whether it is ready.

        Args:
            expected: names that the server's repository is known to hold: listed even if the server lists only what is
                ready.

        Returns:
            name -> whether its ensemble is ready, in the order of order(): the first one is the default.

        Raises:
            DeadlineExceeded, ServerUnavailable, ServerError: as classify does.
        """
        states = dict.fromkeys(self._loaded(), True)
        states |= self._ready([name for name in expected or TITLES if name not in states])
        facts = {name: self.describe(name) if state else {} for name, state in states.items()}
        return {name: states[name] for name in sorted(states, key=lambda name: order(name, facts[name]))}

    def default(self) -> str:
        """Return the network that answers when none is named: the first that the server serves.

        It is asked for again after TRUSTED seconds, and when the connection to the server was lost.

        Raises:
            UnknownModel: the server serves no network.
            DeadlineExceeded, ServerUnavailable, ServerError: as classify does.
        """
        asked, name = self._default
        if time.monotonic() - asked < TRUSTED:
            return name
        first = next(iter(self.models()), None)
        if first is None:
            raise UnknownModel("The server serves no network.")
        self._default = time.monotonic(), first
        return first

    def is_live(self) -> bool:
        """Return whether a server answers within the timeout. Never raises ClientError."""
        try:
            return self._call(lambda client: bool(client.is_server_live()), "", time.monotonic() + self.timeout)
        except ClientError:
            return False

    def describe(self, model: str, trusted: float = TRUSTED) -> dict[str, str]:
        """Return the parameters in the configuration of a network's ensemble, such as contract.DATA_SOURCE.

        They are asked for again after so many seconds, and when the connection to the server was lost.

        Args:
            model: name as in contract.MODEL_NAME. trusted: seconds; 0: ask now.

        Raises:
            UnknownModel, DeadlineExceeded, ServerUnavailable, ServerError: as classify does.
        """
        if not contract.MODEL_NAME.fullmatch(model):
            raise unknown_model(model)
        parameters = self._config(model, trusted).get("parameters", {})
        return {key: value["string_value"] for key, value in parameters.items()}

    def verify(self, model: str, most: int | None = None) -> None:
        """Compare the network's answers to imaging.golden's images with those that were exported with it.

        A network exported without them only has to answer.

        Args:
            model: name as in contract.MODEL_NAME.
            most: so many images only.

        Raises:
            ServerError: the numbers are not the exported ones: damaged weights, or another model under this name.
            UnknownModel, DeadlineExceeded, ServerUnavailable: as classify does.
        """
        known = _golden(self.describe(model))
        for index, image in enumerate(golden.images()[:most]):
            answers = list(self.classify(image, model).probabilities.values())
            if known is not None and not np.abs(known[index] - answers).max() <= golden.TOLERANCE:
                detail = f"golden image {index} of {model}: expected {known[index]}, came {answers}"
                raise ServerError("The served model does not answer as it did when it was exported.", detail=detail)

    def close(self) -> None:
        """Close the idle connections of the calling thread."""
        self._connections.close()

    def _config(self, model: str, trusted: float = TRUSTED) -> dict[str, Any]:
        """Return the configuration of a network's ensemble; asked for as describe() says. Raises as describe()."""
        asked, config = self._configs.get(model, (-trusted, {}))
        if time.monotonic() - asked >= trusted:
            name = contract.classifier(model)
            config = self._call(lambda client: client.get_model_config(name), model, time.monotonic() + self.timeout)
            self._configs[model] = time.monotonic(), config
        return config

    def _loaded(self) -> list[str]:
        """Return the networks whose ensembles the server has loaded; [] if it keeps its statistics closed."""
        try:
            models = self._call(lambda client: client.get_inference_statistics()["model_stats"], "",
                                time.monotonic() + self.timeout)
        except ServerError:
            return []
        return [name for one in models if (name := contract.model(one["name"]))]

    def _ready(self, names: Sequence[str]) -> dict[str, bool]:
        """Return which of some names the server's repository holds, and whether each is ready. Raises as models()."""

        def ask(client: InferenceServerClient) -> dict[str, bool]:
            states = {name: client.is_model_ready(contract.classifier(name)) for name in names}
            return {name: state for name, state in states.items()
                    if state or _is_held(client, contract.classifier(name))}

        return self._call(ask, "", time.monotonic() + self.timeout) if names else {}

    def _call(self, ask: Callable[[InferenceServerClient], Result], model: str, deadline: float) -> Result:
        """Run one question to the server on a borrowed connection, within the time that is left."""
        try:
            return self._call_once(ask, model, deadline)
        except ServerBusy:
            raise  # what is known holds; asking for it again would be more work for a server that has too much
        except ServerUnavailable as error:
            self._checked.clear()
            self._configs.clear()
            self._default = -TRUSTED, ""
            self._connections.close()
            if not isinstance(error.__cause__, STALE):
                raise
        # A kept connection that the server closed meanwhile fails at once. Asking again is safe, as inference changes
        # nothing, and the second try opens a new connection.
        return self._call_once(ask, model, deadline)

    def _call_once(self, ask: Callable[[InferenceServerClient], Result], model: str, deadline: float) -> Result:
        with translated(deadline - time.monotonic(), model), self._connections.lend() as client:
            return ask(client)

    def _infer(self, encoded: Sequence[bytes], model: str, ensemble: str, deadline: float, outputs: tuple[str, ...],
               class_count: int = 0) -> dict[str, NDArray[Any]]:
        """Return outputs by name, a row an image; with a class count as strings probability:index:label."""
        # An object array, because numpy's "S" type would cut zero bytes off the end of the file.
        tensor = InferInput(contract.IMAGE_INPUT, [len(encoded), 1], "BYTES")
        tensor.set_data_from_numpy(np.array([[image] for image in encoded], dtype=np.object_))
        wanted = [InferRequestedOutput(name, class_count=class_count) for name in outputs]

        def ask(client: InferenceServerClient) -> dict[str, NDArray[Any]]:
            left = max(1, int((deadline - time.monotonic()) * 1e6))  # microseconds, so that Triton drops it when late
            answer = client.infer(ensemble, [tensor], outputs=wanted, timeout=left)
            values = {name: answer.as_numpy(name) for name in outputs}
            if any(value is None for value in values.values()):
                raise ServerError("The served model gave no usable answer.", detail=str(answer.get_response()))
            return values

        return self._call(ask, model, deadline)

    def _check_labels(self, encoded: bytes, model: str, deadline: float) -> None:
        """Compare the labels that the server gives its outputs with contract.CLASSES, position by position."""
        outputs = (contract.PROBABILITIES,)
        answer = self._infer([encoded], model, contract.classifier(model), deadline, outputs, len(contract.CLASSES))
        entries = answer[contract.PROBABILITIES].ravel()
        fields = [entry.decode("utf-8", "replace").split(":") for entry in entries]
        served = {index: "".join(label) for _, index, *label in fields}
        if served != {str(index): label for index, label in enumerate(contract.CLASSES)}:
            detail = f"labels of {contract.classifier(model)}: {served}; expected: {contract.CLASSES}"
            raise ServerError("The served model names its classes differently from this program.", detail=detail)
        self._checked[model] = time.monotonic()


def _attempted(work: Callable[[], Result]) -> Result | BadImage:
    """Return work(), or the BadImage that it raises."""
    try:
        return work()
    except BadImage as error:
        return error


def _of_the_good(items: Sequence[bytes | BadImage],
                 work: Callable[[Sequence[bytes]], list[Prediction | BadImage]]) -> list[Prediction | BadImage]:
    """Return work() of the items that are no BadImage, each in its place."""
    good = [one for one in items if isinstance(one, bytes)]
    done = iter(work(good) if good else [])
    return [next(done) if isinstance(one, bytes) else one for one in items]


def _both(one: Prediction | BadImage, other: Prediction | BadImage) -> Prediction | BadImage:
    """Return the average for an image and its mirror image, or why there is none."""
    if isinstance(one, BadImage):
        return one
    return other if isinstance(other, BadImage) else _averaged(one, other)


def _golden(facts: dict[str, str]) -> NDArray[np.float64] | None:
    """Return the exported answers [n, K] to the golden images for what computes now; None if there are none."""
    in_int8 = facts.get(contract.RUNTIME) == "openvino" and facts.get(contract.PRECISION) == "int8"
    text = facts.get(contract.GOLDEN_INT8 if in_int8 else contract.GOLDEN)
    try:
        return None if text is None else golden.from_text(text)
    except ValueError as error:
        raise ServerError("The served model's golden answers cannot be read.", detail=str(error)) from error


def _is_held(client: InferenceServerClient, model: str) -> bool:
    """Say whether the server's repository holds a model, be it loaded or not; the index of models may be closed."""
    try:
        client.get_model_config(model)
    except InferenceServerException as error:
        return "is not found" not in (error.message() or "")
    return True


def _prediction(values: NDArray[Any], model: str) -> Prediction:
    """Turn an output into a Prediction; refuse what is no row of probabilities, as a broken server can say anything."""
    expected = (1, len(contract.CLASSES))
    row = values[0].tolist() if values.shape == expected else [math.nan]  # so few numbers are no work for numpy
    if not all(map(math.isfinite, row)):
        raise ServerError("The served model gave no usable answer.", detail=f"expected {expected}, came {values!r}")
    if min(row) < 0 or abs(sum(row) - 1.0) > SUM_TOLERANCE:
        raise ServerError("The served model gave numbers that are no probabilities.", detail=repr(values))
    probabilities = dict(zip(contract.CLASSES, row, strict=True))
    label = max(probabilities, key=probabilities.__getitem__)
    return Prediction(model, label, probabilities[label], probabilities)


def _averaged(one: Prediction, other: Prediction) -> Prediction:
    """Return the mean of the predictions of one network for an image and its mirror image."""
    probabilities = {name: (value + other.probabilities[name]) / 2 for name, value in one.probabilities.items()}
    label = max(probabilities, key=probabilities.__getitem__)
    return Prediction(one.model, label, probabilities[label], probabilities, tta=True)


def _heatmaps(values: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Turn an output into a heatmap for each class; refuse what are none."""
    if values.ndim != 4 or values.shape[:2] != (1, len(contract.CLASSES)) or not np.isfinite(values).all():
        raise ServerError("The served model gave no usable heatmaps.", detail=f"came {values.shape}: {values!r}")
    if values.min() < 0 or values.max() > 1 + SUM_TOLERANCE:
        raise ServerError("The served model gave numbers that are no heatmaps.", detail=repr(values))
    return dict(zip(contract.CLASSES, np.minimum(values[0], 1.0), strict=True))
