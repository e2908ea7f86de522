"""The client where no Triton answers: real sockets that refuse, swallow, drip, or answer with errors."""

import http.server
import io
import json
import socket
import threading
import time
from contextlib import contextmanager, suppress

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

import client
from client import __main__ as command
from client import batch
from client.answer import FORMULA_MARKS, escaped, heads, unescaped
from client.classifier import _prediction
from client.served import order, title
from core import contract
from tests.support.repository import SERVED


@pytest.fixture(scope="module")
def scan():
    """Bytes of a PNG that imaging accepts."""
    buffer = io.BytesIO()
    Image.fromarray(np.tile(np.arange(64, dtype=np.uint8), (64, 1))).save(buffer, "PNG")
    return buffer.getvalue()


@contextmanager
def listening():
    """A port that accepts connections and never answers, as a stopped server does."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@contextmanager
def answering(status, body, pause=0.0):
    """A server that gives every request the same answer, byte by byte if a pause is given."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            for byte in body:
                time.sleep(pause)
                self.wfile.write(bytes([byte]))

        def handle(self):
            with suppress(OSError):  # the client hung up, which is what some tests are about
                super().handle()

        def log_message(self, *args):
            pass

        do_GET = do_POST  # noqa: N815

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def refused():
    """An address where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def test_a_refused_connection_is_unavailable(scan):
    with pytest.raises(client.ServerUnavailable, match="make serve") as caught:
        client.Classifier(refused()).classify(scan)
    assert caught.value.code == "server_unavailable" and "refused" in caught.value.detail


@pytest.mark.parametrize("call", ["classify", "models", "describe"])
def test_the_deadline_holds_when_nothing_answers(scan, call):
    with listening() as url:
        ask = getattr(client.Classifier(url, timeout=0.3), call)
        with pytest.raises(client.DeadlineExceeded):
            ask(*{"classify": [scan], "models": [], "describe": ["custom"]}[call])


def test_the_deadline_holds_when_the_answer_drips(scan):
    # All of it takes 50 seconds, and is no answer of Triton.
    with answering(200, b"x" * 1000, pause=0.05) as url, pytest.raises(client.DeadlineExceeded):
        client.Classifier(url, timeout=0.4).classify(scan)


def test_the_deadline_holds_in_many_threads_at_once(scan):
    with listening() as url:
        classifier, codes = client.Classifier(url, timeout=0.3), []

        def ask():
            with pytest.raises(client.DeadlineExceeded):
                classifier.classify(scan)
            codes.append(1)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert len(codes) == 8  # a hub that threads share lets some of them hang


ANSWERS = [
    (503, "Exceeds maximum queue size", "busy"),
    (503, "in ensemble 'classify_custom', Request timeout expired", "deadline_exceeded"),
    (500, "{{function_node __inference_1}} Unknown image file format. [[{{node DecodeImage}}]]", "corrupt_image"),
    (400, "in ensemble 'classify_custom', preprocess: Invalid PNG. Failed to initialize decoder", "corrupt_image"),
    (500, "Stub process 'custom_0_0' is not healthy.", "server_unavailable"),
    (400, "unexpected shape for input 'image' for model 'classify_custom'", "server_error"),
    (404, "Request for unknown model: 'classify_custom' is not found", "unknown_model"),
    (400, "Request for unknown model: 'classify_custom' has no available versions", "unknown_model"),
]


@pytest.mark.parametrize(("status", "text", "code"), ANSWERS)
def test_every_answer_has_its_code_and_hides_the_text_of_the_server(scan, status, text, code):
    body = json.dumps({"error": text}).encode()
    with answering(status, body) as url, pytest.raises(client.ClientError) as caught:
        client.Classifier(url).classify(scan)
    assert caught.value.code == code
    assert text in caught.value.detail and text not in str(caught.value)


class Full(http.server.BaseHTTPRequestHandler):
    """Describes its networks and has no place for an image."""

    protocol_version = "HTTP/1.1"
    seen: list[tuple[str, int]] = []

    def do_GET(self, status=200, answer=b'{"parameters": {}}'):  # noqa: N802
        self.seen.append((self.command, self.client_address[1]))
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def do_POST(self):  # noqa: N802
        self.do_GET(503, b'{"error": "Exceeds maximum queue size"}')

    def log_message(self, *args):
        pass


def test_a_full_queue_makes_the_client_forget_nothing(scan):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Full) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        classifier = client.Classifier(f"127.0.0.1:{server.server_address[1]}")
        for _ in range(3):
            classifier.describe("custom")
            with pytest.raises(client.ServerBusy):
                classifier.classify(scan, "custom")
        classifier.close()
        server.shutdown()
    methods, ports = zip(*Full.seen, strict=True)
    assert methods == ("GET", "POST", "POST", "POST") and len(set(ports)) == 1


def test_something_that_is_no_triton_is_a_server_error(scan):
    match = "no working inference server"
    with answering(200, b"<html>hello</html>") as url, pytest.raises(client.ServerError, match=match):
        client.Classifier(url).classify(scan)


@pytest.mark.parametrize("name", ["VGG 16", "9", "custom.", "custom.1/versions/1", "custom.1\n", ".1", ""])
def test_what_is_no_name_of_a_model_asks_no_server(scan, name):
    with pytest.raises(client.UnknownModel, match="Received: model="):
        client.Classifier(refused()).classify(scan, name)


def test_a_name_and_its_ensemble_are_one_to_one():
    for name in (*SERVED, *(f"{name}.20261126T073355.123456Z-0a1b2c3d" for name in SERVED)):
        assert contract.model(contract.classifier(name)) == name
    assert {contract.model(name) for name in ("custom", "preprocess", "explain_custom", "classify_VGG")} == {None}
    assert contract.model("classify_vgg16") == "vgg16"


@pytest.mark.parametrize(("data", "code"), [(b"", "empty_file"), (b"%PDF-1.4 and more", "unsupported_format")])
def test_a_bad_file_keeps_the_code_of_imaging_and_asks_no_server(data, code):
    with pytest.raises(client.BadImage) as caught:
        client.Classifier(refused()).classify(data)
    assert caught.value.code == code


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000", "127.0.0.1", "", "host:port"])
def test_a_wrong_url_is_refused_at_once(url):
    with pytest.raises(ValueError, match="host:port"):
        client.Classifier(url)


@pytest.mark.parametrize("row", [[0.5, 0.5, 0.5, 0.5], [np.nan, 0, 0, 1], [-0.5, 0.5, 0.5, 0.5], [1.0]])
def test_numbers_that_are_no_probabilities_are_refused(row):
    with pytest.raises(client.ServerError):
        _prediction(np.array([row], np.float32), "custom")


def test_a_prediction_names_the_most_probable_class():
    row = np.arange(1, len(contract.CLASSES) + 1, dtype=np.float32)
    prediction = _prediction(row[None] / row.sum(), "custom")
    assert prediction.label == contract.CLASSES[-1]
    assert list(prediction.probabilities) == list(contract.CLASSES)
    assert prediction.confidence == prediction.probabilities[prediction.label]


PROMISED = ("predicted_class", "confidence", "all_probabilities", "model_type", "tta", "needs_review",
            "review_threshold", "data_source", "holds_on", "warnings", "disclaimer")


def predicted(confidence: float, **more) -> client.Prediction:
    """A prediction of the first class; the others share the rest."""
    rest = (1 - confidence) / (len(contract.CLASSES) - 1)
    values = {contract.CLASSES[0]: confidence, **dict.fromkeys(contract.CLASSES[1:], rest)}
    return client.Prediction("custom", contract.CLASSES[0], confidence, values, **more)


def test_an_answer_has_the_promised_fields_in_their_order():
    found = client.Answer.of(predicted(0.7), {contract.DATA_SOURCE: "mine"}, ["burned in"]).model_dump(mode="json")
    assert [name for name in found if name in PROMISED] == list(PROMISED)
    assert found["warnings"] == ["burned in"] and found["data_source"] == "mine" and not found["tta"]
    assert list(found["all_probabilities"]) == list(contract.CLASSES) and found["disclaimer"] == contract.DISCLAIMER


@pytest.mark.parametrize(("confidence", "threshold", "expected"), [
    (0.79996, "0.8", False), (0.80004, "0.80001", True), (0.79994, "0.8", True), (0.8, "0.8", False), (0.8, "", True)])
def test_who_compares_what_is_shown_finds_what_needs_a_review(confidence, threshold, expected):
    answer = client.Answer.of(predicted(confidence), {contract.REVIEW_THRESHOLD: threshold})
    assert answer.needs_review is expected
    assert answer.needs_review is (answer.review_threshold is None or answer.confidence < answer.review_threshold)


@pytest.mark.parametrize(("served", "expected"), [
    ('["web", "clinic (tumours only)"]', ("web", "clinic (tumours only)")), ("[]", ()), ("no list", None), ("7", None)])
def test_an_answer_says_on_which_sources_the_network_works(served, expected):
    assert client.Answer.of(predicted(0.7), {contract.HOLDS_ON: served}).holds_on == expected
    assert client.Answer.of(predicted(0.7), {}).holds_on is None


def test_the_mirror_image_has_its_own_threshold():
    facts = {contract.REVIEW_THRESHOLD: "0.6", contract.TTA_REVIEW_THRESHOLD: "0.9"}
    assert [client.Answer.of(predicted(0.7, tta=tta), facts).review_threshold for tta in (False, True)] == [0.6, 0.9]


def test_a_sum_a_little_above_one_is_an_answer_all_the_same():
    assert client.Answer.of(_prediction(np.eye(1, len(contract.CLASSES)) * 1.0006, "custom"), {}).confidence == 1.0


def test_an_answer_cannot_be_changed_or_hold_nonsense():
    answer = client.Answer.of(predicted(0.7), {})
    with pytest.raises(ValidationError, match="frozen"):
        answer.confidence = 0.9
    with pytest.raises(ValidationError, match="less than or equal to 1"):
        client.Answer(**answer.model_dump() | {"confidence": 70})


def test_tables_begin_with_the_columns_that_they_always_had():
    assert batch.COLUMNS[: len(batch.FIRST)] == batch.FIRST
    assert {batch.NAMES.get(name, name) for name in heads()} <= set(batch.COLUMNS)
    assert set(batch.FIRST) - {batch.NAMES.get(name, name) for name in heads()} == {
        "file", "error_code", "error", "disclaimer"}


@pytest.mark.parametrize("text", ["=1+1.png", "-1", "@a", "\t=1", "＝1", "'=1", "'", "", "a=1", "slices/=1.png"])
def test_a_table_holds_no_formula_and_every_name_can_be_read_back(text):
    written = escaped(text)
    assert written[:1] not in tuple(FORMULA_MARKS) and unescaped(written) == text
    assert (written == text) is (text in ("", "a=1", "slices/=1.png")) and escaped(-0.5) == -0.5


def test_is_live_is_false_where_nothing_listens():
    assert client.Classifier(refused()).is_live() is False


def test_the_command_says_once_that_the_server_is_down(tmp_path, scan, capsys):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(scan)
    assert command.main([str(tmp_path), "--url", refused()]) == 1
    output = capsys.readouterr()
    assert output.err.count("make serve") == 1 and output.err.count(contract.DISCLAIMER) == 1 and not output.out


@pytest.mark.parametrize("extra", [["--model", "vgg"], ["--url", "http://x:1"], ["--timeout", "0"], []])
def test_a_mistake_in_the_command_is_exit_code_2(tmp_path, extra):
    with pytest.raises(SystemExit) as caught:
        command.main([str(tmp_path), *extra])  # without extra: a folder that holds no image
    assert caught.value.code == 2


def test_what_is_served_is_ordered_by_rank_then_as_it_was_before_ranks_then_by_name():
    ranks = {"vit": "0", "ensemble": "2", "custom": "1"}
    names = ["convnext", "custom.2026", "ensemble", "resnet50", "vit", "custom", "custom.2027", "aged"]
    ordered = sorted(names, key=lambda name: order(name, {contract.RANK: ranks[name]} if name in ranks else {}))
    assert ordered == ["vit", "custom", "ensemble", "resnet50", "aged", "convnext", "custom.2027", "custom.2026"]


@pytest.mark.parametrize(("name", "facts", "shown"), [
    ("custom", {}, "Custom CNN"), ("custom", {contract.TITLE: "Small"}, "Small"), ("vit", {}, "Vit"),
    ("vit.2026", {contract.TITLE: "ViT"}, "ViT, release 2026")])
def test_titles_come_with_the_export(name, facts, shown):
    assert title(name, facts) == shown
