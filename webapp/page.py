"""What the page shows: the networks and where they come from, a result or an error."""

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import current_app, render_template

from client import served
from client.answer import ESCAPE, FORMULA_MARKS
from core import contract
from imaging import decode, readers, slices
from webapp import heat
from webapp.access_log import request_id
from webapp.health import readiness
from webapp.provenance import WITHDRAWN, is_withdrawn, nested, provenance, recorded_source, revision, served_facts
from webapp.refused import Refused


@dataclass(frozen=True)
class Network:
    """One network as the page shows it.

    Attributes:
        name: as in contract.MODEL_NAME. title: how people read it. ready: whether Triton answers for it. data_source:
        the data set it was trained on, None if unknown. revision: short Git revision of its export, None if unknown.
        exported: the day, YYYY-MM-DD, and macro_f1: on its test split, with its 95 % interval where known; "" if
        unknown.
    """

    name: str
    title: str
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


def networks(live: bool, ready: dict[str, bool]) -> list[Network]:
    """Describe the networks; the training data come from Triton, from the files if it is down.

    Args:
        live: whether Triton answers.
        ready: what Triton holds, see webapp.health.readiness.
    """
    described = []
    for name in ready:
        facts = provenance(name)
        known = served_facts(name) if live else {}
        described.append(Network(name, served.title(name, known), ready[name],
                                 known.get(contract.DATA_SOURCE) or recorded_source(facts), revision(facts),
                                 str(facts.get("exported") or "")[:10], test_score(facts)))
    return described


def titles_of(shown: list[Network]) -> Callable[[str], str]:
    """Return a function from a name to its title, for these networks and any other."""
    titles = {network.name: network.title for network in shown}
    return lambda name: titles.get(name) or served.title(name, {})


def test_score(facts: dict[str, Any]) -> str:
    """Return the macro F1 on the test split in a provenance file, as 0.912 (0.887-0.934); "" without one that holds."""
    scores = nested(facts, "test_scores")
    return interval(scores, "macro_f1") if "macro_f1" in scores and not is_withdrawn(facts) else ""


OVERALL = {"accuracy": "Accuracy", "balanced_accuracy": "Balanced accuracy", "macro_f1": "Macro F1",
           "macro_roc_auc": "Macro ROC-AUC", "ece": "Calibration error (ECE)"}
SHADES = 6
NOTHING = slices.Picture(b"", b"")
BY_CLASS = ("precision", "recall", "specificity", "f1")
BY_SOURCE = ("sensitivity", "specificity", "macro_f1", "reviewed")


def about() -> str:
    """Return the page that says what each network is, from its provenance file."""
    live, ready = readiness()
    models = [described(network) for network in networks(live, ready)]
    return render_template("about.html", models=models, disclaimer=contract.DISCLAIMER)


def described(network: Network) -> dict[str, Any]:
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
    titles = contract.CLASS_TITLES
    classes = [(titles[name], one.get("images", ""), *(number(one.get(key)) for key in BY_CLASS))
               for name, one in nested(scores, "classes").items() if name in titles and isinstance(one, dict)]
    found = {"name": network.name, "title": network.title, "ready": network.ready, "known": bool(file),
             "is_phantom": network.is_phantom,
             "facts": {name: value for name, value in facts.items() if value not in (None, "")}}
    if is_withdrawn(file):
        return found | {"withdrawn": WITHDRAWN}
    return found | {"scores": overall, "classes": classes, "sources": by_source(nested(scores, "sources")),
                    **diagrams(nested(file, "test_diagrams"))}


def by_source(found: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return a row a source of test images: name, patients or pictures, images, and BY_SOURCE as text.

    Args:
        found: under `sources` of the scores in a provenance file.
    """
    return [(name, str(one.get("groups", "")), str(one.get("images", "")),
             *(interval(one, key) if one.get(key) is not None else "" for key in BY_SOURCE))
            for name, one in found.items() if isinstance(one, dict)]


def diagrams(values: dict[str, Any]) -> dict[str, Any]:
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


def number(value: object) -> str:
    """Return a number with three digits, "" for anything else."""
    return f"{value:.3f}" if isinstance(value, (int, float)) else ""


def interval(scores: dict[str, Any], key: str) -> str:
    """Return a score with its 95 % interval where known, as 0.912 (0.887-0.934)."""
    ends = nested(scores, "intervals").get(key)
    known = f" ({number(ends[0])}-{number(ends[1])})" if isinstance(ends, list) and len(ends) == 2 else ""
    return number(scores[key]) + known


def samples(shown: list[Network]) -> list[str]:
    """Return the classes of which the page has a sample image; none where all networks know other images.

    The samples are phantoms: what learned from patients has never seen such an image, and its answer means nothing.
    """
    if shown and all(one.data_source and not one.is_phantom for one in shown):
        return []
    folder = Path(str(current_app.static_folder), "samples")
    return [name for name in contract.CLASSES if (folder / f"{name}.png").is_file()]


def report(picture: slices.Picture, model: str) -> dict[str, str | None]:
    """Return what a report adds to an answer: which file and slice, which version of the network, when."""
    file = provenance(model)
    now = datetime.datetime.now(datetime.timezone.utc)
    return {"digest": decode.digest(picture.file), "place": picture.place,
            "time": f"{now:%Y-%m-%d %H:%M:%S} UTC", "revision": revision(file),
            "exported": str(file.get("exported") or "")[:10]}


def render(result: dict[str, Any] | None = None, error: Refused | None = None, model: str | None = None,
           seen: dict[str, Any] | None = None, picture: slices.Picture = NOTHING) -> str:
    """Return the page as HTML.

    Args:
        result: the answer of /predict to show, or None.
        error: to show, or None.
        model: the network that is selected in the form; None for the first.
        seen: data: addresses of the `picture` that was classified, and under `maps` of a heatmap for each class.
        picture: that was classified, for the report.
    """
    live, ready = readiness()
    shown = networks(live, ready)
    return render_template(
        "page.html",
        live=live,
        networks=shown,
        model=model or next(iter(ready), None),
        result=result,
        error=error,
        seen=seen,
        report=report(picture, model or "") if result else None,
        colours=[f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in heat.COLOURS.astype(int).tolist()],
        title=titles_of(shown),
        disclaimer=contract.DISCLAIMER,
        phantom=contract.PHANTOM,
        samples=samples(shown),
        accepted=decode.ACCEPTED,
        suffixes=decode.SUFFIXES,
        endings=readers.ENDINGS,
        slice_marks=[(offset, mark.hex()) for offset, mark in readers.SLICE_MARKS],
        planes=slices.PLANES,
        largest=decode.MAX_BYTES,
        escaped_marks=FORMULA_MARKS + ESCAPE,
        request_id=request_id(),
    )
