"""Uploads that a server must survive: each with the statuses that are right for it."""

import gzip
import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image, PngImagePlugin

from tests.support import medical

BOUNDARY = "frontier"
KIND = f"multipart/form-data; boundary={BOUNDARY}"
WELL, REFUSED, DAMAGED, STRANGE, LARGE, MALFORMED = {200}, {413, 415, 422}, {415, 422}, {415}, {413}, {400}


@dataclass(frozen=True)
class Case:
    """One request.

    Attributes:
        name: of the test. body, kind: what is posted, and its content type. statuses: those that are right.
    """

    name: str
    body: bytes
    statuses: set[int]
    kind: str = KIND


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


def chunk(kind: bytes, data: bytes) -> bytes:
    """Return a chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, pixels: bytes, *extra: bytes) -> bytes:
    """Return a grey 8-bit PNG with any pixel data, further chunks before it."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def files() -> Iterator[tuple[str, bytes, set[int]]]:
    """Yield name, content and right statuses of every file."""
    for mode, format_ in (("L", "PNG"), ("RGB", "PNG"), ("RGBA", "PNG"), ("P", "PNG"), ("1", "PNG"), ("LA", "PNG"),
                          ("I;16", "PNG"), ("L", "JPEG"), ("RGB", "JPEG"), ("CMYK", "JPEG"), ("YCbCr", "JPEG"),
                          ("L", "BMP"), ("RGB", "WEBP"), ("L", "TIFF"), ("CMYK", "TIFF"), ("P", "GIF"), ("L", "GIF")):
        yield f"{mode} {format_}", picture(mode, format_), WELL
        yield f"half a {mode} {format_}", picture(mode, format_)[: len(picture(mode, format_)) // 2], REFUSED
    for turned in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = turned
        yield f"EXIF orientation {turned}", picture("RGB", "JPEG", (80, 40), exif=exif), WELL
    yield "progressive JPEG", picture("RGB", "JPEG", progressive=True), WELL
    yield "interlaced text", png(64, 64, zlib.compress(bytes(65 * 64)), chunk(b"tEXt", b"a\0" + b"x" * 2**20)), WELL
    frames = [Image.new("L", (64, 64), grey) for grey in (1, 200)]
    for format_ in ("GIF", "WEBP", "PNG", "TIFF"):
        buffer = io.BytesIO()
        frames[0].save(buffer, format_, save_all=True, append_images=frames[1:])
        yield f"two frames of {format_}", buffer.getvalue(), {422}
    row = zlib.compress(bytes(2**24), 9)
    yield "bomb by its header", png(60_000, 60_000, row), LARGE
    yield "bomb in the pixels", png(64, 64, row), REFUSED | WELL
    black = zlib.compress(bytes(65 * 64))
    yield "bomb in the colour profile", png(64, 64, black, chunk(b"iCCP", b"a\0\0" + row)), REFUSED | WELL
    yield "bomb in a comment", png(64, 64, black, chunk(b"zTXt", b"a\0\0" + row)), REFUSED | WELL
    yield "just over the limit of pixels", picture("1", "PNG", (4097, 4096)), LARGE
    yield "a side of 20,000", picture("1", "PNG", (20_000, 20)), LARGE
    yield "a side of 15", picture(size=(15, 64)), {422}
    yield "one pixel", picture(size=(1, 1)), {422}
    yield "nothing", b"", MALFORMED
    yield "one byte", b"\x89", DAMAGED
    for name, start in (("PDF", b"%PDF-1.4\n"), ("EPS", b"%!PS-Adobe-3.0 EPSF-3.0\n"), ("SVG", b"<svg onload='a()'/>"),
                        ("HTML", b"<html><script>1</script>"), ("ZIP", b"PK\x03\x04"), ("ELF", b"\x7fELF"),
                        ("gzip", b"\x1f\x8b\x08"), ("HEIC", bytes(4) + b"ftypheic"),
                        ("PPM", b"P6 64 64 255\n")):
        yield name, start + bytes(500), STRANGE
    yield "PDF with a JPEG", b"%PDF-1.4\n" + picture("L", "JPEG"), STRANGE
    yield "ZIP with a PNG", b"PK\x03\x04" + picture(), STRANGE
    yield from medical_files()
    yield "DICOM preamble with a PNG", picture()[:128].ljust(128, b"\0") + b"DICM" + bytes(64), DAMAGED
    yield "PNG with a script behind it", picture() + b"<script>1</script>", WELL | DAMAGED
    yield "GIF with a script in it", b"GIF89a/*" + bytes(500) + b"*/=1;", DAMAGED
    broken = bytearray(picture())
    broken[40] ^= 255
    yield "PNG with a wrong checksum", bytes(broken), DAMAGED
    yield "PNG without an end", picture()[:-12], WELL | DAMAGED
    grey = picture("L", "JPEG")
    for name, marker in (("Huffman", b"\xff\xc4"), ("quantisation", b"\xff\xdb")):  # what only a decoder notices
        start = grey.index(marker) + 4
        yield f"JPEG with a broken {name} table", grey[:start] + bytes([255] * 16) + grey[start + 16 :], DAMAGED
        first = grey.index(marker)
        length = int.from_bytes(grey[first + 2 : first + 4], "big")
        yield f"JPEG without a {name} table", grey[:first] + grey[first + 2 + length :], WELL | DAMAGED
    notes = PngImagePlugin.PngInfo()
    notes.add_text("Patient", "Jane Doe " * 1000)
    yield "PNG with a name in it", picture(pnginfo=notes), WELL
    yield "11 MB", picture() + bytes(11 * 2**20), LARGE
    yield "noise", np.random.default_rng(1).bytes(10_000), STRANGE


def medical_files() -> Iterator[tuple[str, bytes, set[int]]]:
    """Yield what files() does, of DICOM files and NIfTI volumes."""
    grey = np.random.default_rng(5).integers(0, 4096, (64, 64), np.uint16)
    scan = medical.dicom(grey, WindowCenter=2000, WindowWidth=4000)
    yield "DICOM", scan, WELL
    yield "half a DICOM", scan[: len(scan) // 2], DAMAGED
    yield "DICOM preamble alone", bytes(128) + b"DICM" + bytes(500), DAMAGED
    yield "DICOM of another modality", medical.dicom(grey, Modality="CT"), DAMAGED
    yield "DICOM of several frames", medical.dicom(np.stack([grey, grey])), DAMAGED
    yield "DICOM of 60,000 x 60,000", medical.dicom(grey, Rows=60_000, Columns=60_000), LARGE
    yield "nested DICOM", medical.nested(500_000), DAMAGED
    yield "babbling file meta information", medical.babbling(0x00020000, 40), DAMAGED
    yield "babbling modality", medical.babbling(0x00080060, 40), DAMAGED
    yield "crowded DICOM", medical.crowded(10 * 2**20), DAMAGED
    upright = np.eye(4)
    volume = medical.nifti(grey[..., None], upright, packed=False)
    yield "NIfTI", volume, WELL
    yield "half a NIfTI", volume[: len(volume) // 2], DAMAGED
    yield "NIfTI of several slices", medical.nifti(np.stack([grey] * 20, -1), upright), DAMAGED
    yield "NIfTI of 100 GB", medical.nifti(grey[..., None], upright, dim=[3, 30_000, 30_000, 60, 1, 1, 1, 1]), LARGE
    yield "gzip bomb as NIfTI", gzip.compress(volume[:352] + bytes(2**28), 1)[: 10**7], WELL | DAMAGED


def cases() -> list[Case]:
    """Return all requests."""
    found = [Case(name, form(content), statuses) for name, content, statuses in files()]
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
