"""imaging: what is accepted, what it becomes, and what every bad file is told. All files are made here."""

import io
import os
import pickle
import re
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

import imaging
from imaging import decode, depth, metadata, signatures
from tests.support import hostile
from tests.support.hostile import (
    COLOUR,
    GREY,
    HEIGHT,
    JPEG,
    PNG,
    RAMP,
    WIDTH,
    deep_colour,
    encoded,
    gif_comments,
    png,
    rows,
)

ORIENTATION = 0x0112
DEEP = np.rint(RAMP * 3000).astype(np.uint16)


def pixels(data):
    with Image.open(io.BytesIO(data)) as image:
        assert image.format in ("PNG", "JPEG")
        assert image.mode in ("L", "RGB")
        return np.asarray(image)


def interlaced(array):
    """The seven passes of Adam7 (PNG specification, section 8)."""
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    return b"".join(rows(array[top::down, left::right]) for top, left, down, right in passes)


BAD = {name: (data, code) for name, data, code in hostile.files() if code}


@pytest.mark.parametrize(("data", "code"), BAD.values(), ids=BAD)
def test_bad_file_is_told_what_is_wrong_and_what_to_do(data, code):
    with pytest.raises(imaging.ImageError) as caught:
        imaging.canonical(data)
    assert caught.value.code == code
    assert re.fullmatch(r"[A-Z].+\. [A-Z].+\.", str(caught.value)) and "0x" not in str(caught.value)


def test_pillow_does_not_see_a_long_comment():
    """It joins the blocks one by one, which takes minutes."""
    plain, comment = encoded(COLOUR, "GIF"), b"\x21\xfe" + (b"\xff" + bytes(255)) * 40_000 + b"\0"
    data = gif_comments(1, comment)
    assert metadata.Gif.parse(data).stripped() == metadata.Gif.parse(plain).stripped()
    assert imaging.canonical(data) == imaging.canonical(plain)


def test_every_code_is_listed_and_reached():
    assert {code for _, code in BAD.values()} | {"no_such_slice"} == set(imaging.CODES)


def test_error_survives_the_way_between_processes():
    error = pickle.loads(pickle.dumps(imaging.ImageError("corrupt_image", "Expected this.")))
    assert (error.code, str(error)) == ("corrupt_image", "Expected this.")


ALPHA = Image.new("L", (WIDTH, HEIGHT), 255)
ALPHA.paste(0, (24, 0, 48, 32))
CUT = np.where(np.arange(WIDTH) < 24, 255 * RAMP, 0)  # the ramp with its transparent half black
PALETTE = COLOUR.quantize(64, dither=Image.Dither.NONE)
INDEXED = GREY.convert("P")
BILEVEL = GREY.convert("1", dither=Image.Dither.NONE)
ADOBE_CMYK = Image.merge("CMYK", (ImageOps.invert(GREY),) * 3 + (Image.new("L", GREY.size),))

