"""Times the training of the custom network, in images a second: the bare step, ours, and the usual way.

Then runs both training stages for two epochs with the committed params, to see how much memory they take.

    python -m bench.training --size 224 --rounds 3

The contenders take turns in one run, since timings drift. Each turn is one fit() of --steps steps, of which the first
two, with the start of its input, do not count. Prints a table and writes bench/training.json.
"""

import argparse
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
import yaml
from keras import layers

from core import files
from stages.common import command, params
from stages.data import augmentation, dataset, phantom
from stages.data.params import Augment
from stages.networks import custom
from stages.training import fit, optimizer, phases

OUTPUT = Path("bench/training.json")
SKIPPED = 2
POLL = 0.2
"""Seconds between two looks at a process's memory."""


class Stopwatch(keras.callbacks.Callback):
    """Notes when each step of a fit() ended."""

    def on_train_begin(self, logs=None):
        """Forget the previous turn."""
        self.ends = []

    def on_train_batch_end(self, batch, logs=None):
        """Note the time."""
        self.ends.append(time.perf_counter())

    def images_per_second(self, batch_size: int) -> float:
        """Return the speed of the steps that count."""
        return (len(self.ends) - SKIPPED) * batch_size / (self.ends[-1] - self.ends[SKIPPED - 1])


def network(knobs: params.Params, precision: str, *before: layers.Layer) -> keras.Model:
    """Return the custom network, compiled as train_custom does, in a precision and behind the given layers."""
    keras.config.set_dtype_policy(precision)
    core = custom.build(knobs.train_custom, knobs.train.input_pooling)
    whole = keras.Sequential([keras.Input((knobs.prepare.image_size, knobs.prepare.image_size, 3)), *before, core])
    optimizer.compile_network(whole, knobs.train.lr, knobs.train)
    return whole


def usual_layers(augment: Augment) -> list[layers.Layer]:
    """Return the random changes of params.yaml as Keras layers: one warp for each of them."""
    return [
        layers.Rescaling(1 / 255),
        layers.RandomRotation(augment.rotation_degrees / 360, fill_mode="constant"),
        layers.RandomTranslation(augment.shift, augment.shift, fill_mode="constant"),
        layers.RandomFlip("horizontal"),
        layers.RandomZoom(augment.zoom, fill_mode="constant"),
        layers.RandomShear(x_factor=augment.shear_degrees / 360, fill_mode="constant"),
        layers.RandomBrightness(augment.brightness, value_range=(0.0, 1.0)),
    ]


def contenders(knobs: params.Params, folder: Path, batch_size: int) -> dict[str, Callable[[int, Stopwatch], None]]:
    """Return what is timed, by name: each takes a number of steps and runs them with a stopwatch.

    Args:
        knobs: params.yaml, with the image size to time at.
        folder: holds a folder of images for each class.
        batch_size: images a step.
    """
    loaded = keras.utils.image_dataset_from_directory(
        folder, image_size=(knobs.prepare.image_size,) * 2, batch_size=batch_size, shuffle=True, seed=1, verbose=False)
    pixels, labels = (np.concatenate(parts) for parts in zip(*loaded.as_numpy_iterator(), strict=True))
    images = dataset.Images(np.rint(pixels).astype(np.uint8), labels.astype(np.int64))
    constant = tf.data.Dataset.from_tensors(
        (pixels[:batch_size] / np.float32(255), labels[:batch_size])).cache().repeat()
    ours = augmentation.training_batches(images, batch_size, knobs.train.augment, seed=1, first_epoch=0)
    usual = loaded.repeat().prefetch(tf.data.AUTOTUNE)
    precision = optimizer.use_precision(knobs.train.precision)
    usual_network = network(knobs, "float32", *usual_layers(knobs.train.augment))
    trained = {
        "bare step on constant tensors": (network(knobs, precision), constant),
        "train_custom": (network(knobs, precision), ours),
        "Keras layers, files read each epoch, float32": (usual_network, usual),
    }

    def turn(model, batches):
        return lambda steps, watch: model.fit(batches, steps_per_epoch=steps, shuffle=False, verbose=0,
                                              callbacks=[watch])

    runs = {name: turn(*pair) for name, pair in trained.items()}
    batch = pixels[:batch_size] / np.float32(255), labels[:batch_size].astype(np.int64)
    return runs | pytorch(knobs, precision != "float32", *batch)


