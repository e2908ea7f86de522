"""The web application without Triton: bad requests, headers, logs, and what it says when Triton is down."""

import html
import io
import json
import logging
import re
import socket
import subprocess
import sys
import tempfile
import types
from datetime import datetime

import gevent
import pytest
from PIL import Image
from pythonjsonlogger.json import JsonFormatter
from urllib3.filepost import encode_multipart_formdata

import client
from client.answer import columns
from core import contract
from imaging import CODES, decode
from tests.support import hostile
from tests.support.repository import NETWORKS, SERVED
from webapp import create_app, errors, keys, logs, page, refused, security, uploads, worker

KEY = "known to few"
BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.fixture(scope="module")
def dead_port():
    """host:port where nothing listens: the socket holds the port, but refuses connections."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


@pytest.fixture
def app(dead_port):
    """The application, with a Triton that is down."""
    return create_app({"TRITON_URL": dead_port})


@pytest.fixture
def web(app):
    """A client of the application."""
    return app.test_client()


def picture(format="PNG", size=(64, 64), mode="L", **options) -> bytes:
    """Return an encoded grey picture."""
    file = io.BytesIO()
    Image.new(mode, size, 99).save(file, format, **options)
    return file.getvalue()


def upload(content: bytes, name: str = "scan.jpg") -> tuple[str, bytes]:
    """Return the value of a file field."""
    return name, content


def form(**fields) -> dict:
    """Return body and content type of a form as browsers send it; Werkzeug's client leaves out lines of empty parts."""
    values = [(name, one) for name, value in fields.items() for one in (value if isinstance(value, list) else [value])]
    return dict(zip(("data", "content_type"), encode_multipart_formdata(values), strict=True))


def send(web, headers=None, **fields):
    """Post fields to /predict as multipart/form-data."""
    return web.post("/predict", headers=headers, **form(**fields))


def test_a_bad_file_is_told_so_though_triton_is_down(web):
    """Which of them gets which answer: tests/integration/test_hostile.py."""
    answer = send(web, file=upload(b"this is a letter, not a picture"))
    assert (answer.status_code, answer.json["code"], answer.json["success"]) == (415, "unsupported_format", False)
    assert answer.json["error"] and answer.json["request_id"] == answer.headers["X-Request-ID"]


BAD_FORMS = {
    "no fields": ({}, 400, "missing_file"),
    "no file": ({"model": "custom"}, 400, "missing_file"),
    "input left empty": ({"file": upload(b"", "")}, 400, "missing_file"),
    "file as text": ({"file": "scan.jpg"}, 400, "missing_file"),
    "two files": ({"file": [upload(b"1"), upload(b"2")]}, 400, "several_files"),
    "two models": ({"file": upload(b"1"), "model": ["custom", "resnet50"]}, 400, "several_models"),
    "misspelt field": ({"file": upload(b"1"), "modle": "resnet50"}, 400, "unknown_field"),
    "file in another field": ({"image": upload(b"1")}, 400, "unknown_field"),
    "no name of a model": ({"file": upload(b"1"), "model": "VGG 16"}, 404, "unknown_model"),
    "empty model": ({"file": upload(b"1"), "model": ""}, 404, "unknown_model"),
    "many parts": ({"file": upload(b"1"), "model": ["custom"] * 20}, 413, "too_many_parts"),
    "long field": ({"file": upload(b"1"), "model": "x" * 200_000}, 413, "field_too_long"),
    "long name of a field": ({"file": upload(b"1"), "x" * 70_000: "1"}, 413, "field_too_long"),
}


@pytest.mark.parametrize(("fields", "status", "code"), BAD_FORMS.values(), ids=BAD_FORMS)
def test_bad_form(web, fields, status, code):
    answer = send(web, **fields)
    assert (answer.status_code, answer.json["code"]) == (status, code)


