"""The byte structure of PNG, JPEG and GIF files: checked, and written again without anything but the image.

EXIF, comments and text chunks carry names, dates and places of patients. They are dropped here at the byte level, so
the compressed pixels stay as they were. What follows the end of the image (a second MPO frame, an appended archive)
is dropped too. Structure: PNG specification (W3C, third edition) section 5; ITU-T T.81 (JPEG) annex B;
GIF89a specification (CompuServe 1990).
"""

import re
import struct
import zlib
from dataclasses import dataclass

from imaging import signatures
from imaging.errors import corrupt

PNG_KEPT = (b"IHDR", b"IDAT", b"IEND")
IHDR = struct.Struct(">IIBBBBB")  # width, height, bits, colour type, compression, filter, interlace
GREY, RGB = 0, 2  # colour types
CHANNELS = {GREY: 1, RGB: 3, 3: 1, 4: 2, 6: 4}  # by colour type; 3 is a palette, 4 and 6 have alpha

SOI, EOI, SOS = 0xD8, 0xD9, 0xDA
JFIF, ADOBE = 0xE0, 0xEE
# All applications' segments and comments except the two that tell a decoder which colours the numbers are.
JPEG_DROPPED = {*range(0xE0, 0xF0), 0xFE} - {JFIF, ADOBE}
JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
# Huffman-coded sequential and progressive files: every decoder reads them, unlike lossless and arithmetic-coded ones.
JPEG_PLAIN_FRAMES = {0xC0, 0xC1, 0xC2}
END_OF_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")

EXTENSION, CONTROL, IMAGE, TRAILER = 0x21, 0xF9, 0x2C, 0x3B

# Files made to keep a decoder busy: each JPEG scan of a few bytes walks over all pixels once more (images have about
# 10 scans, libtiff stops at 100); 10 MiB hold 800 000 empty PNG chunks; 10 MB of short GIF comments kept Pillow 12
# busy for 195 s. 10 MiB of GIF data in blocks of the usual 255 bytes are 41 000 blocks.
MAX_SCANS = 50
MAX_SEGMENTS = 1000
MAX_CHUNKS = 20_000
MAX_BLOCKS = 100_000
PIECE = 1 << 20

CUT_OFF = "it ends before its end marker, so it was cut off"


