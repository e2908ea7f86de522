"""Numbers of the reports -> MODEL_CARD.md. Reads and writes no file.

The headings follow Mitchell et al. 2019 (Model Cards for Model Reporting, arXiv:1810.03993, section 4) and, for the
data, Gebru et al. 2021 (Datasheets for Datasets, arXiv:1803.09010, section 3). Every number comes from an argument, and
the same arguments give the same text.
"""

from core import contract
from stages.scoring import intervals

OVERALL = {
    "accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "macro_precision": "macro precision",
    "macro_recall": "macro recall", "macro_f1": "macro F1", "macro_roc_auc": "macro ROC-AUC",
    "macro_pr_auc": "macro PR-AUC", "brier": "Brier score (0 to 2, lower is better)",
    "nll": "negative log-likelihood (nats, lower is better)", "ece": "calibration error (ECE, lower is better)",
    "aurc": "area under risk-coverage (lower is better)"}
PER_CLASS = {"precision": "precision", "recall": "recall (sensitivity)", "specificity": "specificity", "f1": "F1",
             "roc_auc": "ROC-AUC", "pr_auc": "PR-AUC"}


def card(data: dict, runs: dict[str, dict], results: dict, decisions: dict[str, dict]) -> str:
    """Return the model card as Markdown.

    Args:
        data: reports/prepare/data.json; its key source_probe may be missing.
        runs: reports/train_*/metrics.json by network.
        results: reports/evaluate/metrics.json.
        decisions: reports/evaluate/decision.json.
    """
    scored = {name: results[name] for name in decisions}
    parts = [
        _head(data), _use(), _data(data), _probe(data.get("source_probe")), _training(runs), _splits(data, results),
        _scores(scored), _published(scored), _tta(scored),
        _calibration(scored, decisions), _review(scored, decisions),
        _pointing(scored), _ethics()]
    return "\n\n".join(part for part in parts if part) + "\n"


def table(head: list[str], rows: list[list]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _head(data: dict) -> str:
    warning = ""
    if data["source"] == contract.PHANTOM:
        warning = ("\n\n> **The data are phantoms: synthetic images. The numbers below show that the pipeline works "
                   "and say nothing about patients.**")
    return ("# Model card\n\nWritten by `stages/evaluate.py` from the reports of one run: edits are lost. The form "
            "follows Mitchell et al. 2019 (arXiv:1810.03993) and, for the data, Gebru et al. 2021 (arXiv:1803.09010)."
            f"{warning}")


def _use() -> str:
    return f"""## Intended use

{contract.DISCLAIMER}

* For: teaching, and research on pipelines, serving and evaluation, by people who can read the limits below.
* Input: one slice of brain MRI as an image file. Output: probabilities of {", ".join(contract.CLASSES)}.
* Not for: diagnosis, triage, treatment, or any decision about a person; whole examinations; other diseases, other
  organs, other kinds of imaging. Every picture gets one of the classes, a photograph of a cat too.
* People who must not be affected by an answer: patients."""


def _data(data: dict) -> str:
    splits = {name: data["splits"][name] for name in sorted(data["splits"])}
    rows = [[name, *(counts[label] for label in contract.CLASSES), sum(counts.values())]
            for name, counts in splits.items()]
    facts = [["source", data["source"]], ["digest", f"`{data['digest']}`"], ["images", data["images"]],
             ["groups of copies or neighbours", data["groups"]], ["exact duplicates", data["exact_duplicates"]],
             ["images that copy another one, exactly or nearly", data["near_duplicates"]],
             *([["pictures joined to others by runs of slices", data["runs_joined"]],
                ["images in the largest group", data["largest_group"]]] if "runs_joined" in data else []),
             ["groups with conflicting labels", data["label_conflicts"]], ["unreadable files", data["unreadable"]]]
    counted = table(["split", *contract.CLASSES, "all"], rows)
    return "\n\n".join(["## Data sheet", table(["fact", "value"], facts), counted, _limits(data["source"])])


def _limits(source: str) -> str:
    if source == contract.PHANTOM:
        return ("Composition: drawn by `stages/data/phantom`, which cites its sources; no person is behind any image. "
                "Limits: the variety of a formula, not of patients, scanners and diseases.")
    return """Composition: slices as image files, sorted into one folder a class by whoever collected them; labels are
taken as they are. Limits, as known of the public collections of this kind:

* The ids of the patients are lost. Slices of one patient cannot be kept in one split for certain: copies and close
  neighbours are found by their likeness only, and scores are too good by what remains.
* Images of `notumor` come from other sources and scanners than those with a tumour: a network can win by recognising
  the source. The source probe measures how far that goes.
* Age, sex, origin, sequence and field strength are not recorded: fairness across them cannot be measured."""


def _probe(probe: dict | None) -> str:
    if not probe:
        return ""
    named = {"accuracy": "accuracy of the probe", "majority_accuracy": "accuracy of the most frequent class",
             "macro_f1": "macro F1", "notumor_roc_auc": "ROC-AUC of notumor against the rest"}
    rows = [[title, intervals.text(probe[key], None)] for key, title in named.items() if key in probe]
    rows += [[f"recall of {label}", intervals.text(value, None)] for label, value in probe.get("recall", {}).items()]
    return ("## Source probe\n\nHow well the classes can be told apart by traces of where an image comes from, without "
            "its anatomy. A network's score counts by what it adds to this.\n\n"
            f"{table(['probe', 'value'], rows)}")


def _training(runs: dict[str, dict]) -> str:
    named = {"parameters": "parameters", "weights": "weights at the start", "precision": "precision",
             "epochs": "epochs", "best_epoch": "epoch of the kept weights", "val_accuracy": "validation accuracy",
             "val_loss": "validation loss (nats, with penalties)"}
    rows = [[title, *(_plain(run.get(key)) for run in runs.values())] for key, title in named.items()
            if any(key in run for run in runs.values())]
    return ("## Training\n\nBoth networks saw the train split only; the validation split chose the epoch. "
            f"`params.yaml` holds all settings.\n\n{table(['', *runs], rows)}")


def _plain(value) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}" if isinstance(value, float) else str(value)


