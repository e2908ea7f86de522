"""Reads the images, groups duplicates and adjacent slices, splits them: the first stage.

    python -m stages.prepare          (or, with everything that follows: dvc repro)

prepare.source is `phantom` (synthetic images are drawn first) or a folder with one sub-folder for each class of
core/contract.py; prepare.further_sources join it, and may hold some of the classes and tumours of unknown type. Every
file is read the way serving reads it. The result is data/prepared/: the canonical images, named by their digest, and
one manifest for each split; reports/prepare/ says what the data are like, and data/shown/prepare/ shows the least
similar images that were joined. A second for 200 images.

With prepare.moved_tumours it also makes training images by moving tumours between slices (stages/data/making.py). These
are in train.csv, and counted apart from the images that were read: a second for 20 of them on two cores.
"""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from core import files
from stages.common import command
from stages.common.params import Params
from stages.data import dataset, grouping, labels, making, reading, report, splitting
from stages.reporting import figures

REPORTS = dataset.REPORT.parent
SHOWN = Path("data/shown/prepare")
"""Pictures that show images of the data set: cached by DVC, kept out of Git."""


def write_data(folder: Path, splits: dict[str, list[dataset.Row]], scans: list[reading.Scan]) -> None:
    """Write the manifests and the list of unreadable files beside the images."""
    for name, rows in splits.items():
        dataset.write_manifest(folder / f"{name}.csv", rows)
    bad = [item for one in scans for item in one.bad]
    files.write_text(folder / "unreadable.csv", "".join(f"{source},{reason!r}\n" for source, reason in bad))


def write_reports(summary: dict, splits: dict[str, list[dataset.Row]], rows: list[dataset.Row],
                  weakest: list[grouping.Pair], conflicts: str) -> None:
    """Write the numbers and figures of reports/prepare, and the joined pairs.

    Args:
        summary: the content of data.json.
        splits: rows of each split.
        rows: all images, in the order that the pairs mean.
        weakest: the pairs to show.
        conflicts: the content of label_conflicts.csv.
    """
    name = summary["source"].replace(" + ", " +\n")
    files.write_json(dataset.REPORT, summary)
    files.write_text(REPORTS / "counts.csv", report.counts_csv(splits))
    files.write_text(REPORTS / "label_conflicts.csv", conflicts)
    figures.counts(summary["splits"], f"Images by split and class ({name})", REPORTS / "counts.png")
    figures.draw_pairs(rows, weakest, dataset.FOLDER, name, SHOWN / "duplicates.png")


def main(params: Params) -> None:
    """Write data/prepared, reports/prepare and data/shown/prepare."""
    own = params.prepare
    making.check(own)
    with files.replacing(dataset.FOLDER) as new:
        scans = reading.read_sources(own, new / "images")
        groups = grouping.group(scans, own)
        rows = [replace(row, group=int(number), picture=int(picture)) for row, number, picture in
                zip([row for one in scans for row in one.rows], groups.final, groups.copies, strict=True)]
        doubted = labels.conflicts(rows, [known for one in scans for known in one.known])
        for line in labels.told(rows, doubted, own.label_conflicts):
            print(line)
        settled = labels.settled(rows, doubted, own.label_conflicts)
        kept = np.array([row is not None for row in settled])
        own_scans = scans[: 1 + len(own.further_sources)]
        external = np.arange(len(rows)) >= sum(len(one.rows) for one in own_scans)
        splits = splitting.split([row for row in settled if row], external[kept], own)
        made = making.made(splits, new, own) if own.moved_tumours else []
        write_data(new, splits | {"train": splits["train"] + made}, scans)
    summary = report.report(splits, groups, kept, own) | {
        "label_conflicts": len({one.index for one in doubted}),
        "left_out": dict(sum((Counter(one.left_out) for one in scans), Counter())),
        "unreadable": sum(len(one.bad) for one in scans),
        "sizes": report.sizes(np.concatenate([one.features for one in scans])),
        "source_probe": report.source_probe(splits, own_scans)}
    if own.moved_tumours:
        summary |= {"digest": report.data_digest(splits | {"train": splits["train"] + made}),
                    "moved": making.counts(made)}
    write_reports(summary, splits, rows, groups.weakest, labels.conflicts_csv(rows, doubted))
    print(report.sentences(summary))
    print(f"Written: {dataset.FOLDER}, {REPORTS} and {SHOWN}.")


if __name__ == "__main__":
    command.run(main, __doc__, ["prepare"])
