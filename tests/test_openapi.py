"""/openapi.json describes every address and every error that the code knows."""

import ast
import json
import subprocess
import sys

from client import Answer
from core import contract
from imaging import limits
from tests.conftest import PROJECT
from webapp import create_app, errors, keys, openapi, uploads

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


def test_an_answer_is_described_as_the_model_declares_it():
    described = openapi.document()["components"]["schemas"]["Prediction"]
    assert list(described["properties"]) == ["success", *Answer.model_fields, "request_id"]
    assert described["required"] == list(described["properties"]) and not described["additionalProperties"]
    assert all(described["properties"][name]["description"] for name in Answer.model_fields)


def test_the_examples_are_what_is_described():
    described = openapi.document()["components"]["schemas"]
    found = [(name, one) for name, schema in described.items() for one in schema.get("examples", ())]
    assert {"Prediction", "Explanation", "Slice", "Error"} == {name for name, _ in found}
    for name, example in found:
        assert set(example) == set(described[name]["required"])
        if name in ("Prediction", "Explanation"):
            answer = Answer(**{field: example[field] for field in Answer.model_fields})
            assert abs(sum(answer.all_probabilities.values()) - 1) < 1e-6 and answer.predicted_class in contract.CLASSES


MORE = """
import json
from core import contract
contract.CLASSES += ("other",)
from webapp import create_app
found = create_app({"TRITON_URL": "127.0.0.1:1"}).test_client().get("/openapi.json").json
print(json.dumps(found["components"]["schemas"]["Prediction"]))
"""


def test_another_class_is_described_as_well():
    done = subprocess.run([sys.executable, "-c", MORE], cwd=PROJECT, capture_output=True, text=True, check=True)
    described = json.loads(done.stdout)
    wanted, schema = [*contract.CLASSES, "other"], described["properties"]["all_probabilities"]
    assert described["properties"]["predicted_class"]["enum"] == wanted
    assert schema["required"] == list(schema["properties"]) == wanted
    assert list(described["examples"][0]["all_probabilities"]) == wanted


def test_the_limits_are_those_of_their_owners():
    document = openapi.document()
    assert f"{limits.MAX_BYTES // 2**20} MiB" in openapi.ERRORS[413]
    assert f"{limits.MAX_PIXELS // 2**20} megapixels" in openapi.ERRORS[413]
    assert f"{uploads.BATCH_BYTES // 2**20} MiB" in document["paths"]["/predict/batch"]["post"]["summary"]


def test_keys_are_described_where_they_are_needed(tmp_path, capsys):
    assert keys.main(["add", str(tmp_path / "keys"), "ward-7"]) == 0
    app = create_app({"TRITON_URL": "127.0.0.1:1", "API_KEYS": str(tmp_path / "keys")})
    document = app.test_client().get("/openapi.json").json
    (name, scheme), = document["components"]["securitySchemes"].items()
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    for path, operations in document["paths"].items():
        operation, = operations.values()
        assert operation.get("security") == (None if path.startswith("/health") else [{name: []}])
    assert not any("security" in one for operations in openapi.document()["paths"].values()
                   for one in operations.values())
