"""Any image file a user may bring -> PNG or JPEG bytes that every decoder of the project reads the same way.

    from imaging import decode
    encoded = decode.read("scan.tif")          # or decode.canonical(bytes)

prepare, client and webapp read images through this module only, so a file is judged the same in training and in
serving. Safe to call from several threads; changes no setting of Pillow.
"""

import hashlib
import io
import stat
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from imaging import depth, metadata, slices
from imaging.errors import ImageError, corrupt
from imaging.limits import MAX_BYTES, check_length, check_shape, too_large

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".dcm")
"""File name endings that find() takes for images, in lower case."""

FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF")
ACCEPTED = "a PNG, JPEG, BMP, WebP, TIFF, GIF, DICOM or NIfTI file"
SIGNATURES = (metadata.PNG_SIGNATURE, metadata.JPEG_SIGNATURE, *metadata.GIF_SIGNATURES, b"BM", b"II*\0", b"MM\0*")
# What people send most often instead of a picture: (offset, bytes, name).
STRANGERS = (
    (0, b"%PDF", "a PDF document"),
    (0, b"%!PS", "a PostScript file"),
    (4, b"ftypheic", "a HEIC photo"),
    (4, b"ftypavif", "an AVIF picture"),
    (0, b"\x1f\x8b", "a gzip file without a NIfTI volume in it"),
    (0, b"PK\x03\x04", "a zip archive"),
)

REASONS = {
    FileNotFoundError: "which does not exist",
    NotADirectoryError: "part of which is not a folder",
    PermissionError: "which you have no permission to read",
}
ORIENTATION, UPRIGHT, TURNED = 0x0112, 1, range(2, 9)  # the EXIF tag and its values


def canonical(data: bytes, is_decoded_next: bool = False) -> bytes:
    """Turn the bytes of any supported file into an 8-bit grey or RGB PNG or JPEG without metadata.

    The pixels of 8-bit grey and RGB JPEG and PNG files are kept as they were compressed; everything else, and every
    picture whose EXIF says that it is turned, is written as PNG. Formats are limited to PNG, JPEG (of MPO the first
    picture), BMP, WebP, TIFF, GIF, and DICOM and NIfTI with a single slice (of several, slices.read() chooses one).
    The whole picture is decoded once as a check, unless that `is_decoded_next` by someone who refuses damage, such as
    the served preprocessing; the structure of the file is checked all the same.
    A PNG written here can be larger than MAX_BYTES (up to about 50 MB, from a large photo).
    Damage inside JPEG data that keeps the structure whole cannot be seen: libjpeg bridges it with a warning only.
    Raises ImageError.
    """
    _check_bytes(data)
    if slices.is_medical(data):
        return slices.read(data).encoded()
    structure = metadata.structure(data)
    if isinstance(structure, metadata.Gif):
        data = structure.stripped()
    with _opened(data) as image:
        if isinstance(structure, metadata.Png):
            structure.check_pixels()
        kept = _without_metadata(image, data, structure)
        if kept is None:
            return slices.png(depth.to_8_bit(image))
        if is_decoded_next:
            return kept
        with Image.open(io.BytesIO(kept), formats=FORMATS) as check:
            check.draft("L", (1, 1))  # all of a JPEG is read, but only an eighth of its side computed: half the time
            check.load()
        return kept


def area(data: bytes) -> int:
    """Return how many pixels the header of a picture announces; 0 for what is none, DICOM and NIfTI files included."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
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
            raise IsADirectoryError(f"Expected an image file. Received: {path}, a folder. Name one file in it.")
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"Expected an image file. Received: {path}, a device or pipe. Name a regular file.")
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        if error.errno is None:  # raised above
            raise
        reason = REASONS.get(type(error), "which cannot be read")
        raise type(error)(f"Expected a readable image file. Received: {path}, {reason}. Check the path.") from None


def find(folder: str | Path, recursive: bool = False) -> list[Path]:
    """List the files in a folder that end in one of SUFFIXES (in any case), sorted by path; hidden ones are left out.

    Raises NotADirectoryError if there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise NotADirectoryError(f"Expected a folder of images. Received: {folder}, which is none. Check the path.")
    paths = folder.rglob("*") if recursive else folder.glob("*")
    return sorted(path for path in paths if _is_visible_image(path, folder))


def digest(data: bytes) -> str:
    """Return the SHA-256 of bytes as 64 hexadecimal digits: the name of an image in logs and manifests."""
    return hashlib.sha256(data).hexdigest()


def mirrored(data: bytes) -> bytes:
    """Return the mirror image of what canonical() returned, left and right exchanged, as PNG. Raises ImageError."""
    with _opened(data) as image:
        return slices.png(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))


def thumbnail(data: bytes, size: int = 32) -> np.ndarray:
    """Return a picture as float32 [size, size], grey in [0, 1], squeezed to a square, to find near-duplicates.

    `data` is what canonical() returned. A JPEG is decoded at a reduced scale, which makes it several times faster.
    Raises ImageError.
    """
    with _opened(data) as image:
        image.draft("L", (2 * size, 2 * size))
        grey = image.convert("L").resize((size, size), Image.Resampling.BOX)
        return np.asarray(grey, np.float32) / 255


def _check_bytes(data):
    if not data:
        raise ImageError("empty_file", f"Expected {ACCEPTED}. Received: 0 bytes. Choose the file again.")
    check_length(data)


@contextmanager
def _opened(data):
    """Yield the image with its header read and its limits checked; what goes wrong inside becomes an ImageError."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_shape(image)
            yield image
    except (ImageError, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise too_large("a header that announces far more") from error
    except Exception as error:  # on bad bytes Pillow raises OSError, SyntaxError, KeyError, struct.error and more
        raise _unreadable(data) from error


def _check_shape(image):
    check_shape(*image.size)
    # MPO is a JPEG from a phone, whose further frames are depth maps or previews of the first.
    if image.format != "MPO" and getattr(image, "is_animated", False):
        raise ImageError(
            "multiple_frames",
            f"Expected one picture. Received: a {image.format} file with several frames or pages. Export one of them.",
        )


def _unreadable(data):
    if data.startswith(SIGNATURES) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP"):
        return corrupt("it was cut off, damaged or written in an unusual variant of its format")
    names = [name for offset, start, name in STRANGERS if data[offset:].startswith(start)]
    return ImageError(
        "unsupported_format",
        f"Expected {ACCEPTED}. Received: {(names or ['something else'])[0]}. Export the slice as PNG.",
    )


def _without_metadata(image, data, structure):
    """Return the file with metadata dropped, or None if its pixels have to be written again."""
    if structure is None or image.mode not in ("L", "RGB") or not structure.is_plain():
        return None
    kept = structure.stripped()
    # Nothing dropped means no EXIF to look for: for PNG, Pillow would decode the whole picture to search behind it.
    turned = kept != data and image.getexif().get(ORIENTATION, UPRIGHT) in TURNED
    return None if turned else kept


def _is_visible_image(path, folder):
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return not hidden and path.suffix.lower() in SUFFIXES and path.is_file()
