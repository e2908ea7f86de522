"""Say that what a model repository holds now is what shall be served.

    python -m serving.manifest REPOSITORY

`export` does this itself. It is for a repository of an older version of the project, which wrote no manifest, and for
one that you have changed on purpose. What export has recorded of the networks must still hold: other weights are
refused.
"""

import argparse
import sys
from pathlib import Path

from core import manifest
from serving import snapshot
from serving.errors import ServingError


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code: 0, or 1 if the repository is not whole."""
    parser = argparse.ArgumentParser(prog="python -m serving.manifest", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repository", type=Path)
    repository = parser.parse_args(argv).repository
    try:
        snapshot.require_complete(repository)
        snapshot.require_digests(repository)
        manifest.write(repository)
    except (ServingError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"Written: {repository / manifest.FILE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
