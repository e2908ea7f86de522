"""The TensorFlow backend for Triton servers that no longer bring one (25.03 and later).

The parameter "runtime" of a model's configuration chooses what computes on a CPU: "tensorflow" (default); "openvino",
which reads the same SavedModel, or <version>/openvino.int8/model.xml when the parameter "precision" says int8; or
"numpy", for the preprocessing of images, see pixels.py. Triton's own TensorFlow backend and models on a GPU ignore both
parameters and compute with TensorFlow.

As backends/tensorflow/model.py in Triton's backend directory it serves every model whose configuration says
backend: "tensorflow", the same SavedModels that the native backend of 25.02 serves; Triton calls this a Python-based
backend (https://github.com/triton-inference-server/backend/blob/main/docs/python_based_backends.md). It imports nothing
of this project but pixels.py, as its folder is mounted alone into a container. requirements.txt says what it needs.

What it expects of a model: <version>/model.savedmodel with the signature serving_default; every input and output of
config.pbtxt under the signature's name, with its data type and shape, the batch dimension first.
"""

import atexit
import ctypes
import importlib
import json
import os
import queue
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

SIGNATURE = "serving_default"
DEFAULT_FILENAME = "model.savedmodel"
INT8_FILENAME = "openvino.int8/model.xml"
RUNTIMES = ("tensorflow", "openvino", "numpy")
PRECISIONS = ("float32", "bfloat16", "int8")
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


def available_cores() -> int:
    """Return how many cores this process may use: those of its affinity mask, less where cgroup v2 sets a quota."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))


def count_stubs(repository: Path) -> int:
    """Return how many processes of this backend serve a model repository, read from the configurations; at least 1."""
    count = 0
    for path in repository.glob("*/config.pbtxt"):
        text = path.read_text(encoding="utf-8")
        if re.search(r'^\s*backend\s*:\s*"tensorflow"', text, re.MULTILINE):
            found = re.search(r"instance_group.*?\bcount\s*:\s*(\d+)", text, re.DOTALL)
            count += int(found.group(1)) if found else 1
    return max(1, count)


def parameter(config: dict, name: str, default: str) -> str:
    """Return a parameter of a model's configuration."""
    return config.get("parameters", {}).get(name, {}).get("string_value", default)


def choice(config: dict, name: str, allowed: tuple[str, ...]) -> str:
    """Return a parameter that is one of `allowed`; the first is the default.

    Raises:
        pb_utils.TritonModelException: it is something else.
    """
    chosen = parameter(config, name, allowed[0])
    if chosen not in allowed:
        raise pb_utils.TritonModelException(f"Expected {name} to be one of {allowed}. Received: {chosen!r}.")
    return chosen


