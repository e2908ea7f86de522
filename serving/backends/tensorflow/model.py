"""The TensorFlow backend for Triton servers that no longer bring one (25.03 and later), in one file.

As backends/tensorflow/model.py in Triton's backend directory it serves every model whose configuration says
backend: "tensorflow", the same SavedModels that the native backend of 25.02 serves; Triton calls this a Python-based
backend (https://github.com/triton-inference-server/backend/blob/main/docs/python_based_backends.md). It imports nothing
of this project, because it is mounted alone into a container. requirements.txt beside it says what it needs.

What it expects of a model: <version>/model.savedmodel with the signature serving_default; every input and output of
config.pbtxt under the signature's name, with its data type and shape, the batch dimension first.
"""

import atexit
import json
import os
import re
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

SIGNATURE = "serving_default"
DEFAULT_FILENAME = "model.savedmodel"
FIRST_CORE_FOR_NUMPY_2 = (2, 52)
"""Version of Triton's core in release 24.11. Older stubs read [1, 2, 3] of numpy 2 as [1, 1, 1] without an error."""

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
        text = config.get("parameters", {}).get(name, {}).get("string_value", str(default))
        if not text.isdecimal() or int(text) < 1:
            raise pb_utils.TritonModelException(f"Expected {name} to be an integer above 0. Received: {text!r}.")
        counts.append(int(text))
    return counts[0], counts[1]


