"""Releases of a model repository: a new one is checked before it can serve, and the one before it is kept.

    python -m serving.releases publish model_repository --store releases
    python -m serving.releases rollback --store releases
    python -m serving.releases list --store releases
    python -m serving.releases log --store releases

A store is a folder with one complete repository for each release, and the link `current` to the one that serves. A
release is copied, compared with its manifest and served by a Triton of its own, whose answers to the golden images must
be those of the export, before it gets its name; the link is replaced in one step. Killed at any moment, a publisher
leaves a store whose `current` is complete.

log.jsonl in the store says which release was current when, where it served, and where it was rejected: rollback goes
back along it.

`python -m serving --repository releases` follows the link (serving/supervisor.py).
"""

import argparse
import contextlib
import datetime
import fcntl
import hashlib
import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core import contract, files, manifest, triton_config
from serving import snapshot
from serving.errors import ServingError
from serving.server import Server

CURRENT = "current"
LOG = "log.jsonl"
PUBLISHED, ROLLED_BACK, SERVES, REJECTED = "published", "rolled back to", "serves", "rejected"
"""The events in the log: the first two move `current`, the others say what came of that on a host."""
LOCK = ".lock"
SCRATCH = ".writing"
KEEP = 5
"""Releases that are kept, the current one among them."""
REASON = 500
"""Characters of a reason in the log."""


def is_store(folder: Path) -> bool:
    """Return whether a folder is a store, and not a repository itself."""
    return (folder / CURRENT).is_symlink()


def names(store: Path) -> list[str]:
    """Return the names of all releases, oldest first."""
    return sorted(path.name for path in store.iterdir() if path.is_dir() and path.name[0].isdigit())


def current(store: Path) -> Path:
    """Return the folder of the release that should serve.

    Raises:
        ServingError: there is none.
    """
    try:
        return (store / CURRENT).resolve(strict=True)
    except OSError:
        raise ServingError(f"Expected releases in {store}. Received: none. Run: python -m serving.releases publish "
                           f"model_repository --store {store}") from None


@contextmanager
def alone(store: Path) -> Iterator[None]:
    """Hold a store against other publishers; a publisher that is killed lets go of it.

    Raises:
        ServingError: another publisher is at work.
    """
    store.mkdir(parents=True, exist_ok=True)
    with (store / LOCK).open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ServingError(f"Expected to be the only publisher of {store}. Received: another one is at work. Try "
                               "again when it has ended.") from None
        yield


def record(store: Path, event: str, name: str, **facts: str) -> None:
    """Add a line to a store's log, which other hosts may be writing to as well.

    Prints when that cannot be done: what serves does not depend on it.

    Args:
        store, name: of the release. event: see PUBLISHED. facts: further ones; empty ones are left out.
    """
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    entry = {"time": now, "event": event, "release": name, "host": socket.gethostname()}
    entry |= {key: " ".join(value.split())[:REASON] for key, value in facts.items() if value}
    try:
        with (store / LOG).open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(f"{json.dumps(entry)}\n".encode())
    except OSError as error:
        print(f"The log of {store} cannot be written: {error}", file=sys.stderr, flush=True)


def log(store: Path) -> list[dict[str, str]]:
    """Return the lines of a store's log, oldest first; without a last one that a crash has cut off."""
    path = store / LOG
    entries = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        with contextlib.suppress(ValueError):
            entries.append(json.loads(line))
    return entries


def rejected(store: Path) -> dict[str, str]:
    """Return the releases that were rejected where they were last tried, and why."""
    found: dict[str, str] = {}
    for entry in log(store):
        if entry["event"] == REJECTED:
            found[entry["release"]] = entry.get("reason", "")
        elif entry["event"] == SERVES:
            found.pop(entry["release"], None)
    return found


