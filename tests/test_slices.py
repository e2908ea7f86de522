"""DICOM files and NIfTI volumes become the picture that a viewer shows; damaged and hostile files are refused."""

import io
import logging
import re
import struct
import tracemalloc
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.uid import SecondaryCaptureImageStorage

import imaging
from imaging import decode, dicom, nifti, slices
from imaging.volume import Choice
from tests.support import medical

ANY = Choice()
RAMP = np.tile(np.arange(64, dtype=np.uint16) * 16, (48, 1))
BYTES = (RAMP // 8 + 60).astype(np.uint8)
FRAMES = np.stack([RAMP + 1000 * index for index in range(4)]).astype(np.uint16)
RIGHT, FRONT, TOP = np.meshgrid(np.linspace(0, 1, 40), np.linspace(0, 1, 50), np.linspace(0, 1, 30), indexing="ij")
HEAD = (RIGHT + 2 * FRONT + 4 * TOP).astype(np.float32)  # [right, front, top]: brighter to each of them
UPRIGHT = np.diag([1.0, 1.0, 1.0, 1.0])


def shipped(name: str) -> bytes:
    """Return a file that pydicom brings along."""
    return Path(get_testdata_file(name)).read_bytes()


def refused(data: bytes, choice: Choice = ANY) -> str:
    """Return the code with which a file is refused; its message says what is wrong, what to do, and names nobody."""
    with pytest.raises(imaging.ImageError) as caught:
        slices.read(data, choice)
    message = str(caught.value)
    assert re.match(r"[A-Z].+\. [A-Z].+", message) and "Doe" not in message
    return caught.value.code


@pytest.mark.parametrize("name", ["MR_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm", "MR_small_RLE.dcm",
                                  "MR_small_jp2klossless.dcm", "MR_small_expb.dcm"])
def test_one_slice_in_every_transfer_syntax_is_the_same_picture(name):
    read = [slices.read(shipped(one)) for one in (name, "MR_small.dcm")]
    assert np.array_equal(read[0].pixels, read[1].pixels) and read[0].pixels.std() > 30
    assert read[0].counts == {"frames": 1} and read[0].warnings == ()


def test_jpeg_baseline():
    buffer = io.BytesIO()
    Image.fromarray(BYTES).save(buffer, "JPEG", quality=95)
    data = medical.dicom(BYTES, "1.2.840.10008.1.2.4.50", PixelData=encapsulate([buffer.getvalue()]), undefined=True)
    assert np.abs(slices.read(data).pixels.astype(int) - BYTES).max() < 8


def test_rescaling_comes_before_the_window():
    data = medical.dicom(RAMP, RescaleSlope=2, RescaleIntercept=-100, WindowCenter=900, WindowWidth=801)
    expected = np.clip((2.0 * RAMP - 100 - 899.5) / 800 + 0.5, 0, 1) * 255  # PS3.3 C.11.2.1.2.1
    assert np.abs(slices.read(data).pixels - expected).max() <= 0.51


def test_the_first_of_several_windows_counts():
    one = medical.dicom(RAMP, WindowCenter=[300, 900], WindowWidth=[200, 50])
    assert np.array_equal(slices.read(one).pixels,
                          slices.read(medical.dicom(RAMP, WindowCenter=300, WindowWidth=200)).pixels)


def test_a_sigmoid_window():
    data = medical.dicom(RAMP, WindowCenter=500, WindowWidth=400, VOILUTFunction="SIGMOID")
    assert np.abs(slices.read(data).pixels - 255 / (1 + np.exp(-4 * (RAMP - 500.0) / 400))).max() <= 1


def test_without_a_window_the_range_comes_from_the_picture():
    assert slices.read(medical.dicom(RAMP)).pixels[0, 1:-1].tolist() == np.rint(RAMP[0, 1:-1] * 255.0 / 1008).tolist()


def test_eight_bits_without_a_window_are_shown_as_they_are():
    assert np.array_equal(slices.read(medical.dicom(BYTES)).pixels, BYTES)


def test_a_window_without_width_is_said():
    found = slices.read(medical.dicom(RAMP, WindowCenter=300, WindowWidth=0.25))
    assert found.warnings == (dicom.NO_WINDOW,) and found.pixels.max() == 255


def test_a_lookup_table_for_the_values_of_interest():
    table = medical.item(LUTDescriptor=[1024, 0, 16], LUTData=np.arange(1024, dtype=np.uint16)[::-1].tobytes())
    table[0]["LUTData"].VR = table[0]["LUTDescriptor"].VR = "US"
    table[0].LUTData = list(range(1023, -1, -1))
    found = slices.read(medical.dicom(RAMP, VOILUTSequence=table)).pixels
    assert found[0, 0] == 255 and found[0, -1] == 0


def test_white_is_zero_in_monochrome1():
    data = {kind: slices.read(medical.dicom(RAMP, PhotometricInterpretation=kind, WindowCenter=500, WindowWidth=500))
            for kind in ("MONOCHROME1", "MONOCHROME2")}
    assert np.array_equal(data["MONOCHROME1"].pixels, 255 - data["MONOCHROME2"].pixels)


def test_colour():
    picture = np.random.default_rng(0).integers(0, 256, (32, 40, 3), np.uint8)
    assert np.array_equal(slices.read(medical.dicom(picture)).pixels, picture)


def test_pixels_that_are_not_square():
    assert slices.read(medical.dicom(RAMP, PixelSpacing=[2.0, 1.0])).pixels.shape == (96, 64)


def test_a_frame_is_chosen():
    data = medical.dicom(FRAMES, WindowCenter=2000, WindowWidth=4000)
    found = slices.read(data, Choice(number=3))
    assert (found.counts, found.plane, found.number) == ({"frames": 4}, "frames", 3)
    alone = slices.read(medical.dicom(FRAMES[2], WindowCenter=2000, WindowWidth=4000))
    assert np.array_equal(found.pixels, alone.pixels)
    assert slices.read(data, or_middle=True).number == 2
    assert refused(data) == "multiple_frames"
    assert refused(data, Choice(number=5)) == refused(data, Choice(number=0)) == "no_such_slice"
    assert refused(data, Choice("axial", 1)) == "no_such_slice"


def test_an_enhanced_file_has_a_window_for_each_frame():
    each = [medical.item(FrameVOILUTSequence=medical.item(WindowCenter=500 + 1000 * index, WindowWidth=1000))[0]
            for index in range(4)]
    shared = medical.item(PixelValueTransformationSequence=medical.item(RescaleSlope=1, RescaleIntercept=0,
                                                                        RescaleType="US"))
    data = medical.dicom(FRAMES, PerFrameFunctionalGroupsSequence=each, SharedFunctionalGroupsSequence=shared)
    assert np.array_equal(slices.read(data, Choice(number=1)).pixels, slices.read(data, Choice(number=4)).pixels)


@pytest.mark.parametrize(("tags", "warnings"), [
    ({"BurnedInAnnotation": "YES"}, (dicom.BURNED_IN,)),
    ({"BurnedInAnnotation": "NO"}, ()),
    ({"SOPClassUID": SecondaryCaptureImageStorage}, (dicom.PERHAPS_BURNED_IN,)),
    ({"SOPClassUID": SecondaryCaptureImageStorage, "BurnedInAnnotation": "NO"}, ()),
])
def test_burned_in_text_is_warned_of(tags, warnings):
    assert slices.read(medical.dicom(RAMP, **tags)).warnings == warnings


def crowded_groups() -> bytes:
    """Return a DICOM file with eight million bytes of functional groups."""
    return medical.dicom(FRAMES, PerFrameFunctionalGroupsSequence=[medical.item(PatientComments="x" * 65000)[0]] * 130)


BAD_DICOM = {  # beside those of hostile.medical_files()
    "no modality": (medical.dicom(RAMP, Modality=None), "wrong_modality"),
    "a modality that is a name": (medical.dicom(RAMP, Modality=medical.SECRET), "wrong_modality"),
    "JPEG-LS": (shipped("MR_small_jpeg_ls_lossless.dcm"), "unsupported_format"),
    "deflated": (shipped("image_dfl.dcm"), "unsupported_format"),
    "a syntax that is a name": (medical.dicom(RAMP, "1.2.3.4"), "unsupported_format"),
    "cut off": (medical.dicom(RAMP)[:-1000], "corrupt_image"),
    "cut off before the pixels": (medical.dicom(RAMP)[:500], "corrupt_image"),
    "no rows": (medical.dicom(RAMP, Rows=None), "corrupt_image"),
    "a palette": (medical.dicom(BYTES, PhotometricInterpretation="PALETTE COLOR"), "unsupported_format"),
    "more rows than there are": (medical.dicom(RAMP, Rows=4000), "corrupt_image"),
    "an icon": (medical.dicom(RAMP[:8]), "image_too_small"),
    "more frames than there are": (medical.dicom(RAMP, NumberOfFrames=10**6), "multiple_frames"),
    "pixels a hundred times as high as wide": (medical.dicom(RAMP, PixelSpacing=[1e6, 1.0]), "image_too_large"),
    "crowded groups": (crowded_groups(), "multiple_frames"),
    "a report": (shipped("test-SR.dcm"), "wrong_modality"),
}


@pytest.mark.parametrize(("data", "code"), BAD_DICOM.values(), ids=BAD_DICOM)
def test_other_dicom_files_are_refused(data, code):
    assert refused(data) == code


@pytest.mark.parametrize("tag", [0x00020000, 0x00080060, 0x00280004])
def test_sequences_where_a_value_should_be_take_no_memory(tag):
    data = medical.babbling(tag, 14)
    tracemalloc.start()
    assert refused(data) == "corrupt_image"
    assert tracemalloc.get_traced_memory()[1] < 2**21
    tracemalloc.stop()


def test_long_groups_and_unfolding_frames_are_refused():
    assert refused(crowded_groups(), Choice(number=1)) == "corrupt_image"
    bomb = struct.pack("<16L", 1, 64, *[0] * 14) + b"\x81\x00" * 2_000_000
    data = medical.dicom(BYTES, "1.2.840.10008.1.2.5", PixelData=encapsulate([bomb]), undefined=True)
    assert refused(data) == "image_too_large"


def test_a_compressed_picture_of_another_size_is_not_unfolded():
    buffer = io.BytesIO()
    Image.new("L", (6000, 6000)).save(buffer, "JPEG2000")
    data = medical.dicom(BYTES, "1.2.840.10008.1.2.4.90", PixelData=encapsulate([buffer.getvalue()]), undefined=True)
    with pytest.raises(imaging.ImageError, match="of another size than it announces"):
        slices.read(data)


def test_what_names_a_patient_is_not_even_read(caplog, recwarn):
    data = medical.dicom(RAMP, PatientBirthDate="19x01", WindowCenter=300, WindowWidth=500)
    with caplog.at_level(logging.DEBUG):
        png = slices.read(data).encoded()
    assert medical.SECRET.encode() in data and medical.SECRET.encode() not in png
    with Image.open(io.BytesIO(png)) as image:
        assert image.info == {}
    assert not caplog.records and not recwarn.list
    assert "PatientName" not in dicom.TAGS


# --- NIfTI


def corners(pixels: np.ndarray) -> list[str]:
    """Name the corners of a slice from dark to bright."""
    values = {"top left": pixels[0, 0], "top right": pixels[0, -1], "low left": pixels[-1, 0],
              "low right": pixels[-1, -1]}
    return sorted(values, key=values.get)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_planes_are_shown_as_radiologists_look_at_them(packed, kind):
    data = medical.nifti(HEAD, UPRIGHT, packed, kind)
    # The patient's right is at the left, the front or the top above; the front at the left in sagittal.
    for plane, shape, count in (("axial", (50, 40), 30), ("coronal", (30, 40), 50), ("sagittal", (30, 50), 40)):
        found = slices.read(data, Choice(plane, 5))
        assert (found.pixels.shape, found.counts[plane]) == (shape, count)
        assert corners(found.pixels) == ["low right", "low left", "top right", "top left"]
        assert (found.plane, found.number, found.warnings) == (plane, 5, ())


@pytest.mark.parametrize("codes", ["LPS", "RAS", "SAR", "PIL", "IAL"])
@pytest.mark.parametrize("plane", slices.PLANES)
def test_the_same_head_stored_in_another_direction_is_the_same_picture(codes, plane):
    image = nibabel.Nifti1Image(HEAD, UPRIGHT)
    wanted = nibabel.orientations.axcodes2ornt(codes)
    turn = nibabel.orientations.ornt_transform(nibabel.io_orientation(UPRIGHT), wanted)
    turned = image.as_reoriented(turn)
    one, other = (slices.read(medical.nifti(np.asarray(each.dataobj), each.affine), Choice(plane, 7))
                  for each in (image, turned))
    assert np.array_equal(one.pixels, other.pixels) and one.counts == other.counts


def test_every_slice_is_itself():
    """Slice k of each plane holds the values of that plane, counted from the left, the back and below."""
    for plane, axis in nifti.AXES.items():
        for number in (1, 2, HEAD.shape[axis]):
            marked = np.zeros_like(HEAD)
            marked[tuple(number - 1 if each == axis else slice(5, 9) for each in range(3))] = 1
            found = slices.read(medical.nifti(marked, UPRIGHT), Choice(plane, number))
            assert found.pixels.max() == 255 and (found.pixels > 0).sum() == 16


def test_thick_slices_get_their_height_back():
    data = medical.nifti(HEAD, np.diag([1.0, 1.0, 4.0, 1.0]))
    assert slices.read(data, Choice("coronal", 1)).pixels.shape == (120, 40)
    assert slices.read(data, Choice("axial", 1)).pixels.shape == (50, 40)


def test_an_unknown_direction_is_said():
    assert slices.read(medical.nifti(HEAD, None), Choice("axial", 1)).warnings == (nifti.UNKNOWN,)


def test_the_headers_range_is_used():
    data = medical.nifti(np.full((20, 20, 4), 50, np.float32), UPRIGHT, cal_min=0, cal_max=100)
    assert np.unique(slices.read(data, Choice("axial", 1)).pixels).tolist() in ([127], [128])


def test_scaled_and_missing_voxels():
    voxels = HEAD.copy()
    voxels[3, 3, 3] = np.nan
    assert slices.read(medical.nifti(voxels, UPRIGHT), Choice("axial", 4)).pixels.dtype == np.uint8
    scaled = nibabel.Nifti1Image(HEAD.astype(np.int16), UPRIGHT)
    scaled.header.set_slope_inter(2, 5)
    assert slices.read(scaled.to_bytes(), Choice("axial", 1)).pixels.max() == 255


def volume(**fields) -> bytes:
    return medical.nifti(HEAD, UPRIGHT, packed=False, **fields)


BAD_NIFTI = {
    "no slice named": (medical.nifti(HEAD, UPRIGHT), Choice(), "multiple_frames"),
    "a plane that is none": (medical.nifti(HEAD, UPRIGHT), Choice("frames", 1), "no_such_slice"),
    "a number too high": (medical.nifti(HEAD, UPRIGHT), Choice("axial", 31), "no_such_slice"),
    "cut off": (volume()[:-10_000], Choice("axial", 30), "corrupt_image"),
    "cut off in gzip": (medical.nifti(HEAD, UPRIGHT)[:-10_000], Choice("axial", 30), "corrupt_image"),
    "a film": (medical.nifti(np.zeros((20, 20, 4, 7), np.float32), UPRIGHT), Choice("axial", 1), "unsupported_format"),
    "complex numbers": (medical.nifti(np.zeros((20, 20, 4), np.complex64), UPRIGHT), Choice("axial", 1),
                        "unsupported_format"),
    "a flat one": (medical.nifti(np.zeros((20, 20, 4), np.float32), UPRIGHT), Choice("coronal", 1), "image_too_small"),
    "nothing finite": (medical.nifti(np.full((20, 20, 4), np.nan, np.float32), UPRIGHT), Choice("axial", 1),
                       "corrupt_image"),
    "enormous": (volume(dim=[3, 30_000, 30_000, 10, 1, 1, 1, 1]), Choice("axial", 1), "image_too_large"),
    "an enormous header": (volume(vox_offset=2**28), Choice("axial", 1), "image_too_large"),
    "negative sizes": (volume(dim=[3, -5, 20, 20, 1, 1, 1, 1]), Choice("axial", 1), "image_too_small"),
    "an unknown kind of number": (volume(datatype=7), Choice("axial", 1), "corrupt_image"),
}


@pytest.mark.parametrize(("data", "choice", "code"), BAD_NIFTI.values(), ids=BAD_NIFTI)
def test_other_volumes_are_refused(data, choice, code):
    assert refused(data, choice) == code


def test_a_large_volume_is_read_without_being_held():
    data = medical.nifti(np.zeros((512, 512, 120), np.int16), UPRIGHT)  # 63 MB in 280 kB
    assert len(data) < 10**6
    for plane in slices.PLANES:
        tracemalloc.start()
        slices.read(data, Choice(plane, 100))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert most < 48 * 2**20


def test_gzip_without_a_volume_is_no_image():
    import gzip

    with pytest.raises(imaging.ImageError, match="a gzip file without a NIfTI volume"):
        imaging.canonical(gzip.compress(bytes(10**6)))


# --- both, as the rest of the project reads them


@pytest.mark.parametrize("data", [medical.dicom(RAMP), medical.nifti(HEAD[:, :, :1], UPRIGHT)], ids=["DICOM", "NIfTI"])
def test_a_single_slice_needs_no_choice(data, tmp_path):
    (tmp_path / "a.dcm").write_bytes(data)
    expected = slices.read(data).pixels
    for png in (imaging.canonical(data), imaging.read(tmp_path / "a.dcm")):
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(png))), expected)
    assert decode.find(tmp_path) == [tmp_path / "a.dcm"]
