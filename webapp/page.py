"""What the page shows: the networks and where they come from, a result or an error."""

import json
from dataclasses import dataclass
from pathlib import Path

from flask import current_app, render_template

import client
from imaging import contract, decode
from webapp.health import readiness
from webapp.journal import request_id

TITLES = {
    "custom": "Custom CNN",
    "resnet50": "ResNet-50",
    "glioma": "Glioma",
    "meningioma": "Meningioma",
    "notumor": "No tumour",
    "pituitary": "Pituitary tumour",
}
"""How the page writes the names of the contract."""


@dataclass(frozen=True)
class Network:
    """One network as the page shows it.

    Attributes:
        name: its name in the contract. ready: whether Triton answers for it. data_source: the data set it was trained
        on, None if unknown. revision: short Git revision of the code that trained it, None if unknown. exported: the
        day, YYYY-MM-DD, and macro_f1: on its test split, with its 95 % interval where known; "" if unknown.
    """

    name: str
    ready: bool
    data_source: str | None
    revision: str | None
    exported: str = ""
    macro_f1: str = ""

    @property
    def is_phantom(self) -> bool:
        """Whether it was trained on synthetic images only."""
        return self.data_source == contract.PHANTOM


def served_facts(model: str) -> dict[str, str]:
    """Return what Triton knows of a network, such as contract.DATA_SOURCE; {} if it cannot be told."""
    try:
        return current_app.extensions["status"].describe(model)
    except client.ClientError:
        return {}


def review_threshold(facts: dict[str, str]) -> float | None:
    """Return the confidence in [0, 1] below which a person must look; None if the served model does not say."""
    try:
        threshold = float(facts[contract.REVIEW_THRESHOLD])
    except (KeyError, ValueError):
        return None
    return threshold if 0.0 <= threshold <= 1.0 else None


def provenance(model: str) -> dict:
    """Return the provenance file that export wrote beside a network; {} if there is none or it cannot be read."""
    if not (repository := current_app.config["MODEL_REPOSITORY"]):
        return {}
    path = Path(repository) / model / "1" / "provenance.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        current_app.logger.warning("Expected a JSON object in %s/1/provenance.json: %s", model, type(error).__name__)
        return {}
    return found if isinstance(found, dict) else {}


def networks(live: bool, ready: dict[str, bool]) -> list[Network]:
    """Describe the networks; the training data come from Triton, from the files if it is down.

    Args:
        live: whether Triton answers.
        ready: what Triton holds, see webapp.health.readiness.
    """
    described = []
    for name in ready:
        facts = provenance(name)
        source = served_facts(name).get(contract.DATA_SOURCE) if live else None
        described.append(Network(name, ready[name], source or recorded_source(facts), revision(facts),
                                 str(facts.get("exported") or "")[:10], test_score(facts)))
    return described


def recorded_source(facts: dict) -> str | None:
    """Return the data set named in a provenance file, None without one."""
    data = facts.get("data")
    return data.get("source") if isinstance(data, dict) else None


def test_score(facts: dict) -> str:
    """Return the macro F1 on the test split in a provenance file, as 0.912 (0.887-0.934); "" without one."""
    try:
        scores = facts["test_scores"]
        value = f"{float(scores['macro_f1']):.3f}"
    except (KeyError, TypeError, ValueError):
        return ""
    try:
        low, high = map(float, scores["intervals"]["macro_f1"])
    except (KeyError, TypeError, ValueError):
        return value
    return f"{value} ({low:.3f}-{high:.3f})"


def revision(facts: dict) -> str | None:
    """Return the Git revision in a provenance file, its hash cut to 10 digits, "+changes" kept; None without one."""
    commit, plus, changes = str(facts.get("git_revision") or "").partition("+")
    return f"{commit[:10]}{plus}{changes}" or None


def render(result: dict | None = None, error=None, model: str = contract.NETWORKS[0]) -> str:
    """Return the page as HTML.

    Args:
        result: the answer of /predict to show, or None.
        error: a webapp.errors.Refused to show, or None.
        model: the network that is selected in the form.
    """
    live, ready = readiness()
    return render_template(
        "page.html",
        live=live,
        networks=networks(live, ready),
        model=model,
        result=result,
        error=error,
        titles=TITLES,
        disclaimer=contract.DISCLAIMER,
        phantom=contract.PHANTOM,
        accepted=decode.ACCEPTED,
        suffixes=decode.SUFFIXES,
        largest=decode.MAX_BYTES,
        request_id=request_id(),
    )
