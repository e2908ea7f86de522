"""Three quarters of a minute of fuzzing the decoder; `make test-all` does half an hour."""

import re
import subprocess
import sys

import pytest

from tests.conftest import PROJECT

# requirements-dev.txt leaves atheris out there; CI runs a later Python, where a skip is a failure.
pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="atheris has no wheel for Python 3.10")


def fuzz(*options: str) -> subprocess.CompletedProcess:
    """Run the fuzzer."""
    words = [sys.executable, "-m", "tests.support.fuzz_decode", *options]
    return subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, errors="replace", timeout=300)


def test_no_bytes_get_past_the_decoder():
    done = fuzz("--seconds", "45")
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(re.search(r"number_of_executed_units: (\d+)", done.stderr)[1]) > 1_000


def test_the_fuzzer_finds_what_pillow_alone_lets_through():
    done = fuzz("--seconds", "30", "--unguarded")
    assert done.returncode != 0 and "Uncaught Python exception" in done.stdout + done.stderr
