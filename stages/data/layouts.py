"""The layouts that people's data come in -> one list of files, each with its label, patient and source.

dataset/README.md shows the layouts. What a file is, its content says, never its name; whatever is no image is counted
by a reason, so that no file is passed over in silence.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from core import contract
from imaging import readers
from stages.common.command import StageError
from stages.data import figshare, listing
from stages.data.kinds import MATLAB, no_image
from stages.data.spelling import LABELS, SPLITS, TUMOUR, UNKNOWN_TYPE, key, label_of

OTHER_TASKS = {"segmentationtask"}
"""BRISC's slices once more, sorted by its other task: beside their masks, without a class (arXiv:2506.14318)."""
HIDDEN, LINK, OUTSIDE = "hidden file", "link to a folder that is read already", "image outside of a class folder"


@dataclass(frozen=True)
class File:
    """An image to read.

    Attributes:
        path: where it is.
        name: the path within the source, at least class/file.
        label: its class.
        patient: as the source calls the person, "" if it does not say; never to be written out.
        origin: name of the source that it is from, "" if that is not known.
    """

    path: Path
    name: str
    label: str
    patient: str
    origin: str


@dataclass(frozen=True)
class Found:
    """What one source holds.

    Attributes:
        files: by label, in the order of the labels, and by path.
        left_out: how many files are no images, by the reason.
        pooled: names of the split folders whose files are among them.
    """

    files: list[File]
    left_out: dict[str, int]
    pooled: list[str]


def places(entries: list[str], param: str) -> dict[str, Path]:
    """Return the folders and CSV files that a param lists, by the names of these sources.

    A source is called like its folder or CSV file, after the folder above as well where that is only the name of a
    class or split.

    Raises:
        StageError: there is none at one of them, or two have the same name.
    """
    found: dict[str, Path] = {}
    for entry in entries:
        path = Path(entry)
        if not path.is_dir() and not (path.is_file() and path.suffix.lower() == ".csv"):
            raise StageError(f"Expected {param} to list folders and CSV files. Received: {entry!r}, which is neither. "
                             "dataset/README.md shows the layouts.")
        name = _source_name(path.absolute())
        if name in found:
            raise StageError(f"Expected sources of different names in {param}. Received: {name} twice, "
                             f"{str(found[name])!r} and {entry!r}. Rename one.")
        found[name] = path
    return found


def _source_name(path: Path) -> str:
    """Return what a source at an absolute path is called."""
    is_part = label_of(path.name, LABELS) or key(path.name) in SPLITS
    if path.is_dir() and is_part:
        return f"{path.parent.name}/{path.name}"
    return path.name if path.is_dir() else path.stem


def find(source: Path, labels: Sequence[str] = contract.CLASSES) -> Found:
    """List the images of a folder, in any layout of dataset/README.md, or of a CSV file.

    Args:
        source: folder or CSV file.
        labels: the classes, each of which must have an image; with TUMOUR among them, any one image will do.

    Raises:
        StageError: naming what is missing, unknown or wrong, and what to do.
    """
    return _from_csv(source, labels) if source.is_file() else _from_folder(source, labels)


def _from_folder(source: Path, labels: Sequence[str]) -> Found:
    search = _Search(source, labels)
    is_pool = search.collect(source, "")
    if not is_pool and (label := label_of(source.absolute().name, labels)):
        search = _Search(source.absolute().parent, labels)
        search.take(source.absolute(), label)
    search.check(source)
    return _found(search.files, labels, search.left_out, search.pooled)


def _found(files: list[File], labels: Sequence[str], left_out: Counter[str], pooled: set[str]) -> Found:
    return Found(sorted(files, key=lambda file: (labels.index(file.label), file.path)),
                 dict(sorted((+left_out).items())), sorted(pooled))


