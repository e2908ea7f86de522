"""A private, verified copy of the model repository.

DVC deletes and rewrites model_repository/<name>/1 in place during `dvc repro`, and a half-copied version can load
"successfully" without its weights. So a server reads a copy that nobody else writes, checked before it starts: its
files are exactly those of the manifest that export wrote (core/manifest.py).
"""

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from core import contract, manifest, processor, triton_config
from core.files import digest
from serving.errors import Rejected, ServingError

REPAIR = "Run: dvc repro"
NEEDS = {"bfloat16": processor.BFLOAT16, "int8": processor.INT8}
"""Precision -> instructions that make it worth while."""
MOST = 5
"""Files that a message names."""


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
        raise Rejected(f"Expected a model repository with <model>/config.pbtxt. Received: {repository}. {REPAIR}")
    try:
        configs = [(path.parent.name, triton_config.read(path)) for path in paths]
    except triton_config.ConfigError as error:
        raise Rejected(f"{error} {REPAIR}") from None
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
        raise Rejected(f"Expected a complete model repository in {repository}. Missing: {missing}. {REPAIR}")
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


def require_digests(repository: Path) -> None:
    """Compare the files of every version with the SHA-256 digests in the "files" table of its provenance.json.

    The manifest covers these files as well; this is what must hold before a new one is written (serving/manifest.py).

    Raises:
        ServingError: a file is missing or differs, or provenance.json cannot be read.
    """
    for provenance in sorted(repository.glob(f"*/*/{contract.PROVENANCE}")):
        for name, expected in _table(provenance).items():
            path = provenance.parent / name
            actual = digest(path) if path.is_file() else "no such file"
            if actual != expected:
                where = path.relative_to(repository)
                raise Rejected(f"Expected {where} with SHA-256 {expected}. Received: {actual}. {REPAIR} --force")


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
        raise Rejected(f"Expected a JSON object in {where}. Received: {error}. {REPAIR} --force") from None


def require_manifest(repository: Path, source: Path) -> None:
    """Check that a repository holds exactly the files that its manifest names.

    Args:
        repository: to check. source: what to name in a message: where it was copied from.

    Raises:
        ServingError: there is no manifest, or a file is changed, missing or not in it.
    """
    try:
        found = manifest.differences(repository)
    except manifest.ManifestError as error:
        raise Rejected(f"Expected a {manifest.FILE} in {source}. Received: {error}. Export it again; or, if "
                           "an older version of this project wrote it, run: python -m serving.manifest "
                           f"{source}") from None
    if found:
        listed = "; ".join(found[:MOST])
        raise Rejected(f"Expected in {source} the files of its {manifest.FILE}. Received: {listed}. If an export "
                           f"writes it now, try again later. {REPAIR} --force; or, if the change is yours: "
                           f"python -m serving.manifest {source}")


def copy(repository: Path, destination: Path) -> list[Model]:
    """Copy a complete repository and return the models in it.

    Hidden files stay behind (DVC's .gitignore, editors' files): Triton refuses a repository with a dot-directory.

    Args:
        repository: the model repository; only read.
        destination: is made; must not exist.

    Raises:
        ServingError: it is incomplete, or not the one that its manifest describes, perhaps as an export replaced it at
            this moment: what is checked is the copy.
    """
    require_complete(repository)
    try:
        shutil.copytree(repository, destination, ignore=shutil.ignore_patterns(".*", "__pycache__"))
    except (shutil.Error, FileNotFoundError) as error:
        reason = error.args[0][0][-1] if isinstance(error, shutil.Error) else error
        raise ServingError(f"Expected to copy {repository}. Received: {reason}. Try again when no export writes it, "
                           "and see that the disk has room.") from None
    require_manifest(destination, repository)
    return require_complete(destination)


def take(repository: Path, destination: Path) -> list[Model]:
    """Copy a repository, verify the copy, and fit it to this processor.

    Args:
        repository: the model repository; only read.
        destination: is made; must not exist.

    Returns:
        The models in it.

    Raises:
        ServingError: as copy.
    """
    models = copy(repository, destination)
    fit_precision(destination)  # changes what has been checked, on purpose and in this copy alone
    return models
