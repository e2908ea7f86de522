"""What the classes of params.yaml's sections are made of: a decorator, and the types of their fields.

params.yaml owns the defaults; the class that stands in the room that reads a section owns its types and ranges.
"""

from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, BeforeValidator, ConfigDict, StrictBool, StrictInt, StrictStr
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

section = dataclass(frozen=True, config=ConfigDict(extra="forbid"))
"""Makes a class a section: immutable, checked whenever one is made (also by dataclasses.replace), no unknown keys."""


def _no_truth(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticCustomError("float_type", "true and false are no numbers")
    return value


Flag: TypeAlias = StrictBool
Text: TypeAlias = StrictStr
Whole: TypeAlias = StrictInt
Number = Annotated[float, BeforeValidator(_no_truth)]
"""A float. YAML 1.1 reads `1e-3`, which `dvc exp run -S train.lr=1e-3` writes, as text: that is one as well."""


def within(low: float, high: float) -> AfterValidator:
    """Return the annotation of a number that must lie in the closed range [low, high]."""
    def checked(value: float) -> float:
        if not low <= value <= high:
            raise PydanticCustomError("within", "between {low} and {high}", {"low": low, "high": high})
        return value

    return AfterValidator(checked)
