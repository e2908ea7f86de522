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
        on, None if unknown. revision: short Git revision of the code that trained it, None if unknown.
    """

    name: str
    ready: bool
    data_source: str | None
    revision: str | None

    @property
    def is_phantom(self) -> bool:
        """Whether it was trained on synthetic images only."""
        return self.data_source == contract.PHANTOM


def data_source(model: str) -> str | None:
    """Return the name of the data set that a network was trained on, from Triton; None if it cannot be told."""
    try:
        return current_app.extensions["status"].describe(model).get(contract.DATA_SOURCE)
    except client.ClientError:
        return None


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
    """Describe every network of the contract; the training data come from Triton, from the files if it is down."""
    described = []
    for name in contract.NETWORKS:
        facts = provenance(name)
        source = data_source(name) if live else None
        described.append(Network(name, ready[name], source or recorded_source(facts), revision(facts)))
    return described


def recorded_source(facts: dict) -> str | None:
    """Return the data set named in a provenance file, None without one."""
    data = facts.get("data")
    return data.get("source") if isinstance(data, dict) else None


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
