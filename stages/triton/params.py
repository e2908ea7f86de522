"""Section `export` of params.yaml."""

from typing import Annotated, Literal

from stages.common.sections import Number, Whole, section, within


@section
class Export:
    """Limits of the served models, and how closely an exported model must match the trained one."""

    max_batch_size: Annotated[Whole, within(1, 1024)]
    tolerance: Annotated[Number, within(1e-9, 0.1)]
    runtime: Literal["openvino", "tensorflow"]
    precision: Literal["auto", "int8", "bfloat16", "float32"]
    instance_kind: Literal["cpu", "gpu"]

    @property
    def computes(self) -> str:
        """What computes the networks, out of contract.RUNTIMES: on a GPU it is TensorFlow."""
        return "tensorflow" if self.instance_kind == "gpu" else self.runtime
