"""Writes README's table of results from the committed metrics.

    python docs/results.py
"""

import json
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT))

from imaging import contract  # noqa: E402
from stages import files, intervals  # noqa: E402

START, END = "<!-- results: written by docs/results.py -->\n", "<!-- end of results -->\n"


def table(project: Path = PROJECT) -> str:
    """Return the table of results as Markdown, from reports/*/metrics.json and reports/prepare/data.json."""
    scores = json.loads((project / "reports/evaluate/metrics.json").read_text())
    data = json.loads((project / "reports/prepare/data.json").read_text())
    counts = {split: sum(classes.values()) for split, classes in data["splits"].items()}
    lines = [f"Data: {data['source']}, {counts['train']} training, {counts['validation']} validation and "
             f"{counts['test']} test images. In brackets: 95 % intervals, see MODEL_CARD.md.", "",
             "| network | parameters | weights at the start | epochs | accuracy | macro F1 | macro ROC-AUC | ECE |",
             "|---|---|---|---|---|---|---|---|"]
    for network, stage in zip(contract.NETWORKS, ("train_custom", "train_resnet"), strict=True):
        run, score = json.loads((project / f"reports/{stage}/metrics.json").read_text()), scores[network]
        lines.append(f"| {network} | {run['parameters']:,} | {run['weights']} | {run['epochs']} "
                     f"| {intervals.shown(score, 'accuracy')} | {intervals.shown(score, 'macro_f1')} "
                     f"| {score['macro_roc_auc']:.3f} | {score['ece']:.3f} |")
    return "\n".join(lines) + "\n"


def replaced(readme: str, new: str) -> str:
    """Return README's text with another table between the marks."""
    head, rest = readme.split(START)
    return head + START + new + END + rest.split(END)[1]


if __name__ == "__main__":
    path = PROJECT / "README.md"
    files.write_text(path, replaced(path.read_text(), table()))
