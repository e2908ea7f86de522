"""Many files into one table: so many requests at a time as keep the server busy, and no work lost to an interruption.

The table grows in OUTPUT.part, one row a file in the order of the files, and takes its name when it is complete. Run
again after an interruption, write() goes on behind the last whole row of the .part file.
"""

import csv
import io
import itertools
import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from client.classifier import Classifier, review_threshold
from client.errors import BadImage, DeadlineExceeded, ServerUnavailable
from imaging import contract, decode

SUFFIXES = (".csv", ".jsonl")
COLUMNS = ("file", "model", "predicted_class", "confidence", *contract.CLASSES, "needs_review", "data_source",
           "error_code", "error", "disclaimer")
"""A file without a prediction has its row too, with error_code and error filled in."""

PAUSES = (1.0, 2.0, 4.0, 8.0)
"""Seconds before a file is tried again that a busy or restarting server has not answered."""


class OutputError(Exception):
    """The table cannot be written; the message is for users."""


def write(paths: Iterable[Path], output: Path, classifier: Classifier, model: str, concurrency: int) -> int:
    """Classify files into a new table; go on with the .part file of an interrupted run.

    Memory is bounded whatever the number of files, but for their names: at most 2 x concurrency images are held.

    Args:
        paths: image files; each is read once, when its turn comes.
        output: .csv, or .jsonl for one JSON object a line; it must not exist.
        classifier: asks the server.
        model: name as in contract.MODEL_NAME.
        concurrency: requests at a time, from 1.

    Returns:
        the number of files without a prediction, of earlier runs too.

    Raises:
        OutputError: output exists, has another ending, or its .part file is no table of this program and model.
        ClientError: the server gives no answer, after some tries; the rows until then are kept.
        OSError: the table cannot be written.
    """
    if output.suffix not in SUFFIXES:
        raise OutputError(f"Expected an output that ends in {' or '.join(SUFFIXES)}. Received: {output}.")
    if output.exists():
        raise OutputError(f"Expected an output that does not exist yet. Received: {output}. Move it or name another.")
    part = output.with_name(output.name + ".part")
    done = finished(part, output.suffix, model)
    failed = sum(1 for is_error in done.values() if is_error)
    paths = list(dict.fromkeys(paths))
    left = [path for path in paths if str(path) not in done]
    facts = classifier.describe(model)
    with part.open("a", newline="", encoding="utf-8") as table, \
            tqdm(total=len(paths), initial=len(paths) - len(left), unit="image") as bar:
        add = adder(table, output.suffix)
        if not done and output.suffix == ".csv" and part.stat().st_size == 0:
            add(dict(zip(COLUMNS, COLUMNS, strict=True)))
        work = partial(classified, classifier=classifier, model=model, facts=facts)
        with ThreadPoolExecutor(concurrency) as pool, closing(in_order(pool, work, left, 2 * concurrency)) as rows:
            for row in rows:
                add(row)
                table.flush()
                failed += bool(row["error_code"])
                bar.update()
        table.flush()
        os.fsync(table.fileno())
    part.rename(output)
    return failed


def in_order(pool: ThreadPoolExecutor, work: Callable, items: Iterable, most: int) -> Iterator:
    """Yield work(item) for each item, in order, at most so many being worked on or waiting to be yielded."""
    items, pending = iter(items), deque[Future]()
    try:
        pending.extend(pool.submit(work, item) for item in itertools.islice(items, most))
        while pending:
            yield pending.popleft().result()
            pending.extend(pool.submit(work, item) for item in itertools.islice(items, 1))
    finally:
        for future in pending:
            future.cancel()


def classified(path: Path, classifier: Classifier, model: str, facts: dict[str, str]) -> dict:
    """Return a file's row; a file that is no image gets one with an error.

    Args:
        path: the file.
        classifier: asks the server, again after PAUSES when it is busy.
        model: name as in contract.MODEL_NAME.
        facts: classifier.describe(model).

    Raises:
        ClientError: the server gives no answer.
    """
    row = dict.fromkeys(COLUMNS, "") | {"file": str(path), "model": model, "disclaimer": contract.DISCLAIMER,
                                        "data_source": facts.get(contract.DATA_SOURCE, "")}
    try:
        image = decode.contents(path)
    except OSError as error:
        return row | {"error_code": "unreadable_file", "error": str(error)}
    for pause in (*PAUSES, None):
        try:
            prediction = classifier.classify(image, model)
            break
        except (ServerUnavailable, DeadlineExceeded):
            if pause is None:
                raise
            time.sleep(pause)
        except BadImage as error:
            return row | {"error_code": error.code, "error": str(error)}
    threshold = review_threshold(facts)
    return row | {"predicted_class": prediction.label, "confidence": round(prediction.confidence, 6),
                  **{name: round(value, 6) for name, value in prediction.probabilities.items()},
                  "needs_review": threshold is None or prediction.confidence < threshold}


def adder(table: TextIO, suffix: str) -> Callable[[dict], object]:
    """Return what adds a row to a table, with its line feed."""
    if suffix == ".jsonl":
        return lambda row: table.write(json.dumps(row) + "\n")
    return csv.DictWriter(table, COLUMNS, lineterminator="\n").writerow


def finished(part: Path, suffix: str, model: str) -> dict[str, bool]:
    """Return file -> whether it has an error, of the whole rows in a .part file; cut off a last row that is not whole.

    Raises:
        OutputError: the file holds something else, or another model's rows.
    """
    if not part.exists():
        return {}
    text = part.read_bytes()
    whole = text[: text.rfind(b"\n") + 1]
    try:
        lines = whole.decode("utf-8")
        if suffix == ".jsonl":
            rows = [json.loads(one) for one in lines.splitlines()]
        else:
            table = csv.reader(io.StringIO(lines, newline=""))
            columns = next(table, COLUMNS)
            rows = [dict(zip(columns, row, strict=True)) for row in table]
            if tuple(columns) != COLUMNS:
                raise ValueError("other columns")
        if not all(set(row) == set(COLUMNS) and row["model"] == model for row in rows):
            raise ValueError("other columns, or another model")
        done = {row["file"]: bool(row["error_code"]) for row in rows}
    except (ValueError, TypeError, KeyError, csv.Error) as error:
        raise OutputError(f"Expected {part} to hold rows of {model} from an interrupted run. Received: {error}. Delete "
                          "it to begin again.") from error
    if len(whole) < len(text):
        os.truncate(part, len(whole))
    return done