def thread_counts(config: dict, repository: Path) -> tuple[int, int]:
    """Return TensorFlow's (intra-op, inter-op) thread counts for one process.

    The parameters TF_NUM_INTRA_THREADS and TF_NUM_INTER_THREADS mean what they mean to the native backend. Without them
    the cores are shared out over all stubs, because Triton takes a stub whose 300 ms heartbeat starves for dead
    (https://github.com/triton-inference-server/server/issues/6480).

    Raises:
        pb_utils.TritonModelException: a parameter is no whole number above 0.
    """
    share = max(1, available_cores() // count_stubs(repository))
    counts = []
    for name, default in (("TF_NUM_INTRA_THREADS", share), ("TF_NUM_INTER_THREADS", 1)):
        text = parameter(config, name, str(default))
        if not text.isdecimal() or int(text) < 1:
            raise pb_utils.TritonModelException(f"Expected {name} to be an integer above 0. Received: {text!r}.")
        counts.append(int(text))
    return counts[0], counts[1]


def installed(name: str):
    """Import a package and return it.

    Raises:
        pb_utils.TritonModelException: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise pb_utils.TritonModelException(
            f"Expected {name} in the Python of Triton's stub. Received: {error}. Run in the container: pip install "
            f"-r requirements.txt (the file beside this model.py)."
        ) from error


class TensorFlow:
    """A SavedModel executed by TensorFlow.

    Attributes:
        inputs, outputs: name -> (numpy dtype, shape with None for any size), of the signature.
        bad_input: the exceptions for inputs that the graph refuses.
    """

    def __init__(self, config: dict, kind: str, version: Path):
        self.tf = self._import(config, kind, version.parents[1])
        self.bad_input = self.tf.errors.InvalidArgumentError
        path = version / (config["default_model_filename"] or DEFAULT_FILENAME)
        require_saved_model(path)
        self.loaded = self.tf.saved_model.load(str(path))  # the signature does not keep its variables alive
        if SIGNATURE not in self.loaded.signatures:
            names = sorted(self.loaded.signatures)
            raise pb_utils.TritonModelException(f"Expected signature {SIGNATURE} in {path}. Received: {names}.")
        self.run = self.loaded.signatures[SIGNATURE]
        self.inputs = self._described(self.run.structured_input_signature[1])
        self.outputs = self._described(self.run.structured_outputs)

    @staticmethod
    def _import(config: dict, kind: str, repository: Path):
        """Import TensorFlow, quiet, with limited threads and without GPUs for KIND_CPU, and return the module."""
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        # A SavedModel needs no Keras, and this keeps TensorFlow from importing it (and matplotlib): 5.3 s become 3.5 s.
        os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
        if kind != "GPU":
            os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
        intra, inter = thread_counts(config, repository)
        tf = installed("tensorflow")
        tf.config.threading.set_intra_op_parallelism_threads(intra)
        tf.config.threading.set_inter_op_parallelism_threads(inter)
        return tf

    @staticmethod
    def _described(specs: dict) -> dict:
        return {name: (np.dtype(spec.dtype.as_numpy_dtype), None if spec.shape.rank is None else list(spec.shape))
                for name, spec in specs.items()}

    def __call__(self, feed: dict, wanted: set[str]) -> dict:
        """Run the graph: input name -> array, to output name -> array, of more outputs than are wanted."""
        # tf.constant refuses an object array of more than one dimension unless told that it holds strings
        tensors = {
            name: self.tf.constant(array, self.tf.string) if array.dtype == np.object_ else self.tf.constant(array)
            for name, array in feed.items()
        }
        return {name: value.numpy() for name, value in self.run(**tensors).items()}


class OpenVino:
    """A model of one image executed by OpenVINO: the same attributes as TensorFlow's.

    Under load every core computes an image of its own, so that none waits for another. A single image is computed by
    all cores, which is soonest, and so is one whose maps are asked for; others are computed without. Batches inside the
    model are not faster on CPUs.

    Attributes:
        lean: the outputs that apart() gives. at_once: how many images OpenVINO has at a time, two more than cores: a
        core that is done begins with one of these, and need not wait for Python.
    """

    bad_input = ()

    def __init__(self, config: dict, version: Path):
        openvino = installed("openvino")
        precision = choice(config, "precision", PRECISIONS)
        path = version / (config["default_model_filename"] or DEFAULT_FILENAME)
        require_saved_model(path)
        core = openvino.Core()
        model = core.read_model(version / INT8_FILENAME if precision == "int8" else path)
        self.inputs, self.outputs = self._described(model.inputs), self._described(model.outputs)
        model.reshape({name: [1, *shape[1:]] for name, (_, shape) in self.inputs.items()})
        cores = available_cores()
        self.at_once = cores + 2
        common = {"INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
                  "INFERENCE_NUM_THREADS": cores}
        rows = [output.node for output in model.outputs if len(output.partial_shape) <= 2] or model.results
        lean = openvino.Model(rows, model.get_parameters())
        together = core.compile_model(lean, "CPU", common | {"NUM_STREAMS": 1})
        apart = core.compile_model(lean, "CPU", common | {"NUM_STREAMS": cores})
        self.lean = {next(iter(output.names)) for output in apart.outputs}
        self.tensor = openvino.Tensor
        self.together = self.complete = self._runner(together)
        if self.lean != set(self.outputs):
            self.complete = self._runner(core.compile_model(model, "CPU", common | {"NUM_STREAMS": 1}))
        self.idle = queue.SimpleQueue()
        for _ in range(self.at_once):
            self.idle.put(self._runner(apart))

    @staticmethod
    def _described(ports: list) -> dict:
        return {next(iter(port.names)): (np.dtype(port.element_type.to_dtype()),
                                         [size.get_length() if size.is_static else None for size in port.partial_shape])
                for port in ports}

    def _runner(self, compiled) -> Callable[[dict], dict]:
        """Return a function that runs a model on one image, in memory of its own: see __call__."""
        request = compiled.create_infer_request()
        inputs, outputs = ([next(iter(port.names)) for port in ports] for ports in (compiled.inputs, compiled.outputs))

        def run(feed: dict) -> dict:
            # Not infer(), which takes twice as long to hand over what it is given.
            for place, name in enumerate(inputs):
                request.set_input_tensor(place, self.tensor(feed[name], shared_memory=True))
            request.start_async()
            request.wait()
            return {name: request.get_output_tensor(place).data.copy() for place, name in enumerate(outputs)}

        return run

    def __call__(self, feed: dict, wanted: set[str]) -> dict:
        """Run the model on all cores, one image after the other: input name -> array, to output name -> array.

        Not to be called by two threads at once.
        """
        return self._each(self.together if wanted <= self.lean else self.complete, feed)

    def apart(self, feed: dict) -> dict:
        """Run the model on one core, for the outputs in `lean`; as many threads may call it at once as at_once says."""
        run = self.idle.get()
        try:
            return self._each(run, feed)
        finally:
            self.idle.put(run)

    @staticmethod
    def _each(run: Callable[[dict], dict], feed: dict) -> dict:
        """Return the outputs of every image, computed one after the other."""
        rows = [run({name: array[index : index + 1] for name, array in feed.items()})
                for index in range(count_rows(feed))]
        return joined(rows)


class Numpy:
    """The preprocessing of images as pixels.py computes it: the same attributes as TensorFlow's."""

    bad_input = ValueError

    def __init__(self, config: dict):
        # Triton's stub imports this file by its path, so that its folder is not searched for modules.
        sys.path.append(str(Path(__file__).parent))
        self.pixels = installed("pixels").pixels
        (image,), (output,) = config["input"], config["output"]
        self.output, self.size = output["name"], int(output["dims"][0])
        self.inputs = {image["name"]: (np.dtype(np.object_), [None, 1])}
        self.outputs = {self.output: (np.dtype(np.float32), [None, self.size, self.size, 3])}

    def __call__(self, feed: dict, wanted: set[str]) -> dict:
        """Return the pixels of encoded images, one after the other."""
        images, = feed.values()
        found = [self.pixels(image, self.size) for image in images.ravel()]
        return {self.output: found[0][None] if len(found) == 1 else np.stack(found)}


def count_rows(feed: dict) -> int:
    """Return the size of the batch in input name -> array."""
    return len(next(iter(feed.values())))


def joined(rows: list[dict]) -> dict:
    """Return name -> array of several images for those of each."""
    return rows[0] if len(rows) == 1 else {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def outputs_of(request) -> set[str]:
    """Return the names of the outputs that a request asks for."""
    return set(request.requested_output_names())


def require_saved_model(path: Path) -> None:
    """Check that a folder is a SavedModel.

    Raises:
        pb_utils.TritonModelException: it is not.
    """
    if not (path / "saved_model.pb").is_file():
        raise pb_utils.TritonModelException(f"Expected a SavedModel. Received: {path} without saved_model.pb.")


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
        version, kind = folder / args["model_version"], args["model_instance_kind"]
        runtime = choice(config, "runtime", RUNTIMES) if kind != "GPU" else "tensorflow"
        self.side_by_side = runtime == "openvino"
        if runtime == "tensorflow":
            self.compute = TensorFlow(config, kind, version)
        else:
            self.compute = OpenVino(config, version) if self.side_by_side else Numpy(config)
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
            for _ in range(self.compute.at_once if self.side_by_side else 1):
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
            except Exception as error:  # of Triton, which no longer wants the answer; others wait for theirs
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
        batch = {name: np.concatenate([one.feed[name] for one in taken]) for name in self.inputs}
        try:
            result = self.compute(batch, set(self.outputs))
        except Exception:  # whatever it is, each request hears of its own
            for one in taken:
                self._send(one.request, partial(self.compute, one.feed, one.wanted))
            return
        ends = np.cumsum([one.rows for one in taken])[:-1]
        parts = {name: np.split(array, ends) for name, array in result.items()}
        for index, one in enumerate(taken):
            rows = {name: parts[name][index] for name in parts}
            self._send(one.request, lambda rows=rows: rows)

    def _send(self, request, compute: Callable) -> None:
        """Answer a request with the outcome of a computation; until then its memory, the input, must be kept."""
        response = self._outcome(request, compute)
        request.get_response_sender().send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

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
