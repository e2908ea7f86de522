"""NIfTI volumes -> one slice, turned as radiologists look at it: front or top above, the patient's right at the left.

Of a gzipped file no more is held than the slice; its header says how much it may become.
"""

import gzip
import io
import logging
from typing import Any, BinaryIO, cast

import nibabel
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from numpy.typing import NDArray

from imaging import depth, limits, signatures, volume
from imaging.errors import ImageError, corrupt
from imaging.volume import Choice, Slice

logging.getLogger("nibabel").disabled = True
logging.getLogger("nibabel.global").disabled = True

MOST_BYTES = 256 * 2**20
"""Of a volume, unpacked: 512 x 512 x 256 voxels of four bytes."""
MOST_BYTES_OF_HEADER = 2**20
AXES = {volume.AXIAL: 2, volume.CORONAL: 1, volume.SAGITTAL: 0}
"""Plane -> the axis of space that it is a slice of: to the right, to the front, to the top."""
UNKNOWN = "The file does not say how the head lies in it, so planes may be named wrongly and left may be right."


def read(data: bytes, choice: Choice, or_middle: bool) -> Slice:
    """Return one slice. For arguments and errors see imaging.slices.read()."""
    is_second = signatures.begins(signatures.nifti_header(data), signatures.NIFTI_2)
    kind = nibabel.Nifti2Header if is_second else nibabel.Nifti1Header
    packed = data.startswith(signatures.GZIP)
    stream = cast(BinaryIO, gzip.GzipFile(fileobj=io.BytesIO(data)) if packed else io.BytesIO(data))
    try:
        header = kind.from_fileobj(stream)  # type: ignore[no-untyped-call]
        return _slice(stream, header, choice, or_middle)
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # on bad bytes nibabel, gzip and numpy raise nearly everything
        raise corrupt("its header is wrong or voxels are missing") from error


def _slice(stream: BinaryIO, header: Any, choice: Choice, or_middle: bool) -> Slice:
    shape = tuple(int(size) for size in header.get_data_shape())
    _check_volume(shape, header)
    orientation, known = _orientation(header)
    axis_of = {space: axis for axis, (space, _) in enumerate(orientation)}
    counts = {plane: shape[axis_of[space]] for plane, space in AXES.items()}
    plane, number = volume.resolved(choice, counts, or_middle)
    cut = axis_of[AXES[plane]]
    rest = [axis for axis in range(3) if axis != cut]
    limits.check_shape(shape[rest[0]], shape[rest[1]])

    places = [slice(None)] * 3 + [0] * (len(shape) - 3)
    places[cut] = number - 1 if orientation[cut][1] > 0 else counts[plane] - number
    voxels = ArrayProxy(stream, header)  # type: ignore[no-untyped-call]
    values = np.asarray(voxels[tuple(places)], np.float64)
    for position, axis in enumerate(rest):
        values = values if orientation[axis][1] > 0 else np.flip(values, position)
    zooms = [float(header.get_zooms()[axis]) for axis in rest]
    if orientation[rest[0]][0] > orientation[rest[1]][0]:
        values, zooms = values.T, zooms[::-1]
    # Now the first axis goes to the right (or front), the second to the front (or top).
    shown = _windowed(values[::-1, ::-1].T, header)
    pixels = volume.squared(shown, (zooms[1], zooms[0]))
    return Slice(pixels, counts, plane, number, () if known else (UNKNOWN,))


def _check_volume(shape: tuple[int, ...], header: Any) -> None:
    """Raise ImageError unless it is one volume of plain numbers that may be unpacked."""
    kind = header.get_data_dtype()
    if len(shape) < 3 or any(size != 1 for size in shape[3:]) or kind.kind not in "iuf":
        size = " x ".join(map(str, shape))
        raise ImageError("unsupported_format", "This NIfTI file is not one volume of whole or real numbers, but "
                         f"{size} of {kind}. Save one volume of it as a file of its own.")
    if np.prod(shape, dtype=np.float64) * kind.itemsize > MOST_BYTES or header.get_data_offset() > MOST_BYTES_OF_HEADER:
        raise ImageError("image_too_large", f"The volume is larger than {MOST_BYTES // 2**20} MiB when unpacked. Send "
                         "one slice of it.")


def _orientation(header: Any) -> tuple[list[tuple[int, int]], bool]:
    """Return for each axis of the data the axis of space it follows and 1 or -1, and whether the file says so."""
    coded = header["qform_code"] > 0 or header["sform_code"] > 0
    found = nibabel.io_orientation(header.get_best_affine())  # type: ignore[no-untyped-call]
    if not np.isfinite(found).all():
        return [(0, 1), (1, 1), (2, 1)], False
    return [(int(space), int(turned)) for space, turned in found], bool(coded)


def _windowed(values: NDArray[np.float64], header: Any) -> NDArray[np.uint8]:
    """Return grey values as uint8: between cal_min and cal_max if the header has them, else see depth.window()."""
    low, high = float(header["cal_min"]), float(header["cal_max"])
    if np.isfinite([low, high]).all() and low < high:
        return np.rint(np.interp(np.nan_to_num(values, nan=low), (low, high), (0, 255))).astype(np.uint8)
    return depth.window(values)
