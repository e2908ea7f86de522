"""Trains the custom network: five blocks of two convolutions, from scratch.

    python -m stages.train_custom          (or: dvc repro train_custom)

Reads data/prepared, writes models/custom.keras and reports/train_custom/. An interrupted run continues with the same
command. With the default params about ten minutes on two cores.
"""

from pathlib import Path

from stages.common import command, params
from stages.data import dataset
from stages.networks import custom
from stages.training import fit as training
from stages.training import optimizer

STAGE = "train_custom"
MODEL = Path("models/custom.keras")


def main(knobs: params.Params) -> None:
    """Train, and write the model and its reports."""
    size, data = knobs.prepare.image_size, dataset.read_report()
    training.make_deterministic(knobs.train.seed)
    precision = optimizer.use_precision(knobs.train.precision)
    training.check_size(size, knobs.train)
    network = custom.build(knobs.train_custom, knobs.train.input_pooling)
    images = {split: dataset.load(split, size) for split in ("train", "validation")}
    key = training.fingerprint(knobs.train, knobs.train_custom, size, data, precision)
    plan = training.phases_from_scratch(network, knobs.train, size, knobs.train_custom.start_batch_size)
    rows = training.fit(network, plan, images, knobs.train, STAGE, key)
    record = training.summary(network, rows, data, weights="none", precision=precision)
    training.finish(network, rows, record, STAGE, MODEL)


if __name__ == "__main__":
    command.run(main, __doc__)
