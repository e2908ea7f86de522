"""Any image file a user may bring -> PNG or JPEG bytes that every decoder of the project reads the same way.

    from imaging import decode
    encoded = decode.read("scan.tif")          # or decode.canonical(bytes)

prepare, client and webapp read images through this module only, so a file is judged the same in training and in
serving. Safe to call from several threads; changes no setting of Pillow.
"""

import hashlib
import io
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageFile import ImageFile

from imaging import depth
from imaging.errors import ImageError, corrupt
from imaging.limits import MAX_BYTES, check_length, check_shape, too_large
from imaging.metadata import Gif, Png, Structure
from imaging.readers import ACCEPTED, SUFFIXES, ImageReader, Reader, SliceReader, reader_of, unsupported
from imaging.volume import UNNAMED, png

__all__ = ["ACCEPTED", "MAX_BYTES", "SUFFIXES", "ImageError", "area", "canonical", "contents", "digest", "find",
           "mirrored", "read", "thumbnail"]
REASONS = {
    FileNotFoundError: "it does not exist",
    NotADirectoryError: "a part of the path is not a folder",
    PermissionError: "you have no permission to read it",
}
ORIENTATION, UPRIGHT, TURNED = 0x0112, 1, range(2, 9)  # the EXIF tag and its values


def canonical(data: bytes, is_decoded_next: bool = False) -> bytes:
    """Turn the bytes of any supported file into an 8-bit grey or RGB PNG or JPEG without metadata.

    The pixels of 8-bit grey and RGB JPEG and PNG files are kept as they were compressed; everything else, and every
    image whose EXIF says that it is turned, is written as PNG. Of MPO the first image is taken; several frames or
    slices are an error otherwise (slices.read() chooses one).
    The whole image is decoded once as a check, unless that `is_decoded_next` by someone who refuses damage, such as
    the served preprocessing; the structure of the file is checked all the same.
    A PNG written here can be larger than MAX_BYTES (up to about 50 MB, from a large photo).
    Damage inside JPEG data that keeps the structure whole cannot be seen: libjpeg bridges it with a warning only.
    Raises ImageError.
    """
    _check_bytes(data)
    reader = reader_of(data)
    if isinstance(reader, SliceReader):
        return reader.read(data, UNNAMED, False).encoded()
    structure = reader.structure(data) if isinstance(reader, ImageReader) and reader.structure else None
    if isinstance(structure, Gif):
        data = structure.stripped()
    with _opened(data, reader) as image:
        if isinstance(structure, Png):
            structure.check_pixels()
        kept = _without_metadata(image, data, structure)
        if kept is None:
            return png(depth.to_8_bit(image))
        if is_decoded_next:
            return kept
        with Image.open(io.BytesIO(kept), formats=("PNG", "JPEG")) as check:
            check.draft("L", (1, 1))  # all of a JPEG is read, but only an eighth of its side computed: half the time
            check.load()
        return kept


def area(data: bytes) -> int:
    """Return how many pixels the header of an image announces; 0 for what Pillow does not open."""
    try:
        with _open(data, reader_of(data)) as image:
            return image.width * image.height
    except Exception:  # on bad bytes Pillow raises OSError, SyntaxError, KeyError, struct.error and more
        return 0


def read(path: str | Path) -> bytes:
    """Read an image file and return its canonical() bytes. Raises ImageError, and what contents() raises."""
    return canonical(contents(path))


def contents(path: str | Path) -> bytes:
    """Return the bytes of a file as they are, at most MAX_BYTES + 1 of them.

    Raises FileNotFoundError, IsADirectoryError, PermissionError or OSError with a message for users.
    """
    path = Path(path)
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(f"{path} is a folder. Name one file in it.")
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"{path} is a device or pipe. Name a regular file.")
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        if error.errno is None:  # raised above
            raise
        reason = REASONS.get(type(error), "the system refuses it")
        raise type(error)(f"{path} cannot be read: {reason}. Check the path.") from None


def find(folder: str | Path, recursive: bool = False) -> list[Path]:
    """List the files in a folder that end in one of SUFFIXES (in any case), sorted by path; hidden ones are left out.

    Raises NotADirectoryError if there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder. Check the path.")
    paths = folder.rglob("*") if recursive else folder.glob("*")
    return sorted(path for path in paths if _is_visible_image(path, folder))


def digest(data: bytes) -> str:
    """Return the SHA-256 of bytes as 64 hexadecimal digits: the name of an image in logs and manifests."""
    return hashlib.sha256(data).hexdigest()


def mirrored(data: bytes) -> bytes:
    """Return the mirror image of what canonical() returned, left and right exchanged, as PNG. Raises ImageError."""
    with _opened(data, reader_of(data)) as image:
        return png(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))


def thumbnail(data: bytes, size: int = 32) -> NDArray[np.float32]:
    """Return an image as float32 [size, size], grey in [0, 1], squeezed to a square, to find near-duplicates.

    `data` is what canonical() returned. A JPEG is decoded at a reduced scale, which makes it several times faster.
    Raises ImageError.
    """
    with _opened(data, reader_of(data)) as image:
        image.draft("L", (2 * size, 2 * size))
        grey = image.convert("L").resize((size, size), Image.Resampling.BOX)
        return np.asarray(grey, np.float32) / 255


def _check_bytes(data: bytes) -> None:
    if not data:
        raise ImageError("empty_file", "The file is empty. Choose it again, or another one.")
    check_length(data)


def _open(data: bytes, reader: Reader | None) -> ImageFile:
    """Return the image with its header read. Raises ImageError (unsupported_format), and what Pillow raises."""
    if not isinstance(reader, ImageReader):
        raise unsupported(data)
    return Image.open(io.BytesIO(data), formats=(reader.name.upper(),))


@contextmanager
def _opened(data: bytes, reader: Reader | None) -> Iterator[ImageFile]:
    """Yield the image with its header read and its limits checked; what goes wrong inside becomes an ImageError."""
    try:
        with _open(data, reader) as image:
            _check_shape(image)
            yield image
    except (ImageError, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise too_large("a header that announces far more") from error
    except Exception as error:  # on bad bytes Pillow raises OSError, SyntaxError, KeyError, struct.error and more
        raise corrupt("it was cut off, damaged or written in an unusual variant of its format") from error


def _check_shape(image: ImageFile) -> None:
    check_shape(*image.size)
    # MPO is a JPEG from a phone, whose further frames are depth maps or previews of the first.
    if image.format != "MPO" and getattr(image, "is_animated", False):
        raise ImageError(
            "multiple_frames",
            f"This {image.format} file has several frames or pages. Export one of them as an image of its own.",
        )


def _without_metadata(image: ImageFile, data: bytes, structure: Structure | None) -> bytes | None:
    """Return the file with metadata dropped, or None if its pixels have to be written again."""
    if structure is None or image.mode not in ("L", "RGB") or not structure.is_plain():
        return None
    kept = structure.stripped()
    # Nothing dropped means no EXIF to look for: for PNG, Pillow would decode the whole image to search behind it.
    turned = kept != data and image.getexif().get(ORIENTATION, UPRIGHT) in TURNED
    return None if turned else kept


def _is_visible_image(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return not hidden and path.name.lower().endswith(SUFFIXES) and path.is_file()
