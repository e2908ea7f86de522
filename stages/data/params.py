"""The params that the data need: section `prepare`, and the augmentation in section `train`."""

from typing import Annotated, Literal

from stages.common.sections import Flag, Number, Text, Whole, section, within


@section
class Prepare:
    """Where images come from and how they are split."""

    source: Text
    test_source: Text | None
    further_sources: list[Text]
    hold_out_source: Text | list[Text] | None
    patients: Text | None
    boxes: Text | None
    moved_tumours: Flag
    label_conflicts: Literal["original", "keep", "drop"]
    image_size: Annotated[Whole, within(32, 1024)]
    test_fraction: Annotated[Number, within(0.01, 0.9)]
    validation_fraction: Annotated[Number, within(0.01, 0.9)]
    max_bad_fraction: Annotated[Number, within(0, 1)]
    group_by: Literal["patients", "runs", "duplicates"]
    duplicate_similarity: Annotated[Number, within(0.5, 1)]
    run_similarity: Annotated[Number, within(0.5, 1)]
    max_per_class: Annotated[Whole, within(1, 10**9)] | None
    phantom_per_class: Annotated[Whole, within(5, 10**6)]
    seed: Annotated[Whole, within(0, 2**31 - 1)]


@section
class Augment:
    """Random changes of the training images: each a half-width, a largest strength or a share, 0 or false for off."""

    rotation_degrees: Annotated[Number, within(0, 180)]
    shift: Annotated[Number, within(0, 0.9)]
    horizontal_flip: Flag
    zoom: Annotated[Number, within(0, 0.9)]
    shear_degrees: Annotated[Number, within(0, 60)]
    brightness: Annotated[Number, within(0, 0.9)]
    gamma: Annotated[Number, within(0, 3)]
    contrast: Annotated[Number, within(0, 0.9)]
    blur: Annotated[Number, within(0, 10)]
    sharpen: Annotated[Number, within(0, 5)]
    noise: Annotated[Number, within(0, 0.5)]
    bias_field: Annotated[Number, within(0, 2)]
    resolution: Annotated[Number, within(0, 7)]
    strip: Annotated[Number, within(0, 1)]
    background: Annotated[Number, within(0, 1)]
    mix_styles: Annotated[Number, within(0, 1)]
    erase: Annotated[Number, within(0, 1)]
