"""Numbers of the reports -> MODEL_CARD.md, by the template card.md.j2. Reads and writes no report.

The headings follow Mitchell et al. 2019 (Model Cards for Model Reporting, arXiv:1810.03993, section 4) and, for the
data, Gebru et al. 2021 (Datasheets for Datasets, arXiv:1803.09010, section 3). Every number comes from an argument, and
the same arguments give the same text.
"""

from collections.abc import Iterable
from pathlib import Path

import jinja2

from core import contract
from stages.data import spelling
from stages.reporting import tables
from stages.scoring import intervals

OVERALL = {
    "accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "macro_precision": "macro precision",
    "macro_recall": "macro recall", "macro_f1": "macro F1", "macro_roc_auc": "macro ROC-AUC",
    "macro_pr_auc": "macro PR-AUC", "brier": "Brier score (0 to 2, lower is better)",
    "nll": "negative log-likelihood (nats, lower is better)", "ece": "calibration error (ECE, lower is better)",
    "aurc": "area under risk-coverage (lower is better)"}
PER_CLASS = {"precision": "precision", "recall": "recall (sensitivity)", "specificity": "specificity", "f1": "F1",
             "roc_auc": "ROC-AUC", "pr_auc": "PR-AUC"}
PUBLISHED = {"without_copies": "without copies of training pictures", "as_published": "as published"}
PROBE = {"accuracy": "accuracy of the baseline", "majority_accuracy": "accuracy of the most frequent class",
         "macro_f1": "macro F1", "notumor_roc_auc": "ROC-AUC of notumor against the rest"}
TRAINING = {"parameters": "parameters", "weights": "weights at the start", "precision": "precision",
            "epochs": "epochs", "best_epoch": "epoch of the kept weights", "val_accuracy": "validation accuracy",
            "val_loss": "validation loss (nats, with penalties)"}


def card(data: dict, runs: dict[str, dict], results: dict, decisions: dict[str, dict]) -> str:
    """Return the model card as Markdown.

    Args:
        data: reports/prepare/data.json; its key source_probe may be missing.
        runs: reports/train_*/metrics.json by network.
        results: reports/evaluate/metrics.json.
        decisions: reports/evaluate/decision.json.
    """
    pages = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), undefined=jinja2.StrictUndefined,
                               trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    pages.filters["score"] = intervals.shown
    pages.filters["source_score"] = lambda key, values: tables.source_score(values, key)
    return pages.get_template("card.md.j2").render(
        data=data, runs=runs, results=results, decisions=decisions, probe=probe(data), training=training(runs),
        scored={name: results[name] for name in decisions}, every="both" if len(runs) == 2 else "all",
        flipped=[name for name, one in decisions.items() if one.get("average_flip")],
        is_phantom=data["source"] == contract.PHANTOM, classes=list(contract.CLASSES), ensemble=contract.ENSEMBLE,
        labels=[label for label in spelling.LABELS if label in next(iter(data["splits"].values()))],
        disclaimer=contract.DISCLAIMER, overall=OVERALL, per_class=PER_CLASS,
        tumour=tables.TUMOUR, people=tables.people, published=PUBLISHED,
        source=tables.SOURCE, known_of=known_of,
        head=head, row=row, shown=shown, picked=lambda values, keys: [values[key] for key in keys],
        number=lambda value: intervals.text(value, None))


def known_of(found: dict[str, dict]) -> str:
    """Return in a few sentences on which sources a network was measured, and that of others nothing is known.

    Args:
        found: see sources.by_source.
    """
    both = [name for name, one in found.items() if one["macro_f1"] is not None or one["balanced_accuracy"] is not None]
    one_side = [name for name in found if name not in both]
    said = ([f"Measured on {', '.join(both)}."] if both else []) + (
        [f"On {', '.join(one_side)} only in part: these hold one side, tumours or none."] if one_side else [])
    return " ".join([*said, "How the networks answer to pictures of another source, scanner or hospital is not known."])


def row(cells: list) -> str:
    """Return a line of a Markdown table."""
    return f"| {' | '.join(map(str, cells))} |"


def head(cells: list) -> str:
    """Return the first two lines of a Markdown table."""
    return f"{row(cells)}\n{row(['---'] * len(cells))}"


def shown(scores: dict, keys: Iterable[str], *path: str) -> list[str]:
    """Return scores, found in nested dicts by a path of keys, as texts with their intervals if there are any."""
    return [intervals.shown(scores, key, *path) for key in keys]


def probe(data: dict) -> dict[str, float]:
    """Return what the source probe found, by title; nothing if there was none."""
    found = data.get("source_probe") or {}
    return ({title: found[key] for key, title in PROBE.items() if key in found}
            | {f"recall of {label}": value for label, value in found.get("recall", {}).items()})


def training(runs: dict[str, dict]) -> dict[str, list[str]]:
    """Return what is recorded of each network's training, by title."""
    return {title: [plain(run.get(key)) for run in runs.values()] for key, title in TRAINING.items()
            if any(key in run for run in runs.values())}


def plain(value) -> str:
    """Return a recorded value as text; a dash for None."""
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}" if isinstance(value, float) else str(value)
