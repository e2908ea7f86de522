"""Reads params.yaml: every section is checked by the class that stands in the room that reads it.

A section's class is named here as text and imported only when a file is checked. So a mistake anywhere in params.yaml
stops every stage before it begins, and yet DVC reruns for a change of a class only the stages that read its section.
"""

from collections.abc import Iterable
from dataclasses import fields, make_dataclass
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from stages.common.sections import section

FILE = Path("params.yaml")
BEFORE = {"prepare": "stages.data.params:Prepare", "train": "stages.training.params:Train"}
NETWORKS = "stages.networks.registry:NETWORKS"
"""Each network adds the section of its stage."""
AFTER = {"evaluate": "stages.scoring.params:Evaluate", "export": "stages.triton.params:Export",
         "crossval": "stages.folds.params:Crossval"}
UNKNOWN = ("unexpected_keyword_argument", "invalid_key")
"""What pydantic calls a key that no class has, and one that is not text."""


class ParamError(ValueError):
    """params.yaml is missing, is not YAML, or holds a key or value that the pipeline does not know."""


class Params:
    """Sections of params.yaml, an attribute each: all of them, or for a stage those that it declares."""

    if TYPE_CHECKING:
        def __getattr__(self, name: str) -> Any: ...


def classes() -> dict[str, type]:
    """Return the class of every section, in the order of params.yaml."""
    networks = {one.stage: f"{one.module}:{one.section}" for one in _named(NETWORKS).values()}
    return {name: _named(place) for name, place in (BEFORE | networks | AFTER).items()}


def _named(place: str) -> Any:
    module, name = place.split(":")
    return getattr(import_module(module), name)


def load(path: Path = FILE) -> Params:
    """Read and check params.yaml.

    Args:
        path: the YAML file; the stages run in the folder that holds it.

    Returns:
        all sections, as a dataclass of dataclasses.

    Raises:
        ParamError: naming the key, what was expected and what came.
    """
    try:
        tree = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise ParamError(f"Expected a file {path} in {Path.cwd()}. Run the stages from the project's folder.") from None
    except yaml.YAMLError as error:
        raise ParamError(f"{path} is not valid YAML: {error}") from None
    everything = section(make_dataclass("Params", list(classes().items()), bases=(Params,), frozen=True))
    try:
        found: Params = TypeAdapter(everything).validate_python(tree)  # type: ignore[assignment]  # its base
        return found
    except ValidationError as errors:
        raise ParamError(_message(errors.errors(include_url=False), everything)) from None


def only(params: Params, entries: Iterable[str]) -> Params:
    """Return the params that a stage declares, and so may read.

    Args:
        params: all sections.
        entries: sections and keys as dvc.yaml lists them: `train`, `prepare.image_size`.
    """
    kept: dict[str, Any] = {}
    for entry in entries:
        name, _, key = entry.partition(".")
        if key:
            setattr(kept.setdefault(name, SimpleNamespace()), key, getattr(getattr(params, name), key))
        else:
            kept[name] = getattr(params, name)
    return make_dataclass("Params", kept, bases=(Params,), frozen=True)(**kept)


def _message(errors: list[ErrorDetails], everything: type) -> str:
    """Return one line about what is wrong: an unknown key first, since a misspelt one is missing as well."""
    error = next((one for one in errors if one["type"] in UNKNOWN), errors[0])
    path = ".".join(map(str, error["loc"]))
    match error["type"].split("_"):
        case ["unexpected" | "invalid", *_]:
            return _unknown(path, error["loc"], everything)
        case ["missing"]:
            missing = ", ".join(".".join(map(str, one["loc"])) for one in errors if one["type"] == "missing")
            return f"Expected {missing} in params.yaml. Received: nothing for it. Add it back."
        case ["dataclass", *_]:
            wanted = f"a section with keys at {f'{path}.' if path else 'the top of the file'}"
        case ["within"]:
            wanted = f"{path} {error['msg']}"
        case ["literal", *_]:
            choices = error["ctx"]["expected"].replace(" or ", ", ").replace("'", "")
            wanted = f"{path} to be one of {choices}"
        case [kind, *_]:
            wanted = f"a value of type {'str' if kind == 'string' else kind} for {path}"
    return f"Expected {wanted}. Received: {error['input']!r}"


def _unknown(path: str, place: tuple[int | str, ...], everything: type) -> str:
    kind: Any = everything
    for name in place[:-1]:
        kind = {one.name: one.type for one in fields(kind)}[str(name)]
    known = [one.name for one in fields(kind)]
    close = get_close_matches(str(place[-1]), known, n=1)
    return f"Unknown param {path}. Expected one of {known}." + (f" Did you mean {close[0]!r}?" if close else "")
