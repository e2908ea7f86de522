"""The TensorFlow backend for Triton servers that no longer bring one (25.03 and later).

The parameter "runtime" of a model's configuration chooses what computes on a CPU: "tensorflow" (default); "openvino",
which reads the same SavedModel, or <version>/openvino.int8/model.xml when the parameter "precision" says int8; or
"numpy", for the preprocessing of images: see runtimes.py. Triton's own TensorFlow backend and models on a GPU ignore
both parameters and compute with TensorFlow.

As backends/tensorflow/model.py in Triton's backend directory it serves every model whose configuration says
backend: "tensorflow", the same SavedModels that the native backend of 25.02 serves; Triton calls this a Python-based
backend (https://github.com/triton-inference-server/backend/blob/main/docs/python_based_backends.md). It imports nothing
of this project from outside its folder, which is mounted alone into a container. requirements.txt says what it needs.

What it expects of a model: <version>/model.savedmodel with the signature serving_default; every input and output of
config.pbtxt under the signature's name, with its data type and shape, the batch dimension first.
"""

import atexit
import ctypes
import json
import os
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

sys.path.append(str(Path(__file__).parent))  # the stub imports this file by its path and does not search its folder
from runtimes import SIGNATURE, OpenVino, count_rows, joined, load  # noqa: E402

FIRST_CORE_FOR_NUMPY_2 = (2, 52)
"""Version of Triton's core in release 24.11. Older stubs read [1, 2, 3] of numpy 2 as [1, 1, 1] without an error."""

WAITING, PATIENCE = 64, 10.0
"""Most requests of a network that wait, and seconds that one waits if it does not name its own: what
default_queue_policy says in config.pbtxt. `python -m serving` takes that out, because with it Triton 2.51 overlooks a
request that comes while execute() runs, for up to half a second."""
POLICY = ("default_timeout_microseconds", "allow_timeout_override", "max_queue_size")

# Smallest valid PNG, one black pixel: bytes to warm up a model that decodes images.
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c49444154789c63606060000000040001f61738550000000049454e44ae426082"
)


def require_fitting_numpy(version: str, core: str) -> None:
    """Refuse numpy 2 where Triton would read its arrays wrongly.

    Args:
        version: numpy's version.
        core: version of Triton's core such as "2.51.0"; empty if unknown, which counts as too old.

    Raises:
        pb_utils.TritonModelException: Triton would answer with wrong numbers.
    """
    numbers = tuple(int(part) for part in re.findall(r"\d+", core)[:2])
    if int(version.split(".")[0]) >= 2 and numbers < FIRST_CORE_FOR_NUMPY_2:
        raise pb_utils.TritonModelException(
            f"Expected numpy below 2, because Triton before 24.11 reads the arrays of numpy 2 wrongly. Received: numpy "
            f"{version}, Triton core {core or 'of unknown version'}. Run: pip install 'numpy<2', or set "
            f"TRITON_SERVER_VERSION to the core's version if it is 2.52 or newer."
        )


def outputs_of(request) -> set[str]:
    """Return the names of the outputs that a request asks for."""
    return set(request.requested_output_names())


def require_agreement(model: str, batched: bool, tensors: dict, specs: dict, exact: bool) -> None:
    """Compare the inputs or the outputs of a configuration with those of the model.

    Args:
        model: name of the model, for the message.
        batched: the configuration's dims leave out the batch dimension.
        tensors: name -> entry of the configuration.
        specs: name -> (dtype, shape), see TensorFlow; a shape of None fits all.
        exact: every tensor of the model must be configured.

    Raises:
        pb_utils.TritonModelException: names, data types or shapes differ.
    """
    missing = set(tensors) ^ set(specs) if exact else set(tensors) - set(specs)
    if missing:
        raise pb_utils.TritonModelException(
            f"Expected {model}/config.pbtxt to name what {SIGNATURE} has: {sorted(specs)}. Received: {sorted(tensors)}."
        )
    for name, entry in tensors.items():
        dims = [None if size == -1 else int(size) for size in entry["dims"]]
        dtype, shape = np.dtype(pb_utils.triton_string_to_numpy(entry["data_type"])), [None] * batched + dims
        if dtype != specs[name][0] or not fits(shape, specs[name][1]):
            raise pb_utils.TritonModelException(
                f"Expected {model}/config.pbtxt to agree with {SIGNATURE} on {name}: {specs[name][0]} "
                f"{specs[name][1]}. Received: {entry['data_type']} {shape}. Export the model again."
            )


def fits(shape: list, other: list | None) -> bool:
    """Return whether two shapes can be the same, None in them meaning any size."""
    if other is None:
        return True
    pairs = zip(shape, other, strict=False)
    return len(shape) == len(other) and all(None in pair or pair[0] == pair[1] for pair in pairs)