def pytorch(knobs: params.Params, bfloat16: bool, pixels: np.ndarray, labels: np.ndarray) -> dict:
    """Return the bare step in PyTorch by name, or nothing, which is printed, where PyTorch is not installed."""
    try:
        from bench.pytorch import Run
    except ImportError as error:
        print(f"Without PyTorch ({error}): pip install -r bench/requirements.txt adds it.")
        return {}
    return {"bare step in PyTorch": Run(knobs, bfloat16, pixels, labels)}


def measure(runs: dict[str, Callable[[int, Stopwatch], None]], rounds: int, steps: int, batch_size: int) -> dict:
    """Let the contenders take turns, after one turn to warm up; return each one's images a second by round."""
    watch, speeds = Stopwatch(), {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            run(steps if number else SKIPPED + 1, watch)
            if number:
                speeds[name].append(watch.images_per_second(batch_size))
                print(f"round {number}/{rounds}  {speeds[name][-1]:6.2f} images/s  {name}", flush=True)
    return speeds


def report(speeds: dict[str, list[float]]) -> dict:
    """Print and return each contender's median speed, and its median ratio to the first one's in the same round."""
    first = next(iter(speeds.values()))
    table = {}
    for name, values in speeds.items():
        ratio = statistics.median(value / base for value, base in zip(values, first, strict=True))
        table[name] = {"images_per_second": statistics.median(values), "of_bare": ratio}
        print(f"{table[name]['images_per_second']:8.2f} images/s  {ratio:5.2f} of bare  {name}")
    return table


def peak_memory(folder: Path) -> dict[str, float]:
    """Return the most memory in MB (resident set) that each training stage takes with the committed params.

    Only the epochs are fewer: one of growing images, one of full size.

    Args:
        folder: empty; the stages work in it.
    """
    knobs = yaml.safe_load(Path("params.yaml").read_text())
    knobs["train"]["epochs"], knobs["train"]["start"]["epochs"] = 2, 1
    (folder / "params.yaml").write_text(yaml.safe_dump(knobs))
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
    peaks = {}
    for stage in ("prepare", "train_custom", "train_resnet", "train_transfer"):
        with (folder / f"{stage}.log").open("w") as log, subprocess.Popen(
                [sys.executable, "-m", f"stages.{stage}"], cwd=folder, env=environment, stdout=log,
                stderr=subprocess.STDOUT) as process:
            while process.poll() is None:
                # The kernel's own peak, which psutil lacks: nothing is missed between two looks.
                found = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
                peaks[stage] = int(found[1]) * 1024 / 1e6 if found else peaks[stage]
                time.sleep(POLL)
        if process.returncode:
            raise command.StageError((folder / f"{stage}.log").read_text()[-2000:])
        print(f"{peaks[stage]:8.0f} MB at most: {stage}", flush=True)
    return peaks


def main() -> None:
    """Read the command line, measure, print and write the result."""
    parser = argparse.ArgumentParser(prog="python -m bench.training", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=224, help="side of the images in pixels (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=32, help="images a step (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contender (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=8, help="steps a turn, more than 3 (default: %(default)s)")
    given = parser.parse_args()
    if given.steps <= SKIPPED + 1 or given.rounds < 1:
        parser.error(f"Expected --steps above {SKIPPED + 1} and --rounds above 0. "
                     f"Received: {given.steps} and {given.rounds}")
    knobs = params.load()
    prepare = replace(knobs.prepare, image_size=given.size)
    knobs = replace(knobs, prepare=prepare)
    phases.check_size(given.size, knobs.train)
    fit.make_deterministic(knobs.train.seed)
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images"
        phantom.write_dataset(images, 2 * given.batch_size, given.size, seed=1)
        speeds = measure(contenders(knobs, images, given.batch_size), given.rounds, given.steps, given.batch_size)
    with tempfile.TemporaryDirectory() as folder:
        facts = {"peak_memory_mb": peak_memory(Path(folder))}
    facts |= {"size": given.size, "batch_size": given.batch_size, "input_pooling": knobs.train.input_pooling,
             "precision": optimizer.choose_precision(knobs.train.precision),
             "machine": platform.machine(), "cores": os.cpu_count(), "tensorflow": tf.__version__}
    files.write_json(OUTPUT, facts | {"contenders": report(speeds)})


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("Interrupted: nothing was written.")
    except (command.StageError, params.ParamError) as error:
        sys.exit(f"bench.training: {error}")
