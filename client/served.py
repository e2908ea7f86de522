"""How what a Triton serves is told apart, ordered and titled: by parameters that travel with the export."""

import hashlib
import json
from collections.abc import Mapping

from core import contract

TITLES = {"custom": "Custom CNN", "resnet50": "ResNet-50", "ensemble": "Both networks, averaged"}
"""Titles, in their order, of networks that were exported before titles and ranks were."""
UNRANKED = 10**6
DIGITS = 12
"""Digits that name an export."""


def title(name: str, facts: dict[str, str]) -> str:
    """Return how people read the name of a network, such as "Custom CNN" or "Custom CNN, release 2026...".

    Args:
        name: as in contract.MODEL_NAME. facts: what Classifier.describe() says of it; {} if it is not known.
    """
    network, _, release = name.partition(contract.RELEASE)
    found = facts.get(contract.TITLE) or TITLES.get(network) or network[:1].upper() + network[1:]
    return found + (f", release {release}" if release else "")


def export_of(facts: Mapping[str, str]) -> str | None:
    """Return what tells one export of a network from another: a digest of all that the export says of itself.

    Among that are the answers to the golden images, so that other weights or another precision are another export.

    Args:
        facts: what Classifier.describe() says of it; {} if it is not known.

    Returns:
        DIGITS hexadecimal digits; None if nothing is known.
    """
    text = json.dumps(dict(facts), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS] if facts else None


def order(name: str, facts: dict[str, str]) -> tuple[tuple[int, ...], int, int, str]:
    """Return a key to sort networks by: older releases last, newest first; by rank, the order of TITLES, and name.

    Args: as title().
    """
    network, _, release = name.partition(contract.RELEASE)
    known, rank = list(TITLES), facts.get(contract.RANK, "")
    return (tuple(-ord(sign) for sign in release), int(rank) if rank.isascii() and rank.isdigit() else UNRANKED,
            known.index(network) if network in known else len(known), network)
