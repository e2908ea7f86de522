"""DICOM files -> one 8-bit image, as a viewer shows it at first: rescaled, windowed, white where it should be.

Of the data set only the tags named here are read; what names a patient is skipped. Section numbers are those of the
DICOM standard 2024 (https://dicom.nema.org/medical/dicom/current/output/html/).
"""

import contextlib
import io
import logging
import warnings
from typing import Any

import numpy as np
import pydicom
import pydicom.dataset
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut, apply_windowing
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID

from imaging import depth, limits, volume
from imaging.errors import ImageError, corrupt
from imaging.volume import Choice, Slice

# Warnings of pydicom quote the values of a file.
warnings.filterwarnings("ignore", module=r"pydicom\b")
logging.getLogger("pydicom").disabled = True
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
# When pydicom puts a value into a text that fails, each sequence around it doubles the text: 2 kB become gigabytes.
setattr(pydicom.dataset, "tag_in_exception", contextlib.nullcontext)  # noqa: B010, its type allows no other

MODALITY = "MR"
SYNTAXES = {
    "1.2.840.10008.1.2": "Implicit VR Little Endian",
    "1.2.840.10008.1.2.1": "Explicit VR Little Endian",
    "1.2.840.10008.1.2.2": "Explicit VR Big Endian",
    "1.2.840.10008.1.2.4.50": "JPEG Baseline",
    "1.2.840.10008.1.2.4.90": "JPEG 2000 lossless",
    "1.2.840.10008.1.2.4.91": "JPEG 2000",
    "1.2.840.10008.1.2.5": "RLE Lossless",
}
"""Transfer syntaxes that Pillow and pydicom decode."""
RLE, DEFLATED = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.1.99"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
GREY, COLOUR = ("MONOCHROME1", "MONOCHROME2"), ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT")

PIXELS = ("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "BitsAllocated",
          "BitsStored", "HighBit", "PixelRepresentation", "NumberOfFrames", "PixelData")
WINDOW = ("WindowCenter", "WindowWidth", "VOILUTFunction")
RESCALE = ("RescaleSlope", "RescaleIntercept")
GROUPS = ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence")
TAGS = (*PIXELS, *WINDOW, *RESCALE, *GROUPS, "VOILUTSequence", "ModalityLUTSequence", "Modality", "SOPClassUID",
        "BurnedInAnnotation", "PixelSpacing")

# Files made to keep a reader busy: 10 MiB hold a million empty elements, nested as deep as Python goes. A file of 200
# frames, each with its own geometry, takes 30,000 reads and has 400 kB of functional groups.
MOST_READS = 150_000
MOST_BYTES_OF_GROUPS = 2**20
MOST_BYTES_OF_RLE = 2 * 2**20
"""Of one frame: RLE grows up to 64-fold."""

BURNED_IN = "The file says that text is burned into its image: a name may be readable in it."
PERHAPS_BURNED_IN = "The file is a screen capture, which often has text burned into it: a name may be readable."
NO_WINDOW = "The file's own window cannot be used, so grey values were stretched over their whole range."


class Bounded(io.BytesIO):
    """Bytes that can be read from so many times only."""

    reads = 0

    def read(self, size: int | None = -1) -> bytes:
        """Read as BytesIO does. Raises ImageError (corrupt_image) after MOST_READS calls."""
        self.reads += 1
        if self.reads > MOST_READS:
            raise corrupt("it has far more elements than any image")
        return super().read(size)


def read(data: bytes, choice: Choice, or_middle: bool) -> Slice:
    """Return one frame. For arguments and errors see imaging.slices.read()."""
    if DEFLATED.encode() in data:  # never inflated: a few kB may become gigabytes
        raise unsupported("deflated")
    try:
        return _frame(data, choice, or_middle)
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # on bad bytes pydicom raises nearly everything, RecursionError included
        raise corrupt("its elements or its pixels are incomplete or contradict each other") from error


def unsupported(received: str) -> ImageError:
    """Return the error for a way to store pixels that is not read here."""
    known = ", ".join(SYNTAXES.values())
    return ImageError("unsupported_format", f"Unsupported kind of DICOM file: {received}. Supported are: {known}. "
                      "Export it uncompressed, for example: gdcmconv --raw in.dcm out.dcm")