def short(message: str) -> str:
    """Return the telling line of an error of a TensorFlow graph, without stack traces and names of generated functions.

    The line before "[[{{node NAME}}]]" says what is wrong; the node's name says which operation found it.
    """
    found = re.search(r"([^\n]+)\s*\[\[\{\{node ([^}]+)\}\}", message)
    return f"{found.group(1).strip()} (node {found.group(2)})" if found else message.strip().split("\n")[0]


def give_back() -> None:
    """Return to the system what loading a model took and no longer needs; glibc keeps it otherwise (malloc_trim(3))."""
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


class Refusal(Exception):
    """A request is not answered, as the server has no time for it; the message says why."""


def refuse(reason: str) -> None:
    """Raise Refusal."""
    raise Refusal(reason)


@dataclass(eq=False)
class Waiting:
    """A request that waits for its turn, or of whose images some do.

    Attributes:
        request: Triton's; keeps the memory of the inputs. feed: input name -> array. wanted: names of outputs.
        deadline: of time.monotonic(). begun: how many images are no longer waiting. found: index of an image -> its
        outputs, or what was raised instead.
    """

    request: object
    feed: dict
    wanted: set[str]
    deadline: float
    begun: int = 0
    found: dict[int, dict | Exception] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """How many images the request has."""
        return count_rows(self.feed)

    def require_time(self) -> None:
        """Raise Refusal when the deadline is over."""
        if time.monotonic() > self.deadline:
            raise Refusal("Request timeout expired")

    def outputs(self) -> dict:
        """Return the outputs of all images, which must be there. Raises what was raised for one."""
        rows = [self.found[index] for index in range(self.rows)]
        for row in rows:
            if isinstance(row, Exception):
                raise row
        return joined(rows)


