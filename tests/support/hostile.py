"""Uploads that a server must survive, each with what is right to say of it: the one corpus of bad files."""

import contextlib
import gzip
import io
import itertools
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps, PngImagePlugin

from imaging import decode, metadata, readers, signatures
from tests.support import medical
from webapp.errors import BAD_IMAGE

BOUNDARY = "frontier"
KIND = f"multipart/form-data; boundary={BOUNDARY}"
WELL, DAMAGED, STRANGE, MALFORMED = {200}, {422}, {415}, {400}
CORRUPT, UNSUPPORTED, FRAMES = "corrupt_image", "unsupported_format", "multiple_frames"
SMALL, LARGE = "image_too_small", "image_too_large"
WIDTH, HEIGHT = 48, 32
# A gradient with a corner of ones beside zeros: no turn or flip leaves it as it was, and its percentiles are 0 and 1.
RAMP = np.add.outer(np.arange(HEIGHT) * 2.0, np.arange(WIDTH)) / 109
RAMP[:8, :8], RAMP[:8, 8:12] = 1, 0
GREY = Image.fromarray(np.rint(RAMP * 255).astype(np.uint8))
COLOUR = Image.merge("RGB", (GREY, ImageOps.mirror(GREY), ImageOps.flip(GREY)))


@dataclass(frozen=True)
class Case:
    """One request.

    Attributes:
        name: of the test. body, kind: what is posted, and its content type. statuses: those that are right.
        code: of the fault of the image; empty where it has none, or the form's fault comes first.
    """

    name: str
    body: bytes
    statuses: set[int]
    kind: str = KIND
    code: str = ""


def form(content: bytes, name: str = "scan.png", head: str = "", field: str = "file") -> bytes:
    """Return a multipart body with one file."""
    disposition = f'Content-Disposition: form-data; name="{field}"; filename="{name}"\r\n{head}\r\n'
    return f"--{BOUNDARY}\r\n{disposition}".encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()


