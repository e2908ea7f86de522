"""What it costs to add something, shown by adding it to a copy of the repository."""

import csv
import json
import sys

from tests.support import road

FIELD = '''    familiarity: Annotated[Probability | None, Column("Familiarity", "percent")] = Field(
        description="How close the image is to those of the training.")
'''
EDITS = [  # file, text before which something comes, what comes
    ("client/answer.py", "    warnings: tuple[str, ...] = Field(", FIELD),
    ("client/answer.py", "            warnings=tuple(warnings),\n", "            familiarity=0.25,\n"),
]
"""The field, and what computes it. A number of the network itself also needs its layer and its output's name."""
ASK = """
import io, json, sys
from pathlib import Path
from webapp import create_app
url, scan, folder = sys.argv[1:]
web = create_app({"TRITON_URL": url, "AUDIT_LOG": folder}).test_client()
def ask(path, accept, name="file"):
    return web.post(path, data={name: (io.BytesIO(Path(scan).read_bytes()), "a.png")}, headers={"Accept": accept})
print(json.dumps({
    "predict": ask("/predict", "application/json").json, "explain": ask("/explain", "application/json").json,
    "batch": ask("/predict/batch", "application/json").json["results"][0], "page": ask("/predict", "text/html").text,
    "described": web.get("/openapi.json").json["components"]["schemas"]["Prediction"]}))
"""


def test_a_field_costs_its_declaration_and_its_computation(server, scans, tmp_path):
    copy = road.clone(tmp_path / "copy")
    for name, before, more in EDITS:
        text = (copy / name).read_text()
        assert text.count(before) == 1
        (copy / name).write_text(text.replace(before, more + before))
    scan, table, log = tmp_path / "scan.png", tmp_path / "table.csv", tmp_path / "audit"
    scan.write_bytes(scans[1])

    done = road.run([sys.executable, "-c", ASK, server.url, str(scan), str(log)], copy)
    found = json.loads(done.stdout.splitlines()[-1])
    for answer in ("predict", "explain", "batch"):
        assert found[answer]["familiarity"] == 0.25, answer
    assert found["described"]["properties"]["familiarity"]["description"].startswith("How close")
    assert "familiarity" in found["described"]["required"] and found["described"]["examples"][0]["familiarity"] == 0.25
    page = "".join(found["page"].split("\n"))
    assert "<dt>Familiarity</dt><dd>25.0 %</dd>" in page and page.count(">Familiarity<") == 3  # two tables, the report
    assert "&#34;25.0 %&#34;" in page  # the line of the tab's history

    command = [sys.executable, "-m", "client", str(scan), "--url", server.url]
    assert json.loads(road.run([*command, "--json"], copy).stdout)["familiarity"] == 0.25
    road.run([*command, "--output", str(table)], copy)
    with table.open(newline="") as file:
        assert [row["familiarity"] for row in csv.DictReader(file)] == ["0.25"]
    records = [json.loads(line) for line in (log / "audit-000001.jsonl").read_text().splitlines()]
    assert [record["familiarity"] for record in records] == [0.25] * 4
