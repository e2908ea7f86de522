"""Formats: one entry in imaging.readers is all that a new one takes; and who imports whom in imaging."""

import ast
import graphlib
import html
import json
import re
import shutil
import subprocess
import sys

import pytest

from imaging import decode, readers, signatures
from tests.conftest import PROJECT

IMAGING = PROJECT / "imaging"
ENTRIES = """\
    ImageReader("PPM", (".pgm", ".ppm"), ((0, b"P5"), (0, b"P6"))),
    SliceReader("Toy", (".toy",), ((0, b"TOY"),), read=when_used(f"{__package__}.toy")),
"""
TOY = '''
import numpy as np
from imaging import volume

def read(data, choice, or_middle):
    """Its header: TOY, how many slices, how many pixels a side."""
    counts, side = {volume.FRAMES: data[3]}, data[4]
    plane, number = volume.resolved(choice, counts, or_middle)
    pixels = np.frombuffer(data[5:], np.uint8).reshape(-1, side, side)
    return volume.Slice(pixels[number - 1], counts, plane, number)
'''
USE = '''
import io, json, pathlib, sys
import imaging
from client.__main__ import files
from webapp import create_app

folder = pathlib.Path(sys.argv[1])
one, several = b"TOY\\1\\x20" + bytes(range(32)) * 32, b"TOY\\3\\x20" + bytes(range(32)) * 96
(folder / "a.PGM").write_bytes(b"P5 32 32 255\\n" + bytes(range(32)) * 32)
(folder / "b.toy").write_bytes(one)
(folder / "c.txt").write_bytes(b"text")
web = create_app({"TRITON_URL": "127.0.0.1:9"}).test_client()

def post(path, content, **fields):
    answer = web.post(path, data={"file": (io.BytesIO(content), "x"), **fields})
    return answer.status_code, answer.json

print(json.dumps({
    "found": [path.name for path in imaging.find(folder)],
    "in client": [path.name for path in files([folder])],
    "same": imaging.read(folder / "a.PGM") == imaging.read(folder / "b.toy"),
    "page": web.get("/", headers={"Accept": "text/html"}).text,
    "text": post("/predict", b"text"),
    "pgm": post("/predict", (folder / "a.PGM").read_bytes()),
    "toy": post("/predict", one),
    "no choice": post("/predict", several),
    "slice": post("/slice", several, slice="2"),
    "api": web.get("/openapi.json").text,
}))
'''


@pytest.fixture(scope="module")
def used(tmp_path_factory):
    """What a copy of the project answers that got two more formats."""
    project, folder = tmp_path_factory.mktemp("project"), tmp_path_factory.mktemp("images")
    for part in ("imaging", "core", "client", "webapp"):
        shutil.copytree(PROJECT / part, project / part)
    registry = project / "imaging/readers.py"
    place = '    SliceReader("DICOM"'
    assert registry.read_text().count(place) == 1
    registry.write_text(registry.read_text().replace(place, ENTRIES + place))
    (project / "imaging/toy.py").write_text(TOY)
    done = subprocess.run([sys.executable, "-c", USE, str(folder)], cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_new_format_is_found_and_read(used):
    assert used["found"] == used["in client"] == ["a.PGM", "b.toy"]
    assert used["same"]


def test_a_new_format_is_accepted_by_the_page(used):
    assert {used[name][1]["code"] for name in ("pgm", "toy")} == {"server_unavailable"}  # nothing is wrong with them
    assert (used["no choice"][0], used["no choice"][1]["code"]) == (422, "multiple_frames")
    status, answer = used["slice"]
    assert (status, answer["slices"], answer["slice"]) == (200, {"frames": 3}, 2)


def test_a_new_format_is_named_wherever_formats_are(used):
    status, answer = used["text"]
    assert status == 415 and "GIF, PPM, Toy, DICOM or NIfTI" in answer["error"]
    assert "GIF, PPM, Toy, DICOM or NIfTI" in used["api"]
    page = used["page"]
    assert {".pgm", ".ppm", ".toy", ".gz"} <= set(re.search(r'accept="([^"]*)"', page)[1].split(","))
    data = {name: json.loads(html.unescape(re.search(rf'data-{name}="([^"]*)"', page)[1]))
            for name in ("suffixes", "slice-marks")}
    assert {".pgm", ".ppm", ".toy"} <= set(data["suffixes"]) and ".nii" not in data["suffixes"]
    assert [0, b"TOY".hex()] in data["slice-marks"] and [128, b"DICM".hex()] in data["slice-marks"]


def test_the_scripts_of_the_page_name_no_format():
    scripts = " ".join(path.read_text() for path in (PROJECT / "webapp/static").glob("*.js"))
    assert not re.search(r"jpe\?g|\.dcm|DICM|n\+1|x1f", scripts)


def test_what_has_its_mark_further_inside_is_asked_first():
    for reader in readers.IMAGE_READERS:
        start = reader.marks[0][1].ljust(128, b"\0")
        assert readers.reader_of(start + b"DICM").name == "DICOM"


@pytest.mark.parametrize(("data", "name"), [
    (b"RIFF\0\0\0\0WEBPVP8 ", "WebP"), (b"RIFF\0\0\0\0WAVEfmt ", None), (b"GIF89a", "GIF"), (b"GIF90a", None),
    (signatures.GZIP + bytes(40), None), (b"MM\0+", "TIFF"), (bytes(344) + b"n+1\0", "NIfTI"), (b"", None)])
def test_content_says_which_format_it_is(data, name):
    found = readers.reader_of(data)
    assert (found.name if found else None) == name


def test_names_and_suffixes_are_unique():
    suffixes = [suffix for one in readers.READERS for suffix in one.suffixes]
    assert len(set(suffixes)) == len(suffixes) and all(one.startswith(".") and one == one.lower() for one in suffixes)
    assert len({one.name for one in readers.READERS}) == len(readers.READERS)


def test_folders_are_not_searched_for_volumes(tmp_path):
    for name in ("a.nii", "b.nii.gz", "c.tiff"):
        (tmp_path / name).touch()
    assert [path.name for path in decode.find(tmp_path)] == ["c.tiff"]


def imported(tree: ast.Module) -> set[str]:
    """Return the modules of imaging that a module imports, wherever in it, or names as f"{__package__}.x"."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module, *(f"{node.module}.{one.name}" for one in node.names)}
        elif isinstance(node, ast.JoinedStr):
            names.add(ast.unparse(node)[2:-1].replace("{__package__}", "imaging"))
    modules = {f"imaging.{path.stem}" for path in IMAGING.glob("*.py")}
    return {name.removeprefix("imaging.") for name in names & modules}


TREES = {path.stem: ast.parse(path.read_text()) for path in IMAGING.glob("*.py")}


def test_no_module_of_imaging_imports_one_that_imports_it():
    graph = {name: imported(tree) for name, tree in TREES.items()}
    assert {"dicom", "nifti"} < graph["readers"] and "volume" in graph["dicom"]
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


def test_imports_stand_at_the_top():
    for name, tree in TREES.items():
        everywhere = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
        assert all(node in tree.body for node in everywhere), name


def test_what_few_files_need_is_not_imported_for_all():
    script = "import sys, imaging, imaging.slices; print({'pydicom', 'nibabel'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