def picture(mode: str = "L", form: str = "PNG", size: tuple[int, int] = (64, 64), **options) -> bytes:
    """Return an encoded picture of noise."""
    noise = np.random.default_rng(5).integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    image = Image.fromarray(noise[..., 0].astype(np.uint16) * 257) if mode == "I;16" else (
        Image.fromarray(noise, "RGBA").convert("RGB" if mode != "RGBA" else mode))
    buffer = io.BytesIO()
    (image if mode in ("I;16", "RGBA") else image.convert(mode)).save(buffer, form, **options)
    return buffer.getvalue()


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    """Return an image as a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


JPEG, PNG = encoded(COLOUR, "JPEG"), encoded(COLOUR)


def chunk(kind: bytes, data: bytes) -> bytes:
    """Return a chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, stream: bytes, *extra: bytes, bits: int = 8, colour: int = 0,
        interlace: int = 0) -> bytes:
    """Return a PNG, grey unless its colour type is given, with any compressed pixels, further chunks before them."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlace)
    return b"".join([signatures.PNG, chunk(b"IHDR", header), *extra, chunk(b"IDAT", stream), chunk(b"IEND", b"")])


def rows(array: np.ndarray) -> bytes:
    """Return the rows of a PNG, not yet compressed."""
    return b"".join(b"\0" + row.astype(array.dtype.newbyteorder(">")).tobytes() for row in array)


def deep_colour(top: int) -> bytes:
    """Return a PNG of 16 bits a colour, whose brightest is `top`."""
    values = np.repeat(np.rint(RAMP * top).astype(np.uint16)[..., None], 3, axis=2)
    return png(WIDTH, HEIGHT, zlib.compress(rows(values.reshape(HEIGHT, -1))), bits=16, colour=2)


def gif_comments(count: int, comment: bytes = b"\x21\xfe\x01a\0") -> bytes:
    """Return a GIF with a comment a number of times."""
    return encoded(COLOUR, "GIF")[:-1] + comment * count + b";"


def many_scans(count: int) -> bytes:
    """Return a JPEG whose last scan is repeated."""
    segments = metadata.Jpeg.parse(encoded(COLOUR, "JPEG", progressive=True)).segments
    return metadata.Jpeg(segments + segments[-1:] * count).stripped()


def flipped(data: bytes, position: int) -> bytes:
    """Return a file with the bits of one byte turned over."""
    return data[:position] + bytes([data[position] ^ 0xFF]) + data[position + 1 :]


def files() -> Iterator[tuple[str, bytes, str]]:
    """Yield name, content and code of every file; the code of one that is accepted is empty."""
    yield from pictures()
    yield from damaged()
    yield from medical_files()


def damaged() -> Iterator[tuple[str, bytes, str]]:
    """Yield what files() does, of pictures that are damaged in one place, or made to keep a decoder busy."""
    yield "text renamed to .jpg", b"these are not the pixels you are looking for", UNSUPPORTED
    yield "ICO, which Pillow could read", encoded(COLOUR, "ICO"), UNSUPPORTED
    yield "12-bit colour in 16 bits", deep_colour(4095), UNSUPPORTED
    for kind, cut in (("JPEG", 2), ("PNG", 12), ("GIF", 200), ("BMP", 200), ("WEBP", 20), ("TIFF", 200)):
        yield f"{kind} without its last {cut} bytes", encoded(COLOUR, kind)[:-cut], CORRUPT
    yield "JPEG of three bytes", JPEG[:3], CORRUPT
    yield "JPEG with a hundred scans", many_scans(100), CORRUPT
    yield "JPEG with thousands of segments", JPEG[:2] + b"\xff\xfe\0\2" * 5000 + JPEG[2:], CORRUPT
    for place, position in (("its pixels", len(PNG) // 2), ("the end", len(PNG) - 13), ("its header", 20)):
        yield f"PNG with a wrong checksum in {place}", flipped(PNG, position), CORRUPT
    rows_of_64 = bytes(65 * 64)
    for name, pixels in (("half of its rows", rows_of_64[: 65 * 32]), ("pixels that never end", rows_of_64 * 1000)):
        yield f"PNG with {name}", png(64, 64, zlib.compress(pixels)), CORRUPT
    yield "PNG of 0 x 0", png(0, 0, zlib.compress(b"")), CORRUPT
    yield "PNG with pixels that are no zlib", png(64, 64, b"nonsense"), CORRUPT
    yield "PNG with 30000 chunks", png(64, 64, zlib.compress(rows_of_64), chunk(b"tEXt", b"a\0b") * 30000), CORRUPT
    yield "GIF with a million comments", gif_comments(1_000_000), CORRUPT
    yield "GIF with one comment of a million blocks", gif_comments(1, b"\x21\xfe" + b"\x01a" * 10**6 + b"\0"), CORRUPT
    yield "TIFF of NaN only", encoded(Image.fromarray(np.full((32, 32), np.nan, np.float32)), "TIFF"), CORRUPT
    yield "300 x 15", encoded(Image.new("L", (300, 15)), "JPEG"), SMALL
    yield "PNG of a million x 16", png(1_000_000, 16, zlib.compress(bytes(1_000_001))), LARGE
    yield "one byte more than 10 MiB", JPEG.ljust(decode.MAX_BYTES + 1, b"\0"), "file_too_large"


def pictures() -> Iterator[tuple[str, bytes, str]]:
    """Yield what files() does, of every format and mode, bombs, and what is no picture."""
    for reader, mode in itertools.product(readers.IMAGE_READERS, ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16")):
        with contextlib.suppress(OSError, ValueError):  # not every format has every mode
            content = picture(mode, reader.name)
            yield f"{mode} {reader.name}", content, ""
            yield f"half a {mode} {reader.name}", content[: len(content) // 2], CORRUPT
    for turned in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = turned
        yield f"EXIF orientation {turned}", picture("RGB", "JPEG", (80, 40), exif=exif), ""
    yield "progressive JPEG", picture("RGB", "JPEG", progressive=True), ""
    yield "interlaced text", png(64, 64, zlib.compress(bytes(65 * 64)), chunk(b"tEXt", b"a\0" + b"x" * 2**20)), ""
    frames = [Image.new("L", (64, 64), grey) for grey in (1, 200)]
    for format_ in ("GIF", "WEBP", "PNG", "TIFF"):
        buffer = io.BytesIO()
        frames[0].save(buffer, format_, save_all=True, append_images=frames[1:])
        yield f"two frames of {format_}", buffer.getvalue(), FRAMES
    row = zlib.compress(bytes(2**24), 9)
    yield "bomb by its header", png(60_000, 60_000, row), LARGE
    yield "bomb in the pixels", png(64, 64, row), CORRUPT
    black = zlib.compress(bytes(65 * 64))
    yield "bomb in the colour profile", png(64, 64, black, chunk(b"iCCP", b"a\0\0" + row)), CORRUPT
    yield "bomb in a comment", png(64, 64, black, chunk(b"zTXt", b"a\0\0" + row)), CORRUPT
    yield "just over the limit of pixels", picture("1", "PNG", (4097, 4096)), LARGE
    yield "a side of 20,000", picture("1", "PNG", (20_000, 20)), LARGE
    yield "a side of 15", picture(size=(15, 64)), SMALL
    yield "one pixel", picture(size=(1, 1)), SMALL
    yield "nothing", b"", "empty_file"
    yield "one byte", b"\x89", UNSUPPORTED
    for name, start in (("PDF", b"%PDF-1.4\n"), ("EPS", b"%!PS-Adobe-3.0 EPSF-3.0\n"), ("SVG", b"<svg onload='a()'/>"),
                        ("HTML", b"<html><script>1</script>"), ("ZIP", b"PK\x03\x04"), ("ELF", b"\x7fELF"),
                        ("gzip", b"\x1f\x8b\x08"), ("HEIC", bytes(4) + b"ftypheic"),
                        ("PPM", b"P6 64 64 255\n")):
        yield name, start + bytes(500), UNSUPPORTED
    yield "PDF with a JPEG", b"%PDF-1.4\n" + picture("L", "JPEG"), UNSUPPORTED
    yield "ZIP with a PNG", b"PK\x03\x04" + picture(), UNSUPPORTED
    yield "DICOM preamble with a PNG", picture()[:128].ljust(128, b"\0") + b"DICM" + bytes(64), CORRUPT
    yield "PNG with a script behind it", picture() + b"<script>1</script>", ""
    yield "GIF with a script in it", b"GIF89a/*" + bytes(500) + b"*/=1;", CORRUPT
    grey = picture("L", "JPEG")
    # What only a decoder notices; libjpeg has Huffman tables of its own.
    for name, marker, missing in (("Huffman", b"\xff\xc4", ""), ("quantisation", b"\xff\xdb", CORRUPT)):
        start = grey.index(marker) + 4
        yield f"JPEG with a broken {name} table", grey[:start] + bytes([255] * 16) + grey[start + 16 :], CORRUPT
        first = grey.index(marker)
        length = int.from_bytes(grey[first + 2 : first + 4], "big")
        yield f"JPEG without a {name} table", grey[:first] + grey[first + 2 + length :], missing
    notes = PngImagePlugin.PngInfo()
    notes.add_text("Patient", "Jane Doe " * 1000)
    yield "PNG with a name in it", picture(pnginfo=notes), ""
    yield "noise", np.random.default_rng(1).bytes(10_000), UNSUPPORTED


def medical_files() -> Iterator[tuple[str, bytes, str]]:
    """Yield what files() does, of DICOM files and NIfTI volumes."""
    grey = np.random.default_rng(5).integers(0, 4096, (64, 64), np.uint16)
    scan = medical.dicom(grey, WindowCenter=2000, WindowWidth=4000)
    yield "DICOM", scan, ""
    yield "half a DICOM", scan[: len(scan) // 2], CORRUPT
    yield "DICOM preamble alone", bytes(128) + b"DICM" + bytes(500), CORRUPT
    yield "DICOM of another modality", medical.dicom(grey, Modality="CT"), "wrong_modality"
    yield "DICOM of several frames", medical.dicom(np.stack([grey, grey])), FRAMES
    yield "DICOM of 60,000 x 60,000", medical.dicom(grey, Rows=60_000, Columns=60_000), LARGE
    yield "nested DICOM", medical.nested(500_000), CORRUPT
    yield "babbling file meta information", medical.babbling(0x00020000, 40), CORRUPT
    yield "babbling modality", medical.babbling(0x00080060, 40), CORRUPT
    yield "crowded DICOM", medical.crowded(10 * 2**20), CORRUPT
    upright = np.eye(4)
    volume = medical.nifti(grey[..., None], upright, packed=False)
    yield "NIfTI", volume, ""
    yield "half a NIfTI", volume[: len(volume) // 2], CORRUPT
    yield "NIfTI of several slices", medical.nifti(np.stack([grey] * 20, -1), upright), FRAMES
    yield "NIfTI of 100 GB", medical.nifti(grey[..., None], upright, dim=[3, 30_000, 30_000, 60, 1, 1, 1, 1]), LARGE
    yield "gzip bomb as NIfTI", gzip.compress(volume[:352] + bytes(2**28), 1)[: 10**7], ""


def cases() -> list[Case]:
    """Return all requests."""
    found = [Case(name, form(content), {BAD_IMAGE.get(code, 200)}, code=code) for name, content, code in files()]
    good = picture()
    for name in ("../../etc/passwd", "a\0b.png", "\u202egnp.exe", "x" * 5000, "", "con", "a;rm -rf.png"):
        found.append(Case(f"file name {name[:12]!r}", form(good, name), WELL if name else MALFORMED))
    part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="model"\r\n\r\ncustom\r\n'.encode()
    return found + [
        Case("no boundary", form(good), MALFORMED | STRANGE, "multipart/form-data"),
        Case("another boundary", form(good), MALFORMED, "multipart/form-data; boundary=other"),
        Case("JSON", b'{"file": "a"}', STRANGE, "application/json"),
        Case("no content type", form(good), STRANGE, ""),
        Case("cut off", form(good)[:-30], MALFORMED),
        Case("no parts", f"--{BOUNDARY}--\r\n".encode(), MALFORMED),
        Case("two files", form(good)[: -len(BOUNDARY) - 8] + b"\r\n" + form(good), MALFORMED),
        Case("two models", part * 2 + form(good), MALFORMED),
        Case("9 parts", part * 9 + form(good), {400, 413}),
        Case("5,000 parts", part * 5000 + form(good), {400, 413}),
        Case("another field", form(good, field="upload"), MALFORMED),
        Case("a field name of 100 kB", form(good, field="f" * 100_000), {400, 413}),
        Case("a part header of 1 MB", form(good, head="X-A: " + "a" * 2**20 + "\r\n"), {400, 413}),
        Case("a part in a part", form(form(good)), DAMAGED | MALFORMED),
    ]
