"""The formats that are read, each by one reader. A file's content says which one is its own, never its name.

Whatever names formats (the page, its scripts, the command line, error texts) takes the names from here. A new format
is a new entry in READERS; docs/extending.md walks through it.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass

from imaging import signatures
from imaging.errors import ImageError
from imaging.metadata import Gif, Jpeg, Png, Structure
from imaging.signatures import Mark
from imaging.volume import Choice, Slice

Read = Callable[[bytes, Choice, bool], Slice]
"""The content of a file, which slice, whether to take the middle one where none is named -> the slice. Raises
ImageError, see slices.read()."""


@dataclass(frozen=True)
class Reader:
    """How files of one format are recognised.

    Attributes:
        name: for people.
        suffixes: endings of file names, in lower case.
        marks: any of them in a file makes it one of this format, if `confirm` says so too.
        confirm: looks closer where marks are not enough; None where they are.
        is_in_folders: whether folders are searched for it: not if a person has to choose a slice of each file.
    """

    name: str
    suffixes: tuple[str, ...]
    marks: tuple[Mark, ...]
    confirm: Callable[[bytes], bool] | None = None
    is_in_folders: bool = True

    def is_mine(self, data: bytes) -> bool:
        """Return whether a file is of this format."""
        return signatures.begins(data, *self.marks) and (self.confirm is None or self.confirm(data))


@dataclass(frozen=True)
class ImageReader(Reader):
    """A format that Pillow opens, under `name` in capitals.

    Attributes:
        structure: takes the bytes apart, to find damage that Pillow overlooks and to drop metadata; None: the pixels
            are written again, as PNG.
    """

    structure: Callable[[bytes], Structure] | None = None


@dataclass(frozen=True, kw_only=True)
class SliceReader(Reader):
    """A format that neither Pillow nor a browser shows, with one slice or more. Attributes: `read`, see Read."""

    read: Read


def when_used(module: str) -> Read:
    """Return read() of a module that is imported when it is first called.

    pydicom and nibabel take 0.7 s and 20 MB, and most files are neither.
    """

    def read(data: bytes, choice: Choice, or_middle: bool) -> Slice:
        found: Slice = importlib.import_module(module).read(data, choice, or_middle)
        return found

    return read


READERS: tuple[Reader, ...] = (
    ImageReader("PNG", (".png",), ((0, signatures.PNG),), structure=Png.parse),
    ImageReader("JPEG", (".jpg", ".jpeg"), ((0, signatures.JPEG),), structure=Jpeg.parse),
    ImageReader("BMP", (".bmp",), ((0, b"BM"),)),
    ImageReader("WebP", (".webp",), ((0, b"RIFF"),), signatures.is_webp),
    ImageReader("TIFF", (".tif", ".tiff"), tuple((0, mark) for mark in signatures.TIFF)),
    ImageReader("GIF", (".gif",), tuple((0, mark) for mark in signatures.GIF), structure=Gif.parse),
    SliceReader("DICOM", (".dcm",), (signatures.DICOM,), read=when_used(f"{__package__}.dicom")),
    SliceReader("NIfTI", (".nii", ".nii.gz"), ((0, signatures.GZIP), signatures.NIFTI_1, signatures.NIFTI_2),
                signatures.is_nifti, is_in_folders=False, read=when_used(f"{__package__}.nifti")),
)
"""In the order in which people are told of them."""
IMAGE_READERS = tuple(one for one in READERS if isinstance(one, ImageReader))
SLICE_READERS = tuple(one for one in READERS if isinstance(one, SliceReader))

SUFFIXES = tuple(suffix for one in READERS if one.is_in_folders for suffix in one.suffixes)
"""Endings of file names that find() takes for images, in lower case."""
ENDINGS = tuple(dict.fromkeys("." + suffix.rpartition(".")[2] for one in READERS for suffix in one.suffixes))
"""What follows the last dot in a name of any file that can be read: file choosers know no ".nii.gz"."""
SLICE_MARKS = tuple(mark for one in SLICE_READERS for mark in one.marks)
"""What tells that a browser cannot show a file, but slices.read() can; of gzipped files a few too many."""


def listed(readers: tuple[Reader, ...]) -> str:
    """Return the names of formats as people write them: "PNG, JPEG or GIF"."""
    *names, last = (one.name for one in readers)
    return f"{', '.join(names)} or {last}" if names else last


ACCEPTED = f"a {listed(READERS)} file"


def reader_of(data: bytes) -> Reader | None:
    """Return the reader of a file's format; None if there is none."""
    # The last ones first: what has its mark further inside may begin with the bytes of any other.
    for reader in reversed(READERS):
        if reader.is_mine(data):
            return reader
    return None


def unsupported(data: bytes) -> ImageError:
    """Return the error for a file that no reader takes for its own."""
    known = [f": {name}" for mark, name in signatures.STRANGERS if signatures.begins(data, mark)]
    return ImageError("unsupported_format", f"Unsupported file{(known or [''])[0]}. Send {ACCEPTED}.")
