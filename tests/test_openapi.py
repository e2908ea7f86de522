"""/openapi.json describes every address and every error that the code knows."""

import ast

from tests.conftest import PROJECT
from webapp import create_app, errors, openapi

UNDESCRIBED = {"/", "/about", "/api", "/metrics", "/openapi.json", "/static/<path:filename>"}


def test_every_address_is_described():
    app = create_app({"TRITON_URL": "127.0.0.1:1"})
    known = {rule.rule for rule in app.url_map.iter_rules()}
    assert set(openapi.document()["paths"]) == known - UNDESCRIBED
    assert app.test_client().get("/openapi.json").json == openapi.document()


def refused_statuses() -> set[int]:
    """Return the statuses of every Refused(...) in the sources of webapp."""
    found = set()
    for path in (PROJECT / "webapp").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            is_refusal = isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Refused"
            if is_refusal and isinstance(node.args[0], ast.Constant):
                found.add(node.args[0].value)
    return found


def test_every_status_is_described():
    statuses = refused_statuses() | set(errors.BAD_IMAGE.values()) | set(errors.HTTP)
    assert len(statuses) > 8 and statuses <= set(openapi.ERRORS)
    for path in ("/predict", "/explain", "/predict/batch"):
        described = openapi.document()["paths"][path]["post"]["responses"]
        assert {str(status) for status in openapi.ERRORS} < set(described)
