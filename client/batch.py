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
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, TextIO, TypeVar

from tqdm import tqdm

from client.answer import Answer, cells, escaped, heads, unescaped
from client.classifier import Classifier
from client.errors import BadImage, DeadlineExceeded, ServerUnavailable
from client.served import export_of
from core import contract
from imaging import decode

Item = TypeVar("Item")
Result = TypeVar("Result")

SUFFIXES = (".csv", ".jsonl")
FIRST = ("file", "model", "predicted_class", "confidence", *contract.CLASSES, "needs_review", "data_source",
         "error_code", "error", "disclaimer")
"""In this order whatever else an answer declares, so that programs that count columns go on working."""
NAMES = {"model_type": "model"}
"""The field whose column has another name."""
COLUMNS = tuple(dict.fromkeys([*FIRST, *(NAMES.get(name, name) for name in heads())]))
"""A file without an answer has its row too, with error_code and error filled in."""

PER_REQUEST = 8
"""Images of a request: the more share one, the less work it is, and nobody waits for the first of them."""

PAUSES = (1.0, 2.0, 4.0, 8.0)
"""Seconds before a file is tried again that a busy or restarting server has not answered."""


class OutputError(Exception):
    """The table cannot be written; the message is for users."""


def write(paths: Iterable[Path], output: Path, classifier: Classifier, model: str, concurrency: int,
          tta: bool = False) -> int:
    """Classify files into a new table; go on with the .part file of an interrupted run.

    Memory is bounded whatever the number of files, but for their names: at most 2 x concurrency x PER_REQUEST images
    are held.

    Args:
        paths: image files; each is read once, when its turn comes.
        output: .csv, or .jsonl for one JSON object a line; it must not exist.
        classifier: asks the server.
        model: name as in contract.MODEL_NAME.
        concurrency: requests at a time, from 1, each of up to PER_REQUEST images.
        tta: average with the answers for the mirror images.

    Returns:
        the number of files without a prediction, of earlier runs too.

    Raises:
        OutputError: output exists, has another ending, or its .part file is no table of this program and command; or
            another export of the model answers now than before, whose answers do not belong into the same table.
        ClientError: the server gives no answer, after some tries; the rows until then are kept.
        OSError: the table cannot be written.
    """
    if output.suffix not in SUFFIXES:
        raise OutputError(f"Expected an output that ends in {' or '.join(SUFFIXES)}. Received: {output}.")
    if output.exists():
        raise OutputError(f"{output} already exists. Move it or choose another name.")
    part = output.with_name(output.name + ".part")
    facts = classifier.describe(model)
    same = {"model": model, "export": export_of(facts) or "", "tta": tta,
            "data_source": facts.get(contract.DATA_SOURCE, "")}
    done = finished(part, output.suffix, same)
    failed = sum(1 for is_error in done.values() if is_error)
    paths = list(dict.fromkeys(paths))
    left = [path for path in paths if str(path) not in done]
    with part.open("a", newline="", encoding="utf-8") as table, \
            tqdm(total=len(paths), initial=len(paths) - len(left), unit="image") as bar:
        add = adder(table, output.suffix)
        if not done and output.suffix == ".csv" and part.stat().st_size == 0:
            add(dict(zip(COLUMNS, COLUMNS, strict=True)))
        work = partial(classified, classifier=classifier, same=same)
        groups = (left[start : start + PER_REQUEST] for start in range(0, len(left), PER_REQUEST))
        with ThreadPoolExecutor(concurrency) as pool, closing(in_order(pool, work, groups, 2 * concurrency)) as rows:
            for row in itertools.chain.from_iterable(rows):
                add(row)
                table.flush()
                failed += bool(row["error_code"])
                bar.update()
        table.flush()
        os.fsync(table.fileno())
    part.rename(output)
    return failed


def in_order(pool: ThreadPoolExecutor, work: Callable[[Item], Result], items: Iterable[Item],
             most: int) -> Generator[Result, None, None]:
    """Yield work(item) for each item, in order, at most so many being worked on or waiting to be yielded."""
    items, pending = iter(items), deque[Future[Result]]()
    try:
        pending.extend(pool.submit(work, item) for item in itertools.islice(items, most))
        while pending:
            yield pending.popleft().result()
            pending.extend(pool.submit(work, item) for item in itertools.islice(items, 1))
    finally:
        for future in pending:
            future.cancel()


