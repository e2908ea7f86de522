"""DICOM files and NIfTI volumes made for tests."""

import gzip
import io
import struct

import nibabel
import numpy as np
from pydicom import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

SECRET = "Doe^Jane"


def dicom(pixels: np.ndarray, syntax: str = ExplicitVRLittleEndian, **tags) -> bytes:
    """Return a DICOM file of an MR slice that names a patient.

    Args:
        pixels: uint8 or uint16 [height, width], [frames, height, width], or uint8 [height, width, 3].
        syntax: name of a transfer syntax that is written into the file; the pixels are not compressed.
        tags: further elements, or other values for those written here; None leaves one out.
    """
    colour = pixels.shape[-1] == 3
    height, width = pixels.shape[:2] if colour else pixels.shape[-2:]
    bits = 8 * pixels.dtype.itemsize
    found = Dataset()
    values = {"PatientName": SECRET, "PatientID": SECRET, "Modality": "MR", "SOPClassUID": MRImageStorage,
              "SOPInstanceUID": generate_uid(), "Rows": height, "Columns": width, "SamplesPerPixel": 3 if colour else 1,
              "PhotometricInterpretation": "RGB" if colour else "MONOCHROME2", "BitsAllocated": bits,
              "BitsStored": bits, "HighBit": bits - 1, "PixelRepresentation": 0, "PixelData": pixels.tobytes()}
    if colour:
        values["PlanarConfiguration"] = 0
    if pixels.ndim == 3 and not colour:
        values["NumberOfFrames"] = len(pixels)
    is_encapsulated = tags.pop("undefined", False)
    for name, value in (values | tags).items():
        if value is not None:
            setattr(found, name, value)
    found["PixelData"].VR = "OB" if bits == 8 else "OW"
    found["PixelData"].is_undefined_length = is_encapsulated
    found.file_meta = FileMetaDataset()
    found.file_meta.TransferSyntaxUID = syntax
    found.file_meta.MediaStorageSOPClassUID = found.SOPClassUID
    found.file_meta.MediaStorageSOPInstanceUID = found.SOPInstanceUID
    buffer = io.BytesIO()
    found.save_as(buffer, enforce_file_format=True, implicit_vr=False, little_endian=True)
    return buffer.getvalue()


def item(**tags) -> Sequence:
    """Return a sequence of one item."""
    one = Dataset()
    for name, value in tags.items():
        setattr(one, name, value)
    return Sequence([one])


def nifti(voxels: np.ndarray, affine: np.ndarray | None = None, packed: bool = True, kind=nibabel.Nifti1Image,
          **fields) -> bytes:
    """Return a NIfTI file that names a patient.

    Args:
        voxels: [x, y, z]. affine: [4, 4], from voxels to millimetres to the right, front and top; None: unknown.
        packed: with gzip. kind: class of nibabel. fields: further values of its header.
    """
    image = kind(voxels, affine)
    data = image.to_bytes()
    length = len(image.header.binaryblock)
    header = kind.header_class(data[:length], check=False)
    for name, value in ({"descrip": SECRET.encode()} | fields).items():
        header[name] = value
    data = header.binaryblock + data[length:]
    return gzip.compress(data, 1) if packed else data


def nested(depth: int) -> bytes:
    """Return a DICOM file with sequences of undefined length in each other."""
    start = dicom(np.zeros((16, 16), np.uint16))
    sequence = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    return start[: start.index(b"\x10\x00\x10\x00PN")] + (sequence + item) * depth


def babbling(tag: int, depth: int) -> bytes:
    """Return a DICOM file in which an element is sequences in each other around a wrong number, not what it should be.

    Args:
        tag: of the element: 0x00020000 in the file meta information, or one of the data set.
    """
    whole = dicom(np.zeros((16, 16), np.uint16))
    content = struct.pack("<HH2sH", 0x0028, 0x0009, b"UL", 3) + b"abc"
    for level in range(depth):
        own = tag if level == depth - 1 else 0x00081140
        item = struct.pack("<HHI", 0xFFFE, 0xE000, len(content)) + content
        content = struct.pack("<HH2sHI", own >> 16, own & 0xFFFF, b"SQ", 0, len(item)) + item
    place, end = (132, 144) if tag == 0x00020000 else (whole.index(struct.pack("<HH", tag >> 16, tag & 0xFFFF)),) * 2
    if place == end:
        end += 8 + struct.unpack_from("<H", whole, place + 6)[0]
    return whole[:place] + content + whole[end:]


def crowded(length: int) -> bytes:
    """Return a DICOM file with as many empty elements as fit."""
    start = dicom(np.zeros((16, 16), np.uint16))
    head = start[: start.index(b"\x10\x00\x10\x00PN")]
    return head + struct.pack("<HH2sH", 0x0009, 0x1001, b"LO", 0) * ((length - len(head)) // 8)
