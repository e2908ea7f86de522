"""What a network of a fold answered, as a CSV file that says of which params and data it is: a finished training."""

import csv
import io
from pathlib import Path

import numpy as np

from core import contract, files
from stages.data import dataset
from stages.folds.assignment import Fold
from stages.scoring import calibration, reports
from stages.scoring.answers import CHOSEN_ON, SCORED_ON, Answers

FOLDER = Path("data/crossval")
SPLITS = (CHOSEN_ON, SCORED_ON)
COLUMNS = ("key", "fold", "split", "digest", "group", "label", *contract.CLASSES, "temperature")


def path(network: str, fold: Fold) -> Path:
    """Return the file of a network's fold."""
    return FOLDER / network / f"fold_{fold.number}.csv"


def write(network: str, fold: Fold, key: str, answers: dict[str, Answers]) -> None:
    """Write the answers to a fold's validation and test images: probabilities before temperature, and that.

    Args:
        network: its name.
        key: fingerprint of params and data, see read().
        answers: to the splits of SPLITS; their probabilities are written with the 9 digits that a float32 has.
    """
    chosen_on = answers[CHOSEN_ON]
    temperature = calibration.fit_temperature(chosen_on.labels, chosen_on.raw, chosen_on.votes)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for split in SPLITS:
        for row, one in zip(answers[split].rows, answers[split].raw, strict=True):
            writer.writerow([key, fold.number, split, row.digest, row.group, row.label, *(f"{p:.9g}" for p in one),
                             temperature])
    files.write_text(path(network, fold), text.getvalue())


def read(network: str, fold: Fold, key: str, rows: dict[str, list[dataset.Row]]) -> dict[str, Answers] | None:
    """Return the answers of a training that is finished; None where there is none.

    Args:
        network: its name.
        key: fingerprint of params and data: a file of others is not used, and that is printed.
        rows: of the splits of SPLITS.
    """
    file = path(network, fold)
    if not file.is_file():
        return None
    lines = reports.table(file)
    if ([(line.get("key"), line.get("split"), line.get("digest")) for line in lines]
            != [(key, split, row.digest) for split in SPLITS for row in rows[split]]):
        print(f"{file} is of other params or data, or not whole: its network is trained anew.")
        return None
    raw = np.array([[float(line[label]) for label in contract.CLASSES] for line in lines], np.float32)
    parts = np.split(raw, [len(rows[CHOSEN_ON])])
    return {split: Answers(rows[split], np.array([contract.CLASSES.index(row.label) for row in rows[split]]), part)
            for split, part in zip(SPLITS, parts, strict=True)}
