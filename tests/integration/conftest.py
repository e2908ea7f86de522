"""One model repository and one running Triton for all integration tests, because a start takes seconds."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from client import Classifier
from serving.server import Server
from tests.support import repository as small
from tests.support import road


@pytest.fixture(scope="session")
def repository(tmp_path_factory) -> Path:
    """A complete model repository. Read-only: copy it to change it."""
    folder = tmp_path_factory.mktemp("exported") / "model_repository"
    small.write(folder)
    return folder


@pytest.fixture(scope="session")
def server(repository):
    """A running Triton that serves `repository`."""
    with Server(repository) as running:
        yield running


@pytest.fixture
def classifier(server):
    """A client of `server`."""
    asking = Classifier(server.url, timeout=30)
    yield asking
    asking.close()


@pytest.fixture(scope="session")
def scans() -> list[bytes]:
    """Twelve different PNGs and JPEGs of different sizes."""
    random = np.random.default_rng(0)
    return [picture(random, 40 + 7 * i, "PNG" if i % 2 else "JPEG") for i in range(12)]


def picture(random: np.random.Generator, side: int, form: str) -> bytes:
    """Return an encoded picture of random coarse grey patches."""
    patches = random.integers(0, 256, (4, 4), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(patches).resize((side, side + 5)).save(buffer, form)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def phantom_road(tmp_path_factory) -> Path:
    """A clone in which `dvc exp run -S train.lr=1e-3` ran on phantoms. Read-only for all but test_road.py."""
    folder = road.clone(tmp_path_factory.mktemp("phantom"))
    road.run(["dvc", "exp", "run", *road.overrides(**{"train.lr": "1e-3"})], folder)
    return folder
