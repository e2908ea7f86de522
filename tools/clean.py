"""Refuse files that do not belong into Git: what is large, and images of people.

    python -m tools.clean FILE ...        (what .pre-commit-config.yaml runs on the files of a commit)

Pictures may lie where this project draws them, in KEPT; anywhere else one may be of a patient. Data goes into DVC.
"""

import argparse
import sys
from pathlib import Path

from imaging import SUFFIXES

MOST_BYTES = 2 * 2**20
KEPT = ("docs/", "reports/", "published/run/reports/", "webapp/static/")
"""Folders of plots, screenshots and phantoms."""
MODELS = "published/remote/"
"""The published network, the one large thing in Git."""


def problem(path: Path) -> str | None:
    """Return why a file does not belong into Git, or None.

    Args:
        path: relative to the project's folder.
    """
    name = path.as_posix()
    if name.lower().endswith((*SUFFIXES, ".nii", ".nii.gz")) and not name.startswith(KEPT):
        return f"{name} is an image outside of {', '.join(KEPT)}: images of people never go into Git"
    if path.stat().st_size > MOST_BYTES and not name.startswith(MODELS):
        return f"{name} has more than {MOST_BYTES >> 20} MiB: let DVC keep it (dvc add)"
    return None


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code: 1 if a file does not belong into Git."""
    parser = argparse.ArgumentParser(prog="python -m tools.clean", description="Check files before they go into Git.",
                                     epilog="example: python -m tools.clean docs/page.png")
    parser.add_argument("files", type=Path, nargs="+")
    found = [text for path in parser.parse_args(argv).files if (text := problem(path))]
    print("\n".join(found), file=sys.stderr, end="\n" * bool(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
