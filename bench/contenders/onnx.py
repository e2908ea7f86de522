"""ONNX Runtime in float32, with so many threads as BENCH_THREADS says."""

import os

import numpy as np
import onnxruntime


class Network:
    """The network in bench/serving.py's model.onnx."""

    def __init__(self):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ["BENCH_THREADS"])
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(os.environ["BENCH_ONNX"], options,
                                                     providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Return float32 [n, 4] for float32 [n, size, size, 3]."""
        return self._session.run(None, {self._input: pixels})[0]
