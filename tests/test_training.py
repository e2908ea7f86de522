"""fit(): phases, callbacks, and an interrupted run that ends like an uninterrupted one."""

import shutil
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import layers

from core import files
from stages.common import command
from stages.data import dataset
from stages.networks import custom, transfer
from stages.networks.registry import NETWORKS
from stages.training import fit, optimizer, phases, run, state
from tests.conftest import PROJECT


@pytest.fixture(scope="module")
def images():
    random = np.random.default_rng(0)
    labels = np.arange(32) % 4
    pixels = random.integers(0, 60, (32, 32, 32, 3)) + labels[:, None, None, None] * 60
    whole = dataset.Images(pixels.astype(np.uint8), labels)
    return {"train": whole, "validation": dataset.Images(whole.pixels[:8], whole.labels[:8])}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def network():
    """Return a small network with everything that carries state: batch normalisation, dropout, weights."""
    keras.utils.set_random_seed(3)
    return keras.Sequential([
        keras.Input((None, None, 3)), layers.Conv2D(4, 3), layers.BatchNormalization(), layers.ReLU(),
        layers.GlobalAveragePooling2D(), layers.Dropout(0.3, name="dropout"), layers.Dense(4, "softmax")])


def phase(name="full", epochs=4, **changes):
    return phases.Phase(**{"name": name, "epochs": epochs, "lr": 0.01, "size": 32, "batch_size": 8, **changes})


PLAN = [phase("small16", 2, size=16, judged=False), phase("full", 4)]


def train(images, knobs, key="k"):
    fit.make_deterministic(1)
    one = network()
    return one, fit.fit(one, PLAN, fit.Run("train_test", knobs, images, key))


def test_what_never_learns_is_computed_once_and_the_whole_network_is_trained(images, tiny):
    fit.make_deterministic(1)
    pixels = keras.Input((None, None, 3))
    shown = layers.Rescaling(0.5, 0.25, name="shown")(layers.AveragePooling2D(2)(pixels))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, activation="relu")(shown))
    whole = keras.Model(pixels, layers.Dense(4, "softmax", name="last")(x))
    before = whole.get_layer("last").kernel.numpy()
    recipe = phases.Recipe(whole, [phase(epochs=2, size=16)], tiny.train, shown=shown)
    rows = fit.train(recipe, fit.Run("train_test", tiny.train, images, "k"))
    assert np.abs(whole.get_layer("last").kernel - before).max() > 1e-3
    answers, labels = whole(dataset.rgb(images["validation"].pixels / np.float32(255))), images["validation"].labels
    loss = -np.log(answers.numpy()[np.arange(8), labels]).mean()
    assert loss == pytest.approx(min(row["val_loss"] for row in rows), abs=1e-3)  # those images were bytes


RECIPES = {"plain": {}, "cosine": {"schedule": "cosine", "warmup_epochs": 1, "epochs": 6, "lr": 0.02,
                                   "weight_decay": 0.05, "label_smoothing": 0.05}}


@pytest.mark.parametrize(("recipe", "epochs_done"), [("cosine", 1), ("plain", 2), ("cosine", 4), ("plain", 6)])
def test_an_interrupted_run_ends_like_an_uninterrupted_one(images, tiny, monkeypatch, epochs_done, recipe):
    knobs = replace(tiny.train, **RECIPES[recipe])
    wanted, rows = train(images, knobs)
    write = state.save_state

    def cut(path, reached):
        write(path, reached)
        if len(reached.rows) == epochs_done and reached.epoch:
            raise KeyboardInterrupt

    monkeypatch.setattr(state, "save_state", cut)
    with pytest.raises(KeyboardInterrupt):
        train(images, knobs)
    monkeypatch.setattr(state, "save_state", write)
    resumed, resumed_rows = train(images, knobs)
    assert resumed_rows == rows
    assert all(np.array_equal(a, b) for a, b in zip(wanted.get_weights(), resumed.get_weights(), strict=True))
    assert not list(state.FOLDER.iterdir())


def test_the_cosine_goes_on_over_the_phases(images, tiny):
    knobs = replace(tiny.train, **RECIPES["cosine"])
    rates = [row["learning_rate"] for row in train(images, knobs)[1]]
    last_steps = [optimizer.cosine_rate(epoch + 3 / 4, knobs) for epoch in range(6)]
    assert rates == pytest.approx(last_steps, rel=1e-5)


def test_a_balanced_training_with_tumours_of_unknown_type_learns(images, tiny, monkeypatch):
    labels = np.where(np.arange(32) % 8 == 0, dataset.UNKNOWN, images["train"].labels)
    some = replace(images["train"], labels=labels, draws=np.full(32, 0.5))
    steps = []
    monkeypatch.setattr(state.KeepState, "on_train_batch_end", lambda self, batch, logs=None: steps.append(batch))
    rows = train({**images, "train": some}, replace(tiny.train, label_smoothing=0.05))[1]
    assert len(steps) == 2 * len(rows) and rows[-1]["loss"] < rows[0]["loss"]