GOOD = {
    "grey PNG": (encoded(GREY), GREY, 0),
    "grey JPEG": (encoded(GREY, "JPEG", quality=95), GREY, 12),
    "RGB PNG": (PNG, COLOUR, 0),
    "BMP": (encoded(COLOUR, "BMP"), COLOUR, 0),
    "lossless WebP": (encoded(COLOUR, "WEBP", lossless=True), COLOUR, 0),
    "RGB TIFF": (encoded(COLOUR, "TIFF"), COLOUR, 0),
    "LZW TIFF": (encoded(COLOUR, "TIFF", compression="tiff_lzw"), COLOUR, 0),
    "GIF": (encoded(PALETTE, "GIF"), PALETTE.convert("RGB"), 0),
    "GIF with 500 comments": (gif_comments(500), COLOUR.convert("P", palette=1).convert("RGB"), 60),
    "palette PNG": (encoded(PALETTE), PALETTE.convert("RGB"), 0),
    "palette with a transparent half": (
        encoded(INDEXED, transparency=bytes([0]) + b"\xff" * 255),
        np.repeat(np.asarray(GREY)[..., None], 3, axis=2),
        0,
    ),
    "RGBA": (encoded(Image.merge("RGBA", (GREY, GREY, GREY, ALPHA))), np.repeat(CUT[..., None], 3, axis=2), 1),
    "LA": (encoded(Image.merge("LA", (GREY, ALPHA))), CUT, 1),
    "RGBA WebP": (
        encoded(Image.merge("RGBA", (GREY, GREY, GREY, ALPHA)), "WEBP", lossless=True),
        np.repeat(CUT[..., None], 3, axis=2),
        1,
    ),
    "grey PNG with a transparent colour": (encoded(GREY, transparency=255), np.asarray(GREY) % 255, 0),
    "16-bit PNG with a transparent colour": (
        encoded(Image.fromarray(DEEP), transparency=3000),
        np.where(RAMP < 1, 255 * RAMP / RAMP[RAMP < 1].max(), 0),
        8,
    ),
    "1-bit PNG": (encoded(BILEVEL), 255 * np.asarray(BILEVEL), 0),
    "4-bit PNG": (
        png(16, 16, zlib.compress(rows(np.full((16, 8), 0x0F, np.uint8))), bits=4),
        np.tile([0, 255], (16, 8)),
        0,
    ),
    "interlaced PNG": (png(WIDTH, HEIGHT, zlib.compress(interlaced(np.asarray(GREY))), interlace=1), GREY, 0),
    "CMYK JPEG, stored inverted by Adobe": (encoded(ADOBE_CMYK, "JPEG", quality=95), GREY.convert("RGB"), 14),
    "CMYK TIFF": (encoded(ADOBE_CMYK, "TIFF"), GREY.convert("RGB"), 1),
    "16-bit PNG": (encoded(Image.fromarray(DEEP)), 255 * RAMP, 1),
    "16-bit TIFF": (encoded(Image.fromarray(DEEP), "TIFF"), 255 * RAMP, 1),
    "16-bit TIFF of big-endian": (encoded(Image.fromarray(DEEP.astype(">u2")), "TIFF"), 255 * RAMP, 1),
    "16-bit TIFF whose zero is white": (encoded(Image.fromarray(DEEP), "TIFF", tiffinfo={262: 0}), 255 - 255 * RAMP, 1),
    "32-bit TIFF below zero": (encoded(Image.fromarray(DEEP.astype(np.int32) - 1024), "TIFF"), 255 * RAMP, 1),
    "float TIFF": (encoded(Image.fromarray((RAMP * 1e-3).astype(np.float32)), "TIFF"), 255 * RAMP, 1),
    "16-bit RGB PNG": (deep_colour(65535), np.repeat(255 * RAMP[..., None], 3, axis=2), 1),
    "constant 16-bit PNG": (encoded(Image.new("I;16", (WIDTH, HEIGHT), 700)), np.zeros((HEIGHT, WIDTH)), 0),
    "MPO, a phone's JPEG": (
        encoded(COLOUR, "MPO", save_all=True, append_images=[GREY.convert("RGB")]),
        pixels(JPEG),
        0,
    ),
}


@pytest.mark.parametrize(("data", "expected", "tolerance"), GOOD.values(), ids=GOOD)
def test_good_file_keeps_its_pixels(data, expected, tolerance):
    result = pixels(imaging.canonical(data)).astype(int)
    assert result.shape == np.shape(expected)
    assert np.abs(result - np.asarray(expected)).max() <= tolerance


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once(orientation, kind):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    data = encoded(COLOUR, kind, exif=exif, **({} if kind == "TIFF" else {"quality": 95}))
    turns = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # orientation -> Image.Transpose
    expected = COLOUR.transpose(turns[orientation]) if orientation > 1 else COLOUR
    result = pixels(imaging.canonical(data)).astype(int)
    assert result.shape == np.shape(expected)
    assert np.abs(result - np.asarray(expected)).mean() < 6


