"""API keys: with API_KEYS=file only who has one may send images, see the page, or read the numbers.

    python -m webapp.keys add keys.txt ward-7
    python -m webapp.keys remove keys.txt ward-7

Programs send `Authorization: Bearer KEY`, browsers ask for it (HTTP Basic: any user name, the key as the password). The
file holds names and SHA-256 digests, no keys. A plain digest is enough, as keys are 256 random bits: there is nothing
to guess (unlike passwords; NIST SP 800-63B-4, 3.1.2, look-up secrets of 112 bits and more). The file is read again
when it changes: a removed key is refused from then on.
"""

import argparse
import hashlib
import hmac
import re
import secrets
import sys
from pathlib import Path

from flask import g, request

from core import files
from webapp.refused import Refused
from webapp.services import services

KEY_BYTES = 32
NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
LINE = re.compile(rf"({NAME.pattern}) ([0-9a-f]{{64}})")
OPEN = ("static", "openapi", "views.live", "views.ready", "views.health")
"""Endpoints that need no key: they show nothing of anybody, and load balancers ask them."""


class KeyFileError(Exception):
    """The file of keys is not what was expected; the message says what is wrong."""


def read(path: Path) -> dict[str, str]:
    """Return name -> SHA-256 of each key in a file.

    Raises:
        KeyFileError: there is no such file, or a line is no name and digest.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise KeyFileError(f"Expected a file of keys. Received: {error}. Run: python -m webapp.keys add {path} "
                           "NAME") from error
    found = {}
    for number, line in enumerate(lines, start=1):
        match = LINE.fullmatch(line)
        if not match or match[1] in found:
            raise KeyFileError(f"Expected lines of a name, used once, a space, and 64 hexadecimal digits in {path}. "
                               f"Received something else in line {number}.")
        found[match[1]] = match[2]
    return found


def digest(key: str) -> str:
    """Return the SHA-256 of a key as 64 hexadecimal digits."""
    return hashlib.sha256(key.encode()).hexdigest()


class Keys:
    """The keys in a file.

    Args:
        path: see read().

    Raises:
        KeyFileError: as read().
    """

    def __init__(self, path: Path):
        self._path, self._stamp = path, self._look(path)
        self._known = read(path)

    def name(self, key: str) -> str | None:
        """Return the name of a key, None if there is no such key. Takes as long for a wrong key as for a right one.

        Raises:
            KeyFileError: the file has changed and cannot be read any more.
        """
        if (stamp := self._look(self._path)) != self._stamp:
            self._known, self._stamp = read(self._path), stamp
        given, found = digest(key), None
        for name, known in self._known.items():
            if hmac.compare_digest(given, known):
                found = name
        return found

    @staticmethod
    def _look(path: Path) -> tuple[int, int, int] | None:
        try:
            found = path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size


def sent_key() -> str | None:
    """Return the key that came with the current request."""
    given = request.authorization
    if given is None:
        return None
    return given.token if given.type == "bearer" else given.password if given.type == "basic" else None


def key_name() -> str | None:
    """Return the name of the current request's key; None without a right one, or without API_KEYS."""
    if "key_name" not in g:
        keys, key = services().keys, sent_key()
        g.key_name = keys.name(key) if keys and key else None
    name: str | None = g.key_name
    return name


def refuse_unauthenticated() -> None:
    """Raise Refused (401 no_key) for a request without a right key, where one is needed."""
    if services().keys and request.endpoint not in OPEN and key_name() is None:
        raise Refused(401, "no_key", "An API key is required. Send it as `Authorization: Bearer KEY`; in a "
                      "browser give it as the password, with any user name.")


def main(argv: list[str] | None = None) -> int:
    """Run the command; return 0, or 1 if it could not be done."""
    parser = argparse.ArgumentParser(prog="python -m webapp.keys", description="Add and remove API keys.",
                                     epilog="example: python -m webapp.keys add keys.txt ward-7")
    parser.add_argument("command", choices=("add", "remove", "list"))
    parser.add_argument("file", type=Path, help="the value of API_KEYS; is made")
    parser.add_argument("name", nargs="?", help="whose key; letters, digits, dot, dash and underscore")
    options = parser.parse_args(argv)
    if (options.command == "list") != (options.name is None):
        parser.error("Expected a name with add and remove, and none with list.")
    if options.name is not None and not NAME.fullmatch(options.name):
        parser.error(f"Expected a name of 1 to 64 letters, digits, dots, dashes and underscores. Received: "
                     f"{options.name!r}.")
    try:
        makes = options.command == "add" and not options.file.exists()
        known = {} if makes else read(options.file)
        if (options.command == "add") == (options.name in known) and options.name:
            raise KeyFileError(f"Expected a name that is {'not yet ' * (options.command == 'add')}in {options.file}. "
                               f"Received: {options.name}.")
        if options.command == "list":
            print(*known, sep="\n")
            return 0
        key = secrets.token_urlsafe(KEY_BYTES)
        known = known | {options.name: digest(key)} if options.command == "add" else \
            {name: one for name, one in known.items() if name != options.name}
        files.write_text(options.file, "".join(f"{name} {one}\n" for name, one in known.items()))
    except (KeyFileError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    if options.command == "add":
        print(f"The key of {options.name}, shown only now: {key}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
