"""How recipes hold up on sources that they have not seen: each is trained with one source after another left out.

    python -m bench.sources RUN --leave tcia-gbm br35h,external-br35h-tumour --seeds 3

RUN is a folder with params.yaml for a real data set, whose relative paths hold from there; nothing in it is changed.
What prepare.hold_out_source names stays out of all trainings, and is scored beside the sources that are left out in
turns: choose by the latter, so that the former stays a test. Trains only the network of train_transfer. Every finished
training is written to bench/sources.json at once, and is not repeated by the next call. Then prints a table.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from core import files
from stages.common import params
from stages.data import layouts
from stages.networks.registry import NETWORKS
from stages.scoring import answers, calibration, external, sources

PROJECT = Path(__file__).resolve().parents[1]
OUTPUT = PROJECT / "bench/sources.json"
STAGE = "train_transfer"
LOOKS = ("gamma", "contrast", "blur", "sharpen", "noise", "bias_field", "resolution", "background", "erase", "strip",
         "mix_styles")
CASES: dict[str, dict[str, Any]] = {
    "recipe": {},
    "whole images": {f"{STAGE}.harmonise": False},
    "looks unchanged": {f"train.augment.{name}": 0.0 for name in LOOKS},
    "tumours unmoved": {"prepare.moved_tumours": False},
    "each image once": {"train.balance": 0.0},
}
"""The recipe of RUN, and what it is without each of its parts."""
SHOWN = ("sensitivity", "specificity", "macro_f1")
SCORE = "--score"


def changed(tree: dict, changes: dict[str, Any]) -> dict:
    """Return params with some of them changed.

    Args:
        tree: as params.yaml has them. changes: value by section.key.
    """
    copy = json.loads(json.dumps(tree))
    for name, value in changes.items():
        *sections, key = name.split(".")
        place = copy
        for section in sections:
            place = place[section]
        place[key] = value
    return copy


def knobs(run: Path, case: str, left: str, seed: int) -> dict:
    """Return the params of a training.

    Args:
        run: the folder with params.yaml. case: of CASES. left: names of sources with commas between, "" for none.
        seed: of the training.
    """
    tree = yaml.safe_load((run / params.FILE).read_text())
    always = tree["prepare"]["hold_out_source"] or []
    held = [*([always] if isinstance(always, str) else always), *filter(None, left.split(","))]
    return changed(tree, CASES[case] | {"prepare.hold_out_source": held, "train.seed": seed})


def stage(name: str, folder: Path, *arguments: str) -> None:
    """Run a module in a folder, its output to a log file there.

    Raises:
        CalledProcessError: it failed; the log's end is printed.
    """
    log = folder / f"{name}.log"
    with log.open("w") as file:
        done = subprocess.run([sys.executable, "-m", name, *arguments], cwd=folder, stdout=file,
                              stderr=subprocess.STDOUT, env=os.environ | {"PYTHONPATH": str(PROJECT)}, check=False)
    if done.returncode:
        print(log.read_text()[-2000:])
        done.check_returncode()


def trained(run: Path, tree: dict) -> dict[str, dict]:
    """Prepare, train and score in a folder of its own; return the scores by source.

    Args:
        run: where relative paths hold from. tree: the params.
    """
    with tempfile.TemporaryDirectory(prefix="sources-") as scratch:
        folder = Path(scratch)
        for path in run.iterdir():
            if path.is_dir() and path.name not in ("data", "models", "reports", "logs", ".resume", "model_repository"):
                (folder / path.name).symlink_to(path.resolve())
        (folder / params.FILE).write_text(yaml.safe_dump(tree, sort_keys=False))
        for name in ("stages.prepare", f"stages.{STAGE}"):
            stage(name, folder)
        stage("bench.sources", folder, SCORE)
        return json.loads((folder / "scores.json").read_text())


def score() -> None:
    """Write scores.json of the trained network in this folder: by source, see stages/scoring/sources.py."""
    own = params.load()
    network = next(one for one in NETWORKS.values() if one.stage == STAGE).load()
    given = answers.answered(network, answers.read_splits(own.prepare.image_size), own.evaluate)
    places = layouts.places(own.evaluate.external, "evaluate.external")
    for source in external.sources(places, own.prepare.image_size, own.prepare.duplicate_similarity):
        given |= answers.answered(network, {f"{sources.EXTERNAL}{source.name}": (source.rows, source.images)},
                                  own.evaluate)
    validation = given[answers.CHOSEN_ON]
    decision = calibration.decide(validation.labels, validation.raw, own.evaluate.accepted_error, validation.votes)
    result, chosen = answers.decided(given, own.evaluate)[1], answers.judged(validation, decision, own.evaluate)
    files.write_json(Path("scores.json"), {
        "validation": {"macro_f1": chosen["macro_f1"], **chosen["tumour"]},
        "test": {"macro_f1": result["macro_f1"], "ece": result["ece"], **result["tumour"]},
        **sources.by_source(given, decision, own.evaluate)})


def table(found: dict) -> str:
    """Return mean and range over the seeds as Markdown: a row a case, what was left out, and a source with its scores.

    Args:
        found: the content of bench/sources.json.
    """
    lines = ["| recipe | left out | scored on | tumours found | tumour-free called so | macro F1 | trainings |",
             "|---|---|---|---|---|---|---|"]
    for case, by_left in found.items():
        for left, by_seed in by_left.items():
            runs = list(by_seed.values())
            for source in runs[0]:
                cells = [spread([one[source].get(name) for one in runs if source in one]) for name in SHOWN]
                lines.append(f"| {case} | {left or 'nothing'} | {source} | {' | '.join(cells)} | {len(runs)} |")
    return "\n".join(lines)


def spread(values: list[float | None]) -> str:
    """Return the mean of several values and their range in brackets; a dash where there is none."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    ends = f" ({min(known):.2f}-{max(known):.2f})" if len(known) > 1 else ""
    return f"{np.mean(known):.2f}{ends}"


def main() -> None:
    """Read the command line, train what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder with params.yaml for a real data set")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), help="default: all")
    parser.add_argument("--leave", nargs="+", default=[""], help="sources to leave out in turns; commas join several")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each (default: 3)")
    asked = parser.parse_args()
    found = json.loads(OUTPUT.read_text()) if OUTPUT.is_file() else {}
    jobs = [(case, left, seed) for seed in range(asked.seeds) for case in asked.cases for left in asked.leave]
    for number, (case, left, seed) in enumerate(jobs, start=1):
        runs = found.setdefault(case, {}).setdefault(left, {})
        if str(seed) not in runs:
            print(f"{number} of {len(jobs)}: {case}, without {left or 'nothing'}, seed {seed}", flush=True)
            runs[str(seed)] = trained(asked.run, knobs(asked.run, case, left, seed))
            files.write_json(OUTPUT, found)
    print(table(found))


if __name__ == "__main__":
    score() if sys.argv[1:] == [SCORE] else main()
