"""What computes the models of this backend: TensorFlow, OpenVINO or, for the preprocessing of images, numpy.

As model.py, it imports nothing of this project from outside its folder.
"""

import importlib
import os
import queue
from collections.abc import Callable
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

SIGNATURE = "serving_default"
DEFAULT_FILENAME = "model.savedmodel"
INT8_FILENAME = "openvino.int8/model.xml"
RUNTIMES = ("tensorflow", "openvino", "numpy")
PRECISIONS = ("float32", "bfloat16", "int8")


def available_cores() -> int:
    """Return how many cores this process may use: those of its affinity mask, less where cgroup v2 sets a quota."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))


def count_stubs(config: dict, repository: Path) -> int:
    """Return how many processes serve a model repository: one for each other model with a SavedModel, and the model's.

    Args:
        config: the model's configuration. repository: its folder and those of the others.
    """
    others = {path.parents[2].name for path in repository.glob("*/*/*/saved_model.pb")} - {config.get("name")}
    return len(others) + sum(int(group.get("count", 1)) for group in config.get("instance_group") or [{}])


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
    share = max(1, available_cores() // count_stubs(config, repository))
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


def require_saved_model(path: Path) -> None:
    """Check that a folder is a SavedModel.

    Raises:
        pb_utils.TritonModelException: it is not.
    """
    if not (path / "saved_model.pb").is_file():
        raise pb_utils.TritonModelException(f"Expected a SavedModel. Received: {path} without saved_model.pb.")


def load(config: dict, kind: str, version: Path):
    """Return what computes a model, loaded: a TensorFlow, an OpenVino or a Numpy.

    Args:
        config: the model's configuration. kind: CPU or GPU. version: folder of the model's version.

    Raises:
        pb_utils.TritonModelException: the model cannot be loaded; the message says why.
    """
    runtime = choice(config, "runtime", RUNTIMES) if kind != "GPU" else "tensorflow"
    if runtime == "openvino":
        return OpenVino(config, version)
    return Numpy(config) if runtime == "numpy" else TensorFlow(config, kind, version)


class TensorFlow:
    """A SavedModel executed by TensorFlow.

    Attributes:
        inputs, outputs: name -> (numpy dtype, shape with None for any size), of the signature.
        bad_input: the exceptions for inputs that the graph refuses.
        at_once: how many threads may call it at the same time.
    """

    at_once = 1

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
    at_once = 1

    def __init__(self, config: dict):
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
