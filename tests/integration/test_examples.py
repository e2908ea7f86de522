"""README's examples for programs, run as they stand, against a real road."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from core import contract
from tests.conftest import PROJECT
from tests.support import medical
from tests.support.site import published

README = (PROJECT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
CURLS = [line for _, block in BLOCKS for line in block.splitlines() if line.startswith("curl ")]
PYTHON = [block for language, block in BLOCKS if language == "python"]


@pytest.fixture(scope="module")
def site(server):
    """host:port of the page."""
    with published(server.url) as address:
        yield address


@pytest.fixture
def folder(tmp_path):
    """A folder with the images that the examples name."""
    for index, name in enumerate(("scan.jpg", "a.jpg", "b.jpg")):
        Image.new("L", (96, 96), 60 + 50 * index).save(tmp_path / name)
    (tmp_path / "head.nii.gz").write_bytes(medical.nifti(np.zeros((96, 96, 96), np.int16), np.eye(4)))
    return tmp_path


def test_there_are_examples():
    assert len(CURLS) >= 4 and len(PYTHON) == 1


# A laptop may have no curl; in CI it is installed, and there tests/conftest.py turns a skip into a failure.
@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed: apt-get install curl")
@pytest.mark.parametrize("line", CURLS)
def test_a_curl_example_answers(site, folder, line):
    words = shlex.split(line.replace("127.0.0.1:5000", site))
    done = subprocess.run([*words, "--silent", "--fail"], cwd=folder, capture_output=True)
    assert done.returncode == 0, done.stderr
    if "-o" in words:
        with Image.open(folder / words[words.index("-o") + 1]) as picture:
            assert picture.size == (96, 96)
        return
    answer = json.loads(done.stdout)
    assert answer["disclaimer"] == contract.DISCLAIMER
    assert all(one["success"] for one in answer.get("results", [answer]))


def test_the_python_example_prints_a_prediction(server, folder):
    code = PYTHON[0].replace("127.0.0.1:8000", server.url)
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": str(PROJECT)})
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Prediction(model='custom', label=")