@pytest.mark.parametrize("pattern", [b"\xff\xff\xff\xff", b"\r\n--"], ids=["bytes", "what looks like a boundary"])
def test_a_file_is_the_same_wherever_its_form_is_cut_into_pieces(app, pattern):
    content = pattern * (uploads.PARSED // 2)
    for length in range(len(content) - 300, len(content)):  # the end of the file passes the end of the second piece
        with app.test_request_context("/predict", method="POST", **form(file=upload(content[:length]), model="a")):
            assert uploads.parse_body() == ({"file": [content[:length]]}, {"model": ["a"]})


BAD_BODIES = {
    "JSON": (b"{}", "application/json", 415, "not_multipart"),
    "bare image": (picture(), "image/png", 415, "not_multipart"),
    "url-encoded": (b"file=scan.jpg", "application/x-www-form-urlencoded", 415, "not_multipart"),
    "no content type": (b"123", None, 415, "not_multipart"),
    "no boundary": (b"123", "multipart/form-data", 400, "malformed_body"),
    "another boundary": (b"--a\r\n\r\n--a--", "multipart/form-data; boundary=b", 400, "malformed_body"),
    "part without an empty line": (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n'
        b'\r\n--b\r\nContent-Disposition: form-data; name="model"\r\n\r\ncustom\r\n--b--',
        "multipart/form-data; boundary=b",
        400,
        "malformed_body",
    ),
    "cut off": (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n\x89PNG',
        "multipart/form-data; boundary=b",
        400,
        "malformed_body",
    ),
}


@pytest.mark.parametrize(("body", "kind", "status", "code"), BAD_BODIES.values(), ids=BAD_BODIES)
def test_bad_body(web, body, kind, status, code):
    answer = web.post("/predict", data=body, content_type=kind)
    assert (answer.status_code, answer.json["code"]) == (status, code)


def test_a_file_name_may_be_in_any_encoding(web):
    fields = form(file=upload(b"no picture", "r\N{LATIN SMALL LETTER O WITH DIAERESIS}ntgen.png"))
    fields["data"] = fields["data"].decode().encode("latin-1")
    assert web.post("/predict", **fields).json["code"] == "unsupported_format"


@pytest.mark.parametrize("content", [b"\n--" * 500_000, bytes(range(256)) * 4000, b"\r\n" * 700_000])
def test_large_files_pass_the_form_limits_whatever_they_contain(web, content):
    assert send(web, file=upload(content)).json["code"] == "unsupported_format"


ADDRESSES = [
    ("GET", "/predict", 405, "method_not_allowed"),
    ("POST", "/", 405, "method_not_allowed"),
    ("GET", "/nothing", 404, "not_found"),
    ("GET", "/static/../../requirements.txt", 404, "not_found"),
    ("GET", "/health?model=VGG", 404, "unknown_model"),
]


@pytest.mark.parametrize(("method", "path", "status", "code"), ADDRESSES)
def test_bad_address(web, method, path, status, code):
    answer = web.open(path, method=method)
    assert (answer.status_code, answer.json["code"]) == (status, code)


def test_method_not_allowed_names_the_method_to_use(web):
    assert "POST" in web.get("/predict").headers["Allow"]


ANSWERS = [("GET", "/", 200), ("GET", "/static/page.css", 200), ("GET", "/predict", 405), ("POST", "/predict", 415)]


@pytest.mark.parametrize(("method", "path", "status"), ANSWERS)
def test_security_headers_are_on_every_answer(web, method, path, status):
    answer = web.open(path, method=method, buffered=True)
    assert answer.status_code == status
    assert security.HEADERS.items() <= dict(answer.headers).items()
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["X-Request-ID"])


@pytest.mark.parametrize("source", ["/", "/predict"])
def test_the_page_needs_no_exception_from_its_policy(web, source):
    text = web.get(source, headers=BROWSER).text
    assert not re.search(r"""\sstyle=|\son\w+=|<style|<script(?![^>]*\ssrc=)|(?:href|src)="(?:https?:)?//""", text)