def test_other_params_start_afresh_and_say_so(images, tiny, capsys):
    state.save_state(state.FOLDER / "train_test.npz", state.State("old params", phase=1))
    _, rows = train(images, tiny.train, key="new params")
    assert len(rows) == 6 and "starting from the first epoch" in capsys.readouterr().out


def test_the_code_that_trains_a_network_is_told_from_other_code():
    found = run.code(transfer.recipe)
    assert {"stages/networks/transfer.py", "stages/networks/efficientnet_lite.py", "stages/layers/harmonise.py",
            "stages/training/fit.py", "stages/data/augmentation.py", "core/files.py"} <= set(found)
    assert not {"stages/networks/custom.py", "stages/networks/registry.py", "stages/evaluate.py"} & set(found)
    assert run.code(custom.recipe) != found


@pytest.mark.parametrize("change", ["code", "keras"])
def test_a_training_with_other_code_or_libraries_is_not_continued(defaults, change, monkeypatch):
    def key() -> str:
        chosen = phases.Recipe(None, [], defaults.train)
        return run.fingerprint(defaults, "train_custom", chosen, {}, "float32", custom.recipe)

    before = key()
    assert key() == before
    if change == "code":
        monkeypatch.setattr(files, "digest", lambda path: f"edited {path}")
    else:
        monkeypatch.setattr(keras, "__version__", "0")
    assert key() != before


def test_a_damaged_state_starts_afresh_and_says_so(images, tiny, capsys):
    state.FOLDER.mkdir()
    (state.FOLDER / "train_test.npz").write_bytes(b"PK\x03\x04 half a file")
    _, rows = train(images, tiny.train)
    assert len(rows) == 6 and "Cannot read the interrupted run" in capsys.readouterr().out


def test_the_best_weights_are_kept_and_early_stopping_stops(images, tiny):
    one = network()
    knobs = replace(tiny.train, early_stopping_patience=1)
    # A rate this high makes the loss worse at once.
    rows = fit.fit(one, [phase(epochs=20, lr=5.0)], fit.Run("train_test", knobs, images, "k"))
    optimizer.compile_network(one, 1.0, tiny.train)
    loss = one.evaluate(dataset.batches(images["validation"], 8), verbose=0, return_dict=True)["loss"]
    assert len(rows) < 20 and loss == pytest.approx(min(row["val_loss"] for row in rows), rel=1e-4)


def test_a_plateau_lowers_the_rate(images, tiny):
    knobs = replace(tiny.train, reduce_lr_patience=1, early_stopping_patience=50)
    rows = fit.fit(network(), [phase(epochs=12, lr=1.0)], fit.Run("train_test", knobs, images, "k"))
    assert rows[-1]["learning_rate"] < 1.0


def test_logs_and_the_checkpoint_are_written(images, tiny):
    train(images, tiny.train)
    written = [path.name for path in (fit.LOGS / "train_test").rglob("*") if path.is_file()]
    assert "best_val_accuracy.keras" in written and any("tfevents" in name for name in written)


def test_phases_halve_the_image_and_switch_dropout_off_meanwhile(defaults):
    one = network()
    plan = phases.phases_from_scratch(one, defaults.train, 224, 8)
    assert [(part.name, part.size, part.epochs) for part in plan] == [
        ("start112", 112, 21), ("start224", 224, 5), ("full", 224, 4)]
    plan[0].prepare(one)
    assert one.get_layer("dropout").rate == 0.0
    plan[-1].prepare(one)
    assert one.get_layer("dropout").rate == pytest.approx(0.3)


def test_ordinary_training_alone_when_switched_off(defaults):
    knobs = replace(defaults.train, start=replace(defaults.train.start, epochs=0))
    assert [part.name for part in phases.phases_from_scratch(network(), knobs, 224, 8)] == ["full"]


def test_an_image_too_small_for_five_halvings_is_refused(defaults):
    with pytest.raises(command.StageError, match="at least 64, 32 times train.input_pooling. Received: 48"):
        phases.check_size(48, defaults.train)


def test_a_stage_before_whose_turn_it_is_names_the_file_that_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["train_custom"])
    shutil.copyfile(PROJECT / "params.yaml", tmp_path / "params.yaml")
    with pytest.raises(SystemExit, match="Expected a file reports/prepare/data.json.*Run the stages before"):
        run.main("train_custom", custom.recipe, "")
    with pytest.raises(FileNotFoundError, match="custom.keras"):
        NETWORKS["custom"].load()


def test_history_is_csv_with_rounded_numbers():
    rows = [{"epoch": 1, "phase": "full", "loss": 1 / 3, "accuracy": 0.5, "val_loss": 1.0, "val_accuracy": 0.25,
             "learning_rate": 1e-4}]
    header, line = run.history_csv(rows).splitlines()
    assert header == ",".join(run.COLUMNS) and line == "1,full,0.333333,0.5,1.0,0.25,0.0001"
