"""What `python -m stages.<name>` shares: --help, the params, and errors without a traceback."""

import argparse
import sys
from collections.abc import Callable

import tensorflow as tf

from stages.common.params import ParamError, Params, load

FILE_ERRORS = (tf.errors.ResourceExhaustedError, tf.errors.OutOfRangeError, tf.errors.PermissionDeniedError,
               tf.errors.NotFoundError, tf.errors.UnknownError)
"""What TensorFlow raises for a full disk, a file limit, or files that it may not touch."""


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
        sys.exit(unwritten(parser.prog, f"{error.strerror or error}: {error.filename or ''}"))
    except FILE_ERRORS as error:
        sys.exit(unwritten(parser.prog, error.message))


def unwritten(program: str, reason: str) -> str:
    """Return the message for a file that could not be read or written."""
    return (f"{program}: {reason}. Nothing was replaced. Free disk space or check the permissions, "
            "then run the same command again.")