def _splits(data: dict, results: dict) -> str:
    separate = "test_duplicates" in data["splits"]
    origin = ("The test split is a folder of its own, less the images that belong to a group of the training folder "
              "(`test_duplicates`)." if separate else "The test split is a share of the same source.")
    text = f"""## How the scores were made

Images that are copies or close neighbours of one another form groups, and no group is cut by a split. {origin}
It was used for nothing but the scores below: {results["images"]} images in {results["groups"]} groups."""
    if not results["resamples"]:
        return f"{text} No intervals were computed."
    return f"""{text}

In brackets: 95 % intervals, percentiles of {results["resamples"]} bootstrap resamples of whole groups (Efron &
Tibshirani 1993; Field & Welsh 2007, doi:10.1111/j.1467-9868.2007.00593.x). They say how far a score may move with other
test images from the same source. They leave out another training run, another source, and a weakness that this
source does not show. The interval of the calibration error leans upward, and may even leave out a small value, since
resampling adds noise to its bins."""


def _scores(scored: dict[str, dict]) -> str:
    rows = [[title, *(intervals.shown(one, key) for one in scored.values())] for key, title in OVERALL.items()]
    parts = ["## Test scores"]
    if contract.ENSEMBLE in scored:
        parts.append(f"`{contract.ENSEMBLE}` is the mean of what both networks answer.")
    parts.append(table(["after the temperature", *scored], rows))
    for name, one in scored.items():
        ranges = one.get(intervals.NAME, {}).get("classes", {})
        rows = [[label, values["images"], *(intervals.text(values[key], ranges.get(label, {}).get(key))
                                            for key in PER_CLASS)] for label, values in one["classes"].items()]
        parts.append(f"{name}, each class against the rest:")
        parts.append(table(["class", "images", *PER_CLASS.values()], rows))
    return "\n\n".join(parts)


def _published(scored: dict[str, dict]) -> str:
    if not any("as_published" in one for one in scored.values()):
        return ""
    rows = [[name, OVERALL[key], intervals.shown(one, key), intervals.shown(one["as_published"], key)]
            for name, one in scored.items() for key in ("accuracy", "macro_f1", "ece")]
    return ("## The test folder as published\n\nThe same networks on the whole test folder, with the images that "
            "duplicate training images: what others report. What it gains over the clean score may be memory.\n\n"
            f"{table(['network', 'score', 'clean', 'as published'], rows)}")