SENDERS = [
    ({}, True),
    ({"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"}, True),
    ({"Sec-Fetch-Site": "none"}, True),
    ({"Origin": "http://localhost"}, True),
    ({"Sec-Fetch-Site": "cross-site"}, False),
    ({"Sec-Fetch-Site": "same-site", "Origin": "http://localhost"}, False),
    ({"Origin": "http://localhost.evil.example"}, False),
    ({"Origin": "null"}, False),
]


def test_a_batch_that_is_too_large_is_told_what_a_batch_may_have(web):
    answer = web.post("/predict/batch", **form(file=[upload(bytes(9 * 2**20))] * 8))
    assert (answer.status_code, answer.json["code"]) == (413, "batch_too_large") and "64 MiB" in answer.json["error"]


@pytest.fixture
def unasked(tmp_path):
    """An application that wants KEY and has a network in its repository; that it asks no Triton is checked."""
    (tmp_path / "keys").write_text(f"ward-7 {keys.digest(KEY)}\n")
    (tmp_path / "models" / contract.classifier("secret_net")).mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as triton:
        triton.setblocking(False)
        yield create_app({"TRITON_URL": f"127.0.0.1:{triton.getsockname()[1]}", "MODEL_REPOSITORY": tmp_path / "models",
                          "API_KEYS": tmp_path / "keys", "STATUS_TIMEOUT": 0.3}).test_client()
        with pytest.raises(BlockingIOError):
            triton.accept()


@pytest.mark.parametrize(("method", "path", "headers", "status"), [
    ("GET", "/", {}, 401), ("POST", "/predict", {}, 401), ("GET", "/nothing", {}, 401), ("GET", "/static/no", {}, 404),
    ("POST", "/predict", {"Sec-Fetch-Site": "cross-site"}, 403)])
def test_a_stranger_learns_nothing_of_what_is_served(unasked, method, path, headers, status):
    answer = unasked.open(path, method=method, headers=BROWSER | headers)
    assert (answer.status_code, answer.mimetype) == (status, "text/html")
    assert 'id="error"' in answer.text and contract.DISCLAIMER in answer.text and "secret_net" not in answer.text


def test_the_numbers_ask_nobody(unasked):
    allowed = {"Authorization": f"Bearer {KEY}"}
    assert unasked.get("/metrics", headers=allowed).status_code == 200


@pytest.mark.parametrize(("headers", "accepted"), SENDERS)
def test_posts_from_other_sites_are_refused(web, headers, accepted):
    answer = send(web, headers)
    assert answer.json["code"] == ("missing_file" if accepted else "cross_site")
    assert answer.status_code == (400 if accepted else 403)


def test_only_the_names_of_the_server_are_answered(dead_port):
    web = create_app({"TRITON_URL": dead_port, "TRUSTED_HOSTS": "localhost,mri.example"}).test_client()
    assert web.get("/health/live", headers={"Host": "mri.example:5000"}).status_code == 200
    for method, path in (("GET", "/"), ("POST", "/predict")):
        answer = web.open(path, method=method, headers={"Host": "evil.example"})
        assert (answer.status_code, answer.json["code"]) == (400, "bad_request")


def test_without_triton_predict_asks_to_try_later(web):
    answer = send(web, file=upload(picture()))
    assert (answer.status_code, answer.json["code"]) == (503, "server_unavailable")
    assert int(answer.headers["Retry-After"]) > 0


@pytest.mark.parametrize(("path", "state"), [("/predict", 503), ("/health", 503), ("/", 200)])
def test_a_triton_that_never_answers_is_given_up(path, state):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"127.0.0.1:{silent.getsockname()[1]}"
        web = create_app({"TRITON_URL": url, "CLASSIFY_TIMEOUT": 0.3, "STATUS_TIMEOUT": 0.3}).test_client()
        answer = send(web, file=upload(picture())) if path == "/predict" else web.get(path)
    assert answer.status_code == state
    assert path != "/predict" or answer.json["code"] == "deadline_exceeded"


