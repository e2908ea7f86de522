"""Reads params.yaml: one dataclass a section, and an error for whatever does not fit.

params.yaml owns the defaults, this module owns the types and the allowed ranges. YAML 1.1 reads `1e-3`, which
`dvc exp run -S train.lr=1e-3` writes, as a string; a field of type float accepts it.
"""

import types
import typing
from dataclasses import dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path

import yaml

FILE = Path("params.yaml")


class ParamError(ValueError):
    """params.yaml is missing, is not YAML, or holds a key or value that the pipeline does not know."""


def within(low: float, high: float):
    """Declare a number field that must lie in the closed range [low, high]."""
    return field(metadata={"range": (low, high)})


def one_of(*choices: str):
    """Declare a text field that must be one of the choices."""
    return field(metadata={"choices": choices})


@dataclass(frozen=True)
class Prepare:
    """Where images come from and how they are split."""

    source: str
    test_source: str | None
    image_size: int = within(32, 1024)
    test_fraction: float = within(0.01, 0.9)
    validation_fraction: float = within(0.01, 0.9)
    max_bad_fraction: float = within(0, 1)
    group_by: str = one_of("runs", "duplicates")
    duplicate_similarity: float = within(0.5, 1)
    run_similarity: float = within(0.5, 1)
    max_per_class: int | None = within(1, 10**9)
    phantom_per_class: int = within(5, 10**6)
    seed: int = within(0, 2**31 - 1)


@dataclass(frozen=True)
class Augment:
    """Random changes of the training images: each a half-width around no change, 0 or false for off."""

    rotation_degrees: float = within(0, 180)
    shift: float = within(0, 0.9)
    horizontal_flip: bool
    zoom: float = within(0, 0.9)
    shear_degrees: float = within(0, 60)
    brightness: float = within(0, 0.9)


@dataclass(frozen=True)
class Start:
    """The first epochs of a training from scratch: growing images, at a constant rate. 0 epochs for none."""

    epochs: int = within(0, 10**5)
    min_size: int = within(32, 1024)
    lr: float = within(1e-8, 10)
    dropout: bool


@dataclass(frozen=True)
class Train:
    """What the training of both networks shares."""

    lr: float = within(1e-8, 10)
    batch_size: int = within(1, 4096)
    epochs: int = within(1, 10**5)
    precision: str = one_of("auto", "float32", "mixed_bfloat16")
    schedule: str = one_of("plateau", "cosine")
    warmup_epochs: int = within(0, 10**5)
    weight_decay: float = within(0, 1)
    label_smoothing: float = within(0, 0.9)
    input_pooling: int = within(1, 8)
    early_stopping_patience: int = within(1, 10**5)
    reduce_lr_patience: int = within(1, 10**5)
    reduce_lr_factor: float = within(0.01, 0.99)
    seed: int = within(0, 2**31 - 1)
    augment: Augment
    start: Start


@dataclass(frozen=True)
class TrainCustom:
    """The custom network's regularisation."""

    l2: float = within(0, 1)
    dropout: float = within(0, 0.95)
    spatial_dropout: bool
    dense_dropout: float = within(0, 0.95)
    bn_momentum: float = within(0, 0.9999)
    start_batch_size: int = within(1, 4096)


@dataclass(frozen=True)
class TrainResnet:
    """ResNet50's weights and its two phases of transfer learning."""

    weights: str
    epochs: int | None = within(1, 10**5)
    dropout: float = within(0, 0.95)
    head_epochs: int = within(1, 10**5)
    unfreeze_from: str
    bn_momentum: float = within(0, 0.9999)
    start_batch_size: int = within(1, 4096)
    fine_tune_lr_factor: float = within(1e-6, 1)


@dataclass(frozen=True)
class Evaluate:
    """How predictions on the test split are made, calibrated and judged."""

    batch_size: int = within(1, 4096)
    average_flip: bool
    bootstrap: int = within(0, 100_000)
    accepted_error: float = within(0, 1)
    seed: int = within(0, 2**31 - 1)


@dataclass(frozen=True)
class Export:
    """Limits of the served models, and how closely an exported model must match the trained one."""

    max_batch_size: int = within(1, 1024)
    tolerance: float = within(1e-9, 0.1)
    runtime: str = one_of("openvino", "tensorflow")
    precision: str = one_of("auto", "int8", "bfloat16", "float32")


@dataclass(frozen=True)
class Params:
    """All sections of params.yaml."""

    prepare: Prepare
    train: Train
    train_custom: TrainCustom
    train_resnet: TrainResnet
    evaluate: Evaluate
    export: Export


def load(path: Path = FILE) -> Params:
    """Read and check params.yaml.

    Args:
        path: the YAML file; the stages run in the folder that holds it.

    Returns:
        All params with their declared types.

    Raises:
        ParamError: naming the key, what was expected and what came.
    """
    try:
        tree = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise ParamError(f"Expected a file {path} in {Path.cwd()}. Run the stages from the project's folder.") from None
    except yaml.YAMLError as error:
        raise ParamError(f"{path} is not valid YAML: {error}") from None
    return _section(Params, tree, "")


def _section(kind, tree, where: str):
    if not isinstance(tree, dict):
        raise ParamError(f"Expected a section with keys at {where or 'the top of the file'}. Received: {tree!r}")
    types_of = typing.get_type_hints(kind)
    for key in tree:
        if key not in types_of:
            raise ParamError(_unknown(f"{where}{key}", key, list(types_of)))
    missing = [f"{where}{name}" for name in types_of if name not in tree]
    if missing:
        raise ParamError(f"Expected {', '.join(missing)} in params.yaml. Received: nothing for it. Add it back.")
    return kind(**{f.name: _value(tree[f.name], types_of[f.name], f, where) for f in fields(kind)})


def _unknown(path: str, key, known: list[str]) -> str:
    close = get_close_matches(str(key), known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"Unknown param {path}. Expected one of {known}.{hint}"


def _value(value, kind, declared, where: str):
    path = f"{where}{declared.name}"
    if is_dataclass(kind):
        return _section(kind, value, f"{path}.")
    options = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    if value is None and type(None) in options:
        return None
    value = _converted(value, options[0], path)
    low, high = declared.metadata.get("range", (None, None))
    if low is not None and not low <= value <= high:
        raise ParamError(f"Expected {path} between {low} and {high}. Received: {value!r}")
    choices = declared.metadata.get("choices", (value,))
    if value not in choices:
        raise ParamError(f"Expected {path} to be one of {', '.join(choices)}. Received: {value!r}")
    return value


def _converted(value, kind, path: str):
    """Return value as kind; a bool is no number, and a number in quotes is one only where a float is wanted."""
    if kind is float and not isinstance(value, bool):
        try:
            return float(value)
        except (TypeError, ValueError):
            pass
    elif isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    raise ParamError(f"Expected a value of type {kind.__name__} for {path}. Received: {value!r}")
