"""One slice out of a file that may have several, as the 8-bit image that everything else here works with.

Nothing of a file but its pixels and their geometry leaves the readers: tags that name a patient are not even read.
"""

from imaging import limits, readers
from imaging.errors import ImageError
from imaging.volume import FRAMES, PLANES, UNNAMED, Choice, Picture, Slice

__all__ = ["FRAMES", "PLANES", "UNNAMED", "Choice", "Picture", "Slice", "is_medical", "picture", "read"]


def is_medical(data: bytes) -> bool:
    """Return whether a file is for read(): DICOM, NIfTI and what else has a reader of its own."""
    return isinstance(readers.reader_of(data), readers.SliceReader)


def read(data: bytes, choice: Choice = UNNAMED, or_middle: bool = False) -> Slice:
    """Return a slice of a file for which is_medical() holds.

    Args:
        data: the file.
        choice: which slice.
        or_middle: take the middle one where the choice names none and there are several.

    Raises:
        ImageError: corrupt_image, unsupported_format, wrong_modality, multiple_frames (the choice names no slice),
            no_such_slice, image_too_small, image_too_large, file_too_large.
    """
    limits.check_length(data)
    reader = readers.reader_of(data)
    if not isinstance(reader, readers.SliceReader):
        raise readers.unsupported(data)
    return reader.read(data, choice, or_middle)


def picture(data: bytes, choice: Choice = UNNAMED) -> Picture:
    """Return a file as an ordinary image.

    Args:
        data: an ordinary image, which is returned as it is, or a file for which is_medical() holds.
        choice: which slice.

    Raises:
        ImageError: as read(); no_such_slice for a choice where there is only one image.
    """
    if is_medical(data):
        one = read(data, choice)
        return Picture(one.encoded(), data, one.warnings, one.place())
    if choice != UNNAMED:
        raise ImageError("no_such_slice", "This file is a single image. Choose no slice of it, or send "
                         f"a {readers.listed(readers.SLICE_READERS)} file.")
    return Picture(data, data)
