"""What the page shows: the networks and where they come from, a result or an error."""

import datetime
import json
from dataclasses import dataclass

from flask import current_app, render_template

import client
from core import contract
from imaging import decode, readers, slices
from webapp import heat
from webapp.health import readiness
from webapp.journal import request_id
from webapp.triton import served

TITLES = {
    "custom": "Custom CNN",
    "resnet50": "ResNet-50",
    "ensemble": "Both networks, averaged",
    "glioma": "Glioma",
    "meningioma": "Meningioma",
    "notumor": "No tumour",
    "pituitary": "Pituitary tumour",
}
"""How the page writes the names of the contract."""

WITHDRAWN = (
    "The scores that were published in November 2026 for real slices are withdrawn: pictures of the public set occur "
    "mirrored and its patients were in training and test alike, so they measured memory. On scans of other sources the "
    "network told scanners apart, not tumours; scores by patients and by sources will take their place.")
"""Stands in place of the scores of a network whose test did not keep patients apart; in README and model card too."""


def title(model: str) -> str:
    """Return how the page writes the name of a model, such as "Custom CNN" or "Custom CNN, release 2026..."."""
    name, _, release = model.partition(contract.RELEASE)
    return TITLES[name] + (f", release {release}" if release else "")


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
    def is_older(self) -> bool:
        """Whether it belongs to an older release that is served as well."""
        return contract.RELEASE in self.name

    @property
    def is_phantom(self) -> bool:
        """Whether it was trained on synthetic images only."""
        return self.data_source == contract.PHANTOM


def served_facts(model: str, asking: str = "status") -> dict[str, str]:
    """Return what Triton knows of a network, such as contract.DATA_SOURCE; {} if it cannot be told.

    Args:
        model: the network's name.
        asking: which of the classifiers of webapp.triton.Backend asks.
    """
    try:
        return getattr(served(), asking).describe(model)
    except client.ClientError:
        return {}


def provenance(model: str) -> dict:
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
    """Return the macro F1 on the test split in a provenance file, as 0.912 (0.887-0.934); "" without one that holds."""
    scores = nested(facts, "test_scores")
    return interval(scores, "macro_f1") if "macro_f1" in scores and not is_withdrawn(facts) else ""


def is_withdrawn(facts: dict) -> bool:
    """Return whether a provenance file tells of real slices that were split without regard to patients."""
    data = nested(facts, "data")
    return data.get("source") != contract.PHANTOM and data.get("group_by") in ("runs", "duplicates")


def revision(facts: dict) -> str | None:
    """Return the Git revision in a provenance file, its hash cut to 10 digits, "+changes" kept; None without one."""
    commit, plus, changes = str(facts.get("git_revision") or "").partition("+")
    return f"{commit[:10]}{plus}{changes}" or None


OVERALL = {"accuracy": "Accuracy", "balanced_accuracy": "Balanced accuracy", "macro_f1": "Macro F1",
           "macro_roc_auc": "Macro ROC-AUC", "ece": "Calibration error (ECE)"}
SHADES = 6
NOTHING = slices.Picture(b"")
BY_CLASS = ("precision", "recall", "specificity", "f1")


def about() -> str:
    """Return the page that says what each network is, from its provenance file."""
    live, ready = readiness()
    models = [described(network) for network in networks(live, ready)]
    return render_template("about.html", models=models, titles=TITLES, title=title, classes=contract.CLASSES,
                           disclaimer=contract.DISCLAIMER)


def described(network: Network) -> dict:
    """Return what the page about the models shows of one; a fact that its provenance file lacks is left out."""
    file = provenance(network.name)
    scores, decision, splits = (nested(file, *keys) for keys in (("test_scores",), ("decision",), ("data", "splits")))
    facts = {
        "Trained on": network.data_source,
        "Images": ", ".join(f"{sum(counts.values())} {name}" for name, counts in splits.items()
                            if isinstance(counts, dict)),
        "Epochs": nested(file, "training").get("epochs"),
        "Parameters": nested(file, "training").get("parameters"),
        "Temperature": decision.get("temperature"),
        "Needs review below a confidence of": decision.get("review_threshold"),
        "Served in": nested(decision, "served").get("precision"),
        "Exported": network.exported, "Git revision": network.revision}
    overall = {title: interval(scores, key) for key, title in OVERALL.items() if key in scores}
    averaged = nested(scores, "tta")
    overall |= {f"{OVERALL[key]}, averaged with the mirror image": interval(averaged, key)
                for key in ("macro_f1", "ece") if key in averaged}
    classes = [(TITLES[name], one.get("images", ""), *(number(one.get(key)) for key in BY_CLASS))
               for name, one in nested(scores, "classes").items() if name in TITLES and isinstance(one, dict)]
    found = {"name": network.name, "ready": network.ready, "known": bool(file), "is_phantom": network.is_phantom,
             "facts": {name: value for name, value in facts.items() if value not in (None, "")}}
    if is_withdrawn(file):
        return found | {"withdrawn": WITHDRAWN}
    return found | {"scores": overall, "classes": classes, **diagrams(nested(file, "test_diagrams"))}


