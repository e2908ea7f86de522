"""Trains every network several times, each time on other patients, so that every image is tested once.

    python -m stages.crossval          (or: dvc repro crossval/dvc.yaml)

Not part of the default pipeline: it takes crossval.folds times as long as the trainings of that. Reads data/prepared:
the images of train, validation and test, which are shared out anew, by group. Each fold tests its groups; of the others
prepare.validation_fraction are its validation split, which alone chooses the epoch, the temperature and the review
threshold. Tumours of unknown type are trained on, where no image of their group is held out, and never tested. Networks
are trained as by their stages, with the same params, but never on images that `prepare` made by moving tumours.

A finished fold of a network is kept in data/crossval/<network>/fold_<k>.csv, and an unfinished one continues after its
last epoch: the same command goes on. Folds of other params, data, code or libraries are trained anew. Writes
reports/crossval: metrics.json, with the scores of all test images together, their 95 % intervals and the scores of each
fold; and folds.csv, the latter as a table. With several networks also for their mean.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import keras

from core import contract, files
from stages.common import command
from stages.common.params import Params
from stages.data import counting, dataset
from stages.folds import assignment, stored, summary
from stages.folds.assignment import Fold
from stages.layers import answer
from stages.networks.registry import NETWORKS, Network, chosen
from stages.scoring import answers
from stages.scoring.answers import Answers
from stages.training import fit, optimizer, run, state
from stages.training.phases import Recipe

REPORTS = Path("reports/crossval")
SECTIONS = ("prepare.image_size", "prepare.validation_fraction", "train", *(one.stage for one in NETWORKS.values()),
            "evaluate", "crossval")
KEPT = "What is finished is kept: the same command continues after the last finished epoch."


@dataclass(frozen=True)
class Job:
    """A network to train in a fold.

    With the rows of the fold's splits, the weights that the network starts from, and the fingerprint of all that the
    result rests on.
    """

    network: Network
    fold: Fold
    rows: dict[str, list[dataset.Row]]
    weights: str
    key: str

    @property
    def name(self) -> str:
        """What names its state and its logs."""
        return f"crossval/{self.network.name}/fold_{self.fold.number}"


def begin(network: Network, params: Params) -> tuple[Recipe, str]:
    """Return the untrained network with its recipe, and its precision, see run.begin."""
    keras.backend.clear_session()  # frees what was trained before
    return run.begin(params, network.stage, import_module(network.module).recipe)


def jobs(rows: list[dataset.Row], params: Params) -> list[Job]:
    """Return what is to be trained: fold after fold, all networks in each.

    Args:
        rows: all images.

    Raises:
        StageError: see assignment.folds and run.begin; before hours have passed.
    """
    plan = assignment.folds(rows, params.crossval, params.prepare.validation_fraction)
    facts = {"images": state.fingerprint([(row.digest, row.label, row.group, row.picture, row.origin) for row in rows]),
             "average_flip": params.evaluate.average_flip}
    found = []
    for network in chosen(params.crossval.networks, "crossval.networks"):
        recipe, precision = begin(network, params)
        build = import_module(network.module).recipe
        for fold in plan:
            splits = {split: indices.tolist() for split, indices in fold.splits.items()}
            own = {split: [rows[index] for index in indices] for split, indices in splits.items()}
            key = run.fingerprint(params, network.stage, recipe, facts | splits, precision, build)
            found.append(Job(network, fold, own, recipe.weights, key))
    return sorted(found, key=lambda job: job.fold.number)


def train(job: Job, images: dataset.Images, params: Params) -> dict[str, Answers]:
    """Train a job's network; return what it answers to the fold's validation and test images.

    Args:
        images: all of them, decoded.

    Raises:
        StageError: the network starts from other weights than when the first fold began.
    """
    recipe, _ = begin(job.network, params)
    if recipe.weights != job.weights:
        raise command.StageError(
            f"Expected every fold of {job.network.name} to start from the same weights, {job.weights}. Received: "
            f"{recipe.weights}. Name one of them in {job.network.stage}.weights instead of auto.")
    parts = {split: dataset.Images(images.pixels[inside], images.labels[inside])
             for split, inside in job.fold.splits.items()}
    parts["train"] = counting.balanced(parts["train"], job.rows["train"], recipe.train.balance)
    fit.train(recipe, fit.Run(job.name, recipe.train, parts, job.key))
    plain = optimizer.in_float32(recipe.network)
    own = params.evaluate
    return {split: Answers(job.rows[split], parts[split].labels, answer.predict(
        plain, dataset.batches(parts[split], own.batch_size), own.average_flip)) for split in stored.SPLITS}


def progress(left: list[Job], todo: list[Job]) -> Iterator[Job]:
    """Give the jobs that are left, and print before each which of all it is, the minutes so far, and what is left."""
    started = time.monotonic()
    for done, job in enumerate(left):
        so_far = (time.monotonic() - started) / 60
        rest = f", about {so_far / done * (len(left) - done):.0f} minutes" if done else ""
        print(f"Fold {job.fold.number} of {todo[-1].fold.number}, {job.network.name}: {so_far:.0f} minutes so far; "
              f"{len(left) - done} of {len(todo)} trainings are left{rest}.", flush=True)
        yield job


def stored_answers(job: Job) -> dict[str, Answers] | None:
    """Return what a job's network answers if it is trained already, see stored.read."""
    return stored.read(job.network.name, job.fold, job.key, job.rows)


def finish(todo: list[Job], rows: list[dataset.Row], params: Params) -> dict[str, list[dict[str, Answers]]]:
    """Train what is not finished, and store it.

    Args:
        todo: all jobs.
        rows: all images.

    Returns:
        by network, and for the mean of several, what is answered in each fold to its validation and test images.
    """
    left = [job for job in todo if stored_answers(job) is None]
    print(f"{len(todo) - len(left)} of {len(todo)} trainings were finished before.")
    if left:
        images = dataset.load_rows(rows, params.prepare.image_size)
        for job in progress(left, todo):
            stored.write(job.network.name, job.fold, job.key, train(job, images, params))
    given: dict[str, list] = {}
    for job in todo:  # read again, so that a run in one go and a continued one give the same numbers
        given.setdefault(job.network.name, []).append(stored_answers(job))
    if len(given) > 1:
        given[contract.ENSEMBLE] = [answers.ensemble(list(networks)) for networks in zip(*given.values(), strict=True)]
    return given


def main(params: Params) -> None:
    """Write data/crossval and reports/crossval."""
    rows, data = assignment.pool(), dataset.read_report()
    for split, count in assignment.left_out(data).items():
        print(f"The {count} images of {split} take no part.")
    if made := sum(data.get("moved", {}).values()):
        print(f"The {made} images that were made by moving tumours take no part: no network is trained on them.")
    given = finish(jobs(rows, params), rows, params)
    found = {name: summary.results(one, params.evaluate) for name, one in given.items()}
    tested = [row for row in rows if row.label in contract.CLASSES]
    files.write_json(REPORTS / "metrics.json", {
        "data_source": data["source"], **answers.counts(tested), "folds": params.crossval.folds,
        "resamples": params.evaluate.bootstrap, "prevalence": params.evaluate.prevalence, **found})
    files.write_text(REPORTS / "folds.csv", summary.folds_csv(found))
    print(f"Tested on all {len(tested)} images of {data['source']}, each by a network trained on other groups:")
    print("\n".join(summary.sentence(name, one) for name, one in found.items()))
    print(f"Written: {stored.FOLDER}/ and {REPORTS}/.")


if __name__ == "__main__":
    command.run(main, __doc__, SECTIONS, KEPT)
