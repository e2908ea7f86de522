"""How people spell the names of classes and splits, on folders and in CSV files."""

import re
from collections.abc import Sequence

from core import contract

TUMOUR = "tumour"
"""Label of a tumour whose type is not known: for prepare.further_sources and evaluate.external."""
LABELS = (*contract.CLASSES, TUMOUR)
"""What images of these may be labelled as."""
NO_TUMOUR = {"no", "notumor", "nontumor", "tumorfree", "normal", "healthy", "none"}
UNKNOWN_TYPE = {"tumor", "yes"}
SPLITS = {"train", "training", "test", "testing", "val", "valid", "validation"}


def key(name: str) -> str:
    """Return a name without case, signs and the digits in front, as in PMRAM's `512Glioma`, in American spelling."""
    return re.sub(r"^\d+|[\W_]+", "", name.lower()).replace("tumour", "tumor")


def label_of(name: str, labels: Sequence[str]) -> str:
    """Return which of the labels a folder's name or a CSV's cell means, "" if none."""
    found = {key(name), key(name).removesuffix("s")}
    return next((label for label in labels if found & _spellings(label)), "")


def _spellings(label: str) -> set[str]:
    own = key(label)
    others = {contract.HEALTHY: NO_TUMOUR, TUMOUR: UNKNOWN_TYPE}
    return {own, f"{own}tumor"} | others.get(label, set())