def diagrams(values: dict) -> dict:
    """Return what draws a confusion matrix and a reliability diagram; {} unless both are complete in `values`.

    Args:
        values: test_diagrams of a provenance file, see stages.export.diagrams.

    Returns:
        confusion: for each true class the (count, shade from 0 to SHADES) of each answer. reliability: the bins, with
        the root of their share of all images, so that the area of a dot is the share.
    """
    try:
        rows = [[int(count) for count in row] for row in values["confusion"]]
        bins = [{key: float(one[key]) for key in ("images", "confidence", "accuracy")} for one in values["reliability"]]
        total = sum(one["images"] for one in bins)
        shades = [[(count, round(SHADES * count / max(1, sum(row)))) for count in row] for row in rows]
        dots = [one | {"images": int(one["images"]), "share": (one["images"] / total) ** 0.5} for one in bins]
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return {}
    size = len(contract.CLASSES)
    return {"confusion": shades, "reliability": dots} if [len(row) for row in shades] == [size] * size else {}


def nested(values: dict, *keys: str) -> dict:
    """Return the dict that lies behind some keys of nested dicts; {} if there is none."""
    for key in keys:
        values = values.get(key) if isinstance(values, dict) else None
    return values if isinstance(values, dict) else {}


def number(value) -> str:
    """Return a number with three digits, "" for anything else."""
    return f"{value:.3f}" if isinstance(value, (int, float)) else ""


def interval(scores: dict, key: str) -> str:
    """Return a score with its 95 % interval where known, as 0.912 (0.887-0.934)."""
    ends = nested(scores, "intervals").get(key)
    known = isinstance(ends, list) and len(ends) == 2
    return number(scores[key]) + (f" ({number(ends[0])}-{number(ends[1])})" if known else "")


def report(picture: slices.Picture, model: str) -> dict[str, str | None]:
    """Return what a report adds to an answer: which image, which version of the network, when."""
    file = provenance(model)
    now = datetime.datetime.now(datetime.timezone.utc)
    return {"digest": decode.digest(picture.encoded), "place": picture.place,
            "time": f"{now:%Y-%m-%d %H:%M:%S} UTC", "revision": revision(file),
            "exported": str(file.get("exported") or "")[:10]}


def render(result: dict | None = None, error=None, model: str = contract.NETWORKS[0],
           seen: dict | None = None, picture: slices.Picture = NOTHING) -> str:
    """Return the page as HTML.

    Args:
        result: the answer of /predict to show, or None.
        error: a webapp.refused.Refused to show, or None.
        model: the network that is selected in the form.
        seen: data: addresses of the `picture` that was classified, and under `maps` of a heatmap for each class.
        picture: that was classified, for the report.
    """
    live, ready = readiness()
    return render_template(
        "page.html",
        live=live,
        networks=networks(live, ready),
        model=model,
        result=result,
        error=error,
        seen=seen,
        report=report(picture, model) if result else None,
        colours=[f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in heat.COLOURS.astype(int).tolist()],
        titles=TITLES,
        title=title,
        classes=contract.CLASSES,
        disclaimer=contract.DISCLAIMER,
        phantom=contract.PHANTOM,
        accepted=decode.ACCEPTED,
        suffixes=decode.SUFFIXES,
        endings=readers.ENDINGS,
        slice_marks=[(offset, mark.hex()) for offset, mark in readers.SLICE_MARKS],
        planes=slices.PLANES,
        largest=decode.MAX_BYTES,
        request_id=request_id(),
    )
