"""Classify image files from the command line.

    python -m client scan.jpg --model resnet50 --url 127.0.0.1:8000
    python -m client dataset/Testing/glioma --json

Needs a running server (make serve). Prints one line per file. Exit code: 0 if every file was classified, 1 if any was
not, 2 for a mistake in the command.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from client.classifier import Classifier, Prediction
from client.errors import ClientError, DeadlineExceeded, ServerUnavailable
from imaging import contract, decode

DEFAULT_URL = "127.0.0.1:8000"


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; a mistake in it ends the program with exit code 2."""
    parser = argparse.ArgumentParser(
        prog="python -m client",
        description=f"Classify brain-MRI slices as {', '.join(contract.CLASSES)}. {contract.DISCLAIMER}",
        epilog="example: python -m client scan.jpg --model resnet50 --url 127.0.0.1:8000",
    )
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="an image file, or a folder of them")
    parser.add_argument("--model", choices=contract.NETWORKS, default=contract.NETWORKS[0], help="default: %(default)s")
    url = os.environ.get("TRITON_URL", DEFAULT_URL)
    parser.add_argument("--url", default=url, help="host:port of the server; default: $TRITON_URL, else " + DEFAULT_URL)
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds for each image; default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print one JSON object per file")
    options = parser.parse_args(argv)
    try:
        options.classifier = Classifier(options.url, options.timeout)
        options.files = list(files(options.paths))
    except (ValueError, OSError) as error:
        parser.error(str(error))
    return options


def files(paths: list[Path]) -> Iterator[Path]:
    """Yield the files to classify: a file as it is, a folder as the images directly in it.

    Raises:
        FileNotFoundError: a folder holds no image.
    """
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        found = decode.find(path)
        if not found:
            endings = " ".join(decode.SUFFIXES)
            raise FileNotFoundError(f"Expected a folder with files ending in {endings}. Received: {path} without any.")
        yield from found


def line(path: Path, prediction: Prediction) -> str:
    """Return the line for people: file, label, and the four probabilities with four decimals."""
    shares = "  ".join(f"{name} {value:.4f}" for name, value in prediction.probabilities.items())
    return f"{path}  {prediction.label}  {shares}"


def report(path: Path, options: argparse.Namespace) -> bool:
    """Classify one file and print its line or its error; return whether it succeeded.

    Raises:
        ServerUnavailable, DeadlineExceeded: trying the next file would fail the same way.
    """
    try:
        prediction = options.classifier.classify(decode.read(path), options.model)
    except (ServerUnavailable, DeadlineExceeded):
        raise
    except (ClientError, decode.ImageError, OSError) as error:
        code = getattr(error, "code", "unreadable_file")
        prefix = "" if isinstance(error, OSError) else f"{path}: "
        if options.json:
            print(json.dumps({"file": str(path), "error": {"code": code, "message": str(error)}}), flush=True)
        else:
            print(f"{prefix}{error}", file=sys.stderr)
        return False
    print(json.dumps({"file": str(path), **asdict(prediction)}) if options.json else line(path, prediction), flush=True)
    return True


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code: 0, 1 (a file failed), 2 (usage)."""
    options = arguments(argv)
    print(contract.DISCLAIMER, file=sys.stderr)
    try:
        succeeded = [report(path, options) for path in options.files]
    except (ServerUnavailable, DeadlineExceeded) as error:
        print(f"{error} (asked: {options.url})", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of our lines has enough: python -m client folder | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0 if all(succeeded) else 1


if __name__ == "__main__":
    sys.exit(main())