def _frame(data: bytes, choice: Choice, or_middle: bool) -> Slice:
    found = pydicom.dcmread(Bounded(data), specific_tags=list(TAGS))
    syntax = UID(found.file_meta.TransferSyntaxUID)
    if syntax not in SYNTAXES:
        raise unsupported(syntax.name if syntax.is_transfer_syntax else "an unknown transfer syntax")
    if (modality := str(found.get("Modality", ""))) != MODALITY:
        other = modality if modality.isalpha() and len(modality) <= 16 else "none or an unknown one"
        raise ImageError("wrong_modality", f"This DICOM file has another modality than {MODALITY}: {other}. Send "
                         "magnetic resonance images only: the networks know no others.")
    height, width, bits = (int(found[name].value) for name in ("Rows", "Columns", "BitsAllocated"))
    limits.check_shape(width, height)
    kind = str(found.PhotometricInterpretation)
    if kind not in GREY + COLOUR or bits not in (8, 16, 32):
        raise unsupported("pixels that are neither grey nor RGB, or of an unusual number of bits")
    counts = {volume.FRAMES: int(found.get("NumberOfFrames") or 1)}
    plane, number = volume.resolved(choice, counts, or_middle)
    if syntax.is_encapsulated:
        _check_frame(found, syntax, number)
    values = pixel_array(found, index=number - 1)
    notes = _burned_in(found)
    if kind in COLOUR:
        if values.dtype != np.uint8 or values.shape != (height, width, 3):
            raise unsupported("colour of more than 8 bits")
        shown = values
    else:
        shown, windowed = _windowed(values, _facts(found, number))
        notes += () if windowed else (NO_WINDOW,)
        shown = 255 - shown if kind == "MONOCHROME1" else shown
    return Slice(volume.squared(shown, _spacing(found)), counts, plane, number, notes)


def _check_frame(found: Dataset, syntax: UID, number: int) -> None:
    """Raise ImageError for a compressed frame that might unfold to far more than the file announces."""
    frames = int(found.get("NumberOfFrames") or 1)
    frame = get_frame(found.PixelData, number - 1, number_of_frames=frames)
    if syntax == RLE:
        if len(frame) > MOST_BYTES_OF_RLE:
            raise limits.too_large(f"an RLE frame of more than {MOST_BYTES_OF_RLE} bytes")
        return
    with Image.open(io.BytesIO(frame), formats=("JPEG", "JPEG2000")) as image:
        if image.size != (found.Columns, found.Rows):
            raise corrupt("its compressed image is of another size than it announces")


def _burned_in(found: Dataset) -> tuple[str, ...]:
    """Return what has to be said of text in the image (PS3.3 section C.7.6.1.1.7 and C.8.6)."""
    said = str(found.get("BurnedInAnnotation", ""))
    if said == "YES":
        return (BURNED_IN,)
    is_capture = str(found.get("SOPClassUID", "")).startswith(SECONDARY_CAPTURE)
    return (PERHAPS_BURNED_IN,) if is_capture and said != "NO" else ()


def _spacing(found: Dataset) -> tuple[float, float]:
    """Return the distances of rows and of columns; (1, 1) where the file does not say."""
    known = found.get("PixelSpacing")
    return (float(known[0]), float(known[1])) if known and len(known) == 2 else (1.0, 1.0)


def _facts(found: Dataset, number: int) -> Dataset:
    """Return what says how to show a frame: from its functional groups where there are some (PS3.3 C.7.6.16)."""
    facts = found.group_dataset(0x0028)  # all that describes the image
    for name in reversed(GROUPS):  # a frame's own count more than the shared ones
        if name not in found:
            continue
        raw = found.get_item(name).value
        if isinstance(raw, bytes) and len(raw) > MOST_BYTES_OF_GROUPS:
            raise corrupt("what it says of its frames is far longer than usual")
        items = found[name].value
        group = items[0 if name.startswith("Shared") else number - 1]
        for part, keys in (("PixelValueTransformationSequence", RESCALE), ("FrameVOILUTSequence", WINDOW)):
            for key in keys:
                if group.get(part) and key in group[part][0]:
                    setattr(facts, key, group[part][0][key].value)
    return facts


def _windowed(values: NDArray[Any], facts: Dataset) -> tuple[NDArray[np.uint8], bool]:
    """Return grey values as uint8, and whether the file's own window was used if it has one (PS3.3 C.11.1, C.11.2)."""
    rescaled = apply_modality_lut(values, facts).astype(np.float64)
    if facts.get("WindowWidth"):
        # What is far outside becomes black and white: so the range of pydicom's result is known.
        ends = np.array([rescaled.min() - 1e9, rescaled.max() + 1e9])
        try:
            with np.errstate(over="ignore"):
                shown = apply_windowing(np.append(rescaled, ends), facts, index=0)
        except ValueError:  # a width of 0, for example
            return depth.window(rescaled), False
        black, white = shown[-2:]
        scaled = np.rint((shown[:-2] - black) * (255.0 / (white - black))).astype(np.uint8)
        return scaled.reshape(values.shape), True
    if values.dtype == np.uint8 and np.array_equal(rescaled, values) and not facts.get("VOILUTSequence"):
        return values, True
    if facts.get("VOILUTSequence"):
        rescaled = apply_voi_lut(rescaled.astype(np.int64), facts).astype(np.float64)
    return depth.window(rescaled), True
