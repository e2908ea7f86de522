"""Section `evaluate` of params.yaml."""

from typing import Annotated

from stages.common.sections import Flag, Number, Text, Whole, section, within


@section
class Evaluate:
    """Which networks are scored on the test split, [] for all; how predictions are made, calibrated and judged."""

    networks: list[Text]
    batch_size: Annotated[Whole, within(1, 4096)]
    average_flip: Flag
    bootstrap: Annotated[Whole, within(0, 100_000)]
    accepted_error: Annotated[Number, within(0, 1)]
    prevalence: Annotated[Number, within(0, 1)]
    external: list[Text]
    boxes: Text | None
    seed: Annotated[Whole, within(0, 2**31 - 1)]