class TritonPythonModel:
    """One instance of a model: a process that Triton starts, feeds and stops.

    A network's requests wait here, not in Triton: see WAITING. The preprocessing, which is soon done, lets them wait
    there, since uploads can be large and would fill the shared memory.
    """

    def initialize(self, args: dict) -> None:
        """Load the version's SavedModel, compare it with the configuration, and run it once.

        Raises:
            pb_utils.TritonModelException: the model cannot be served; the message says why.
        """
        require_fitting_numpy(np.__version__, os.environ.get("TRITON_SERVER_VERSION", ""))
        # Registered before TensorFlow's own handlers, so called after them: what would follow is Python taking
        # thousands of modules apart, seconds that make Triton run into its exit time-out.
        atexit.register(os._exit, 0)
        config = json.loads(args["model_config"])
        folder = Path(args["model_repository"])
        self.name = args["model_name"]
        self.batched = config["max_batch_size"] > 0
        self.inputs = {entry["name"]: entry for entry in config["input"]}
        self.outputs = {entry["name"]: entry for entry in config["output"]}
        self.per_request = not self.batched or any(e["data_type"] == "TYPE_STRING" for e in self.inputs.values())
        self.compute = load(config, args["model_instance_kind"], folder / args["model_version"])
        self.side_by_side = isinstance(self.compute, OpenVino)
        require_agreement(self.name, self.batched, self.inputs, self.compute.inputs, exact=True)
        require_agreement(self.name, self.batched, self.outputs, self.compute.outputs, exact=False)
        self._warm_up()
        give_back()
        self.most = config["max_batch_size"]
        policy = config.get("dynamic_batching", {}).get("default_queue_policy", {})
        self.has_policy = any(int(policy.get(key, 0)) for key in POLICY)
        self.waiting, self.running, self.has_all_cores = deque(), 0, False
        self.changed = threading.Condition()
        if not self.per_request:
            for _ in range(self.compute.at_once):
                threading.Thread(target=self._work, daemon=True).start()

    def execute(self, requests: list) -> list | None:
        """Answer encoded images at once, in order: one by one, so that a corrupt upload fails alone.

        A network's requests are accepted only, and answered later, unless there is just one image.
        """
        if self.per_request or self._is_alone(requests):
            return [self._outcome(request, partial(self.compute, self._feed(request), outputs_of(request)))
                    for request in requests]
        for request in requests:
            self._accept(request)
        return None

    def _is_alone(self, requests: list) -> bool:
        """Return whether it is one image, nothing else is there, and what comes meanwhile is not overlooked."""
        if self.has_policy or len(requests) > 1 or count_rows(self._feed(requests[0])) > 1:
            return False
        with self.changed:
            return not self.waiting and not self.running

    def _warm_up(self) -> None:
        """Run the graph once: the first call of a signature costs a second that no user should wait for."""
        feed = {}
        for name, entry in self.inputs.items():
            shape = [1] * self.batched + [max(1, int(size)) for size in entry["dims"]]
            is_bytes = entry["data_type"] == "TYPE_STRING"
            dtype = pb_utils.triton_string_to_numpy(entry["data_type"])
            feed[name] = np.full(shape, PNG, np.object_) if is_bytes else np.zeros(shape, dtype)
        try:
            self.compute(feed, set(self.outputs))
        except self.compute.bad_input as error:
            # A model may want other bytes or longer rows than these; loading it went well all the same.
            pb_utils.Logger.log_warn(f"{self.name}: no warm-up, the graph refuses the probe: {str(error)[:200]}")

    def _feed(self, request) -> dict:
        """Return input name -> numpy array of a request."""
        return {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self.inputs}

    def _response(self, request, result: dict):
        """Return the outputs that a request wants: Triton's stub drops others without the GIL, of which 3.12 dies."""
        wanted = outputs_of(request)
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, np.asarray(result[name])) for name in self.outputs
                                           if name in wanted])

    def _accept(self, request) -> None:
        """Let a request wait, or refuse it when too many do."""
        deadline = time.monotonic() + (request.timeout() / 1e6 or PATIENCE)
        one = Waiting(request, self._feed(request), outputs_of(request), deadline)
        with self.changed:
            if is_accepted := len(self.waiting) < WAITING:
                self.waiting.append(one)
                self.changed.notify(one.rows)
        if not is_accepted:
            self._send(request, partial(refuse, f"Exceeds maximum queue size of {WAITING}"))

    def _work(self) -> None:
        """Answer what waits, for as long as this process lives."""
        answer = self._answer_image if self.side_by_side else self._answer_batch
        while True:
            try:
                answer()
            except Exception as error:  # whatever it is, this thread must live
                pb_utils.Logger.log_error(f"{self.name}: {error}")

    def _answer_image(self) -> None:
        """Compute the image that is next, as soon as that may be; the last one of a request brings its answer."""
        with self.changed:
            self.changed.wait_for(lambda: self.waiting and not self.has_all_cores)
            one = self.waiting[0]
            index = one.begun
            one.begun += 1
            if one.begun == one.rows:
                self.waiting.popleft()
            is_alone = not self.waiting and not self.running
            self.running += 1
            self.has_all_cores = with_all_cores = is_alone or not one.wanted <= self.compute.lean
        try:
            one.require_time()
            compute = partial(self.compute, wanted=one.wanted) if with_all_cores else self.compute.apart
            found = compute({name: array[index : index + 1] for name, array in one.feed.items()})
        except Exception as error:  # whatever it is, the request hears of it
            found = error.with_traceback(None)  # which would keep this frame, and so the request's memory
        with self.changed:
            one.found[index] = found
            is_last = len(one.found) == one.rows
            self.running -= 1
            if with_all_cores:
                self.has_all_cores = False
                self.changed.notify_all()
        if is_last:
            self._send(one.request, one.outputs)

    def _answer_batch(self) -> None:
        """Answer as many requests as fit into one batch, as soon as there are some."""
        with self.changed:
            self.changed.wait_for(lambda: self.waiting)
            taken = [self.waiting.popleft()]
            rows = taken[0].rows
            while self.waiting and (rows := rows + self.waiting[0].rows) <= self.most:
                taken.append(self.waiting.popleft())
            self.running += 1
        try:
            self._answer_together(taken)
        finally:
            with self.changed:
                self.running -= 1

    def _answer_together(self, taken: list[Waiting]) -> None:
        """Run one batch for all requests and cut the outputs apart again; one by one if that fails, to see whose."""
        now = time.monotonic()
        for late in (one for one in taken if one.deadline < now):
            self._send(late.request, late.require_time)
        taken = [one for one in taken if one.deadline >= now]
        if not taken:
            return
        try:
            batch = {name: np.concatenate([one.feed[name] for one in taken]) for name in self.inputs}
            result = self.compute(batch, set(self.outputs))
            ends = np.cumsum([one.rows for one in taken])[:-1]
            parts = {name: np.split(array, ends) for name, array in result.items()}
        except Exception:  # whatever it is, each request hears of its own
            for one in taken:
                self._send(one.request, partial(self.compute, one.feed, one.wanted))
            return
        for index, one in enumerate(taken):
            rows = {name: parts[name][index] for name in parts}
            self._send(one.request, lambda rows=rows: rows)

    def _send(self, request, compute: Callable) -> None:
        """Answer a request with the outcome of a computation; until then its memory, the input, must be kept.

        What Triton raises as it no longer wants the answer is logged only: others wait for theirs.
        """
        response = self._outcome(request, compute)
        try:
            request.get_response_sender().send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        except Exception as error:
            pb_utils.Logger.log_error(f"{self.name}: {error}")

    def _outcome(self, request, compute: Callable):
        """Return the response of a computation; an error of the graph becomes it: the user's if the input is bad."""
        try:
            return self._response(request, compute())
        except self.compute.bad_input as error:
            code, reason = pb_utils.TritonError.INVALID_ARG, getattr(error, "message", str(error))
        except Refusal as error:
            code, reason = pb_utils.TritonError.UNAVAILABLE, str(error)
        except Exception as error:
            code, reason = pb_utils.TritonError.INTERNAL, str(error)
        error = pb_utils.TritonError(f"{self.name}: {short(reason)}", code)
        return pb_utils.InferenceResponse(output_tensors=[], error=error)