def import_tensorflow(config: dict, kind: str, repository: Path):
    """Import TensorFlow, quiet, with limited threads and without GPUs for KIND_CPU, and return the module.

    Raises:
        pb_utils.TritonModelException: it is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # A SavedModel needs no Keras, and this keeps TensorFlow from importing it (and matplotlib): 5.3 s become 3.5 s.
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    if kind != "GPU":
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    intra, inter = thread_counts(config, repository)
    try:
        import tensorflow as tf
    except ImportError as error:
        raise pb_utils.TritonModelException(
            f"Expected TensorFlow in the Python of Triton's stub. Received: {error}. Run in the container: pip install "
            f"-r requirements.txt (the file beside this model.py)."
        ) from error
    tf.config.threading.set_intra_op_parallelism_threads(intra)
    tf.config.threading.set_inter_op_parallelism_threads(inter)
    return tf


def require_agreement(tf, model: str, batched: bool, tensors: dict, specs: dict, exact: bool) -> None:
    """Compare the inputs or the outputs of a configuration with those of the signature.

    Args:
        tf: the TensorFlow module.
        model: name of the model, for the message.
        batched: the configuration's dims leave out the batch dimension.
        tensors: name -> entry of the configuration.
        specs: name -> tf.TensorSpec of the signature.
        exact: every tensor of the signature must be configured.

    Raises:
        pb_utils.TritonModelException: names, data types or shapes differ.
    """
    missing = set(tensors) ^ set(specs) if exact else set(tensors) - set(specs)
    if missing:
        raise pb_utils.TritonModelException(
            f"Expected {model}/config.pbtxt to name what {SIGNATURE} has: {sorted(specs)}. Received: {sorted(tensors)}."
        )
    for name, entry in tensors.items():
        dtype = tf.as_dtype(np.dtype(pb_utils.triton_string_to_numpy(entry["data_type"])))
        dims = [None if size == -1 else int(size) for size in entry["dims"]]
        shape = [None, *dims] if batched else dims
        if dtype != specs[name].dtype or not specs[name].shape.is_compatible_with(shape):
            raise pb_utils.TritonModelException(
                f"Expected {model}/config.pbtxt to agree with {SIGNATURE} on {name}: {specs[name].dtype.name} "
                f"{specs[name].shape}. Received: {entry['data_type']} {shape}. Export the model again."
            )


def short(message: str) -> str:
    """Return the telling line of an error of a TensorFlow graph, without stack traces and names of generated functions.

    The line before "[[{{node NAME}}]]" says what is wrong; the node's name says which operation found it.
    """
    found = re.search(r"([^\n]+)\s*\[\[\{\{node ([^}]+)\}\}", message)
    return f"{found.group(1).strip()} (node {found.group(2)})" if found else message.strip().split("\n")[0]


class TritonPythonModel:
    """One instance of a model: a process that Triton starts, feeds and stops."""

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
        self.tf = import_tensorflow(config, args["model_instance_kind"], folder.parent)
        self._load(folder / args["model_version"] / (config["default_model_filename"] or DEFAULT_FILENAME))
        self._warm_up()

    def execute(self, requests: list) -> list:
        """Answer every request with exactly one response, in order.

        Requests of a batch run together. Encoded images run one by one, so that a corrupt upload fails alone; decoding
        gains nothing from a batch.
        """
        if self.per_request:
            return [self._answer_one(request) for request in requests]
        feeds = [self._feed(request) for request in requests]
        try:
            return self._answer_together(feeds)
        except (self.tf.errors.OpError, ValueError):  # one of them is bad: find out which
            return [self._answer_one(request) for request in requests]

    def _load(self, path: Path) -> None:
        """Load the signature and check that it is the one of the configuration."""
        if not (path / "saved_model.pb").is_file():
            raise pb_utils.TritonModelException(f"Expected a SavedModel. Received: {path} without saved_model.pb.")
        self.loaded = self.tf.saved_model.load(str(path))  # the signature does not keep its variables alive
        if SIGNATURE not in self.loaded.signatures:
            names = sorted(self.loaded.signatures)
            raise pb_utils.TritonModelException(f"Expected signature {SIGNATURE} in {path}. Received: {names}.")
        self.run = self.loaded.signatures[SIGNATURE]
        inputs = self.run.structured_input_signature[1]
        require_agreement(self.tf, self.name, self.batched, self.inputs, inputs, exact=True)
        require_agreement(self.tf, self.name, self.batched, self.outputs, self.run.structured_outputs, exact=False)

    def _warm_up(self) -> None:
        """Run the graph once: the first call of a signature costs a second that no user should wait for."""
        feed = {}
        for name, entry in self.inputs.items():
            shape = [1] * self.batched + [max(1, int(size)) for size in entry["dims"]]
            is_bytes = entry["data_type"] == "TYPE_STRING"
            dtype = pb_utils.triton_string_to_numpy(entry["data_type"])
            feed[name] = np.full(shape, PNG, np.object_) if is_bytes else np.zeros(shape, dtype)
        try:
            self._compute(feed)
        except self.tf.errors.InvalidArgumentError as error:
            # A model may want other bytes or longer rows than these; loading it went well all the same.
            pb_utils.Logger.log_warn(f"{self.name}: no warm-up, the graph refuses the probe: {error.message[:200]}")

    def _feed(self, request) -> dict:
        """Return input name -> numpy array of a request."""
        return {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self.inputs}

    def _compute(self, feed: dict) -> dict:
        """Run the graph: input name -> array, to output name -> array."""
        # tf.constant refuses an object array of more than one dimension unless told that it holds strings
        tensors = {
            name: self.tf.constant(array, self.tf.string) if array.dtype == np.object_ else self.tf.constant(array)
            for name, array in feed.items()
        }
        result = self.run(**tensors)
        return {name: result[name].numpy() for name in self.outputs}

    def _response(self, result: dict):
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, np.asarray(a)) for name, a in result.items()])

    def _answer_together(self, feeds: list) -> list:
        """Run one batch for all requests and cut the outputs apart again."""
        batch = {name: np.concatenate([feed[name] for feed in feeds]) for name in self.inputs}
        result = self._compute(batch)
        ends = np.cumsum([len(next(iter(feed.values()))) for feed in feeds])[:-1]
        parts = {name: np.split(array, ends) for name, array in result.items()}
        return [self._response({name: parts[name][i] for name in parts}) for i in range(len(feeds))]

    def _answer_one(self, request):
        """Run one request; an error of the graph becomes this request's error: the user's if the input is bad."""
        try:
            return self._response(self._compute(self._feed(request)))
        except self.tf.errors.InvalidArgumentError as error:
            code, reason = pb_utils.TritonError.INVALID_ARG, error.message
        except self.tf.errors.OpError as error:
            code, reason = pb_utils.TritonError.INTERNAL, error.message
        error = pb_utils.TritonError(f"{self.name}: {short(reason)}", code)
        return pb_utils.InferenceResponse(output_tensors=[], error=error)
