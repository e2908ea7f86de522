"""What is known of a network: what Triton says of it, and the file that export wrote beside it."""

import json
from typing import Any

from flask import current_app

import client
from core import contract
from webapp.triton import served

WITHDRAWN = (
    "The scores that were published in November 2026 for real slices are withdrawn: pictures of the public set occur "
    "mirrored and its patients were in training and test alike, so they measured memory. On scans of other sources the "
    "network told scanners apart, not tumours; scores by patients and by sources took their place.")
"""Stands in place of the scores of a network whose test did not keep patients apart; in README and model card too."""


def served_facts(model: str, asking: str = "status") -> dict[str, str]:
    """Return what Triton knows of a network, such as contract.DATA_SOURCE; {} if it cannot be told.

    Args:
        model: the network's name.
        asking: which of the classifiers of webapp.triton.Backend asks.
    """
    try:
        asked: client.Classifier = getattr(served(), asking)
        return asked.describe(model)
    except client.ClientError:
        return {}


def provenance(model: str) -> dict[str, Any]:
    """Return the provenance file that export wrote beside a network; {} if there is none or it cannot be read."""
    if not (repository := served().repository):
        return {}
    path = repository / model / "1" / "provenance.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        current_app.logger.warning("Expected a JSON object in %s/1/provenance.json: %s", model, type(error).__name__)
        return {}
    return found if isinstance(found, dict) else {}


def revision(facts: dict[str, Any]) -> str | None:
    """Return the Git revision in a provenance file, its hash cut to 10 digits, "+changes" kept; None without one."""
    commit, plus, changes = str(facts.get("git_revision") or "").partition("+")
    return f"{commit[:10]}{plus}{changes}" or None


def recorded_source(facts: dict[str, Any]) -> str | None:
    """Return the data set named in a provenance file, None without one."""
    return nested(facts, "data").get("source")


def is_withdrawn(facts: dict[str, Any]) -> bool:
    """Return whether a provenance file tells of real slices that were split without regard to patients."""
    data = nested(facts, "data")
    return data.get("source") != contract.PHANTOM and data.get("group_by") in ("runs", "duplicates")


def nested(values: dict[str, Any], *keys: str) -> dict[str, Any]:
    """Return the dict that lies behind some keys of nested dicts; {} if there is none."""
    found: Any = values
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}