def test_without_triton_health_says_so(web):
    answer = web.get("/health")
    assert (answer.status_code, answer.json["triton"]) == (503, False)
    assert answer.json["models"] == {}


def test_without_triton_the_page_loads_and_says_so(web):
    answer = web.get("/")
    assert answer.status_code == 200
    assert "model server does not answer" in answer.text
    assert contract.DISCLAIMER in answer.text


FAILURES = [(b"", "400 empty_file"), (b"text", "415 unsupported_format"), (picture(), "503 server_unavailable")]


@pytest.mark.parametrize(("content", "expected"), FAILURES)
def test_a_browser_without_javascript_gets_errors_as_the_page(web, content, expected):
    answer = send(web, BROWSER, file=upload(content))
    assert answer.mimetype == "text/html"
    assert f"{answer.status_code} {re.search('Code <code>(.+?)</code>', answer.text)[1]}" == expected


@pytest.mark.parametrize(
    ("accept", "kind"),
    [(None, "json"), ("*/*", "json"), ("application/json", "json"), ("text/html", "html"), (BROWSER["Accept"], "html")],
)
def test_the_accept_header_chooses_the_shape(web, accept, kind):
    answer = web.get("/nothing", headers={"Accept": accept} if accept else {})
    assert answer.mimetype.endswith(kind)


@pytest.mark.parametrize(("is_loaded", "status", "code"), [
    (True, 404, "no_explanation"), (False, 503, "model_not_ready")])
def test_only_of_a_network_that_is_loaded_it_is_said_that_it_has_no_heatmaps(web, monkeypatch, is_loaded, status, code):
    def unknown(*_arguments):
        raise client.errors.unknown_model("custom")

    monkeypatch.setattr(client.Classifier, "is_live", lambda _self: True)
    monkeypatch.setattr(client.Classifier, "models", lambda *_arguments: {"custom": is_loaded})
    monkeypatch.setattr(client.Classifier, "answer_with_heatmaps", unknown)
    answer = web.post("/explain", **form(file=upload(picture())))
    assert (answer.status_code, answer.json["code"]) == (status, code)


def test_all_slots_taken_is_busy(dead_port):
    app = create_app({"TRITON_URL": dead_port, "MAX_IN_FLIGHT": 1})
    with app.extensions["services"].slots:
        answer = send(app.test_client(), file=upload(picture()))
    assert (answer.status_code, answer.json["code"]) == (503, "busy")


def test_a_failed_classification_gives_its_slot_back(dead_port):
    web = create_app({"TRITON_URL": dead_port, "MAX_IN_FLIGHT": 1}).test_client()
    assert [send(web, file=upload(picture())).json["code"] for _ in range(3)] == ["server_unavailable"] * 3


def written(caplog) -> list[str]:
    """Return the log lines as they are written."""
    formatter = JsonFormatter(**{name: value for name, value in logs.FORMAT.items() if name != "()"})
    return [formatter.format(record) for record in caplog.records]


def test_one_log_line_without_names(web, caplog):
    caplog.set_level(logging.INFO)
    answer = send(web, file=upload(b"", "Jane Doe 1970.jpg"), model="custom")
    line, = written(caplog)
    entry = json.loads(line)
    assert datetime.fromisoformat(entry.pop("time")).tzinfo and entry.pop("ms") >= 0
    assert entry == {"level": "INFO", "message": "request", "method": "POST", "route": "/predict", "status": 400,
                     "request_id": answer.json["request_id"]}
    assert "Jane" not in answer.text


def test_what_was_asked_for_is_not_logged_but_its_route(web, caplog):
    caplog.set_level(logging.INFO)
    web.get("/Jane%0Amethod=GET?name=Jane")
    web.get("/static/Jane").close()
    lines = written(caplog)
    assert [json.loads(line)["route"] for line in lines] == [None, "/static/<path:filename>"]
    assert "Jane" not in "".join(lines)


