"""Phantoms -> PNG files in one folder a class, written whole or not at all."""

import struct
import zlib
from collections.abc import Callable
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import numpy as np
from joblib import delayed

from core import contract, files
from stages.data import processes as pool
from stages.data.phantom import drawing, tumours


def png(image: np.ndarray) -> bytes:
    """Return an 8-bit grey PNG file of a uint8 [height, width] array (https://www.w3.org/TR/png)."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width = image.shape
    rows = np.zeros((height, width + 1), np.uint8)  # a zero before each row: no filter, the noise defeats them all
    rows[:, 1:] = image
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    # runs only: the background shrinks as well, noise finds no longer matches, and it takes half the time
    deflate = zlib.compressobj(1, strategy=zlib.Z_RLE)
    data = deflate.compress(rows.tobytes()) + deflate.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def phantom_seed(seed: int, label: str, index: int) -> int:
    """Return the seed of the index-th phantom of a class in the data set with this seed."""
    return int(np.random.SeedSequence([seed, contract.CLASSES.index(label), index]).generate_state(1)[0])


def write_dataset(
    folder: Path,
    images_per_class: int,
    size: int,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
    masks: Path | None = None,
    processes: int | None = None,
) -> None:
    """Write folder/<class>/ph-<cl>_0001.png ...: all of it or nothing.

    masks: a folder for tumour masks of the same names (0 or 255), written likewise. progress(done, total) is called
    as images get done. processes: by default 2 when there are enough images to pay for starting them, else 1.
    Raises ValueError for a number below 1, a size below drawing.MIN_SIZE or a negative seed; NoPainter;
    FileExistsError if a folder is there; RuntimeError if a process of its own dies.
    """
    if images_per_class < 1:
        raise ValueError(f"Expected images_per_class >= 1. Received: images_per_class={images_per_class!r}")
    drawing.check(size, seed)
    tumours.require_painters(contract.CLASSES)
    targets = [Path(target) for target in (folder, masks) if target]
    for target in targets:
        if target.exists():
            raise FileExistsError(f"Expected a folder that is not there yet. Received: {target}. Remove it first.")
    jobs = [(label, index) for label in contract.CLASSES for index in range(images_per_class)]
    number, tell = count(1), progress or (lambda *_: None)
    with ExitStack() as stack:
        drafts = [stack.enter_context(files.replacing(target)).resolve() for target in targets]
        for draft in drafts:
            for label in contract.CLASSES:
                (draft / label).mkdir(parents=True)
        # What a failure throws into the pool kills its processes before their folder goes.
        pool.run([delayed(_write)(drafts, *job, size, seed) for job in jobs], processes or pool.count(len(jobs)),
                 lambda _: tell(next(number), len(jobs)))


def _write(drafts: list[Path], label: str, index: int, size: int, seed: int) -> None:
    """Draw a phantom and write it to drafts[0] and, if there are two folders, its mask to drafts[1]."""
    phantom = drawing.draw(label, phantom_seed(seed, label, index), size)
    for draft, pixels in zip(drafts, (phantom.image, np.uint8(phantom.mask) * 255), strict=False):
        (draft / label / f"ph-{label[:2]}_{index + 1:04d}.png").write_bytes(png(pixels))
