"""Labels that contradict each other, and what is done about them (prepare.label_conflicts)."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace

from core import contract
from stages.data.dataset import Row
from stages.data.patients import Known
from stages.data.spelling import TUMOUR


@dataclass(frozen=True)
class Conflict:
    """An image whose label is in doubt.

    Attributes:
        kind: `original`, the source's original gives another class; `picture`, a copy of it has another label;
            `patient`, another slice of the patient shows another kind of tumour.
        index: of the image.
        group: of the image, or the patient.
        label: by its folder.
        original: the class that its original gives, "" if none is known.
    """

    kind: str
    index: int
    group: str
    label: str
    original: str


def conflicts(rows: list[Row], known: list[Known]) -> list[Conflict]:
    """Return what contradicts, by kind and image. A patient may well have slices with and without a tumour.

    Args:
        rows: in their groups, with the labels of their folders.
        known: of the same images.
    """
    tumours = [row if row.label != contract.HEALTHY else replace(row, patient="") for row in rows]
    doubted = {"original": [index for index, (row, one) in enumerate(zip(rows, known, strict=True))
                            if one.original and contradict({one.original, row.label})],
               "picture": _of_several_labels(rows, lambda row: str(row.picture)),
               "patient": _of_several_labels(tumours, lambda row: row.patient)}
    return [Conflict(kind, index, rows[index].patient or str(rows[index].group), rows[index].label,
                     known[index].original) for kind, found in doubted.items() for index in found]


def _of_several_labels(rows: list[Row], name: Callable[[Row], str]) -> list[int]:
    """Return the indices of rows whose name carries labels that contradict; those named "" have no part in it."""
    labels, members = defaultdict(set), defaultdict(list)
    for index, row in enumerate(rows):
        if name(row):
            labels[name(row)].add(row.label)
            members[name(row)].append(index)
    return [index for one, found in labels.items() if contradict(found) for index in members[one]]


def contradict(found: set[str]) -> bool:
    """Return whether labels cannot all be right of one thing: a tumour of unknown type may be of any one type."""
    return len(found - {TUMOUR}) > 1 or {TUMOUR, contract.HEALTHY} <= found


def settled(rows: list[Row], found: list[Conflict], policy: str) -> list[Row | None]:
    """Return the rows as prepare.label_conflicts wants them.

    Args:
        rows: all images.
        found: their conflicts.
        policy: `original` gives the class of the original to those that have another; `keep` changes nothing; `drop`
            leaves out every image in doubt.

    Returns:
        a row for each image, None for one that is left out.
    """
    result: list[Row | None] = list(rows)
    for one in found:
        if policy == "drop":
            result[one.index] = None
        elif policy == "original" and one.kind == "original":
            result[one.index] = replace(rows[one.index], label=one.original)
    return result


DONE = {"original": "the label of the original is taken", "keep": "the label of the folder is kept",
        "drop": "it is left out"}


def told(rows: list[Row], found: list[Conflict], policy: str) -> list[str]:
    """Return a line for each file whose original denies its label, and one for each other kind of conflict."""
    lines = [f"label: {rows[one.index].source} is {one.label} by its folder, {one.original} by its original: "
             f"{DONE[policy]} (prepare.label_conflicts={policy})" for one in found if one.kind == "original"]
    for kind, words in {"picture": "copies of one picture", "patient": "one patient's slices"}.items():
        groups = {one.group for one in found if one.kind == kind}
        if groups:
            lines.append(f"label: {len(groups)} times {words} carry several labels, see label_conflicts.csv"
                         f"{'; all of them are left out' if policy == 'drop' else ''}")
    return lines


def conflicts_csv(rows: list[Row], found: list[Conflict]) -> str:
    """Return the conflicts as CSV.

    No file names: they may tell who a patient is. The digest is the name of the image in data/prepared/images.
    """
    lines = [f"{one.kind},{one.group},{one.label},{one.original},{rows[one.index].digest}\n" for one in found]
    return "kind,group,label,original,digest\n" + "".join(lines)
