"""Twenty seconds of fuzzing the decoder from a stored corpus; `make test-all` does half an hour."""

import re
import subprocess
import sys
import zipfile

import pytest

from tests.conftest import PROJECT

# requirements-dev.txt leaves atheris out there; CI runs a later Python, where a skip is a failure.
pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="atheris has no wheel for Python 3.10")
DAMAGED = """
from tests.support import fuzz_decode
canonical = fuzz_decode.decode.canonical
fuzz_decode.decode.canonical = lambda data: canonical(data)[:-1]
fuzz_decode.main()
"""
"""Fuzzes a decoder whose answers it refuses itself."""


def fuzz(*words: str) -> subprocess.CompletedProcess:
    """Run the fuzzer."""
    return subprocess.run([sys.executable, *words, "--seconds", "20"], cwd=PROJECT, capture_output=True, text=True,
                          errors="replace", timeout=300)


def test_no_bytes_get_past_the_decoder():
    done = fuzz("-m", "tests.support.fuzz_decode")
    assert done.returncode == 0, done.stderr[-3000:]
    with zipfile.ZipFile(PROJECT / "tests/support/corpus.zip") as stored:
        known = len(stored.namelist())
    assert int(re.search(r"number_of_executed_units: (\d+)", done.stderr)[1]) > known > 100


def test_the_fuzzer_finds_a_decoder_that_lets_damage_through():
    done = fuzz("-c", DAMAGED)
    assert done.returncode != 0 and "Uncaught Python exception" in done.stdout + done.stderr
