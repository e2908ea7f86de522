"""Looks for bytes that make imaging's decoder do something else than answer or refuse, led by coverage (atheris).

    python -m tests.support.fuzz_decode --seconds 1800

It starts from a small picture of each format and mode, and from what earlier runs found that reaches further
(corpus.zip): --keep FOLDER takes over the corpus of a run, which it names.

Whatever comes in, canonical() must raise an ImageError with a known code, or return bytes that it accepts and leaves as
they are; the served preprocessing must refuse those with a ValueError, or make finite pixels in [0, 1] of them. Within
5 seconds and 2 GB. Ends with 0 when nothing was found; else the bytes are in the folder that is named.
"""

import argparse
import contextlib
import io
import itertools
import sys
import tempfile
import zipfile
from pathlib import Path

import atheris
import numpy as np

with atheris.instrument_imports(include=["imaging", "PIL", "pydicom", "nibabel"]):
    from PIL import Image

    from imaging import CODES, ImageError, decode, dicom, nifti, readers, slices  # noqa: F401

from serving.backends.tensorflow import pixels
from tests.support import medical

MODES = ("L", "P", "RGB", "RGBA", "CMYK", "I;16", "F")
SIDE = 32
LONGEST = 8192
CORPUS = Path(__file__).with_name("corpus.zip")


def seeds(folder: Path) -> None:
    """Write a small picture of each format and mode to start from."""
    x, y = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
    grey = Image.fromarray((4 * x + 3 * y).astype(np.uint8))
    for reader, mode in itertools.product(readers.IMAGE_READERS, MODES):
        buffer = io.BytesIO()
        picture = Image.fromarray((100 * x + y).astype(np.uint16)) if mode == "I;16" else grey.convert(mode)
        with contextlib.suppress(OSError, ValueError):  # not every format has every mode
            picture.save(buffer, reader.name)
            (folder / f"{reader.name}-{mode.replace(';', '')}").write_bytes(buffer.getvalue())
    deep = (100 * x + y).astype(np.uint16)[:16, :16]
    window = {"WindowCenter": 800, "WindowWidth": 1600}
    volume = np.stack([deep, deep], axis=-1)
    for name, data in {"dicom": medical.dicom(deep, **window), "frames": medical.dicom(np.stack([deep, deep])),
                       "colour": medical.dicom(np.dstack([np.asarray(grey)] * 3)),
                       "nifti": medical.nifti(volume, np.eye(4)),
                       "plain": medical.nifti(volume, np.eye(4), packed=False)}.items():
        (folder / name).write_bytes(data)


def keep(folder: Path) -> None:
    """Store the files of a folder as the corpus that further runs start from."""
    with zipfile.ZipFile(CORPUS, "w") as stored:
        for path in sorted(folder.iterdir()):
            stored.writestr(zipfile.ZipInfo(path.name), path.read_bytes(), zipfile.ZIP_LZMA)


def guarded(data: bytes) -> None:
    """Let the decoder at bytes. Raises AssertionError, or whatever it lets through that it should not."""
    try:
        if slices.is_medical(data):
            assert decode.canonical(slices.read(data, or_middle=True).encoded())
        canonical = decode.canonical(data)
    except ImageError as error:
        assert error.code in CODES, error.code
        return
    assert decode.canonical(canonical) == canonical, "canonical bytes are changed again"
    try:
        made = pixels.pixels(canonical, SIDE)
    except ValueError:  # the server refuses it with the same status
        return
    assert made.shape == (SIDE, SIDE, 3) and np.isfinite(made).all(), "pixels are no pixels"
    assert made.min() >= 0 and made.max() <= 1, "pixels are out of range"


def main() -> None:
    """Run the command; libFuzzer ends the process."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.fuzz_decode", description=__doc__.splitlines()[0],
                                     epilog="example: python -m tests.support.fuzz_decode --seconds 1800")
    parser.add_argument("--seconds", type=int, default=120, help="default: %(default)s")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="store this corpus of a run, and end")
    options = parser.parse_args()
    if options.keep:
        keep(options.keep)
        return
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    print(f"What is found goes to {folder}", flush=True)
    (folder / "corpus").mkdir()
    seeds(folder / "corpus")
    with zipfile.ZipFile(CORPUS) as stored:
        stored.extractall(folder / "corpus")
    limits = ["-timeout=5", "-rss_limit_mb=2048", f"-max_len={LONGEST}", f"-artifact_prefix={folder}/",
              f"-max_total_time={options.seconds}", "-print_final_stats=1", "-verbosity=0"]
    atheris.Setup([sys.argv[0], *limits, str(folder / "corpus")], guarded)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
