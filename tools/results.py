"""Writes the tables of README.md and docs/*.md from committed metrics and timings.

    python -m tools.results
"""

import csv
import json
from pathlib import Path

from bench import folder, reliability, serving
from core import files
from stages.networks.registry import NETWORKS
from stages.reporting import tables as reporting
from stages.scoring import intervals

PROJECT = Path(__file__).resolve().parents[1]
START, END = "<!-- {}: written by tools/results.py -->\n", "<!-- end of {} -->\n"
STEPS = {"page": "page: Flask under gunicorn, Pillow checks and cleans the upload, tritonclient",
         "Triton": "Triton: HTTP, the ensemble, copies",
         "preprocess": "preprocess: numpy decodes the image and resizes it",
         "network": "network: OpenVINO in int8"}
AVX2_TIMINGS, LARGE_TIMINGS = "bench/serving-avx2.json", "bench/serving-large.json"
TRAINING = "bench/training.json"  # not imported: it would load TensorFlow


def tables() -> dict[tuple[str, str], str]:
    """Return the tables by page and by the name in the page's marks."""
    scaled = json.loads((PROJECT / serving.SCALING).read_text())["cases"]
    timed, plain, large = (json.loads((PROJECT / path).read_text())
                          for path in (serving.OUTPUT, AVX2_TIMINGS, LARGE_TIMINGS))
    return {("README.md", "results"): table(PROJECT) + served(PROJECT),
            ("README.md", "published"): published(PROJECT / "published/run"),
            ("docs/serving.md", "timings"): f"{serving.table(timed)}\n\n{serving.ratios(timed)}\n",
            ("docs/serving.md", "timings without VNNI"): f"{serving.table(plain)}\n\n{serving.ratios(plain)}\n",
            ("docs/serving.md", "timings of large files"): f"{serving.table(large)}\n\n{serving.ratios(large)}\n",
            ("docs/serving.md", "scaling"): scaling(scaled),
            ("docs/serving.md", "steps"): steps(scaled),
            ("docs/serving.md", "folder"): whole_folder(json.loads((PROJECT / folder.OUTPUT).read_text())),
            ("docs/retraction.md", "public set"): public_set(),
            ("docs/training.md", "training"): speeds(json.loads((PROJECT / TRAINING).read_text())),
            ("docs/training.md", "training memory"): memory(json.loads((PROJECT / TRAINING).read_text())),
            **{("docs/reliability.md", name): figures(name) for name in reliability.KINDS}}


def table(project: Path) -> str:
    """Return a run's results as Markdown, a row a network.

    Args:
        project: the folder with reports/*/metrics.json and reports/prepare/data.json.
    """
    scores = json.loads((project / "reports/evaluate/metrics.json").read_text())
    data = json.loads((project / "reports/prepare/data.json").read_text())
    counts = {split: sum(classes.values()) for split, classes in data["splits"].items()}
    lines = [f"Data: {data['source']}, {counts['train']} training, {counts['validation']} validation and "
             f"{counts['test']} test images. In brackets: 95 % intervals, see MODEL_CARD.md.", "",
             "| network | parameters | weights at the start | epochs | accuracy | macro F1 | macro ROC-AUC | ECE |",
             "|---|---|---|---|---|---|---|---|"]
    for network in NETWORKS.values():
        run = json.loads((project / f"reports/{network.stage}/metrics.json").read_text())
        score = scores[network.name]
        lines.append(f"| {network.name} | {run['parameters']:,} | {run['weights']} | {run['epochs']} "
                     f"| {intervals.shown(score, 'accuracy')} | {intervals.shown(score, 'macro_f1')} "
                     f"| {score['macro_roc_auc']:.3f} | {score['ece']:.3f} |")
    return "\n".join(lines) + "\n"


def served(project: Path) -> str:
    """Return what serving in less precision does to a run's test images as Markdown; reads reports/export/metrics.json.

    Args:
        project: the folder with that file.

    Returns:
        a line for each network that is served in another precision than float32; the mean of all is left out.
    """
    records = json.loads((project / "reports/export/metrics.json").read_text())
    return "".join(f"\n{network}, served in {record['precision']}: {100 * record['test']['same_class']:.1f} % of these "
                   f"test images get the same class, macro F1 is {record['test']['macro_f1']:.3f} instead of "
                   f"{record['test']['float32_macro_f1']:.3f}.\n"
                   for network, record in records.items() if network in NETWORKS and "test" in record)


