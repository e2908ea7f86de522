"""The byte structure of PNG and JPEG files: checked, and written again without anything but the picture.

EXIF, comments and text chunks carry names, dates and places of patients. They are dropped here at the byte level, so
the compressed pixels stay as they were. What follows the end of the picture (a second MPO frame, an appended archive)
is dropped too. Structure: PNG specification (W3C, third edition) section 5; ITU-T T.81 (JPEG) annex B.
"""

import re
import zlib

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_KEPT = (b"IHDR", b"IDAT", b"IEND")

# A progressive JPEG has about 10 scans. A few bytes per scan make the decoder walk over all pixels once more, so that a
# small file with thousands of scans runs for hours (libtiff stops at 100 too).
MAX_SCANS = 100
MAX_SEGMENTS = 1000

SOI, EOI, SOS = 0xD8, 0xD9, 0xDA
JFIF, ADOBE = 0xE0, 0xEE
# All applications' segments and comments except the two that tell a decoder which colours the numbers are.
JPEG_DROPPED = {*range(0xE0, 0xF0), 0xFE} - {JFIF, ADOBE}
# Start-of-frame markers of Huffman-coded sequential and progressive 8-bit files, which every decoder reads. The others
# are lossless, hierarchical or arithmetic-coded.
JPEG_COMMON_FRAMES = (0xC0, 0xC1, 0xC2)
JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
END_OF_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")


def png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Return (name, whole chunk) for every chunk of a PNG file up to IEND.

    Every checksum is compared: Pillow skips those of the pixel data, TensorFlow's libpng does not.
    Raises ValueError for a wrong signature, a wrong checksum, or a file that ends before IEND.
    """
    if not data.startswith(PNG_SIGNATURE):
        raise ValueError("the PNG signature is missing")
    chunks, position = [], len(PNG_SIGNATURE)
    while not chunks or chunks[-1][0] != b"IEND":
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        chunk = data[position:end]
        if len(chunk) < 12 or end > len(data):
            raise ValueError("the file ends before its end marker: it was cut off")
        if zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big"):
            raise ValueError("a checksum is wrong: the file was damaged")
        chunks.append((chunk[4:8], chunk))
        position = end
    return chunks


def png_is_plain(chunks: list[tuple[bytes, bytes]]) -> bool:
    """Tell whether the pixels are 8-bit grey or RGB and nothing else is needed to show them (no transparent colour)."""
    header = dict(chunks)[b"IHDR"]
    bits, colour_type = header[16], header[17]
    return bits == 8 and colour_type in (0, 2) and b"tRNS" not in dict(chunks)


def strip_png(chunks: list[tuple[bytes, bytes]]) -> bytes:
    """Return the PNG file without its optional chunks; the picture stays the same if png_is_plain()."""
    return PNG_SIGNATURE + b"".join(chunk for name, chunk in chunks if name in PNG_KEPT)


def jpeg_segments(data: bytes) -> list[tuple[int, bytes]]:
    """Return (marker, whole segment) between start and end of the first picture; scans include their compressed data.

    Raises ValueError for a file that ends before its end marker, for bytes that belong to no segment, and for more
    than MAX_SCANS scans or MAX_SEGMENTS segments.
    """
    if data[:2] != bytes((0xFF, SOI)):
        raise ValueError("the JPEG start marker is missing")
    segments, position, scans = [], 2, 0
    while True:
        marker, end = _segment(data, position)
        if marker == EOI:
            return segments
        scans += marker == SOS
        if scans > MAX_SCANS or len(segments) == MAX_SEGMENTS:
            raise ValueError(f"it has more than {MAX_SCANS} scans or {MAX_SEGMENTS} segments")
        segments.append((marker, data[position:end]))
        position = end


def strip_jpeg(segments: list[tuple[int, bytes]]) -> bytes:
    """Return the JPEG file without EXIF, comments, profiles, previews and whatever followed its end marker."""
    kept = b"".join(segment for marker, segment in segments if marker not in JPEG_DROPPED)
    return bytes((0xFF, SOI)) + kept + bytes((0xFF, EOI))


def jpeg_is_common(segments: list[tuple[int, bytes]]) -> bool:
    """Tell whether every decoder reads this coding: sequential or progressive, Huffman-coded."""
    return all(marker in JPEG_COMMON_FRAMES for marker, _ in segments if marker in JPEG_FRAMES)


def _segment(data: bytes, position: int) -> tuple[int, int]:
    start = position
    while data[start + 1 : start + 2] == b"\xff":  # any number of fill bytes may precede a marker
        start += 1
    if len(data) < start + 2:
        raise ValueError("the file ends before its end marker: it was cut off")
    if data[start] != 0xFF:
        raise ValueError("it holds bytes that belong to no segment: it was damaged")
    marker = data[start + 1]
    if marker == EOI:
        return marker, start + 2
    end = start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")
    if marker == SOS:
        found = END_OF_SCAN.search(data, end)
        end = found.start() if found else len(data) + 1
    if end > len(data):
        raise ValueError("the file ends before its end marker: it was cut off")
    return marker, end