class _Search:
    """One walk through a folder, and what it comes across."""

    def __init__(self, root: Path, labels: Sequence[str]) -> None:
        self.root, self.labels = root, labels
        self.files: list[File] = []
        self.left_out: Counter[str] = Counter()
        self.pooled: set[str] = set()
        self.homes: defaultdict[str, list[Path]] = defaultdict(list)
        self.unknown: list[Path] = []
        self.seen: set[tuple[int, int]] = set()

    def entries(self, folder: Path) -> Iterator[Path]:
        """Give what is to be looked at in a folder: each folder once, however many links lead to it or around."""
        self.is_new(folder)
        for path in sorted(folder.iterdir()):
            if path.name.startswith("."):
                self.leave_out(path, HIDDEN)
            elif path.is_dir() and not self.is_new(path):
                self.left_out[LINK] += 1
            else:
                yield path

    def is_new(self, folder: Path) -> bool:
        """Return whether a folder is met for the first time, by whatever name."""
        status = folder.stat()
        place, count = (status.st_dev, status.st_ino), len(self.seen)
        self.seen.add(place)
        return len(self.seen) > count

    def leave_out(self, path: Path, reason: str) -> None:
        """Count a file, or all that are in a folder."""
        self.left_out[reason] += sum(len(names) for *_, names in os.walk(path)) if path.is_dir() else 1

    def collect(self, folder: Path, origin: str) -> bool:
        """Read a folder of class folders, splits, sources and MATLAB files; return whether it holds any of these."""
        held = [self.branch(path, origin) if path.is_dir() else self.loose(path) for path in self.entries(folder)]
        return any(held)

    def branch(self, folder: Path, origin: str) -> bool:
        """Read a folder that may be anything; return whether it is understood."""
        label, name = label_of(folder.name, self.labels), key(folder.name)
        if label and not (label == TUMOUR and self.holds_classes(folder)):
            self.take(folder, label, origin)
            return True
        if name in OTHER_TASKS:
            self.leave_out(folder, f"in {folder.name}, which has masks instead of classes")
            return False
        return self.pool(folder, origin if name in SPLITS | UNKNOWN_TYPE else origin or folder.name)

    def holds_classes(self, folder: Path) -> bool:
        """Return whether any class has a folder in this one."""
        return any(path.is_dir() and label_of(path.name, self.labels) for path in folder.iterdir())

    def pool(self, folder: Path, origin: str) -> bool:
        """Read a split or a source; return whether it is one: a folder that is not stands for all below it."""
        before, is_split = len(self.unknown), key(folder.name) in SPLITS
        if self.collect(folder, origin):
            self.pooled |= {folder.name} if is_split else set()
            return True
        del self.unknown[before:]
        if not is_split or any(folder.iterdir()):
            self.unknown.append(folder)
        return False

    def loose(self, path: Path) -> bool:
        """Take a file that lies in no class folder if it says its class itself, else count it."""
        reason = no_image(path)
        if reason == MATLAB and (facts := figshare.facts(path)) and facts[0] in self.labels:
            self.add(path, facts[0], facts[1], figshare.NAME)
            return True
        self.left_out[reason or OUTSIDE] += 1
        return False

    def take(self, folder: Path, label: str, origin: str = "", patient: str = "") -> None:
        """Read a class folder: what is in a sub-folder is of the patient whom the first one names."""
        if not patient:
            self.homes[label].append(folder)
        for path in self.entries(folder):
            inner = label_of(path.name, self.labels) if path.is_dir() else ""
            if inner not in ("", label):
                self.unknown.append(path)
            elif path.is_dir():
                is_patient = not inner and key(path.name) not in SPLITS
                self.take(path, label, origin, patient or (path.name if is_patient else ""))
            else:
                self.classified(path, label, origin, patient)

    def classified(self, path: Path, label: str, origin: str, patient: str) -> None:
        """Take a file of a class folder, or count it."""
        reason = no_image(path)
        facts = figshare.facts(path) if reason == MATLAB else None
        if facts and facts[0] != label:
            raise StageError(f"Expected MATLAB files in the folder of the class that they name. Received: {path}, "
                             f"which names {facts[0]}. Move it, or leave these files in one folder without a class.")
        if reason and not facts:
            self.left_out[reason] += 1
            return
        self.add(path, label, facts[1] if facts else patient, figshare.NAME if facts else origin)

    def add(self, path: Path, label: str, patient: str, origin: str) -> None:
        """Note an image."""
        self.files.append(File(path, _named(path.relative_to(self.root).as_posix(), label), label, patient, origin))

    def check(self, source: Path) -> None:
        """Check that everything is understood and that no class is without an image.

        Raises:
            StageError: naming each missing or unknown folder, or those without an image.
        """
        absent = _absent(self.files, self.labels)
        any_will_do = TUMOUR in self.labels
        missing = [] if any_will_do and self.homes else [label for label in absent if label not in self.homes]
        candidates = list(self.labels) if any_will_do else missing
        problems = ["none of them"] if missing == list(self.labels) else [f"missing: {label}" for label in missing]
        problems += [f"unknown: {_shown(path, source)}{self.advice(path, candidates)}" for path in self.unknown]
        if problems:
            raise StageError(f"Expected the class folders {', '.join(self.labels)} in {source}. Received: "
                             f"{'; '.join(problems)}.{_counted(self.left_out)} dataset/README.md shows the layouts.")
        if absent:
            places = ", ".join(str(path) for label in absent for path in self.homes[label])
            raise StageError(f"Expected images in {places}. Received: none.{_counted(self.left_out)} "
                             f"What is read: {readers.listed(readers.READERS)}.")

    def advice(self, folder: Path, candidates: list[str]) -> str:
        """Return what to do with a folder that is not understood, in brackets."""
        if label_of(folder.name, self.labels):
            return " (a class folder in that of another class: move it out)"
        if key(folder.name) in UNKNOWN_TYPE:
            return (" (tumours of unknown type: name it after their type, or list it in prepare.further_sources or "
                    "evaluate.external)")
        if key(folder.name) in SPLITS:
            return " (no class folder is in it)"
        close = get_close_matches(key(folder.name), candidates, n=1, cutoff=0.5)
        return f" (rename it to {close[0]}?)" if close else " (move it elsewhere)"


def _absent(files: list[File], labels: Sequence[str]) -> list[str]:
    """Return the labels that ought to have an image and have none."""
    present = {file.label for file in files}
    if TUMOUR in labels:
        return [] if present else list(labels)
    return [label for label in labels if label not in present]


def _named(name: str, label: str) -> str:
    return name if "/" in name else f"{label}/{name}"


def _shown(path: Path, source: Path) -> str:
    return path.relative_to(source).as_posix() if path.is_relative_to(source) else str(path)


def _counted(left_out: Counter[str]) -> str:
    counts = ", ".join(f"{count} x {reason}" for reason, count in sorted((+left_out).items()))
    return f" Left out: {counts}." if counts else ""


def _from_csv(source: Path, labels: Sequence[str]) -> Found:
    files = [File(source.parent / row["path"], _named(Path(row["path"]).as_posix(), row["label"]), row["label"],
                  row["patient"], row["source"]) for row in listing.read(source, labels)]
    if absent := _absent(files, labels):
        raise StageError(f"Expected lines of every class in {source}. Received: none of {', '.join(absent)}. Add some.")
    return _found(files, labels, Counter(), set())
