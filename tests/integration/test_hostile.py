"""Every hostile upload of tests/support/hostile.py gets the right answer from the page as production runs it."""

import http.client
import json

import pytest

from imaging import decode, limits
from imaging.errors import ImageError
from tests.support import hostile
from tests.support.site import encoded, predict, published

CASES = hostile.cases()


@pytest.fixture(scope="module")
def site(server):
    """host:port of the page."""
    with published(server.url) as address:
        yield address


def post(site: str, case: hostile.Case) -> tuple[int, dict]:
    """Return the status and the JSON of the answer."""
    connection = http.client.HTTPConnection(site, timeout=20)
    try:
        connection.request("POST", "/predict", case.body, {"Content-Type": case.kind} if case.kind else {})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_there_are_enough():
    assert len({case.name for case in CASES}) == len(CASES) >= 60


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_answer_is_right(site, case):
    status, answer = post(site, case)
    assert status in case.statuses, answer
    assert not case.code or answer["code"] == case.code
    assert answer["success"] == (status == 200) and "Jane" not in json.dumps(answer)


def test_a_good_image_is_classified_after_all_that(site):
    assert predict(site, encoded("L", "PNG"))[0] == 200


def test_without_the_limit_a_bomb_would_pass(monkeypatch):
    content = hostile.picture("1", "PNG", (4097, 4096))
    with pytest.raises(ImageError):
        decode.canonical(content)
    monkeypatch.setattr(limits, "MAX_PIXELS", 10**9)
    assert decode.canonical(content)
