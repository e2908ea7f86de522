"""The one fit(): phase after phase, from wherever an interrupted run stopped (see state.py)."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from stages.data import augmentation, dataset, preprocess
from stages.layers import answer
from stages.training import optimizer, state
from stages.training.params import Train
from stages.training.phases import Phase, Recipe

LOGS = Path("logs")
BATCH = 32
"""Images at a time that are changed once, before the first epoch."""


@dataclass(frozen=True)
class Run:
    """What stays the same from phase to phase.

    The stage, which names state, logs and checkpoint; params section `train`; the splits "train" and "validation"; and
    the fingerprint that decides whether an interrupted run may be continued.
    """

    stage: str
    train: Train
    images: dict[str, dataset.Images]
    key: str

    @property
    def path(self) -> Path:
        """The file of its state."""
        return state.FOLDER / f"{self.stage}.npz"

    @property
    def logs(self) -> Path:
        """The folder of its logs and its checkpoint."""
        return LOGS / self.stage


def train(recipe: Recipe, run: Run) -> list[dict]:
    """Train a recipe's network, in place; what comes before recipe.shown is computed once for each image.

    Args:
        recipe: of a network. run: see fit(); its images are whole ones.

    Returns:
        history, see fit().
    """
    if recipe.shown is None:
        return fit(recipe.network, recipe.phases, run)
    before = keras.Model(recipe.network.input, recipe.shown)
    images = {split: shown(before, one) for split, one in run.images.items()}
    after = keras.Model(recipe.shown, recipe.network.output, name=recipe.network.name)  # shares the layers
    return fit(after, recipe.phases, replace(run, images=images))


def shown(before: keras.Model, images: dataset.Images) -> dataset.Images:
    """Return what a model of pixels makes of images, rounded to bytes; the network itself rounds nothing."""
    graph = answer.compiled(lambda pixels: before(pixels, training=False), images.pixels.shape[1])
    pixels = np.concatenate([np.rint(graph(one).numpy() / preprocess.STEP).astype(np.uint8)
                             for one, _ in dataset.batches(images, BATCH)])
    return replace(images, pixels=dataset.in_few_channels(pixels))


def fit(network: keras.Model, phases: list[Phase], run: Run) -> list[dict]:
    """Train a network phase by phase.

    Args:
        network: a classifier of pixels [b, size, size, 3] in [0, 1] with K probabilities; changed in place.
        phases: run in order; what an interrupted run has finished is skipped.
        run: what all phases share.

    Returns:
        history, one row an epoch with the keys of run.COLUMNS.
    """
    reached = state.load_state(run.path, run.key)
    first_epoch = 0
    for number, phase in enumerate(phases):
        phase.prepare(network)
        if number >= reached.phase:
            fit_phase(network, phase, run, reached, first_epoch)
        first_epoch += phase.epochs
    run.path.unlink(missing_ok=True)
    return reached.rows


def fit_phase(network: keras.Model, phase: Phase, run: Run, reached: state.State, first_epoch: int) -> None:
    """Run one phase from where the state stands, and leave the state at the start of the next phase.

    Args:
        network, phase, run: see fit().
        reached: the state; changed in place.
        first_epoch: epochs of the phases before.
    """
    optimizer.compile_network(network, phase.lr, run.train)
    # Between phases the state holds no optimizer: zip then ends with the network's own variables.
    for variable, value in zip(state.all_variables(network), reached.variables, strict=False):
        variable.assign(value)
    if reached.epoch < phase.epochs and not reached.stopped:
        print(f"{run.stage}, phase {phase.name}: up to {phase.epochs} epochs at {phase.size} x {phase.size} pixels")
        fit_epochs(network, phase, run, reached, first_epoch)
    elif phase.judged:
        network.set_weights(reached.best_weights)
    state.enter_next_phase(network, reached)
    state.save_state(run.path, reached)


def fit_epochs(network: keras.Model, phase: Phase, run: Run, reached: state.State, first_epoch: int) -> None:
    """Run the epochs of a phase that are left; see fit_phase()."""
    train, validation = (dataset.resized(run.images[name], phase.size) for name in ("train", "validation"))
    steps = -(-train.an_epoch // phase.batch_size)
    others = callbacks(phase, run)
    if run.train.schedule == "cosine":
        others["rate"] = optimizer.CosineRate(run.train, first_epoch, steps, phase.share)
    network.fit(
        augmentation.training_batches(train, phase.batch_size, run.train.augment, run.train.seed,
                                      first_epoch + reached.epoch),
        validation_data=dataset.batches(validation, run.train.batch_size), initial_epoch=reached.epoch,
        epochs=phase.epochs, steps_per_epoch=steps, shuffle=False,
        callbacks=[*others.values(), state.KeepState(run.path, reached, phase.name, others)],
        verbose="auto" if sys.stdout.isatty() else 2)


def callbacks(phase: Phase, run: Run) -> dict[str, keras.callbacks.Callback]:
    """Return early stopping, learning rate reduction, the best checkpoint by accuracy, and TensorBoard's log."""
    run.logs.mkdir(parents=True, exist_ok=True)
    train, never = run.train, phase.epochs + 1
    return {
        "stopping": keras.callbacks.EarlyStopping(
            monitor="val_loss", patience=train.early_stopping_patience if phase.judged else never,
            restore_best_weights=phase.judged, verbose=1),
        "plateau": keras.callbacks.ReduceLROnPlateau(
            monitor="val_loss",
            patience=train.reduce_lr_patience if phase.judged and train.schedule == "plateau" else never,
            factor=train.reduce_lr_factor, verbose=1),
        "checkpoint": keras.callbacks.ModelCheckpoint(
            run.logs / "best_val_accuracy.keras", monitor="val_accuracy", mode="max", save_best_only=True),
        "tensorboard": keras.callbacks.TensorBoard(run.logs, write_graph=False),
    }


def make_deterministic(seed: int) -> None:
    """Seed Python, numpy and TensorFlow, and allow only deterministic operations."""
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