def classified(paths: list[Path], classifier: Classifier, same: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of some files; one that is no image gets a row with an error.

    Args:
        paths: the files.
        classifier: asks the server, again after PAUSES when it is busy.
        same: what all rows of the table have in common, by column.

    Raises:
        ClientError: the server gives no answer.
    """
    contents = [content(path) for path in paths]
    answers = iter(answered([one for one in contents if isinstance(one, bytes)], classifier, same))
    found = [next(answers) if isinstance(one, bytes) else one for one in contents]
    empty = dict.fromkeys(COLUMNS, "") | same | {"disclaimer": contract.DISCLAIMER}
    return [empty | {"file": str(path)} | filled(one) for path, one in zip(paths, found, strict=True)]


def content(path: Path) -> bytes | OSError:
    """Return a file's bytes, or why they cannot be read."""
    try:
        return decode.contents(path)
    except OSError as error:
        return error


def answered(images: list[bytes], classifier: Classifier, same: dict[str, Any]) -> list[Answer | BadImage]:
    """Return answers_of_one_export(), tried again after PAUSES. Raises as that."""
    for pause in PAUSES:
        try:
            return answers_of_one_export(images, classifier, same)
        except (ServerUnavailable, DeadlineExceeded):
            time.sleep(pause)
    return answers_of_one_export(images, classifier, same)


def answers_of_one_export(images: list[bytes], classifier: Classifier, same: dict[str, Any]) -> list[Answer | BadImage]:
    """Return classifier.answer_all() if the export answers that the table is of.

    Raises:
        OutputError: another one has taken its place. ClientError: the server gives no answer.
    """
    found = classifier.answer_all(images, same["model"], same["tta"])
    now = export_of(classifier.describe(same["model"], trusted=0)) or ""  # asked behind the answers: they are not newer
    if now != same["export"]:
        raise OutputError(f"Expected export {same['export']} of {same['model']}, which the rows until here are of. "
                          f"Received: {now}. Write a new table for it, or serve the former export and go on.")
    return found


def filled(found: Answer | Exception) -> dict[str, Any]:
    """Return the columns that hold an answer, or the error in its place; "" where the answer holds None."""
    if isinstance(found, Exception):
        return {"error_code": getattr(found, "code", "unreadable_file"), "error": str(found)}
    return {NAMES.get(name, name): "" if value is None else value for name, value in cells(found).items()}


def adder(table: TextIO, suffix: str) -> Callable[[dict[str, Any]], object]:
    """Return what adds a row to a table, with its line feed."""
    if suffix == ".jsonl":
        return lambda row: table.write(json.dumps(row) + "\n")
    writer = csv.DictWriter(table, COLUMNS, lineterminator="\n")
    return lambda row: writer.writerow({name: escaped(value) for name, value in row.items()})


def finished(part: Path, suffix: str, same: dict[str, Any]) -> dict[str, bool]:
    """Return file -> whether it has an error, of the whole rows in a .part file; cut off a last row that is not whole.

    Args:
        part: the file. suffix: of the table. same: what all its rows have to have in common, by column.

    Raises:
        OutputError: the file holds something else, or rows of another model, of another export of it, or with tta.
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
            head = next(table, COLUMNS)
            rows = [dict(zip(head, map(unescaped, row), strict=True)) for row in table]
            if tuple(head) != COLUMNS:
                raise ValueError("other columns")
        if not all(set(row) == set(COLUMNS) for row in rows):
            raise ValueError("other columns")
        for name, value in same.items():
            if others := {str(row[name]) for row in rows} - {str(value)}:
                raise ValueError(f"{name} {others.pop()!r}")
        done = {row["file"]: bool(row["error_code"]) for row in rows}
    except (ValueError, TypeError, KeyError, csv.Error) as error:
        wanted = ", ".join(f"{name} {str(value)!r}" for name, value in same.items())
        raise OutputError(f"Expected {part} to hold rows of an interrupted run with {wanted}. Received: {error}. "
                          "Delete it to begin again.") from error
    if len(whole) < len(text):
        os.truncate(part, len(whole))
    return done
