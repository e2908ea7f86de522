"""What a model repository consists of: manifest.json names every file of it, and is written last.

Configurations and labels decide answers as much as weights do. So whoever serves a repository or keeps it as a release
asks for exactly these files: a repository that is being written, or was changed by hand, differs from its manifest.
"""

import json
from pathlib import Path

from core import files

FILE = "manifest.json"


class ManifestError(ValueError):
    """A repository has no manifest, or one that cannot be read; the message says which."""


def write(repository: Path) -> None:
    """Write the manifest of what a repository holds now, replacing a previous one."""
    files.write_json(repository / FILE, {"files": digests(repository)})


def digests(repository: Path) -> dict[str, str]:
    """Return the SHA-256 of every file by its path in the repository; but for hidden files, which nobody serves."""
    found = {path.relative_to(repository): path for path in sorted(repository.rglob("*")) if path.is_file()}
    return {name.as_posix(): files.digest(path) for name, path in found.items()
            if name.as_posix() != FILE and not any(part.startswith(".") for part in name.parts)}


def differences(repository: Path) -> list[str]:
    """Return in words each file that is changed, missing or not in the manifest; [] for a repository that is whole.

    Raises:
        ManifestError: there is no manifest, or it cannot be read or is empty.
    """
    wanted, found = _read(repository / FILE), digests(repository)
    kinds = {"missing": wanted.keys() - found.keys(), "not in it": found.keys() - wanted.keys(),
             "changed": {name for name in wanted.keys() & found.keys() if wanted[name] != found[name]}}
    return [f"{name} ({kind})" for kind, names in kinds.items() for name in sorted(names)]


def _read(path: Path) -> dict[str, str]:
    """Return the table of a manifest."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))["files"]
        if not table or not isinstance(table, dict):
            raise ValueError(f"{table!r} for its files")
        return table
    except FileNotFoundError:
        raise ManifestError("none") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ManifestError(f"one that cannot be read: {error}") from None