def _tta(scored: dict[str, dict]) -> str:
    rows = [[name, OVERALL[key], intervals.shown(one, key), intervals.shown(one["tta"], key)]
            for name, one in scored.items() if "tta" in one for key in ("accuracy", "macro_f1", "ece", "aurc")]
    if not rows:
        return ""
    return ("## Averaged with the mirror image\n\nWhat a client gets with `tta=1`, for twice the work (test-time "
            "augmentation: Krizhevsky et al. 2012, section 4.1). Its review threshold is one of its own.\n\n"
            f"{table(['network', 'score', 'alone', 'averaged'], rows)}")


def _calibration(scored: dict[str, dict], decisions: dict[str, dict]) -> str:
    rows = []
    for name, one in scored.items():
        rows.append([f"{name}, before", "1", *(_uncalibrated(one, key) for key in ("ece", "nll", "brier"))])
        rows.append([f"{name}, after", f"{decisions[name]['temperature']:.3f}",
                     *(intervals.shown(one, key) for key in ("ece", "nll", "brier"))])
    mirrored = [name for name, one in decisions.items() if one.get("average_flip")]
    flip = f" Answers of {', '.join(mirrored)} are averages over the image and its mirror image." if mirrored else ""
    return ("## Calibration\n\nOne temperature a network, fitted on the validation split (Guo et al. 2017, "
            f"arXiv:1706.04599, section 4.2), is part of the served model.{flip} On the test split:\n\n"
            f"{table(['network', 'temperature', 'ECE', 'NLL (nats)', 'Brier'], rows)}")


def _uncalibrated(one: dict, key: str) -> str:
    ranges = one.get(intervals.NAME, {}).get("uncalibrated", {})
    return intervals.text(one["uncalibrated"][key], ranges.get(key))


def _review(scored: dict[str, dict], decisions: dict[str, dict]) -> str:
    rows, notes = [], []
    for name, one in scored.items():
        own, ranges = decisions[name], one.get(intervals.NAME, {}).get("review", {})
        test = [intervals.text(one["review"][key], ranges.get(key)) for key in one["review"]]
        rows.append([name, f"{own['review_threshold']:.3f}", intervals.text(own["validation_coverage"], None),
                     intervals.text(own["validation_error_of_accepted"], None), *test])
        if not own["reached"]:
            notes.append(f"* {name}: no threshold brought the error of the accepted validation images down to "
                         f"{own['accepted_error']}. Every image needs a review.")
    head = ["network", "threshold", "validation: accepted", "validation: wrong of accepted", "test: accepted",
            "test: wrong of accepted", "test: wrong of all"]
    wanted = next(iter(decisions.values()))["accepted_error"]
    text = ("## When to call a person\n\nAn answer below the threshold is marked `needs_review`. The threshold is the "
            f"lowest at which at most a share of {wanted} of the accepted validation images is wrong; the test shows "
            "what came of it, and other data can differ more. An accepted answer is no diagnosis either.\n\n"
            f"{table(head, rows)}")
    return "\n\n".join([text, *notes])


def _pointing(scored: dict[str, dict]) -> str:
    keys = ("hits", "hits_with_random_weights", "chance")
    rows = [[name, *(f"{one['pointing_game'][key]:.3f}" for key in keys)]
            for name, one in scored.items() if "pointing_game" in one]
    text = ("## What heatmaps show\n\nThe heatmap (Grad-CAM: Selvaraju et al. 2017, arXiv:1610.02391) marks where the "
            "network found signs of a class. It is coarse, it marks neither a tumour's border nor its size, and a "
            "convincing map can belong to a wrong answer.")
    if not rows:
        return text + " How well it points at tumours was not measured: these data have no outlines of tumours."
    return (f"{text} On new images whose tumours are known: how often its peak lies in the tumour or within half a "
            "cell of the map (stages/scoring/pointing.py).\n\n"
            f"{table(['network', 'hits', 'with random weights', 'by chance'], rows)}")


def _ethics() -> str:
    return """## Ethics

* Not a medical device: no regulator has seen it, and no clinical study was done.
* MRI slices are health data, and faces can be rebuilt from head scans. Use only data that you may use; the project
  sends and commits none, and what the server receives is not stored.
* A wrong "no tumour" and a wrong alarm harm differently. The thresholds treat them alike.
* A qualified person decides. The confidence is not a probability of disease: it holds for images drawn like the test's,
  with its shares of the classes.
* Scanners, sequences and patients change. Without monitoring, nobody sees the scores fall."""
