"""What `python -m stages.<name>` shares: --help, the params, and errors without a traceback."""

import argparse
import sys
from collections.abc import Callable

from stages.params import ParamError, Params, load


class StageError(Exception):
    """A stage cannot go on, and the message tells the user why and what to do."""


def run(main: Callable[[Params], None], description: str) -> None:
    """Run a stage's main() with the params of the current folder.

    Args:
        main: takes the params, reads and writes the stage's files.
        description: the module's docstring, shown by --help.

    Raises:
        SystemExit: code 1 and one message on stderr for a mistake in params or data, or when a file cannot be written.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.parse_args()
    try:
        main(load())
    except (StageError, ParamError) as error:
        sys.exit(f"{parser.prog}: {error}")
    except OSError as error:
        sys.exit(f"{parser.prog}: {error.strerror}: {error.filename or ''} Nothing was replaced. Free disk space or "
                 "check the permissions, then run the same command again.")
