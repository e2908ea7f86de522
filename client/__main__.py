"""Classify image files from the command line.

    python -m client scan.jpg --model resnet50 --url 127.0.0.1:8000
    python -m client head.nii.gz --plane coronal --slice 90
    python -m client dataset/Testing/glioma --json
    python -m client dataset/Testing --recursive --output results.csv

Needs a running server (make serve). Prints one line per file. With --output, several files are classified at a time
into a table, and an interrupted run goes on when the same command is given again. Exit code: 0 if every file was
classified, 1 if any was not, 2 for a mistake in the command.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from client import batch
from client.answer import DIGITS, Answer
from client.classifier import Classifier
from client.errors import ClientError, DeadlineExceeded, ServerUnavailable
from core import contract
from imaging import ImageError, decode, slices

DEFAULT_URL = "127.0.0.1:8000"
MOST_AT_A_TIME = 64
"""As many as Triton's queue holds."""


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; a mistake in it ends the program with exit code 2."""
    parser = argparse.ArgumentParser(
        prog="python -m client",
        description=f"Classify brain-MRI slices as {', '.join(contract.CLASSES)}. {contract.DISCLAIMER}",
        epilog="examples: python -m client scan.jpg --model resnet50 --url 127.0.0.1:8000\n"
        "          python -m client slices/ --recursive --output results.csv",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="an image file, or a folder of them")
    parser.add_argument("--model", metavar="NAME", help="such as resnet50 or ensemble, or one of an older release as "
                        "NAME.RELEASE; default: the first that the server names")
    url = os.environ.get("TRITON_URL", DEFAULT_URL)
    parser.add_argument("--url", default=url, help="host:port of the server; default: $TRITON_URL, else " + DEFAULT_URL)
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds for each image; default: %(default)s")
    parser.add_argument("--plane", choices=slices.PLANES, help="of a NIfTI volume; default: axial")
    parser.add_argument("--slice", type=int, metavar="N", help="which slice or frame of a file with several, from 1")
    parser.add_argument("--tta", action="store_true", help="average with the answer for the mirror image")
    parser.add_argument("--json", action="store_true", help="print one JSON object per file")
    parser.add_argument("--recursive", action="store_true", help="take the images in a folder's folders too")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write a table: .csv, or .jsonl for JSON lines; in "
                        ".csv a text that begins like a formula, or with an apostrophe, has an apostrophe in front")
    parser.add_argument("--concurrency", type=int, default=3,
                        help=f"requests at a time, of up to {batch.PER_REQUEST} images each; default: %(default)s")
    options = parser.parse_args(argv)
    if not 1 <= options.concurrency <= MOST_AT_A_TIME:
        parser.error(f"Expected --concurrency from 1 to {MOST_AT_A_TIME}. Received: {options.concurrency}.")
    if options.model is not None and not contract.MODEL_NAME.fullmatch(options.model):
        parser.error(f"Expected --model NAME or NAME.RELEASE, such as resnet50. Received: {options.model}.")
    if options.output and options.json:
        parser.error("Expected --output or --json. Received: both. For JSON name an output that ends in .jsonl.")
    options.choice = slices.Choice(options.plane, options.slice)
    if options.output and options.choice != slices.UNNAMED:
        parser.error("Expected --plane and --slice without --output. Received: both. Leave out --output.")
    try:
        options.classifier = Classifier(options.url, options.timeout)
        options.files = list(files(options.paths, options.recursive))
    except (ValueError, OSError) as error:
        parser.error(str(error))
    return options


def files(paths: list[Path], recursive: bool = False) -> Iterator[Path]:
    """Yield the files to classify: a file as it is, a folder as the images directly in it, or anywhere below it.

    Raises:
        FileNotFoundError: a folder holds no image.
    """
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        found = decode.find(path, recursive)
        if not found:
            endings = " ".join(decode.SUFFIXES)
            raise FileNotFoundError(f"{path} holds no images. Name a folder with files ending in {endings}.")
        yield from found


def line(path: Path, answer: Answer) -> str:
    """Return the line for people: file, class, and the probability of each class."""
    shares = "  ".join(f"{name} {value:.{DIGITS}f}" for name, value in answer.all_probabilities.items())
    return f"{path}  {answer.predicted_class}  {shares}"


def picture(path: Path, choice: slices.Choice) -> slices.Picture:
    """Return a file as a picture, and print what a person should know of it.

    Args:
        path: of an ordinary picture, a DICOM file or a NIfTI volume. choice: which slice of the latter two.

    Raises:
        ImageError: see slices.picture().
        OSError: the file cannot be read.
    """
    found = slices.picture(decode.contents(path), choice)
    for warning in found.warnings:
        print(f"{path}: {warning}", file=sys.stderr)
    return found


def report(path: Path, options: argparse.Namespace) -> bool:
    """Classify one file and print its line or its error; return whether it succeeded.

    Raises:
        ServerUnavailable, DeadlineExceeded: trying the next file would fail the same way.
    """
    try:
        found = picture(path, options.choice)
        answer = options.classifier.answer(found.encoded, options.model, options.tta, found.warnings)
    except (ServerUnavailable, DeadlineExceeded):
        raise
    except (ClientError, ImageError, OSError) as error:
        code = getattr(error, "code", "unreadable_file")
        prefix = "" if isinstance(error, OSError) else f"{path}: "
        if options.json:
            print(json.dumps({"file": str(path), "error": {"code": code, "message": str(error)}}), flush=True)
        else:
            print(f"{prefix}{error}", file=sys.stderr)
        return False
    print(json.dumps({"file": str(path), **answer.model_dump()}) if options.json else line(path, answer), flush=True)
    return True


def table(options: argparse.Namespace) -> int:
    """Write the table of --output and return the exit code."""
    try:
        model = options.model or options.classifier.default()
        failed = batch.write(options.files, options.output, options.classifier, model, options.concurrency, options.tta)
    except batch.OutputError as error:
        print(error, file=sys.stderr)
        return 2
    except (ClientError, OSError) as error:
        print(f"{error} (asked: {options.url}) What is done is kept: give the command again to go on.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted. What is done is kept: give the command again to go on.", file=sys.stderr)
        return 130
    print(f"{options.output}: {len(options.files) - failed} of {len(options.files)} files classified", file=sys.stderr)
    return 1 if failed else 0


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code: 0, 1 (a file failed), 2 (usage)."""
    options = arguments(argv)
    print(contract.DISCLAIMER, file=sys.stderr)
    if options.output:
        return table(options)
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
