"""Trains ResNet50 (He et al. 2016, arXiv:1512.03385): transfer from ImageNet in two phases, or from scratch.

    python -m stages.train_resnet          (or: dvc repro train_resnet)

Reads data/prepared, writes models/resnet50.keras and reports/train_resnet/. With ImageNet weights (or a local weights
file) the base is frozen while the head learns for train_resnet.head_epochs; then the layers from
train_resnet.unfreeze_from on learn at train.lr x train_resnet.fine_tune_lr_factor, batch normalisation staying in
inference mode (Keras guide "Transfer learning & fine-tuning"). Without weights the whole network is trained: with the
default params about a quarter of an hour on two cores. An interrupted run continues with the same command.
"""

from stages.networks import resnet50
from stages.training import run

if __name__ == "__main__":
    run.main("train_resnet", resnet50.recipe, __doc__)