def test_a_fault_is_opaque_and_logged_under_its_id(app, caplog):
    app.add_url_rule("/broken", view_func=lambda: 1 / 0)
    answer = app.test_client().get("/broken")
    assert (answer.status_code, answer.json["code"]) == (500, "server_error")
    assert "division" not in answer.text
    fault = json.loads(written(caplog)[0])
    assert (fault["code"], fault["request_id"]) == ("server_error", answer.json["request_id"])
    assert "ZeroDivisionError" in fault["traceback"]
    assert "ZeroDivisionError" in caplog.text


def test_uploads_never_touch_the_disk(app, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/no folder")
    content = picture("BMP", (1024, 1024))
    with app.test_request_context("/predict", method="POST", **form(file=upload(content))):
        assert uploads.parse_body() == ({"file": [content]}, {})


def test_the_size_of_a_picture_is_that_which_pillow_finds():
    files = [picture("JPEG", (3000, 1000), mode) for mode in ("L", "RGB", "CMYK")]
    files += [content for _, content, _ in hostile.files() if len(content) < decode.MAX_BYTES]
    assert [worker.area(one) for one in files] == [decode.area(one) for one in files]
    assert worker.area(files[0]) == 3_000_000


def test_every_fault_of_an_image_has_a_status():
    assert set(errors.BAD_IMAGE) == set(CODES)


def test_every_class_has_a_title():
    assert tuple(contract.CLASS_TITLES) == contract.CLASSES and all(contract.CLASS_TITLES.values())


@pytest.mark.parametrize(("served", "expected"), [
    ({contract.REVIEW_THRESHOLD: "0.8"}, 0.8), ({contract.REVIEW_THRESHOLD: "1.000000"}, 1.0), ({}, None),
    ({contract.REVIEW_THRESHOLD: "high"}, None), ({contract.REVIEW_THRESHOLD: "nan"}, None),
    ({contract.REVIEW_THRESHOLD: "80"}, None)])
def test_the_review_threshold_is_a_probability_or_unknown(served, expected):
    assert client.review_threshold(served) == expected


@pytest.mark.parametrize(("served", "expected"), [
    ({contract.REVIEW_THRESHOLD: "0.6"}, False), ({contract.REVIEW_THRESHOLD: "0.7"}, True), ({}, True),
    ({contract.REVIEW_THRESHOLD: "0.65"}, False), ({contract.REVIEW_THRESHOLD: "0.650002"}, True)])
def test_low_confidence_or_no_threshold_needs_a_review(dead_port, served, expected):
    sure = 0.650004  # shown as 0.65, and compared as it is shown
    shares = dict.fromkeys(contract.CLASSES, (1 - sure) / (len(contract.CLASSES) - 1)) | {contract.CLASSES[1]: sure}
    answer = client.Answer.of(client.Prediction("custom", contract.CLASSES[1], sure, shares), served)
    with create_app({"TRITON_URL": dead_port}).test_request_context():
        shown = page.render(result=answer)
    assert answer.needs_review is expected and ('id="review"' in shown) is expected
    cells = json.loads(html.unescape(re.search('data-cells="(.+?)"', shown)[1]))
    assert [*cells[:2], cells[-1]] == [contract.CLASS_TITLES[contract.CLASSES[1]], "65.0 %", "needs review" * expected]


def test_the_page_offers_the_samples_that_it_has(dead_port, tmp_path):
    app = create_app({"TRITON_URL": dead_port})
    for shown in (contract.CLASSES, contract.CLASSES[1:2]):
        with app.test_request_context():
            assert re.findall('data-sample=".*?/([a-z]+).png"', page.render()) == list(shown)
        (tmp_path / "samples").mkdir(exist_ok=True)
        (tmp_path / "samples" / f"{contract.CLASSES[1]}.png").touch()
        app.static_folder = str(tmp_path)


@pytest.mark.parametrize(("sources", "offered"), [(["brain-mri"], False), (["brain-mri", contract.PHANTOM], True),
                                                  (["brain-mri", None], True), ([], True)])
def test_phantoms_are_offered_only_to_what_may_know_them(dead_port, sources, offered):
    shown = [page.Network("custom", "Custom", True, source, None) for source in sources]
    with create_app({"TRITON_URL": dead_port}).app_context():
        assert bool(page.samples(shown)) is offered


def test_tables_and_report_show_the_declared_fields(dead_port):
    answer = client.Answer.of(client.Prediction("custom", contract.HEALTHY, 0.65, dict.fromkeys(contract.CLASSES, 0.65),
                                                tta=True), {contract.DATA_SOURCE: "<ours>"})
    with create_app({"TRITON_URL": dead_port}).test_request_context():
        shown = page.render(result=answer)
    table, earlier = re.findall("<thead>(.+?)</thead>", shown, re.DOTALL)
    titles = [one.title for one in columns("page").values()]
    assert re.findall('class="sort">(.+?)<', table) == ["File", *titles]
    assert re.findall('<th scope="col">(.+?)<', earlier) == ["Time", "File", *titles]
    report = dict(re.findall("<dt>(.+?)</dt><dd>(.+?)</dd>", shown))
    assert {one.title for one in columns("report").values()} <= set(report)
    assert report["Mirror image"] == "averaged in" and report["Trained on"] == "&lt;ours&gt;"
    declared = json.loads(html.unescape(re.search('data-columns="(.+?)"', shown)[1]))
    assert [name for name, _ in declared] == list(columns())  # in their order, which an object would lose


PROVENANCE = [
    ({"data": {"source": "phantom"}, "git_revision": "0123456789abcdef"}, ("phantom", "0123456789")),
    ({"git_revision": "0123456789abcdef+changes"}, (None, "0123456789+changes")),
    ({"data": None, "git_revision": None}, (None, None)),
    ({}, (None, None)),
    ([1], (None, None)),
]


@pytest.mark.parametrize(("facts", "expected"), PROVENANCE)
def test_provenance_is_read_from_the_model_repository(dead_port, tmp_path, facts, expected):
    path = tmp_path / NETWORKS[0] / "1" / "provenance.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(facts))
    with create_app({"TRITON_URL": dead_port, "MODEL_REPOSITORY": str(tmp_path)}).app_context():
        network = page.networks(False, dict.fromkeys(NETWORKS, False))[0]
    assert (network.data_source, network.revision) == expected


@pytest.mark.parametrize(("facts", "expected"), [
    ({"test_scores": {"macro_f1": 0.91234, "intervals": {"macro_f1": [0.8871, 0.9342]}}}, "0.912 (0.887-0.934)"),
    ({"test_scores": {"macro_f1": 0.91234}}, "0.912"), ({"test_scores": None}, ""), ({"test_scores": {}}, ""),
    ({"test_scores": {"macro_f1": "high"}}, ""), ({}, "")])
def test_the_page_shows_the_score_with_its_interval(facts, expected):
    assert page.test_score(facts) == expected


@pytest.mark.parametrize(("source", "grouping", "shown"), [
    ("brain-mri/Training", "runs", False), ("brain-mri/Training", "duplicates", False),
    ("brain-mri/Training", "patients", True), (contract.PHANTOM, "runs", True)])
def test_scores_of_cut_patients_are_withdrawn(source, grouping, shown):
    facts = {"data": {"source": source, "group_by": grouping}, "test_scores": {"macro_f1": 0.98}}
    assert (page.test_score(facts) == "0.980") is shown


COMMANDS = [
    (["--help"], 0, "example:"),
    (["--port", "99999"], 2, "from 1 to 65535"),
    (["--triton-url", "http://x"], 1, "host:port"),
]


@pytest.mark.parametrize(("arguments", "code", "text"), COMMANDS)
def test_command_line(arguments, code, text):
    done = subprocess.run([sys.executable, "-m", "webapp", *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == code
    assert text in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_uploads_together_hold_no_more_than_their_budget():
    budget = uploads.Budget(100)
    budget.take(60)
    with pytest.raises(refused.Refused) as caught:
        budget.take(41)
    assert caught.value.status == 503
    budget.take(40)
    budget.give(100)
    budget.take(100)


def test_an_upload_holds_its_memory_until_it_is_answered(app, monkeypatch):
    budget, left = app.extensions["services"].uploads, []
    monkeypatch.setattr(client.Classifier, "answer", lambda *_arguments: left.append(budget._left) or 1 / 0)
    most, fields = budget._left, form(file=upload(picture()))
    for _ in range(2):
        assert app.test_client().post("/predict", **fields).status_code == 500
    assert left == [most - len(fields["data"])] * 2 and budget._left == most


def test_a_large_announcement_needs_room_before_it_is_read(dead_port):
    web = create_app({"TRITON_URL": dead_port, "MAX_UPLOADS_MEMORY": 1000}).test_client()
    answer = send(web, file=upload(picture(size=(640, 640), mode="RGB") + bytes(2000)))
    assert (answer.status_code, answer.json["code"]) == (503, "busy") and answer.headers["Retry-After"]


def test_metrics_count_requests_without_names(web):
    web.get("/nothing/Jane")
    send(web, file=upload(b"", "Jane.png"))
    text = web.get("/metrics").text
    assert 'http_requests_total{endpoint="unknown",method="GET",status="404"} 1.0' in text
    assert 'http_requests_total{endpoint="views.predict",method="POST",status="400"} 1.0' in text
    assert 'http_request_duration_seconds_count{endpoint="views.predict"} 1.0' in text and "Jane" not in text


@pytest.mark.parametrize("proxies", [1, 2])
def test_behind_proxies_of_which_one_adds_a_prefix_every_address_has_it(dead_port, proxies):
    web = create_app({"TRITON_URL": dead_port, "TRUSTED_PROXIES": proxies}).test_client()
    for path in ("/", "/about", "/api"):
        text = web.get(path, headers={"X-Forwarded-Prefix": "/mri"}).text
        addresses = re.findall(r'(?:href|src|action|data-sample)="(/[^"]*)"', text)
        assert len(addresses) > 5 and all(address.startswith("/mri/") for address in addresses)
    alone = create_app({"TRITON_URL": dead_port}).test_client().get("/", headers={"X-Forwarded-Prefix": "/evil"}).text
    assert "/evil" not in alone


def test_the_page_about_the_models_says_what_the_files_say_and_survives_broken_ones(dead_port, tmp_path):
    folder = tmp_path / "custom/1"
    folder.mkdir(parents=True)
    for name in SERVED:
        (tmp_path / contract.classifier(name)).mkdir()
    scores = {"macro_f1": 0.9, "accuracy": 0.8, "intervals": {"accuracy": [0.7, 0.85]}, "tta": {"macro_f1": 0.925},
              "classes": {"glioma": {"precision": 0.5, "images": 9}, "other": {}, "pituitary": None},
              "sources": {"web": {"groups": 12, "images": 34, "sensitivity": 0.625, "specificity": None,
                                  "intervals": {"sensitivity": [0.5, 0.75]}}, "odd": 5}}
    facts = {"data": {"source": "<set>", "splits": {"test": {"glioma": 9}, "odd": 3}}, "test_scores": scores,
             "decision": {"temperature": 1.5, "served": None}, "training": [], "exported": "2026-01-02T03:04"}
    (folder / "provenance.json").write_text(json.dumps(facts))
    web = create_app({"TRITON_URL": dead_port, "MODEL_REPOSITORY": str(tmp_path)}).test_client()
    text = web.get("/about").text
    for wanted in ("&lt;set&gt;", "9 test", "0.800 (0.700-0.850)", "0.900", "1.5", "2026-01-02", "0.500", "0.925",
                   '"row">web</th><td>12</td><td>34</td><td>0.625 (0.500-0.750)</td><td>–</td>'):
        assert wanted in text, wanted
    assert "Nothing is known about this model" in text  # resnet50
    assert contract.DISCLAIMER in text


BIN = {"images": 3, "confidence": 0.9, "accuracy": 1.0}


@pytest.mark.parametrize(("diagrams", "shown"), [
    ({"confusion": [[4, 0, 0, 1]] * 4, "reliability": [BIN]}, True), ({}, False), (None, False),
    ({"confusion": [[4, 0, 0, 1]] * 4}, False), ({"confusion": [[4]] * 4, "reliability": [BIN]}, False),
    ({"confusion": 5, "reliability": [BIN]}, False), ({"confusion": [["x"] * 4] * 4, "reliability": [BIN]}, False),
    ({"confusion": [[0] * 4] * 4, "reliability": []}, True),
    ({"confusion": [[0] * 4] * 4, "reliability": [{}]}, False)])
def test_diagrams_are_drawn_from_what_the_files_say_and_survive_broken_ones(dead_port, tmp_path, diagrams, shown):
    (tmp_path / "custom/1").mkdir(parents=True)
    (tmp_path / "classify_custom").mkdir()
    (tmp_path / "custom/1/provenance.json").write_text(json.dumps({"test_diagrams": diagrams}))
    web = create_app({"TRITON_URL": dead_port, "MODEL_REPOSITORY": str(tmp_path)}).test_client()
    text = web.get("/about").text
    assert ("Confusion matrix" in text) == ("Reliability diagram" in text) == shown
    if diagrams and diagrams.get("reliability") == [BIN] and shown:
        assert text.count('<td class="share-5">4</td>') == 4 and '<circle cx="180.0" cy="0.0" r="11.0"/>' in text


class Body(io.BytesIO):
    """A body as a WSGI server passes it on; remembers how often it was read from."""

    reads = 0

    def read(self, size=-1):
        self.reads += 1
        return super().read(size)


@pytest.mark.parametrize("path", ["/predict", "/", "/nothing"])
def test_what_a_refused_request_still_sends_is_read_in_few_pieces(web, path):
    fields = form(file=upload(bytes(decode.MAX_BYTES + 2**20)))
    body = Body(fields.pop("data"))
    answer = web.post(path, input_stream=body, content_length=len(body.getbuffer()), **fields,
                      environ_overrides={"wsgi.input_terminated": True})
    assert answer.status_code in (404, 405, 413) and answer.json["success"] is False
    answer.close()
    assert body.tell() == len(body.getbuffer()) and body.reads < 20


def test_what_a_refused_request_sends_without_end_is_not_read_for_ever():
    endless = types.SimpleNamespace(read=lambda size: bytes(size))
    dripping = types.SimpleNamespace(read=lambda _size: gevent.sleep(0.01) or b"x")
    for body, seconds in ((endless, 60), (dripping, 0.1)):
        with pytest.raises(ConnectionResetError):
            uploads.read_rest(body, seconds)


class Dripping(io.BytesIO):
    """A body that comes byte by byte."""

    def readinto(self, buffer):
        gevent.sleep(0.01)
        return super().readinto(memoryview(buffer)[:1])

    def read(self, _size=-1):
        gevent.sleep(0.01)
        return super().read(1)


def test_an_upload_that_drips_is_given_up(dead_port):
    web = create_app({"TRITON_URL": dead_port, "UPLOAD_TIMEOUT": 0.1}).test_client()
    fields = form(file=upload(bytes(99)))
    answer = web.post("/predict", input_stream=Dripping(fields.pop("data")), **fields)
    assert (answer.status_code, answer.json["code"]) == (408, "upload_too_slow")
