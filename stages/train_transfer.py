"""Trains EfficientNet-Lite, or another backbone with ImageNet weights, on harmonised images.

    python -m stages.train_transfer          (or: dvc repro train_transfer)

Reads data/prepared, writes models/transfer.keras and reports/train_transfer/. Images are harmonised once, before the
first epoch: the head is cut out and its greys are evened (stages/layers/harmonise.py); the saved network does that
itself. Then the head learns for train_transfer.head_epochs, and the layers of train_transfer.unfreeze join step by step
at lower rates. With the default params about four minutes on two cores. An interrupted run continues with the same
command.
"""

from stages.networks import transfer
from stages.training import run

if __name__ == "__main__":
    run.main("train_transfer", transfer.recipe, __doc__)