@pytest.mark.parametrize("orientation", [0, 9])
def test_undefined_orientation_means_upright(orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    assert imaging.canonical(encoded(COLOUR, "JPEG", exif=exif)) == JPEG


NAME = b"DOE^JANE"


def private(kind):
    exif, text = Image.Exif(), PngInfo()
    exif[0x010E], exif[ORIENTATION] = NAME.decode(), 1
    text.add_text("Patient", NAME.decode())
    return encoded(COLOUR, kind, exif=exif, **{"PNG": {"pnginfo": text}, "WEBP": {}}.get(kind, {"comment": NAME}))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
def test_names_of_patients_do_not_leave(kind):
    data = private(kind)
    result = imaging.canonical(data)
    assert NAME in data and NAME not in result
    assert kind not in ("JPEG", "PNG") or result == encoded(COLOUR, kind)  # the compressed pixels are untouched


@pytest.mark.parametrize("data", [JPEG, PNG], ids=["JPEG", "PNG"])
def test_what_follows_the_picture_is_dropped(data):
    assert imaging.canonical(data + b"PK\x03\x04 a hidden archive") == data


def test_png_written_here_holds_nothing_but_pixels():
    palette = encoded(PALETTE, icc_profile=b"profile", dpi=(72, 72), transparency=0)
    names = {name for name, _ in metadata.Png.parse(imaging.canonical(palette)).chunks}
    assert names == {b"IHDR", b"IDAT", b"IEND"}


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF"])
def test_the_area_of_a_picture_is_known_from_its_start(kind):
    data = encoded(COLOUR, kind)
    assert decode.area(data) == COLOUR.width * COLOUR.height
    assert decode.area(data[:10]) == decode.area(b"") == decode.area(bytes(128) + b"DICM") == 0


def test_a_mirror_image_is_exact_and_mirrored_again_the_same():
    data = encoded(COLOUR, "JPEG")
    before, once = pixels(imaging.canonical(data)), pixels(decode.mirrored(data))
    assert np.array_equal(once, before[:, ::-1]) and not np.array_equal(once, before)
    assert np.array_equal(pixels(decode.mirrored(decode.mirrored(data))), before)


@pytest.mark.parametrize("name", GOOD)
def test_canonical_is_its_own_canonical(name):
    once = imaging.canonical(GOOD[name][0])
    assert imaging.canonical(once) == once


@pytest.mark.parametrize("name", GOOD)
def test_tensorflow_sees_what_pillow_sees(name):
    tf = pytest.importorskip("tensorflow")
    data = imaging.canonical(GOOD[name][0])
    seen = tf.io.decode_image(data, channels=3, expand_animations=False).numpy().astype(int)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(image.convert("RGB"))
    # TensorFlow's default transform for JPEG is the fast one, a few grey levels off.
    assert np.abs(seen - expected).max() <= (12 if data.startswith(signatures.JPEG) else 0)


def test_window_keeps_order_and_is_not_blinded_by_one_bright_pixel():
    values = np.arange(10_000, dtype=np.uint16).reshape(100, 100)
    values[0, 0] = 65535
    result = depth.window(values)
    assert (np.diff(result.ravel()[1:].astype(int)) >= 0).all() and len(np.unique(result)) == 256


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_window_shows_a_small_object_on_an_empty_background(dtype):
    values = np.zeros((100, 100), dtype)
    values[50, 50:52] = 500, 1000
    assert depth.window(values)[50, 49:52].tolist() == [0, 128, 255]


def test_window_leaves_out_what_is_not_finite():
    values = RAMP.astype(np.float32)
    values[0, 10:13] = np.nan, np.inf, -np.inf
    result = depth.window(values)
    assert result[0, 10:13].tolist() == [0, 0, 0] and result.max() == 255 and result.mean() > 100


def test_bomb_is_refused_before_it_is_decoded(tmp_path):
    bomb = tmp_path / "bomb.png"
    pixels = zlib.compress(bytes(7300 * (3 * 7300 + 1)))  # 160 MB in 160 KB
    bomb.write_bytes(png(7300, 7300, pixels, colour=2))
    script = (
        "import resource, sys, imaging\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak()\n"
        "try: imaging.read(sys.argv[1])\n"
        "except imaging.ImageError as error: print(error.code, (peak() - before) // 1024)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, bomb], capture_output=True, text=True, check=True)
    code, megabytes = done.stdout.split()
    assert bomb.stat().st_size < 200_000 and code == "image_too_large" and int(megabytes) < 20


def test_threads_get_the_same_answers_and_pillow_keeps_its_settings():
    limit, names = Image.MAX_IMAGE_PIXELS, list(GOOD) * 4
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda name: imaging.canonical(GOOD[name][0]), names))
    assert results == [imaging.canonical(GOOD[name][0]) for name in names]
    assert limit == Image.MAX_IMAGE_PIXELS