@dataclass(frozen=True)
class Png:
    """The chunks of a PNG file up to IEND, as (name, whole chunk)."""

    chunks: list[tuple[bytes, bytes]]

    @classmethod
    def parse(cls, data: bytes) -> "Png":
        """Take a file apart. Raises ImageError (corrupt_image)."""
        return cls(_chunks(data))

    def is_plain(self) -> bool:
        """Tell whether the image is 8-bit grey or RGB without a transparent colour, in the only defined coding."""
        _, _, bits, colour, *coding, interlace = self._header()
        transparent = any(name == b"tRNS" for name, _ in self.chunks)
        return bits == 8 and colour in (GREY, RGB) and coding == [0, 0] and interlace < 2 and not transparent

    def stripped(self) -> bytes:
        """Return the file without optional chunks; shows the same image if is_plain()."""
        return signatures.PNG + b"".join(chunk for name, chunk in self.chunks if name in PNG_KEPT)

    def check_pixels(self) -> None:
        """Inflate the compressed pixels and raise ImageError (corrupt_image) if rows or the checksum are missing.

        Pillow shows missing rows as black and does not look at the checksum; TensorFlow's libpng refuses both. Check
        the size of the image first: the work grows with it.
        """
        width, height, bits, colour, *_, interlace = self._header()
        pixel_bits = bits * CHANNELS.get(colour, 1)
        rows = height * (1 + (width * pixel_bits + 7) // 8)  # each row starts with the number of its filter
        least = height * width * pixel_bits // 8 if interlace else rows
        stream = b"".join(chunk[8:-4] for name, chunk in self.chunks if name == b"IDAT")
        # Interlacing cuts the image into more and shorter rows; twice the bytes are more than it ever needs.
        _check_stream(stream, least, 2 * rows + 64)

    def _header(self) -> tuple[int, ...]:
        return IHDR.unpack(self.chunks[0][1][8:-4])


@dataclass(frozen=True)
class Jpeg:
    """The segments of a JPEG file between start and end of its first image, as (marker, whole segment)."""

    segments: list[tuple[int, bytes]]

    @classmethod
    def parse(cls, data: bytes) -> "Jpeg":
        """Take a file apart. Raises ImageError (corrupt_image)."""
        return cls(_segments(data))

    def is_plain(self) -> bool:
        """Tell whether the coding is one that every decoder reads: sequential or progressive, with Huffman codes."""
        return JPEG_FRAMES.intersection(marker for marker, _ in self.segments) <= JPEG_PLAIN_FRAMES

    def stripped(self) -> bytes:
        """Return the file without EXIF, comments, profiles, previews and whatever followed its end marker."""
        kept = b"".join(segment for marker, segment in self.segments if marker not in JPEG_DROPPED)
        return bytes((0xFF, SOI)) + kept + bytes((0xFF, EOI))


@dataclass(frozen=True)
class Gif:
    """A GIF file's header with its palette, and its first two images with what controls their transparency.

    Two images are enough to see that there are several.
    """

    parts: list[bytes]

    @classmethod
    def parse(cls, data: bytes) -> "Gif":
        """Take a file apart. Raises ImageError (corrupt_image)."""
        return cls(_pictures(data))

    def is_plain(self) -> bool:
        """Tell that the file can't be passed on: a GIF has a palette."""
        return False

    def stripped(self) -> bytes:
        """Return the file without comments and applications' data."""
        return b"".join(self.parts) + bytes((TRAILER,))


Structure = Png | Jpeg | Gif


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Cut at chunks, comparing every checksum: Pillow skips those of the pixels, TensorFlow's libpng does not."""
    chunks: list[tuple[bytes, bytes]] = []
    position = len(signatures.PNG)
    while not chunks or chunks[-1][0] != b"IEND":
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        chunk = data[position:end]
        if len(chunk) < 12 or end > len(data):
            raise corrupt(CUT_OFF)
        if zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big"):
            raise corrupt("a checksum is wrong, so it was damaged")
        if len(chunks) == MAX_CHUNKS:
            raise corrupt(f"it has more than {MAX_CHUNKS} chunks")
        chunks.append((chunk[4:8], chunk))
        position = end
    if chunks[0][0] != b"IHDR" or len(chunks[0][1]) != 12 + IHDR.size:
        raise corrupt("it does not start with a header of 13 bytes, so it was damaged")
    return chunks


def _check_stream(stream: bytes, least: int, most: int) -> None:
    """Inflate a zlib stream piece by piece, so that neither memory nor time depend on what it claims to hold."""
    inflater, count = zlib.decompressobj(), 0
    try:
        while stream and not inflater.eof and count <= most:
            count += len(inflater.decompress(stream, PIECE))
            stream = inflater.unconsumed_tail
    except zlib.error:
        raise corrupt("its compressed pixels are damaged") from None
    if not inflater.eof or not least <= count <= most:
        raise corrupt("its compressed pixels are more or fewer than its header says")


def _segments(data: bytes) -> list[tuple[int, bytes]]:
    segments: list[tuple[int, bytes]] = []
    position, scans = 2, 0
    while True:
        marker, end = _segment(data, position)
        if marker == EOI:
            return segments
        scans += marker == SOS
        if scans > MAX_SCANS or len(segments) == MAX_SEGMENTS:
            raise corrupt(f"it has more than {MAX_SCANS} scans or {MAX_SEGMENTS} segments")
        segments.append((marker, data[position:end]))
        position = end


def _segment(data: bytes, position: int) -> tuple[int, int]:
    """Return (marker, end) of the segment at a position; a scan's compressed data belong to its segment."""
    start = position
    while data[start + 1 : start + 2] == b"\xff":  # any number of fill bytes may precede a marker
        start += 1
    if len(data) < start + 2:
        raise corrupt(CUT_OFF)
    if data[start] != 0xFF:
        raise corrupt("it holds bytes that belong to no segment, so it was damaged")
    marker = data[start + 1]
    if marker == EOI:
        return marker, start + 2
    end = start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")
    if marker == SOS:
        found = END_OF_SCAN.search(data, end)
        end = found.start() if found else len(data) + 1
    if end > len(data):
        raise corrupt(CUT_OFF)
    return marker, end


def _pictures(data: bytes) -> list[bytes]:
    """Return the header and at most two images of a GIF, each after its last graphic control extension."""
    position = 13 + _palette_bytes(data, 10)
    parts, control = [data[:position]], b""
    for _ in range(MAX_SEGMENTS):
        start, kind = position, data[position] if position < len(data) else TRAILER
        if kind == TRAILER or len(parts) == 3:
            return parts
        if kind == EXTENSION:
            position = _blocks_end(data, start + 2)
            control = data[start:position] if data[start + 1] == CONTROL else control
        elif kind == IMAGE:
            position = _blocks_end(data, start + 11 + _palette_bytes(data, start + 9))
            parts.append(control + data[start:position])
            control = b""
        else:
            raise corrupt("it holds bytes that belong to no block, so it was damaged")
    raise corrupt(f"it has more than {MAX_SEGMENTS} extensions")


def _palette_bytes(data: bytes, position: int) -> int:
    flags = int.from_bytes(data[position : position + 1], "big")
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _blocks_end(data: bytes, position: int) -> int:
    for _ in range(MAX_BLOCKS):
        if position >= len(data):
            raise corrupt(CUT_OFF)
        length = data[position]
        position += 1 + length
        if length == 0:
            return position
    raise corrupt(f"it has a part of more than {MAX_BLOCKS} blocks")
