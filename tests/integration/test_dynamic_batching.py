"""Images that wait for each other and share requests: as right as alone, and none waits for ever."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import gevent
import pytest
from tritonclient.http import InferenceServerClient

import client
from client.dynamic_batching import PER_REQUEST, UNDER_WAY
from tests.support.repository import NETWORKS


@pytest.fixture
def gathering(server):
    """A gathering client of `server` that has looked at the server's labels."""
    asking = client.BatchingClassifier(server.url, timeout=30)
    yield asking
    asking.close()


@pytest.fixture
def sent(monkeypatch):
    """How many images each request to Triton had; none is sent before all who came at once have been let in."""
    infer, sizes = InferenceServerClient.infer, []

    def counted(self, model, inputs, **options):
        sizes.append(inputs[0].shape()[0])
        gevent.idle()  # on a busy machine the first answer would be there before the last greenlet has begun
        return infer(self, model, inputs, **options)

    monkeypatch.setattr(InferenceServerClient, "infer", counted)
    return sizes


def at_once(ask, *many) -> list:
    """What a function returns or raises, called by as many greenlets at once."""

    def attempt(*one):
        try:
            return ask(*one)
        except client.ClientError as error:
            return error

    return [greenlet.get() for greenlet in [gevent.spawn(attempt, *one) for one in zip(*many, strict=True)]]


def test_images_that_come_at_once_share_requests_and_get_their_own_answers(gathering, classifier, scans, sent):
    models = [NETWORKS[index % 2] for index in range(len(scans))]
    alone = [classifier.classify(scan, model) for scan, model in zip(scans, models, strict=True)]
    at_once(gathering.classify, scans[:2], NETWORKS)  # looks at the labels
    sent.clear()
    found = at_once(gathering.classify, scans, models)
    assert [one.model for one in found] == models
    for one, other in zip(alone, found, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)
    assert sent[:UNDER_WAY] == [1] * UNDER_WAY and max(sent[UNDER_WAY:]) == PER_REQUEST and sum(sent) == len(scans)


def test_a_few_at_a_time_are_asked_for_alone(gathering, scans, sent):
    at_once(gathering.classify, scans[:2], NETWORKS)
    sent.clear()
    at_once(gathering.classify, scans[:UNDER_WAY])
    assert sent == [1] * UNDER_WAY


def test_large_images_are_asked_for_alone(gathering, scans, sent, monkeypatch):
    gathering.classify(scans[0])
    sent.clear()
    monkeypatch.setattr("client.dynamic_batching.SMALL", 0)
    assert all(isinstance(one, client.Prediction) for one in at_once(gathering.classify, scans))
    assert sent == [1] * len(scans)


def test_a_damaged_image_spoils_none_that_it_shares_a_request_with(gathering, classifier, scans, sent, monkeypatch):
    alone = [classifier.classify(scan).label for scan in scans]
    gathering.classify(scans[0])
    # So that the server finds it:
    monkeypatch.setattr("client.classifier.canonical", lambda data, is_decoded_next: data)
    sent.clear()
    found = at_once(gathering.classify, [*scans[:5], b"no image", *scans[5:]])
    assert max(sent) > 1
    assert isinstance(found[5], client.BadImage)
    assert [one.label for one in found[:5] + found[6:]] == alone


def test_threads_do_not_wait_for_each_other(gathering, classifier, scans):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(gathering.classify, scans))
    assert [one.label for one in found] == [classifier.classify(scan).label for scan in scans]


def test_those_who_wait_are_told_when_the_server_hangs(server, scans):
    impatient = client.BatchingClassifier(server.url, timeout=1.5)
    impatient.classify(scans[0])
    os.kill(server.pid, signal.SIGSTOP)
    try:
        found = at_once(impatient.classify, scans)
    finally:
        os.kill(server.pid, signal.SIGCONT)
    assert [type(one) for one in found] == [client.DeadlineExceeded] * len(scans)
    assert all(isinstance(one, client.Prediction) for one in at_once(impatient.classify, scans))
    impatient.close()


def test_those_who_wait_are_told_when_nobody_listens(scans):
    lost = client.BatchingClassifier("127.0.0.1:9", timeout=10)
    lost._checked["custom"] = time.monotonic()  # so that it is the images' requests that fail
    found = at_once(lost.classify, scans)
    assert [type(one) for one in found] == [client.ServerUnavailable] * len(scans)
