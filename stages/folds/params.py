"""Section `crossval` of params.yaml."""

from typing import Annotated

from stages.common.sections import Text, Whole, section, within


@section
class Crossval:
    """How often the images are split anew, and which networks are trained each time; [] for all of the pipeline."""

    folds: Annotated[Whole, within(2, 20)]
    networks: list[Text]
    seed: Annotated[Whole, within(0, 2**31 - 1)]