def test_read_returns_canonical_bytes(tmp_path):
    path = tmp_path / "scan.bmp"
    path.write_bytes(encoded(COLOUR, "BMP"))
    assert imaging.read(str(path)) == imaging.canonical(path.read_bytes())


def test_read_stops_at_the_size_limit(tmp_path):
    path = tmp_path / "huge.png"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # sparse: a terabyte that fits on no memory
    with pytest.raises(imaging.ImageError) as caught:
        imaging.read(path)
    assert caught.value.code == "file_too_large"


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("missing.png", FileNotFoundError, "does not exist"),
        (".", IsADirectoryError, "a folder"),
        ("file.png/scan.png", NotADirectoryError, "not a folder"),
        ("pipe.png", OSError, "pipe"),
        ("x" * 300, OSError, "the system refuses it"),
    ],
)
def test_read_says_why_there_is_no_file(tmp_path, name, error, words):
    (tmp_path / "file.png").write_bytes(PNG)
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(error, match=f"{name}.* (is|cannot be read:) .*{words}.*\\. [A-Z].*\\."):
        imaging.read(tmp_path / name)


@pytest.fixture
def locked(tmp_path):
    """A file that its reader has no permission for, with root's rights laid down for the time of the test."""
    path, user = tmp_path / "locked.png", os.geteuid()
    path.write_bytes(PNG)
    path.chmod(0)
    os.seteuid(user or 65534)
    yield path
    os.seteuid(user)


def test_read_names_a_missing_permission(locked):
    with pytest.raises(PermissionError, match="cannot be read: you have no permission to read it"):
        imaging.read(locked)


def folder(tmp_path):
    for name in ("b.PNG", "a.jpeg", "notes.txt", ".hidden.png", "deep/c.tif", ".cache/d.png", "d.gif/e.webp"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize(
    ("recursive", "expected"), [(False, ["a.jpeg", "b.PNG"]), (True, ["a.jpeg", "b.PNG", "d.gif/e.webp", "deep/c.tif"])]
)
def test_find_lists_visible_images_in_order(tmp_path, recursive, expected):
    found = imaging.find(folder(tmp_path), recursive=recursive)
    assert [path.relative_to(tmp_path).as_posix() for path in found] == expected


def test_find_wants_a_folder(tmp_path):
    with pytest.raises(NotADirectoryError, match="is not a folder. Check the path"):
        imaging.find(tmp_path / "nowhere")


def test_digest_is_sha256():
    assert imaging.digest(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("size", [8, 32])
def test_thumbnail_is_alike_for_copies_and_unlike_for_others(size):
    scan = COLOUR.resize((400, 300), Image.Resampling.BICUBIC)
    copies = [encoded(scan), encoded(scan, "JPEG", quality=60), encoded(scan.resize((200, 150)), "JPEG")]
    first, *others = (imaging.thumbnail(imaging.canonical(data), size) for data in copies)
    turned = imaging.thumbnail(encoded(scan.transpose(Image.Transpose.ROTATE_180)), size)
    assert first.shape == (size, size) and first.dtype == np.float32 and 0 <= first.min() < first.max() <= 1
    assert max(np.abs(other - first).mean() for other in others) < 0.02 < np.abs(turned - first).mean()


def test_thumbnail_of_a_bad_file_is_an_image_error():
    with pytest.raises(imaging.ImageError):
        imaging.thumbnail(b"nothing")


def test_imaging_stands_alone():
    script = "import sys, imaging; print(sorted({name.split('.')[0] for name in sys.modules}))"
    names = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert not any(f"'{name}'" in names for name in ("tensorflow", "keras", "stages", "client", "webapp", "serving"))