def way(store: Path) -> list[str]:
    """Return the releases that were current, in their order, up to the current one.

    What was rolled back is not on it: after publishing 1 and 2, rolling back and publishing 3 it is 1, 3.
    """
    found: list[str] = []
    for entry in log(store):
        name, previous = entry["release"], entry.get("previous")
        if previous and previous not in found:  # the log is younger than the store
            found.append(previous)
        if entry["event"] == PUBLISHED:
            found.append(name)
        elif entry["event"] == ROLLED_BACK:
            found = found[: found.index(name)] + [name] if name in found else [*found, name]
    serving = current(store).name  # which a program that was killed may have moved without a line in the log, or not
    return [*found[: found.index(serving)], serving] if serving in found else [*found, serving]


def delete_older(store: Path, keep: int) -> None:
    """Delete all releases but some: of those that were current the last ones stay, then the newest.

    Prints what cannot be deleted, as that changes nothing of what serves.
    """
    was_current = way(store)
    ranked = sorted(names(store), key=lambda name: (was_current.index(name) if name in was_current else -1, name))
    for old in ranked[:-keep]:
        try:
            shutil.rmtree(store / old)
        except OSError as error:
            print(f"Release {old} cannot be deleted: {error}", file=sys.stderr)


def point(store: Path, name: str) -> None:
    """Let `current` name a release, in one step."""
    new = store / f".{CURRENT}"
    new.unlink(missing_ok=True)
    new.symlink_to(name)
    new.replace(store / CURRENT)


def move(store: Path, event: str, name: str) -> None:
    """Make a release the current one, and write that into the log."""
    previous = current(store).name if is_store(store) else ""
    point(store, name)
    record(store, event, name, previous=previous)


def add_older(copy: Path, store: Path, count: int) -> None:
    """Let a new release serve what its predecessors were as well: models of theirs become name.release in it.

    They are whole, with their own preprocessing, thresholds and golden answers, so that nothing of two releases mixes.

    Args:
        copy: the new release, which no one serves yet.
        store: of the predecessors: the current release, and those before it.
        count: of predecessors at most.
    """
    known = [name for name in names(store) if name <= current(store).name] if is_store(store) else []
    older = known[-count:][::-1] if count else []
    for release in older:
        snapshot.require_manifest(store / release, store / release)
        own = {model.name for model in snapshot.read(store / release) if contract.RELEASE not in model.name}
        for name in own:
            folder = copy / f"{name}{contract.RELEASE}{release}"
            shutil.copytree(store / release / name, folder)
            rename(folder / triton_config.FILE, {one: f"{one}{contract.RELEASE}{release}" for one in own})


def rename(path: Path, names: dict[str, str]) -> None:
    """Give the model of a configuration, and those that it calls, the names that stand for theirs."""
    config = triton_config.read(path)
    config.name = names.get(config.name, config.name)
    for step in config.ensemble_scheduling.step:
        step.model_name = names.get(step.model_name, step.model_name)
    triton_config.write(path, config)


def publish(repository: Path, store: Path, keep: int = KEEP, older: int = 0) -> str:
    """Add a repository to a store as its newest release, and make it the current one.

    Args:
        repository: that export wrote; only read.
        store: is made if it is missing.
        keep: delete older releases than so many, never the current one.
        older: how many releases before it to serve as well, see add_older().

    Returns:
        the release's name: the time in UTC, and the start of a digest over its files.

    Raises:
        ServingError: the repository is incomplete or altered, does not load or answers wrongly, or another publisher is
            at work. What was current still is.
        OSError: the disk is full, or the store is not writable.
    """
    snapshot.require_complete(repository)
    with alone(store):
        shutil.rmtree(store / SCRATCH, ignore_errors=True)  # of a publisher that was killed
        copy = store / SCRATCH / "model_repository"
        snapshot.copy(repository, copy)
        add_older(copy, store, older)
        manifest.write(copy)
        with Server(copy, work=store / ".trial"):
            pass  # it has started, so every golden answer was right
        table = "".join(f"{path.relative_to(copy)} {files.digest(path)}\n" for path in sorted(copy.rglob("*"))
                        if path.is_file())
        now = datetime.datetime.now(datetime.timezone.utc)
        name = f"{now:%Y%m%dT%H%M%S.%fZ}-{hashlib.sha256(table.encode()).hexdigest()[:8]}"
        os.sync()
        copy.rename(store / name)
        move(store, PUBLISHED, name)
        delete_older(store, keep)
        shutil.rmtree(store / SCRATCH, ignore_errors=True)
    return name


