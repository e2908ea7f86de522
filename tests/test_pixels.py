"""The preprocessing that serves and the preprocessing that trains give the same bits."""

import importlib.util
import io
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from imaging import decode, limits, signatures
from stages.data import phantom, preprocess
from tests.conftest import PROJECT
from tests.support import hostile
from tests.support.road import DATA

SIZES = (64, 112, 224)


@pytest.fixture(scope="module")
def pixels():
    """The backend's module, loaded by its path as the backend loads it."""
    path = PROJECT / "serving/backends/tensorflow/pixels.py"
    spec = importlib.util.spec_from_file_location("pixels", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["pixels"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def trained():
    """size -> the function that training reads images with, compiled as exported."""
    return {size: tf.function(lambda data, size=size: preprocess.decode(data, size),
                              input_signature=[tf.TensorSpec([], tf.string)]) for size in SIZES}


def encoded(image: np.ndarray, form: str, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, form, **options)
    return decode.canonical(buffer.getvalue())


def differing(pixels, trained, images) -> list[int]:
    """Return the places of the images that both read differently at any size."""
    return [index for index, data in enumerate(images)
            if not all(np.array_equal(pixels.pixels(data, size), read(tf.constant(data)).numpy())
                       for size, read in trained.items())]


def test_limits_and_signatures_are_those_of_imaging(pixels):
    assert pixels.MAX_PIXELS == limits.MAX_PIXELS
    assert (pixels.PNG_SIGNATURE, pixels.JPEG_SIGNATURE) == (signatures.PNG, signatures.JPEG)


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_an_image_over_the_limit_is_refused_before_it_is_decoded(pixels, monkeypatch, form):
    data = encoded(np.zeros((64, 65), np.uint8), form)
    assert pixels.decode(data).shape == (64, 65, 3)
    monkeypatch.setattr(pixels, "MAX_PIXELS", 64 * 64)
    with pytest.raises(ValueError, match="65 x 64"):
        pixels.decode(data)


def test_noise_of_any_size_and_kind(pixels, trained):
    rng = np.random.default_rng(3)
    images = []
    for index in range(240):
        height, width = rng.integers(16, 700, 2)
        shape = (height, width, 3) if index % 2 else (height, width)
        options = {} if index % 3 else {"quality": int(rng.integers(20, 100)), "subsampling": int(rng.integers(0, 3))}
        images.append(encoded(rng.integers(0, 256, shape, np.uint8), "PNG" if index % 3 else "JPEG", **options))
    assert differing(pixels, trained, images) == []


def test_phantoms(pixels, trained):
    drawn = [phantom.draw(label, seed, size).image for seed, (label, size) in
             enumerate([("glioma", 224), ("meningioma", 512), ("notumor", 200), ("pituitary", 300)])]
    images = [encoded(image, form) for image in drawn for form in ("PNG", "JPEG")]
    progressive = [encoded(image, "JPEG", progressive=True) for image in drawn]
    assert differing(pixels, trained, images + progressive) == []


@pytest.mark.real_data
def test_real_slices(pixels, trained):
    paths = sorted(path for path in DATA.rglob("*") if path.suffix in decode.SUFFIXES)[::5]
    assert len(paths) > 1000
    images = [decode.read(path) for path in paths]
    assert differing(pixels, {112: trained[112]}, images) == []
    assert differing(pixels, {224: trained[224]}, images[::4]) == []


def test_the_comparison_sees_one_step_in_one_pixel(pixels, trained):
    data = encoded(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8), "PNG")
    image = pixels.decode(data).copy()
    image[20, 30] ^= 1
    assert differing(pixels, trained, [data]) == []
    assert not np.array_equal(pixels.pixels(encoded(image, "PNG"), 64), trained[64](tf.constant(data)).numpy())


def jpeg(**options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (90, 80, 3), np.uint8)).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


BAD = {"nothing": b"", "text": b"<svg>", "half a JPEG": jpeg()[:2000], "a JPEG's head": jpeg()[:30],
       "half a PNG": png(Image.new("RGB", (64, 64), "red"))[:60], "16-bit PNG": png(Image.new("I;16", (64, 64))),
       "palette PNG": png(Image.new("P", (64, 64))), "GIF": b"GIF89a" + bytes(20)}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
def test_what_is_no_canonical_image_is_refused(pixels, data):
    with pytest.raises(ValueError, match="Unknown image file format|Invalid (JPEG|PNG)"):
        pixels.pixels(data, 64)


def test_damage_that_tensorflow_bridges_is_bridged(pixels, trained):
    data = jpeg(restart_marker_blocks=1)
    start = data.index(b"\xff\xd0")
    damaged = data[:start] + b"\x12\x34" + data[start:]  # extraneous bytes before a marker
    assert np.array_equal(pixels.pixels(damaged, 64), trained[64](tf.constant(damaged)).numpy())


@pytest.mark.parametrize("content", [pytest.param(content, id=name) for name, content, _ in hostile.files()])
def test_what_the_page_leaves_to_the_preprocessing_is_refused_there(pixels, content):
    def read(data):
        return pixels.pixels(decode.canonical(data, is_decoded_next=True), 64)

    try:
        decode.canonical(content)
    except decode.ImageError:
        with pytest.raises((decode.ImageError, ValueError)):
            read(content)
    else:
        assert read(content).shape == (64, 64, 3)
