"""Trains ResNet50 (He et al. 2016, arXiv:1512.03385): transfer from ImageNet in two phases, or from scratch.

    python -m stages.train_resnet          (or: dvc repro train_resnet)

Reads data/prepared, writes models/resnet50.keras and reports/train_resnet/. With ImageNet weights (or a local weights
file) the base is frozen while the head learns for train_resnet.head_epochs; then the layers from
train_resnet.unfreeze_from on learn at train.lr x train_resnet.fine_tune_lr_factor, batch normalisation staying in
inference mode (Keras guide "Transfer learning & fine-tuning"). Without weights the whole network is trained: with the
default params about a quarter of an hour on two cores.
"""

from dataclasses import replace
from pathlib import Path

from stages.common import command, params
from stages.data import dataset
from stages.networks import resnet50
from stages.training import fit as training
from stages.training import optimizer

STAGE = "train_resnet"
MODEL = Path("models/resnet50.keras")
COMMITTED_WEIGHTS = "none"
"""What `auto` came to when the committed dvc.lock was made; a test compares it with the metrics."""


def main(knobs: params.Params) -> None:
    """Train, and write the model and its reports."""
    size, own, data = knobs.prepare.image_size, knobs.train_resnet, dataset.read_report()
    train = replace(knobs.train, epochs=own.epochs or knobs.train.epochs)
    training.make_deterministic(train.seed)
    precision = optimizer.use_precision(train.precision)
    training.check_size(size, train)
    base, used = resnet50.choose_base(own.weights, own.bn_momentum)
    pretrained = used != "none"
    if own.weights == "auto" and used != COMMITTED_WEIGHTS:
        print(f"train_resnet.weights=auto came to {used} here; the committed dvc.lock was made with "
              f"{COMMITTED_WEIGHTS}: expect other numbers than the committed ones.")
    network = resnet50.build(own, base, pretrained, train.input_pooling)
    plan = (resnet50.transfer_phases(train, own, size) if pretrained
            else training.phases_from_scratch(network, train, size, own.start_batch_size))
    images = {split: dataset.load(split, size) for split in ("train", "validation")}
    key = training.fingerprint(train, own, size, data, used, precision)
    rows = training.fit(network, plan, images, train, STAGE, key)
    record = training.summary(network, rows, data, weights=used, precision=precision)
    training.finish(network, rows, record, STAGE, MODEL)


if __name__ == "__main__":
    command.run(main, __doc__)
