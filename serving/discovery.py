"""Finds a tritonserver binary, and lays out the backend directory and the environment that it needs."""

import os
import shutil
import sys
import sysconfig
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from serving.errors import ServingError

BACKEND = Path(__file__).parent / "backends" / "tensorflow"
"""Our TensorFlow backend, for servers that do not bring their own."""

WHEEL = "nvidia-pytriton"
WHEEL_CORE = {"0.7.0": "2.51.0"}
"""Version of the wheel -> version of Triton's core in it. The binary itself cannot tell."""

NATIVE = "libtriton_tensorflow.so"


@dataclass(frozen=True)
class Installation:
    """Where the parts of one Triton are.

    Attributes:
        binary: the tritonserver program.
        backends: folder with one folder per backend.
        stub: the Python backend's helper process if it is not in `backends`, else None.
        libraries: folders for LD_LIBRARY_PATH.
        core: version of Triton's core such as "2.51.0", empty if unknown.
        own_python: the models run in the Python that runs this code, not in one that the installation brings.
    """

    binary: Path
    backends: Path
    stub: Path | None
    libraries: tuple[Path, ...]
    core: str
    own_python: bool


def find() -> Installation:
    """Return the Triton on PATH, else the one inside the nvidia-pytriton wheel of this Python.

    Raises:
        ServingError: there is none, or this Python cannot run its models.
    """
    on_path = shutil.which("tritonserver")
    if on_path:
        binary = Path(on_path).resolve()
        core = os.environ.get("TRITON_SERVER_VERSION", "")
        return Installation(binary, binary.parent.parent / "backends", None, (), core, own_python=False)
    found = _in_wheel()
    require_shared_python(sysconfig.get_config_var("Py_ENABLE_SHARED"), sys.version_info[:2])
    require_numpy_1(metadata.version("numpy"))
    return found


def _in_wheel() -> Installation:
    """Return the installation inside the wheel, of which only the files are used, not the API."""
    try:
        distribution = metadata.distribution(WHEEL)
    except metadata.PackageNotFoundError:
        raise ServingError(
            f"Expected tritonserver on PATH or the package {WHEEL} in {sys.executable}. Received: neither. "
            "Run: pip install -r requirements.txt"
        ) from None
    root = Path(str(distribution.locate_file("pytriton"))) / "tritonserver"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = root / "python_backend_stubs" / version / "triton_python_backend_stub"
    binary = root / "bin" / "tritonserver"
    for path in (binary, stub):
        if not path.is_file():
            raise ServingError(
                f"Expected {WHEEL} to hold {path.name} for Python {version} on x86-64 Linux. Received: none in version "
                f"{distribution.version}. Use Python 3.10 to 3.12 and run: pip install -r requirements.txt"
            )
    # The running Python's own library folder must come before the system's: else the stub picks the system's
    # libpython of that version, and modules such as ssl fail to import.
    libraries = (Path(str(distribution.locate_file("nvidia_pytriton.libs"))), Path(sysconfig.get_config_var("LIBDIR")))
    core = WHEEL_CORE.get(distribution.version, "")
    return Installation(binary, root / "backends", stub, libraries, core, own_python=True)


def require_shared_python(shared: int | None, version: tuple[int, int]) -> None:
    """Refuse a Python without libpython as a shared library, which Triton's stub is linked against.

    Raises:
        ServingError: names the package to install.
    """
    if not shared:
        name = f"{version[0]}.{version[1]}"
        raise ServingError(
            f"Expected a Python with a shared library (libpython{name}.so). Received: {sys.executable} without one. "
            f"On Debian and Ubuntu run: apt-get install libpython{name} python{name}-venv; with pyenv build it with "
            "PYTHON_CONFIGURE_OPTS=--enable-shared. Then make the virtual environment anew from that Python."
        )


def require_numpy_1(version: str) -> None:
    """Refuse numpy 2, whose arrays Triton before 24.11 reads wrongly without an error.

    Raises:
        ServingError: says how to install numpy 1.
    """
    if int(version.split(".")[0]) >= 2:
        raise ServingError(
            f"Expected numpy below 2: the Triton in {WHEEL} reads arrays of numpy 2 wrongly. "
            f"Received: numpy {version}. Run: pip install -r requirements.txt"
        )


def is_native(installation: Installation) -> bool:
    """Return whether a Triton brings its own TensorFlow backend, as 25.02 and older do; it is used instead of ours."""
    return (installation.backends / "tensorflow" / NATIVE).exists()


def lay_out_backends(installation: Installation, folder: Path) -> None:
    """Make a backend directory: the installation's backends, its Python stub, and our TensorFlow backend.

    Whole backends can be links; single files cannot: Triton refuses a library that "escapes" its backend's folder.

    Args:
        installation: from find().
        folder: is made; must not exist.
    """
    folder.mkdir(parents=True)
    for backend in sorted(installation.backends.iterdir()):
        if backend.name == "python" and installation.stub:
            (folder / "python").mkdir()
            for file in [*backend.glob("*.so"), *backend.glob("*.py"), installation.stub]:
                shutil.copy2(file, folder / "python" / file.name)
        elif backend.name != "tensorflow" or is_native(installation):
            (folder / backend.name).symlink_to(backend)
    if not (folder / "tensorflow").exists():
        shutil.copytree(BACKEND, folder / "tensorflow", ignore=shutil.ignore_patterns("__pycache__"))


MALLOC = {"MALLOC_MMAP_THRESHOLD_": 2**25, "MALLOC_TRIM_THRESHOLD_": 2**28, "MALLOC_TOP_PAD_": 2**24}
"""glibc keeps what images of a few MB need, and fetches no zeroed pages from the system for each; see mallopt(3)."""


def environment(installation: Installation, inherited: dict[str, str]) -> dict[str, str]:
    """Return the environment variables for tritonserver.

    Args:
        installation: from find().
        inherited: os.environ or a part of it; not changed.
    """
    result = {name: str(size) for name, size in MALLOC.items()} | inherited
    if installation.core:
        result["TRITON_SERVER_VERSION"] = installation.core
    if installation.libraries:
        folders = [*map(str, installation.libraries), inherited.get("LD_LIBRARY_PATH", "")]
        result["LD_LIBRARY_PATH"] = ":".join(filter(None, folders))
    if installation.own_python:
        # The stub embeds Python: it finds its home through the python3 on PATH. The site-packages are named as well, so
        # that it sees what this Python sees, and nothing from a PYTHONPATH meant for other programs.
        result.pop("PYTHONHOME", None)
        result["PATH"] = f"{Path(sys.executable).parent}:{inherited.get('PATH', os.defpath)}"
        paths = sysconfig.get_paths()
        result["PYTHONPATH"] = ":".join(dict.fromkeys([paths["purelib"], paths["platlib"]]))
        result["PYTHONNOUSERSITE"] = "1"
        result["PYTHONDONTWRITEBYTECODE"] = "1"
    return result
