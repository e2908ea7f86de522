"""A training stage from start to end: the doors stages/train_*.py call main() with their network's recipe."""

import csv
import io
import os
from collections.abc import Callable
from modulefinder import ModuleFinder
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from core import files
from stages.common import command
from stages.common.params import Params
from stages.data import counting, dataset
from stages.training import fit, optimizer, phases, state
from stages.training.params import Train
from stages.training.phases import Recipe

PROJECT = Path(__file__).resolve().parents[2]
MODELS = Path("models")
REPORTS = Path("reports")
COLUMNS = ("epoch", "phase", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate")
INTERRUPTED = "Its finished epochs are kept: the same command continues after them."


def main(stage: str, recipe: Callable[[Any, Train, int], Recipe], description: str) -> None:
    """Run a training stage with the params of the current folder.

    Args:
        stage: its name, which is that of its section of params.yaml.
        recipe: of the network's module; takes its own section, section `train` and the image side in pixels.
        description: the door's docstring, shown by --help.
    """
    command.run(lambda params: train(params, stage, recipe), description, ("prepare.image_size", "train", stage),
                INTERRUPTED)


def train(params: Params, stage: str, recipe: Callable[[Any, Train, int], Recipe]) -> None:
    """Read the data, build and train the network, write the model and its reports."""
    data = dataset.read_report()
    chosen, precision = begin(params, stage, recipe)
    images = {split: dataset.load(split, params.prepare.image_size) for split in ("train", "validation")}
    images["train"] = counting.balanced(images["train"], dataset.read_manifest("train"), chosen.train.balance)
    key = fingerprint(params, stage, chosen, data, precision, recipe)
    rows = fit.train(chosen, fit.Run(stage, chosen.train, images, key))
    record = summary(chosen.network, rows, data, weights=chosen.weights, precision=precision)
    model = write(chosen.network, rows, record, stage)
    print(f"{stage}: {len(rows)} epochs on {data['source']}. The best one, {record['best_epoch']}, has a validation "
          f"accuracy of {record['val_accuracy']:.4f} at a loss of {record['val_loss']:.4f}.\n"
          f"Written: {model}, {REPORTS / stage}.")


def begin(params: Params, stage: str, recipe: Callable[[Any, Train, int], Recipe]) -> tuple[Recipe, str]:
    """Seed everything; return the untrained network with its recipe, and the precision in which it computes.

    Raises:
        StageError: the images are too small, or see the network's recipe().
    """
    fit.make_deterministic(params.train.seed)
    precision = optimizer.use_precision(params.train.precision)
    phases.check_size(params.prepare.image_size, params.train)
    return recipe(getattr(params, stage), params.train, params.prepare.image_size), precision


def fingerprint(params: Params, stage: str, chosen: Recipe, data: dict, precision: str, recipe: Callable) -> str:
    """Return what decides whether a training may be continued: a digest of all that its result depends on.

    These are params, data, first weights, precision, the project's code that trains the network, and the libraries.

    Args:
        params: with section `train`, that of the stage, and prepare.image_size. stage: its name.
        chosen, precision: see begin().
        data: whatever says which images are trained on.
        recipe: see main().
    """
    versions = [keras.__version__, tf.__version__, np.__version__]
    return state.fingerprint(chosen.train, getattr(params, stage), params.prepare.image_size, data, chosen.weights,
                             precision, code(recipe), versions)


def code(recipe: Callable) -> dict[str, str]:
    """Return the digest of each file of the project that building or training a network may import, by its name."""
    found: dict[str, str] = {}
    for script in (Path(recipe.__code__.co_filename), Path(__file__)):
        # Other projects' packages are not on this path; tests are no package, which the finder cannot cope with.
        finder = ModuleFinder([str(PROJECT)], excludes=["tests"])
        finder.run_script(str(script))  # reads it and what it imports; nothing is executed
        sources = [Path(file) for module in finder.modules.values() if (file := getattr(module, "__file__", None))]
        found |= {os.path.relpath(source, PROJECT): files.digest(source) for source in sources}
    return found


def summary(network: keras.Model, rows: list[dict], data: dict, **facts) -> dict:
    """Return what is recorded of a training run: sizes, length, best validation scores of the last phase, facts."""
    best = min((row for row in rows if row["phase"] == rows[-1]["phase"]), key=lambda row: row["val_loss"])
    return {
        "data_source": data["source"],
        "data_digest": data["digest"],
        **facts,
        "parameters": network.count_params(),
        "trainable_parameters": sum(int(np.prod(weight.shape)) for weight in network.trainable_weights),
        "epochs": len(rows),
        "best_epoch": best["epoch"],
        "val_loss": best["val_loss"],
        "val_accuracy": best["val_accuracy"],
    }


def history_csv(rows: list[dict]) -> str:
    """Return the history as CSV with the header COLUMNS, floats rounded to 6 digits."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(files.rounded(rows))
    return text.getvalue()


def write(network: keras.Model, rows: list[dict], record: dict, stage: str) -> Path:
    """Write the model, its history and its record; return the model's file, named after the network."""
    model = MODELS / f"{network.name}.keras"
    # The optimizer is of no use to those who evaluate or serve, and would triple the file.
    with files.replacing(model) as new:
        optimizer.in_float32(keras.Model(network.input, network.output, name=network.name)).save(new)
    files.write_text(REPORTS / stage / "history.csv", history_csv(rows))
    files.write_json(REPORTS / stage / "metrics.json", record)
    return model