def rollback(store: Path, name: str | None = None) -> str:
    """Make an earlier release the current one; it was checked when it was published.

    Args:
        store: with two releases or more.
        name: of the release; None for the one that was current before the current one and was not rejected.

    Returns:
        the name.

    Raises:
        ServingError: there is no such release, or another publisher is at work.
        OSError: the store is not writable.
    """
    with alone(store):
        known = names(store)
        name = name or _before(store, known)
        if name not in known:
            raise ServingError(f"Expected one of the releases {', '.join(known)}. Received: {name}.")
        move(store, ROLLED_BACK, name)
    return name


def _before(store: Path, known: list[str]) -> str:
    """Return the release to roll back to."""
    *earlier, serving = way(store)
    bad = rejected(store)
    fit = [one for one in earlier if one in known and one != serving and one not in bad]
    if not fit:
        raise ServingError(f"Expected a release that was current before {serving}. Received: none in the log of "
                           f"{store}. Name one with --to: {', '.join(known)}.")
    return fit[-1]


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line; a mistake in it ends the program with exit code 2."""
    parser = argparse.ArgumentParser(
        prog="python -m serving.releases", description="Publish model repositories, and take releases back.",
        epilog="example: python -m serving.releases publish model_repository --store releases")
    commands = parser.add_subparsers(dest="command", required=True)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--store", type=Path, default=Path("releases"), help="default: %(default)s")
    one = commands.add_parser("publish", parents=[shared], help="check a repository and make it the current release")
    one.add_argument("repository", type=Path, nargs="?", default=Path("model_repository"), help="default: %(default)s")
    one.add_argument("--older", type=int, default=0,
                     help="serve so many releases before it as well, as custom.RELEASE; default: %(default)s")
    one.add_argument("--keep", type=int, default=KEEP, help="releases to keep; default: %(default)s")
    back = commands.add_parser("rollback", parents=[shared], help="make an earlier release the current one")
    back.add_argument("--to", help="its name; default: the one that was current before, and was not rejected")
    commands.add_parser("list", parents=[shared], help="name all releases, the current one with a star")
    commands.add_parser("log", parents=[shared], help="say what was published, rolled back, served and rejected")
    options = parser.parse_args(argv)
    if options.command == "publish" and options.keep < 1:
        parser.error(f"Expected --keep above 0. Received: {options.keep}.")
    if options.command == "publish" and options.older < 0:
        parser.error(f"Expected --older from 0. Received: {options.older}.")
    return options


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code: 0, or 1 if it could not be done."""
    options = arguments(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if options.command == "publish":
            print(f"Checking {options.repository} ...", file=sys.stderr, flush=True)
            print(f"Current: {publish(options.repository, options.store, options.keep, options.older)}")
        elif options.command == "rollback":
            print(f"Current: {rollback(options.store, options.to)}")
        elif options.command == "log":
            for entry in log(options.store):
                print(entry["time"], entry["host"], entry["event"], entry["release"], entry.get("reason", ""))
        else:
            serving, bad = current(options.store).name, rejected(options.store)
            for name in names(options.store):
                print(f"{'*' if name == serving else ' '} {name}" + (f" rejected: {bad[name]}" if name in bad else ""))
    except KeyboardInterrupt:
        kept = current(options.store).name if is_store(options.store) else "none"
        print(f"Interrupted. Current: {kept}", file=sys.stderr)
        return 130
    except (ServingError, OSError) as error:
        print(f"{error}\n{getattr(error, 'log', '')}".rstrip(), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
