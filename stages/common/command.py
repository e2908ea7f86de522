"""What `python -m stages.<name>` shares: --help, the params, and errors without a traceback."""

import argparse
import sys
from collections.abc import Callable, Iterable

import tensorflow as tf

from stages.common.params import ParamError, Params, load, only

FILE_ERRORS = (tf.errors.ResourceExhaustedError, tf.errors.OutOfRangeError, tf.errors.PermissionDeniedError,
               tf.errors.NotFoundError, tf.errors.UnknownError)
"""What TensorFlow raises for a full disk, a file limit, or files that it may not touch."""
INTERRUPTED = 130
"""The exit code of a program that Ctrl-C ended: 128 + SIGINT."""


class StageError(Exception):
    """A stage cannot go on, and the message tells the user why and what to do."""


def run(main: Callable[[Params], None], description: str, entries: Iterable[str] | None = None,
        interrupted: str = "Nothing was replaced: run the same command again.") -> None:
    """Run a stage's main() with the params of the current folder, all of which are checked.

    Args:
        main: takes the params, reads and writes the stage's files.
        description: the module's docstring, shown by --help.
        entries: the sections and keys that it gets, those that dvc.yaml lists for the stage; all unless given.
        interrupted: what Ctrl-C prints after the stage's name.

    Raises:
        SystemExit: code 1 and one message on stderr for a mistake in params or data, or when a file cannot be written;
            code 130 after Ctrl-C.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.parse_args()
    try:
        params = load()
        main(params if entries is None else only(params, entries))
    except KeyboardInterrupt:
        print(f"\n{parser.prog}: interrupted. {interrupted}", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except (StageError, ParamError) as error:
        sys.exit(f"{parser.prog}: {error}")
    except FileNotFoundError as error:
        sys.exit(f"{parser.prog}: Expected a file {error.filename}. Received: none. Nothing was replaced. Run the "
                 "stages before this one first: `dvc repro` does so.")
    except OSError as error:
        sys.exit(unwritten(parser.prog, f"{error.strerror or error}: {error.filename or ''}"))
    except FILE_ERRORS as error:
        sys.exit(unwritten(parser.prog, error.message))


def unwritten(program: str, reason: str) -> str:
    """Return the message for a file that could not be read or written."""
    return (f"{program}: {reason}. Nothing was replaced. Free disk space or check the permissions, "
            "then run the same command again.")
