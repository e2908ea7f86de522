"""Section `train` of params.yaml: what the training of all networks shares."""

from typing import Annotated, Literal

from stages.common.sections import Flag, Number, Whole, section, within
from stages.data.params import Augment


@section
class Start:
    """The first epochs of a training from scratch: growing images, at a constant rate. 0 epochs for none."""

    epochs: Annotated[Whole, within(0, 10**5)]
    min_size: Annotated[Whole, within(32, 1024)]
    lr: Annotated[Number, within(1e-8, 10)]
    dropout: Flag


@section
class Train:
    """What the training of all networks shares."""

    lr: Annotated[Number, within(1e-8, 10)]
    batch_size: Annotated[Whole, within(1, 4096)]
    epochs: Annotated[Whole, within(1, 10**5)]
    precision: Literal["auto", "float32", "mixed_bfloat16"]
    schedule: Literal["plateau", "cosine"]
    warmup_epochs: Annotated[Whole, within(0, 10**5)]
    weight_decay: Annotated[Number, within(0, 1)]
    label_smoothing: Annotated[Number, within(0, 0.9)]
    balance: Annotated[Number, within(0, 1)]
    input_pooling: Annotated[Whole, within(1, 8)]
    early_stopping_patience: Annotated[Whole, within(1, 10**5)]
    reduce_lr_patience: Annotated[Whole, within(1, 10**5)]
    reduce_lr_factor: Annotated[Number, within(0.01, 0.99)]
    seed: Annotated[Whole, within(0, 2**31 - 1)]
    augment: Augment
    start: Start
