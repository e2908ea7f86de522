"""The slices of the figshare set as its authors published them: one MATLAB file each, with label and patient.

MATLAB 7.3 files are HDF5, behind a block of text. Cheng et al. 2015, doi:10.1371/journal.pone.0140381; the set:
doi:10.6084/m9.figshare.1512427.v5, whose README names the fields of `cjdata`.
"""

import io
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

import imaging
from imaging import limits, volume

NAME = "figshare"
LABELS = {1: "meningioma", 2: "glioma", 3: "pituitary"}
HDF5 = b"\x89HDF\r\n\x1a\n"
OFFSETS = 0, 512
"""Where HDF5's signature stands: in a file of its own, and behind MATLAB's block of text."""


def is_mine(data: bytes) -> bool:
    """Return whether a file, of which the first 520 bytes are enough, is HDF5."""
    return any(data.startswith(HDF5, offset) for offset in OFFSETS)


def facts(path: Path) -> tuple[str, str] | None:
    """Return label and patient of a slice, the patient by the set's own id; None for any other or a damaged file."""
    try:
        with h5py.File(path) as file:
            label = LABELS[int(file["cjdata/label"][()].item())]
            return label, "".join(chr(code) for code in file["cjdata/PID"][()].ravel()).strip()
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError):  # as h5py calls what is missing
        return None


def png(data: bytes) -> bytes:
    """Return the slice of a file as an 8-bit grey PNG, its own smallest and largest value as 0 and 255.

    MATLAB writes columns first, so the image lies transposed in the file.

    Raises:
        imaging.ImageError: damaged, none of the set, too large or too small.
    """
    try:
        with h5py.File(io.BytesIO(data)) as file:
            stored = file["cjdata/image"]
            limits.check_shape(*stored.shape)
            pixels = stored[()].T.astype(np.float64)
            low, high = pixels.min(), pixels.max()
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        if isinstance(error, imaging.ImageError):
            raise
        raise imaging.ImageError("corrupt_image", "This MATLAB file is damaged or has no slice in cjdata/image. "
                                 "Download it again.") from None
    if not np.isfinite(high - low):
        raise imaging.ImageError("corrupt_image", "Pixels of this MATLAB file are no finite numbers.")
    return volume.png(Image.fromarray(np.rint((pixels - low) / max(high - low, 1e-9) * 255).astype(np.uint8)))
