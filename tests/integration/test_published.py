"""The published network as it is served: its answers to a thousand real slices are TensorFlow's in float32."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import yaml

import client
from core import contract
from imaging import decode
from serving.server import Server
from stages.triton import quantization
from tests.conftest import PROJECT
from tests.support.road import DATA

COUNT = 1000


def unpack(folder) -> None:
    """Write the published model repository out of DVC's remote."""
    def content(md5: str) -> bytes:
        return (PROJECT / "published/remote/files/md5" / md5[:2] / md5[2:]).read_bytes()

    pointer = yaml.safe_load((PROJECT / "published/model_repository.dvc").read_text())["outs"][0]
    for entry in json.loads(content(pointer["md5"])):
        path = folder / entry["relpath"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content(entry["md5"]))


def directly(repository, network: str, images: list[bytes]) -> np.ndarray:
    """Return float32 [n, 4]: what the SavedModels answer when TensorFlow executes them."""
    import tensorflow as tf

    loaded = [tf.saved_model.load(str(repository / name / "1/model.savedmodel")) for name in ("preprocess", network)]
    preprocess, served = (one.signatures["serving_default"] for one in loaded)
    parts = [preprocess(image=tf.constant([[image] for image in images[start : start + 50]]))
             for start in range(0, len(images), 50)]
    return np.concatenate([served(pixels=part["pixels"])[contract.PROBABILITIES].numpy() for part in parts])


@pytest.mark.real_data
def test_a_thousand_real_slices(tmp_path):
    paths = sorted(path for path in DATA.rglob("*") if path.suffix in decode.SUFFIXES)[::5][:COUNT]
    assert len(paths) == COUNT
    images = [decode.read(path) for path in paths]
    unpack(tmp_path / "models")
    with Server(tmp_path / "models") as server, ThreadPoolExecutor(4) as pool:
        classifier = client.Classifier(server.url, timeout=60)
        network, = classifier.models()
        precision = classifier.describe(network)[contract.PRECISION]
        answers = list(pool.map(classifier.classify, images))
    got = np.array([list(answer.probabilities.values()) for answer in answers])
    wanted = directly(tmp_path / "models", network, images)
    assert np.ptp(wanted, axis=0).min() > 0.5  # every class is told from the others
    same = (got.argmax(1) == wanted.argmax(1)).mean()
    if precision == "int8":
        assert same >= quantization.INT8_SAME_CLASS
    else:
        assert same >= 0.999 and np.abs(got - wanted).max() <= 0.01
