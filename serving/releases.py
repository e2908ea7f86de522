"""Releases of a model repository: a new one is checked before it can serve, and the one before it is kept.

    python -m serving.releases publish model_repository --store releases
    python -m serving.releases rollback --store releases
    python -m serving.releases list --store releases

A store is a folder with one complete repository for each release, and the link `current` to the one that serves. A
release is copied, compared with its manifest and served by a Triton of its own, whose answers to the golden images must
be those of the export, before it gets its name; the link is replaced in one step. Killed at any moment, a publisher
leaves a store whose `current` is complete.

`python -m serving --repository releases` follows the link (serving/supervisor.py).
"""

import argparse
import datetime
import fcntl
import hashlib
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core import contract, files, manifest, triton_config
from serving import snapshot
from serving.errors import ServingError
from serving.server import Server

CURRENT = "current"
LOCK = ".lock"
SCRATCH = ".writing"
KEEP = 5
"""Releases that are kept, the current one among them."""


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


def point(store: Path, name: str) -> None:
    """Let `current` name a release, in one step."""
    new = store / f".{CURRENT}"
    new.unlink(missing_ok=True)
    new.symlink_to(name)
    new.replace(store / CURRENT)


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
            at work. The store is as it was.
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
        point(store, name)
        for old in names(store)[:-keep]:
            if old != name:
                shutil.rmtree(store / old)
        shutil.rmtree(store / SCRATCH)
    return name


def rollback(store: Path, name: str | None = None) -> str:
    """Make an older release the current one; it was checked when it was published.

    Args:
        store: with two releases or more.
        name: of the release; None for the one before the current one.

    Returns:
        the name.

    Raises:
        ServingError: there is no such release.
    """
    serving = current(store).name
    with alone(store):
        known = names(store)
        if name is None:
            older = [one for one in known if one < serving]
            if not older:
                raise ServingError(f"Expected a release before {serving}. Received: none in {store}.")
            name = older[-1]
        if name not in known:
            raise ServingError(f"Expected one of the releases {', '.join(known)}. Received: {name}.")
        point(store, name)
    return name


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
    back = commands.add_parser("rollback", parents=[shared], help="make an older release the current one")
    back.add_argument("--to", help="its name; default: the one before the current one")
    commands.add_parser("list", parents=[shared], help="name all releases, the current one with a star")
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
        else:
            serving = current(options.store).name
            for name in names(options.store):
                print(f"{'*' if name == serving else ' '} {name}")
    except KeyboardInterrupt:
        print("Interrupted: the store is as it was.", file=sys.stderr)
        return 130
    except (ServingError, OSError) as error:
        print(f"{error}\n{getattr(error, 'log', '')}".rstrip(), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
