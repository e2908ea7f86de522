"""Requests that wait for a network: how long, how many, and that none is forgotten."""

import os
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
from tritonclient.http import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

import client
from core import contract, triton_config
from serving.server import Server
from tests.support.repository import MAX_BATCH_SIZE, NETWORKS, SIZE

FORGOTTEN = 0.5
"""Seconds after which Triton's batcher looks for requests that it has not been told of."""
PAIRS, FEW = 200, 3
"""With Triton's queue policies 5 to 37 pairs of 200 had a forgotten request; a busy machine may hold up one as well."""
PIXELS = np.random.default_rng(0).random((MAX_BATCH_SIZE, SIZE, SIZE, 3), np.float32)


def probabilities(url: str, network: str, pixels: np.ndarray = PIXELS, timeout: int | None = None) -> np.ndarray:
    """What a network says of images, asked without the preprocessing; timeout in microseconds."""
    triton = InferenceServerClient(url, network_timeout=60)
    try:
        tensor = InferInput(contract.PIXELS, list(pixels.shape), "FP32")
        tensor.set_data_from_numpy(pixels)
        return triton.infer(network, [tensor], timeout=timeout).as_numpy(contract.PROBABILITIES)
    finally:
        triton.close()


@contextmanager
def held(server):
    """Stop Triton for a moment, so that what is asked meanwhile comes at once."""
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
        time.sleep(0.5)
    finally:
        os.kill(server.pid, signal.SIGCONT)


@pytest.mark.slow  # what it comes from is tested below: Triton serves without queue policies
@pytest.mark.parametrize("network", NETWORKS)
def test_of_two_requests_at_once_none_is_forgotten(classifier, scans, network):
    def ask(number):
        started = time.monotonic()
        classifier.classify(scans[number], network)
        return time.monotonic() - started

    classifier.classify(scans[0], network)
    with ThreadPoolExecutor(2) as pool:
        longest = [max(pool.map(ask, range(2))) for _ in range(PAIRS)]
    assert sum(seconds > FORGOTTEN for seconds in longest) <= FEW, sorted(longest)[-10:]


def test_triton_serves_without_queue_policies_and_the_repository_keeps_them(repository, server):
    triton = InferenceServerClient(server.url)
    for model in (contract.PREPROCESS, *NETWORKS):
        batching = triton.get_model_config(model)["dynamic_batching"]
        assert not any(batching.get("default_queue_policy", {}).values()), model
        exported = triton_config.read(repository / model / triton_config.FILE)
        assert exported.dynamic_batching.default_queue_policy.max_queue_size == 64
    triton.close()


def test_answers_are_right_where_the_policies_are_in_force(repository, scans, monkeypatch):
    """As in a container that is started without `python -m serving`."""
    monkeypatch.setattr("serving.snapshot.drop_queue_policies", lambda _repository: None)
    with Server(repository) as server:
        triton = InferenceServerClient(server.url)
        assert triton.get_model_config("custom")["dynamic_batching"]["default_queue_policy"]["max_queue_size"] == 64
        triton.close()
        classifier = client.Classifier(server.url, timeout=30)
        alone = [classifier.classify(scan).probabilities for scan in scans]
        with ThreadPoolExecutor(8) as pool:
            together = [one.probabilities for one in pool.map(classifier.classify, scans)]
        classifier.close()
    for one, other in zip(alone, together, strict=True):
        assert one == pytest.approx(other, abs=1e-5)


@pytest.mark.parametrize("network", NETWORKS)
def test_a_request_whose_time_is_over_is_not_computed(server, network):
    with ThreadPoolExecutor(25) as pool:
        with held(server):
            others = [pool.submit(probabilities, server.url, network, PIXELS[:1]) for _ in range(20)]
            time.sleep(0.05)
            late = [pool.submit(probabilities, server.url, network, PIXELS[:1], timeout=1) for _ in range(5)]
        for one in late:
            with pytest.raises(InferenceServerException, match="timeout expired") as caught:
                one.result()
            assert caught.value.status() == "503"
        assert all(one.result().shape == (1, len(contract.CLASSES)) for one in others)
    assert probabilities(server.url, network, timeout=5_000_000).shape == (MAX_BATCH_SIZE, len(contract.CLASSES))


def test_a_late_image_is_told_so_in_the_words_of_the_client(server, classifier, scans, monkeypatch):
    classifier.classify(scans[0])
    infer = InferenceServerClient.infer
    with ThreadPoolExecutor(21) as pool:
        with held(server):
            others = [pool.submit(probabilities, server.url, "custom") for _ in range(20)]
            time.sleep(0.05)
            monkeypatch.setattr(InferenceServerClient, "infer",
                                lambda *arguments, **options: infer(*arguments, **options | {"timeout": 1}))
            late = pool.submit(classifier.classify, scans[0])
        with pytest.raises(client.DeadlineExceeded, match="too busy to answer"):
            late.result()
        assert all(one.result() is not None for one in others)


@pytest.mark.parametrize("network", NETWORKS)
def test_the_images_of_a_request_are_answered_in_their_order(server, network):
    alone = np.concatenate([probabilities(server.url, network, PIXELS[i : i + 1]) for i in range(len(PIXELS))])
    assert np.unique(alone.round(4), axis=0).shape == alone.shape
    np.testing.assert_allclose(probabilities(server.url, network), alone, atol=1e-5)


@pytest.mark.parametrize("network", NETWORKS)
def test_a_flood_is_answered_or_refused_and_then_over(server, network):
    expected = probabilities(server.url, network)

    def ask(_number):
        try:
            return bool(np.abs(probabilities(server.url, network) - expected).max() < 1e-5)
        except InferenceServerException as error:
            return error.status(), "Exceeds maximum queue size" in error.message()

    with ThreadPoolExecutor(300) as pool:
        with held(server):
            answers = pool.map(ask, range(300))
        found = Counter(answers)
    assert set(found) == {True, ("503", True)} and found[True] > 64
    np.testing.assert_allclose(probabilities(server.url, network), expected, atol=1e-5)
