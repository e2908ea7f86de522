"""The command brain-mri, where the project is installed: one name for the programs of a checkout (python -m client)."""

import argparse
import importlib
import sys
from importlib import metadata

COMMANDS = {
    "classify": (".client.__main__", "classify image files; needs a running server"),
    "serve": (".serving.__main__", "run Triton on exported networks, and a command beside it"),
    "releases": (".serving.releases", "publish exported networks, and take releases back"),
    "web": (".webapp.__main__", "the page and the JSON API, for development"),
    "keys": (".webapp.keys", "add and remove API keys"),
    "audit": (".webapp.audit", "check an audit log"),
}
"""Name -> (module of this package with a main() that reads sys.argv, help)."""


def chosen(argv: list[str]) -> str:
    """Return the command that a command line names; a mistake ends the program with exit code 2."""
    rows = "\n".join(f"  {name:10}{text}" for name, (_, text) in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="brain-mri", usage="brain-mri COMMAND ...", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Classify brain-MRI slices. For research and education only: do not use for diagnosis.",
        epilog=f"commands, each with a --help of its own; all but classify need the extra [serve]:\n{rows}\n\n"
               "example: brain-mri classify scan.jpg --url 127.0.0.1:8000")
    parser.add_argument("--version", action="version", version=metadata.version("brain-mri"))
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="what to do, see below")
    return str(parser.parse_args(argv[:1]).command)


def main() -> int:
    """Run the command and return its exit code; 1 if it needs packages that are not installed."""
    name = chosen(sys.argv[1:])
    sys.argv = [f"brain-mri {name}", *sys.argv[2:]]
    try:
        program = importlib.import_module(COMMANDS[name][0], __package__)
    except ModuleNotFoundError as error:
        print(f'brain-mri {name} needs more packages ({error.name} is missing). Run: pip install "brain-mri[serve]"',
              file=sys.stderr)
        return 1
    return int(program.main() or 0)


if __name__ == "__main__":
    sys.exit(main())