def published(run: Path) -> str:
    """Return the scores of the published network as Markdown: of its test split, then source by source.

    Args:
        run: the folder with its reports.
    """
    scores = json.loads((run / "reports/evaluate/metrics.json").read_text())
    network, = json.loads((run / "reports/evaluate/decision.json").read_text())
    own = scores[network]
    lines = ["| scored on | people | images | macro F1 | tumours called notumor | specificity | ECE | sent to review |",
             "|---|---|---|---|---|---|---|---|",
             f"| the test split | {reporting.people(scores)} | {scores['images']} | {intervals.shown(own, 'macro_f1')} "
             f"| {intervals.shown(own, 'missed', 'tumour')} | {intervals.shown(own, 'specificity', 'tumour')} "
             f"| {intervals.shown(own, 'ece')} | {1 - own['review']['coverage']:.3f} |"]
    keys = ("images", "macro_f1", "missed", "specificity", "ece", "reviewed")
    for name, one in own["sources"].items():
        cells = [name, reporting.people(one), *(reporting.source_score(one, key) for key in keys)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def scaling(cases: list[dict]) -> str:
    """Return what bench/serving.py --scaling measured as Markdown."""
    lines = ["| cores | networks loaded | requests/s | memory, MB |", "|---|---|---|---|"]
    lines += [f"| {case['cores']} | {case['networks']} | {case['requests_per_second']:.1f} | {case['memory_mb']:.0f} |"
              for case in cases]
    return "\n".join(lines) + "\n"


def steps(cases: list[dict]) -> str:
    """Return the processor time of the parts of a request, on all cores with one network, as Markdown."""
    case = [case for case in cases if case["networks"] == 1][-1]
    total = sum(case[key] for key in STEPS)
    lines = ["| part | processor time a request, ms | share |", "|---|---|---|"]
    lines += [f"| {text} | {case[key]:.1f} | {case[key] / total:.0%} |" for key, text in STEPS.items()]
    return "\n".join([*lines, f"| together | {total:.1f} | |"]) + "\n"


def whole_folder(found: dict) -> str:
    """Return what bench/folder.py measured as a sentence."""
    return (f"{found['files']:,} files of the same kind: {found['images_per_second']:.1f} images/s in int8, "
            f"{found['of_peak']:.2f} of the {found['peak_images_per_second']:.1f} that wrk gets at best "
            f"({found['peak_connections']} connections, images a request: {found['peak_images_per_request']}).\n")


def public_set() -> str:
    """Return what dataset/public_patients.csv says about the public set as it was published, as a table."""
    with (PROJECT / "dataset/public_patients.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    slices = {way: {row["figshare_slice"] for row in rows if row["orientation"] == way} for way in ("mirrored", "same")}
    training, test = ([row for row in rows if row["path"].startswith(part)] for part in ("Training", "Testing"))
    pictures, patients = {shown(row) for row in training}, {row["patient"] for row in training}
    known = [row for row in test if row["patient"]]
    facts = {
        "files": len(rows),
        "files of the figshare source": sum(bool(row["figshare_slice"]) for row in rows),
        "its slices that are there as their mirror image": len(slices["mirrored"]),
        "its slices that are there as they were": len(slices["same"]),
        "its patients": len({row["patient"] for row in rows} - {""}),
        "test files": len(test),
        "test files that show a picture of the training folder": sum(shown(row) in pictures for row in test),
        "test files of known patients": len(known),
        "test files of known patients who are in the training folder too": sum(
            row["patient"] in patients for row in known),
        "files whose class the original denies": sum(row["figshare_label"] not in ("", row["label"]) for row in rows)}
    lines = "".join(f"| {name} | {count:,} |\n" for name, count in facts.items())
    return f"| of the public set | |\n|---|---|\n{lines}"


def shown(row: dict[str, str]) -> str:
    """Return which picture a file of the public set shows, in whatever orientation."""
    return f"slice {row['figshare_slice']}" if row["figshare_slice"] else f"picture {row['picture']}"


def speeds(found: dict) -> str:
    """Return what bench/training.py timed as Markdown."""
    title = f"{found['size']} x {found['size']}, {found['precision']} unless it says otherwise"
    lines = [f"| {title} | images/s | of the bare step |", "|---|---|---|"]
    lines += [f"| {name} | {one['images_per_second']:.1f} | {one['of_bare']:.2f} |"
              for name, one in found["contenders"].items()]
    return "\n".join(lines) + "\n"


def memory(found: dict) -> str:
    """Return the peak memory of the stages that bench/training.py measured as Markdown."""
    lines = ["| stage | MB |", "|---|---|"]
    lines += [f"| {stage} | {megabytes:,.0f} |" for stage, megabytes in found["peak_memory_mb"].items()]
    return "\n".join(lines) + "\n"


UNITS = {"_per_s": " a second", "_mb_per_hour": " MB an hour", "_s": " s", "_ms": " ms", "_mb": " MB"}
"""How the keys of bench/reliability.json end, and what that says of their values."""


def figures(name: str) -> str:
    """Return what bench/reliability.py measured under a name as Markdown, numbers with three digits and their unit."""
    found = json.loads((PROJECT / reliability.OUTPUT).read_text())[name]
    lines = ["| figure | value |", "|---|---|"]
    for key, value in found.items():
        if key != "all":
            end = next((end for end in UNITS if key.endswith(end)), "")
            title = key.removesuffix(end).replace("goodput_of_peak", "goodput / peak throughput").replace("_", " ")
            lines.append(f"| {title} | {figure(value)}{UNITS.get(end, '')} |")
    return "\n".join(lines) + "\n"


def figure(value) -> str:
    """Return a number with three digits, a count as it is, counts by name in words, first and last as a range."""
    if isinstance(value, dict):
        return ", ".join(f"{one}: {figure(count)}" for one, count in value.items())
    if isinstance(value, list):
        return " to ".join(figure(one) for one in value)
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return str(value)


def replaced(readme: str, name: str, new: str) -> str:
    """Return a page's text with another table between the marks of a name."""
    start, end = START.format(name), END.format(name)
    head, rest = readme.split(start)
    return head + start + new + end + rest.split(end)[1]


if __name__ == "__main__":
    for (page, mark), text in tables().items():
        path = PROJECT / page
        files.write_text(path, replaced(path.read_text(), mark, text))
