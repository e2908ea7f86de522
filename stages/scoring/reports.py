"""Where `evaluate` writes what later stages read, and what it reads of training."""

import csv
import json
from pathlib import Path

REPORTS = Path("reports/evaluate")
SCORES = REPORTS / "metrics.json"
DECISIONS = REPORTS / "decision.json"
"""What was chosen on the validation split for each network; export serves it."""
PREDICTIONS, RELIABILITY = "predictions.csv", "reliability.csv"
"""Tables of a network, in a folder of its name."""


def training(stage: str) -> dict:
    """Return the record that a training stage has written of its run."""
    return json.loads((Path("reports") / stage / "metrics.json").read_text())


def table(path: Path) -> list[dict[str, str]]:
    """Return the lines of a CSV file, by the names in its first one."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
