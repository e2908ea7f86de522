"""A private, verified copy of the model repository.

DVC deletes and rewrites model_repository/<name>/1 in place during `dvc repro`, and a half-copied version can load
"successfully" without its weights. So a server reads a copy that nobody else writes, checked before it starts.
"""

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from core import contract, processor, triton_config
from core.files import digest
from serving.errors import ServingError

REPAIR = "Run: dvc repro"
NEEDS = {"bfloat16": processor.BFLOAT16, "int8": processor.INT8}
"""Precision -> instructions that make it worth while."""


@dataclass(frozen=True)
class Model:
    """One folder of a repository: its name, the models that it calls if it is a chain, and its label files."""

    name: str
    steps: tuple[str, ...]
    labels: tuple[str, ...]


def read(repository: Path) -> list[Model]:
    """Return the models that the configurations of a repository describe, sorted by name.

    Raises:
        ServingError: there is no repository or no configuration in it, or one cannot be read.
    """
    paths = triton_config.paths(repository)
    if not paths:
        raise ServingError(f"Expected a model repository with <model>/config.pbtxt. Received: {repository}. {REPAIR}")
    try:
        configs = [(path.parent.name, triton_config.read(path)) for path in paths]
    except triton_config.ConfigError as error:
        raise ServingError(f"{error} {REPAIR}") from None
    return [Model(name, triton_config.steps(config), triton_config.labels(config)) for name, config in configs]


def require_complete(repository: Path) -> list[Model]:
    """Check that everything that a repository's configurations name is there, and return its models.

    Raises:
        ServingError: lists every missing part.
    """
    models = read(repository)
    names = {model.name for model in models}
    problems = [problem for model in models for problem in _missing(repository, model, names)]
    if problems:
        missing = "; ".join(problems)
        raise ServingError(f"Expected a complete model repository in {repository}. Missing: {missing}. {REPAIR}")
    return models


def _missing(repository: Path, model: Model, names: set[str]) -> Iterator[str]:
    """Yield what a model lacks, in words."""
    folder = repository / model.name
    for label in model.labels:
        if not (folder / label).is_file():
            yield f"{model.name}/{label}"
    for step in model.steps:
        if step not in names:
            yield f"{step}, which {model.name} calls"
    versions = [path for path in folder.iterdir() if path.is_dir() and path.name.isdecimal()]
    if not versions:
        yield f"{model.name}/{contract.VERSION}"
    if model.steps:
        return
    for version in versions:
        for part in ("saved_model.pb", "variables/variables.index", "variables/variables.data-*"):
            if not any((version / contract.SAVED_MODEL).glob(part)):
                yield f"{model.name}/{version.name}/{contract.SAVED_MODEL}/{part}"


def require_digests(repository: Path) -> int:
    """Compare the files of every version with the SHA-256 digests in the "files" table of its provenance.json.

    DVC restores a damaged cache file without a word, so the digests written at export are what counts.

    Returns:
        The number of files compared; 0 if no provenance.json has a table.

    Raises:
        ServingError: a file is missing or differs, or provenance.json cannot be read.
    """
    count = 0
    for provenance in sorted(repository.glob(f"*/*/{contract.PROVENANCE}")):
        for name, expected in _table(provenance).items():
            path = provenance.parent / name
            actual = digest(path) if path.is_file() else "no such file"
            if actual != expected:
                where = path.relative_to(repository)
                raise ServingError(f"Expected {where} with SHA-256 {expected}. Received: {actual}. {REPAIR} --force")
            count += 1
    return count


def fit_precision(repository: Path) -> None:
    """Let networks compute in float32 whose precision this processor lacks; print which.

    Only configurations are rewritten, the classifiers' too, where clients read what computes. An int8 network computes
    with its SavedModel then, whose temperature and golden answers are in the repository as well.
    """
    for path in triton_config.paths(repository):
        config = triton_config.read(path)
        precision = triton_config.parameters(config).get(contract.PRECISION)
        if precision in NEEDS and not processor.has(NEEDS[precision]):
            triton_config.set_parameters(config, {contract.PRECISION: "float32"})
            triton_config.write(path, config)
            print(f"{path.parent.name}: exported for {precision}, which this processor lacks; served in float32.",
                  file=sys.stderr)


def drop_queue_policies(repository: Path) -> None:
    """Take Triton's queue policies out of the configurations; serving/backends/tensorflow/model.py has its own.

    With any of them Triton's batcher is not woken for a request that comes while no instance waits for one; it looks
    again after half a second (Enqueue in src/dynamic_batch_scheduler.cc of triton-inference-server/core, 2.51).
    """
    for path in triton_config.paths(repository):
        config = triton_config.read(path)
        if config.dynamic_batching.HasField("default_queue_policy"):
            config.dynamic_batching.ClearField("default_queue_policy")
            triton_config.write(path, config)


def _table(provenance: Path) -> dict[str, str]:
    """Return the "files" table: path relative to the version folder -> SHA-256."""
    try:
        content = json.loads(provenance.read_text(encoding="utf-8"))
        return dict(content.get("files", {}))
    except (ValueError, AttributeError, TypeError) as error:
        where = "/".join(provenance.parts[-3:])
        raise ServingError(f"Expected a JSON object in {where}. Received: {error}. {REPAIR} --force") from None


def copy(repository: Path, destination: Path) -> list[Model]:
    """Copy a complete repository and return the models in it.

    Hidden files stay behind (DVC's .gitignore, editors' files): Triton refuses a repository with a dot-directory.

    Args:
        repository: the model repository; only read.
        destination: is made; must not exist.

    Raises:
        ServingError: as require_complete.
    """
    models = require_complete(repository)
    for model in models:
        shutil.copytree(
            repository / model.name, destination / model.name, ignore=shutil.ignore_patterns(".*", "__pycache__")
        )
    return models


def take(repository: Path, destination: Path) -> list[Model]:
    """Copy a repository, fit it to this processor, and verify the copy: complete, and every digest right.

    Args:
        repository: the model repository; only read.
        destination: is made; must not exist.

    Returns:
        The models in it.

    Raises:
        ServingError: as require_complete and require_digests.
    """
    models = copy(repository, destination)
    fit_precision(destination)
    # Not the original, which a `dvc repro` may be rewriting at this moment: what is checked is what is served.
    require_complete(destination)
    require_digests(destination)
    return models
