"""The one fit(): phases, callbacks, history, and a state on disk that lets an interrupted run go on.

After each epoch everything that the rest of the run depends on is written to .resume/: weights, optimizer, dropout's
random state, early stopping's and the plateau's memory, history. The same command then continues after the last
finished epoch and ends with the numbers of an uninterrupted run (operations are deterministic for one machine and
number of threads). Keras's BackupAndRestore keeps neither early stopping's nor the learning rate's state.
"""

import csv
import hashlib
import io
import json
import sys
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from core import files
from stages.common.command import StageError
from stages.common.params import Train
from stages.data import augmentation, dataset
from stages.training import optimizer

RESUME = Path(".resume")
LOGS = Path("logs")
REPORTS = Path("reports")
MIN_SIDE = 32
"""Both networks halve their image five times."""
COLUMNS = ("epoch", "phase", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate")


@dataclass(frozen=True)
class Phase:
    """A stretch of training with its own length, learning rate, image side in pixels, and layers that learn.

    `judged` phases watch the validation loss: they stop early, lower their rate and end with the best weights.
    The others run their whole length at a constant rate. With train.schedule=cosine the rate follows it in both.
    """

    name: str
    epochs: int
    lr: float
    size: int
    batch_size: int
    judged: bool = True
    prepare: Callable[[keras.Model], None] = lambda network: None


def phases_from_scratch(network: keras.Model, knobs: Train, size: int, start_batch_size: int) -> list[Phase]:
    """Return the phases of training a network from scratch: growing images first, then ordinary training.

    The first train.start.epochs epochs see the image at a fraction of its side, halved while it stays at least
    train.start.min_size pixels, and at last at full size; each size gets four times the epochs of the next larger one.
    Small images cost a fraction of the time (progressive resizing: Howard and Gugger, Deep Learning for Coders with
    fastai, 2020, ch. 7; Tan and Le 2021, arXiv:2104.00298). Meanwhile dropout is off unless train.start.dropout is set
    (late dropout: Liu et al. 2023, arXiv:2303.01500). The remaining epochs of train.epochs are ordinary training.

    Args:
        network: with its dropout layers as the last phase wants them.
        knobs: params section `train`.
        size: full side of the images in pixels.
        start_batch_size: images a batch meanwhile.
    """
    start, rates = knobs.start, dropout_rates(network)
    meanwhile = rates if start.dropout else dict.fromkeys(rates, 0.0)
    smallest = max(start.min_size, MIN_SIDE * knobs.input_pooling)
    sizes = [size // 2**halvings for halvings in range(8, 0, -1) if size // 2**halvings >= smallest] + [size]
    shares = [4**index for index in range(len(sizes), 0, -1)]
    epochs = [min(start.epochs, knobs.epochs - 1) * share // sum(shares) for share in shares]
    plan = [Phase(f"start{side}", length, start.lr, side, start_batch_size, judged=False,
                  prepare=lambda network: set_dropout(network, meanwhile))
            for side, length in zip(sizes, epochs, strict=True)]
    plan.append(Phase("full", knobs.epochs - sum(epochs), knobs.lr, size, knobs.batch_size,
                      prepare=lambda network: set_dropout(network, rates)))
    return [phase for phase in plan if phase.epochs]


def check_size(size: int, knobs: Train) -> None:
    """Check that an image is large enough for the networks.

    Args:
        size: side of the images in pixels.
        knobs: params section `train`.

    Raises:
        StageError: fewer than MIN_SIDE pixels are left after train.input_pooling.
    """
    if size < MIN_SIDE * knobs.input_pooling:
        raise StageError(f"Expected prepare.image_size of at least {MIN_SIDE * knobs.input_pooling}, {MIN_SIDE} times "
                         f"train.input_pooling. Received: {size}. Raise it, or lower train.input_pooling.")


def dropout_rates(network: keras.Model) -> dict[str, float]:
    """Return the rate of each dropout layer by name."""
    return {layer.name: layer.rate for layer in network.layers if isinstance(layer, keras.layers.Dropout)}


def set_dropout(network: keras.Model, rates: dict[str, float]) -> None:
    """Set the rates of dropout layers; it counts from the next compilation on."""
    for name, rate in rates.items():
        network.get_layer(name).rate = rate


@dataclass
class State:
    """Where a run stands: phase and epoch to do next, whether the phase has stopped, history, callbacks' memory."""

    key: str
    phase: int = 0
    epoch: int = 0
    stopped: bool = False
    rows: list[dict] = field(default_factory=list)
    memory: dict[str, dict] = field(default_factory=dict)
    variables: list[np.ndarray] = field(default_factory=list)
    best_weights: list[np.ndarray] = field(default_factory=list)


def save_state(path: Path, state: State) -> None:
    """Write a state as one .npz file, replacing the previous one as a whole."""
    facts = {name: value for name, value in asdict(state).items() if name not in ("variables", "best_weights")}
    arrays = {f"variables_{index:05d}": array for index, array in enumerate(state.variables)}
    arrays |= {f"best_{index:05d}": array for index, array in enumerate(state.best_weights)}
    with files.replacing(path) as new, new.open("wb") as file:
        np.savez(file, facts=np.array(json.dumps(facts)), **arrays)


def load_state(path: Path, key: str) -> State:
    """Read the state of an interrupted run, or start afresh.

    Args:
        path: the .npz file.
        key: fingerprint of params and data; a state of other params or data is not continued, and that is printed.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            facts = json.loads(str(stored["facts"]))
            state = State(**facts,
                          variables=[stored[name] for name in sorted(stored) if name.startswith("variables_")],
                          best_weights=[stored[name] for name in sorted(stored) if name.startswith("best_")])
    except FileNotFoundError:
        return State(key)
    except (ValueError, KeyError, TypeError, OSError, zipfile.BadZipFile) as error:
        print(f"Cannot read the interrupted run in {path} ({error}): starting from the first epoch.")
        return State(key)
    if state.key != key:
        print(f"The interrupted run in {path} had other params, data or code: starting from the first epoch.")
        return State(key)
    print(f"Continuing the interrupted run in {path}: {len(state.rows)} epochs are done.")
    return state


def fingerprint(*parts) -> str:
    """Return a digest of params, data digests and the like, which decides whether a run may be continued."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=asdict).encode()).hexdigest()[:16]


class KeepState(keras.callbacks.Callback):
    """Writes the state after each epoch, and gives the other callbacks their memory back at the start.

    Must be the last callback: the others reset themselves when training begins.
    """

    def __init__(self, path: Path, state: State, phase: str, others: dict[str, keras.callbacks.Callback]):
        super().__init__()
        self.path, self.state, self.phase, self.others = path, state, phase, others

    def on_train_begin(self, logs=None):
        """Restore what the callbacks knew."""
        for name, memory in self.state.memory.items():
            for key, value in memory.items():
                setattr(self.others[name], key, value)
        if self.state.best_weights:
            self.others["stopping"].best_weights = self.state.best_weights

    def on_epoch_end(self, epoch, logs=None):
        """Add a row to the history and write the state."""
        state, stopping, plateau = self.state, self.others["stopping"], self.others["plateau"]
        values = {name: float(value) for name, value in logs.items()}
        state.rows.append({"epoch": len(state.rows) + 1, "phase": self.phase, **values})
        state.epoch, state.stopped = epoch + 1, bool(self.model.stop_training)
        state.memory = {
            "stopping": {"wait": stopping.wait, "best": float(stopping.best), "best_epoch": stopping.best_epoch},
            "plateau": {"wait": plateau.wait, "best": float(plateau.best)},
            "checkpoint": {"best": float(self.others["checkpoint"].best)},
        }
        state.best_weights = stopping.best_weights or []
        state.variables = [np.array(variable) for variable in all_variables(self.model)]
        save_state(self.path, state)


def all_variables(network: keras.Model) -> list:
    """Return everything that changes during training: weights, dropout's random states, the optimizer's variables."""
    return [*network.variables, *network.optimizer.variables]


def fit(network: keras.Model, phases: list[Phase], images: dict[str, dataset.Images], knobs: Train, stage: str,
        key: str) -> list[dict]:
    """Train a network phase by phase.

    Args:
        network: a classifier of pixels [b, size, size, 3] in [0, 1] with 4 probabilities; changed in place.
        phases: run in order; what an interrupted run has finished is skipped.
        images: the splits "train" and "validation".
        knobs: params section `train`.
        stage: names the state, logs and checkpoint.
        key: see `load_state`.

    Returns:
        history, one row an epoch with the keys COLUMNS.
    """
    path = RESUME / f"{stage}.npz"
    state = load_state(path, key)
    first_epoch = 0
    for number, phase in enumerate(phases):
        phase.prepare(network)
        if number >= state.phase:
            fit_phase(network, phase, images, knobs, stage, state, path, first_epoch)
        first_epoch += phase.epochs
    path.unlink(missing_ok=True)
    return state.rows


def fit_phase(network: keras.Model, phase: Phase, images: dict[str, dataset.Images], knobs: Train, stage: str,
              state: State, path: Path, first_epoch: int) -> None:
    """Run one phase from where the state stands, and leave the state at the start of the next phase."""
    optimizer.compile_network(network, phase.lr, knobs)
    # Between phases the state holds no optimizer: zip then ends with the network's own variables.
    for variable, value in zip(all_variables(network), state.variables, strict=False):
        variable.assign(value)
    train, validation = (dataset.resized(images[name], phase.size) for name in ("train", "validation"))
    if state.epoch < phase.epochs and not state.stopped:
        print(f"{stage}, phase {phase.name}: up to {phase.epochs} epochs at {phase.size} x {phase.size} pixels")
        steps = -(-len(train) // phase.batch_size)
        others = callbacks(knobs, phase, stage)
        if knobs.schedule == "cosine":
            others["rate"] = optimizer.CosineRate(knobs, first_epoch, steps)
        network.fit(
            augmentation.training_batches(train, phase.batch_size, knobs.augment, knobs.seed,
                                          first_epoch + state.epoch),
            validation_data=dataset.batches(validation, knobs.batch_size), initial_epoch=state.epoch,
            epochs=phase.epochs, steps_per_epoch=steps, shuffle=False,
            callbacks=[*others.values(), KeepState(path, state, phase.name, others)],
            verbose="auto" if sys.stdout.isatty() else 2)
    elif phase.judged:
        network.set_weights(state.best_weights)
    enter_next_phase(network, state)
    save_state(path, state)


def enter_next_phase(network: keras.Model, state: State) -> None:
    """Move the state on: the weights stay; optimizer and callbacks start anew, and so are not kept."""
    state.phase, state.epoch, state.stopped = state.phase + 1, 0, False
    state.memory, state.best_weights = {}, []
    state.variables = [np.array(variable) for variable in network.variables]


def callbacks(knobs: Train, phase: Phase, stage: str) -> dict[str, keras.callbacks.Callback]:
    """Return early stopping, learning rate reduction, the best checkpoint by accuracy, and TensorBoard's log."""
    (LOGS / stage).mkdir(parents=True, exist_ok=True)
    never = phase.epochs + 1
    return {
        "stopping": keras.callbacks.EarlyStopping(
            monitor="val_loss", patience=knobs.early_stopping_patience if phase.judged else never,
            restore_best_weights=phase.judged, verbose=1),
        "plateau": keras.callbacks.ReduceLROnPlateau(
            monitor="val_loss",
            patience=knobs.reduce_lr_patience if phase.judged and knobs.schedule == "plateau" else never,
            factor=knobs.reduce_lr_factor, verbose=1),
        "checkpoint": keras.callbacks.ModelCheckpoint(
            LOGS / stage / "best_val_accuracy.keras", monitor="val_accuracy", mode="max", save_best_only=True),
        "tensorboard": keras.callbacks.TensorBoard(LOGS / stage, write_graph=False),
    }


def make_deterministic(seed: int) -> None:
    """Seed Python, numpy and TensorFlow, and allow only deterministic operations."""
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def history_csv(rows: list[dict]) -> str:
    """Return the history as CSV with the header COLUMNS, floats rounded to 6 digits."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(files.rounded(rows))
    return text.getvalue()


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


def finish(network: keras.Model, rows: list[dict], record: dict, stage: str, model: Path) -> None:
    """Write the model, its history and its record; print the record."""
    # The optimizer is of no use to those who evaluate or serve, and would triple the file.
    with files.replacing(model) as new:
        optimizer.in_float32(keras.Model(network.input, network.output, name=network.name)).save(new)
    files.write_text(REPORTS / stage / "history.csv", history_csv(rows))
    files.write_json(REPORTS / stage / "metrics.json", record)
    print(json.dumps(files.rounded(record), indent=2))
