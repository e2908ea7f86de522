"""Writes README's tables of results from the committed metrics: the default run's, and the published network's.

    python docs/results.py
"""

import json
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT))

from imaging import contract  # noqa: E402
from stages import files, intervals  # noqa: E402

START, END = "<!-- {}: written by docs/results.py -->\n", "<!-- end of {} -->\n"
STAGES = {"custom": "train_custom", "resnet50": "train_resnet"}


def tables() -> dict[str, str]:
    """Return the tables by the name in README's marks."""
    return {"results": table(PROJECT, contract.NETWORKS),
            "published results": table(PROJECT / "published/run", ("custom",))}


def table(project: Path, networks: tuple[str, ...]) -> str:
    """Return a run's results as Markdown.

    Args:
        project: the folder with reports/*/metrics.json and reports/prepare/data.json.
        networks: one row each.
    """
    scores = json.loads((project / "reports/evaluate/metrics.json").read_text())
    data = json.loads((project / "reports/prepare/data.json").read_text())
    counts = {split: sum(classes.values()) for split, classes in data["splits"].items()}
    lines = [f"Data: {data['source']}, {counts['train']} training, {counts['validation']} validation and "
             f"{counts['test']} test images. In brackets: 95 % intervals, see MODEL_CARD.md.", "",
             "| network | parameters | weights at the start | epochs | accuracy | macro F1 | macro ROC-AUC | ECE |",
             "|---|---|---|---|---|---|---|---|"]
    for network in networks:
        run = json.loads((project / f"reports/{STAGES[network]}/metrics.json").read_text())
        score = scores[network]
        lines.append(f"| {network} | {run['parameters']:,} | {run['weights']} | {run['epochs']} "
                     f"| {intervals.shown(score, 'accuracy')} | {intervals.shown(score, 'macro_f1')} "
                     f"| {score['macro_roc_auc']:.3f} | {score['ece']:.3f} |")
    return "\n".join(lines) + "\n"


def replaced(readme: str, name: str, new: str) -> str:
    """Return README's text with another table between the marks of a name."""
    start, end = START.format(name), END.format(name)
    head, rest = readme.split(start)
    return head + start + new + end + rest.split(end)[1]


if __name__ == "__main__":
    path = PROJECT / "README.md"
    for mark, text in tables().items():
        files.write_text(path, replaced(path.read_text(), mark, text))
