"""One Triton process: started on a private copy of the repository, proven to answer, and cleared away completely."""

import contextlib
import os
import re
import secrets
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from client import Classifier, ClientError, ServerError
from core import contract, files
from serving import discovery, snapshot
from serving.errors import Rejected, ServingError
from serving.started import kill_group

HOST = "127.0.0.1"
EXIT_TIMEOUT = 5
"""Seconds that Triton waits for requests under way. A dead stub makes it wait for all of them, so they are few."""

POLL = 0.1
"""Seconds between two looks at a process."""

PREFIX = "run-"
"""Of a private folder's name."""
SHARED_MEMORY = Path("/dev/shm")
ENDED = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
LOG_LINES = 12
CLOSED_APIS = "shared-memory,model-repository,trace,logging"
"""HTTP APIs that no one here uses (statistics say what is served); those of older servers have known remote holes."""


class Server:
    """A running Triton.

        with serving.server.Server(Path("model_repository")) as server:
            client.Classifier(server.url).classify(image)

    Args:
        repository: the model repository that export writes; it is copied, never served in place.
        http_port: port on the loopback address; 0 picks a free one.
        log_file: where Triton's output goes; None keeps it only while the server runs.
        work: folder for the private copies; None means .serving beside the repository.
        start_timeout: seconds until the first correct answer.
        cancelled: called while waiting; when it returns true, start() gives up.
    """

    def __init__(
        self,
        repository: str | Path,
        http_port: int = 0,
        log_file: str | Path | None = None,
        work: str | Path | None = None,
        start_timeout: float = 180.0,
        cancelled: Callable[[], bool] = lambda: False,
    ):
        self.repository = Path(repository)
        self.http_port = http_port
        self.log_file = Path(log_file) if log_file else None
        self.work = Path(work) if work else self.repository.resolve().parent / ".serving"
        self.start_timeout = start_timeout
        self.networks: list[str] = []
        self._cancelled = cancelled
        self._given_up = threading.Event()
        self._is_successor = False
        self._log_start = 0
        self._own: files.Private | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._stubs: set[int] = set()

    @property
    def url(self) -> str:
        """host:port of the HTTP endpoint, as client.Classifier wants it."""
        return f"{HOST}:{self.http_port}"

    @property
    def copy(self) -> Path:
        """The private copy of the repository, which is what is served. Only while the server runs."""
        return self._private / "model_repository"

    @property
    def _private(self) -> Path:
        """The folder that holds all of one run. Only while the server runs."""
        if self._own is None:
            raise RuntimeError("Expected a started server. Received: one that is stopped. Call start() first.")
        return self._own.path

    @property
    def pid(self) -> int | None:
        """Process id of tritonserver, also the id of the process group with its stubs; None when stopped."""
        return self._process.pid if self._process else None

    def __enter__(self) -> "Server":
        self.start()
        return self

    def __exit__(self, *exception) -> None:
        self.stop()

    def start(self) -> None:
        """Copy and verify the repository, start Triton on the copy, and wait until every network answers rightly.

        Raises:
            Rejected: the repository is incomplete or altered, or its networks give wrong answers.
            ServingError: no Triton, a taken port, a model that does not load, no answer in time.
            Nothing is left over then.
        """
        installation = discovery.find()
        snapshot.require_complete(self.repository)
        self.http_port = free_port(self.http_port)
        self.work.mkdir(parents=True, exist_ok=True)
        sweep(self.work)
        self._own = private(self.work)
        try:
            models = {model.name for model in snapshot.take(self.repository, self.copy)}
            self.networks = sorted(filter(None, map(contract.model, models)))
            if not self.networks:
                raise Rejected(f"Expected a classifier, {contract.classifier('<network>')}. "
                                   f"Received: {', '.join(sorted(models))}.")
            discovery.lay_out_backends(installation, self._private / "backends")
            if not discovery.is_native(installation):
                snapshot.drop_queue_policies(self.copy)
            self.log_file = self._log = self.log_file or self._private / "triton.log"
            self.log_file.parent.mkdir(parents=True, exist_ok=True)
            if not self._is_successor:
                self.log_file.write_bytes(b"")
            self._log_start = self.log_file.stat().st_size if self.log_file.exists() else 0
            self._environment = discovery.environment(installation, dict(os.environ))
            self._command = command(installation.binary, self._private, self.http_port)
            self._launch()
        except BaseException:
            self.stop()
            raise

    def restart(self) -> None:
        """Replace a Triton that has ended, lost a process or no longer answers, on the same port and copy.

        It gets no time to end in order: without one of its stubs it would only wait for its own time-out.

        Raises:
            ServingError: the new one does not answer either.
        """
        self._kill_process()
        remove_shared_memory(self._private)
        self._launch()

    def stop(self) -> None:
        """End Triton and remove its copy of the repository and its shared memory. Harmless when nothing runs."""
        self._end_process()
        if self._own:
            remove_remains(self._own)
            self._own = None

    def is_running(self) -> bool:
        """Return whether the process and its stubs run; they may still be unable to answer (see check)."""
        if self._process is None or self._process.poll() is not None:
            return False
        pid = self._process.pid
        return all(parent(stub) == pid for stub in self._stubs)

    def cancel(self) -> None:
        """Let a start() or restart() that runs in another thread give up soon."""
        self._given_up.set()

    def successor(self, repository: Path) -> "Server":
        """Return a server for another repository on a free port, with the same settings otherwise; not started."""
        log = self.log_file if self.log_file and not self.log_file.is_relative_to(self._private) else None
        new = Server(repository, 0, log, self.work, self.start_timeout, self._cancelled)
        new._is_successor = True  # so that it adds to the log
        return new

    def check(self, timeout: float = 10.0, most: int | None = 1) -> None:
        """Classify golden images with every network and compare the answers with the exported ones.

        Only an answer proves health: with a dead stub Triton reports live, ready and every model ready, for ever.

        Args:
            timeout: seconds for each image.
            most: so many images a network; None for all.

        Raises:
            ClientError: what a user would get now.
        """
        classifier = Classifier(self.url, timeout)
        try:
            for network in self.networks:
                classifier.verify(network, most)
        finally:
            classifier.close()

    def log_excerpt(self) -> str:
        """Return the lines of Triton's log that name errors, else its last lines."""
        if not self.log_file or not self.log_file.exists():
            return ""
        lines = self.log_file.read_bytes()[self._log_start :].decode("utf-8", "replace").splitlines()
        telling = [line for line in lines if re.match(r"E\d{4} |error:|\w*(Error|Exception)\b", line)]
        telling = [line for line in telling if not re.search("cuda", line, re.IGNORECASE)]  # noise where no GPU is
        return "\n".join((telling or lines)[-LOG_LINES:])

    def _launch(self) -> None:
        """Start the process and wait for the first right answer of every network."""
        with self._log.open("ab") as log:
            # A session of its own: Ctrl-C in the terminal must reach us alone, so that we end things in order.
            process = self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                cwd=self._private,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        (self._private / "triton.pid").write_text(str(process.pid))
        deadline = time.monotonic() + self.start_timeout
        classifier = Classifier(self.url, timeout=2.0)
        while not classifier.is_live() or not self._models_ready(classifier):
            self._require_progress(process, deadline)
            time.sleep(POLL)
        classifier.close()
        self._stubs = children(process.pid)
        try:
            self.check(timeout=max(5.0, deadline - time.monotonic()), most=None)
        except ClientError as error:
            message = f"Expected right answers to the golden images. Received: {error} {error.detail}"
            kind = Rejected if isinstance(error, ServerError) else ServingError
            raise kind(message, self.log_excerpt()) from error

    def _models_ready(self, classifier: Classifier) -> bool:
        try:
            ready = classifier.models()
        except ClientError:
            return False
        return all(ready.get(name) for name in self.networks)

    def _require_progress(self, process: subprocess.Popen[bytes], deadline: float) -> None:
        """Raise if waiting longer is useless."""
        if self._cancelled() or self._given_up.is_set():
            raise ServingError("Stopped before the server was ready.")
        if (code := process.poll()) is not None:
            raise ServingError(f"Expected Triton to load every model. Received: exit code {code}.", self.log_excerpt())
        if time.monotonic() > deadline:
            message = f"Expected Triton to be ready within {self.start_timeout:.0f} s. Received: no answer."
            raise ServingError(message, self.log_excerpt())

    def _end_process(self) -> None:
        """TERM, wait for Triton's own time-out, KILL; then KILL what is left of its process group."""
        if self._process is None:
            return
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(EXIT_TIMEOUT + 3)
        self._kill_process()

    def _kill_process(self) -> None:
        """KILL Triton and its stubs."""
        if self._process:
            kill_group(self._process.pid)
            self._process.wait()
        self._process, self._stubs = None, set()


def command(binary: Path, folder: Path, http_port: int) -> list[str]:
    """Return tritonserver's command line for a private folder that holds model_repository/ and backends/."""
    return [
        str(binary),
        f"--model-repository={folder / 'model_repository'}",
        f"--backend-directory={folder / 'backends'}",
        f"--backend-config=python,shm-region-prefix-name={folder.name}-",
        f"--backend-config=tensorflow,shm-region-prefix-name={folder.name}-",
        f"--http-address={HOST}",
        f"--http-port={http_port}",
        "--allow-grpc=false",
        "--allow-metrics=false",
        "--allow-gpu-metrics=false",
        f"--http-restricted-api={CLOSED_APIS}:closed={secrets.token_hex(16)}",
        "--model-control-mode=none",
        "--strict-readiness=true",
        "--disable-auto-complete-config",
        f"--exit-timeout-secs={EXIT_TIMEOUT}",
    ]


def free_port(port: int) -> int:
    """Return the port if it can be had on the loopback address; for 0 any free one.

    Raises:
        ServingError: another program has it.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Triton does: TIME_WAIT is no obstacle
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as error:
            raise ServingError(
                f"Expected a free port on {HOST}. Received: {port} ({error}). Stop the program that has it, or choose "
                "another with --http-port"
            ) from None
        return probe.getsockname()[1]


def parent(pid: int) -> int | None:
    """Return the id of a process's parent; None if the process has ended."""
    try:
        process = psutil.Process(pid)
        return None if process.status() in ENDED else process.ppid()
    except psutil.NoSuchProcess:
        return None


def children(pid: int) -> set[int]:
    """Return the ids of a process's children that have not ended."""
    return {one for one in psutil.pids() if parent(one) == pid}


def private(work: Path) -> files.Private:
    """Return a new private folder; its process id is for people, nothing is decided by it."""
    return files.private(work.resolve(), f"{PREFIX}{os.getpid()}-")


def remove_shared_memory(folder: Path) -> None:
    """Delete the shared memory regions that carry the name of a private folder."""
    for region in SHARED_MEMORY.glob(f"{folder.name}-*"):
        region.unlink(missing_ok=True)


def remove_remains(left: files.Private) -> None:
    """Delete a private folder and its shared memory regions."""
    remove_shared_memory(left.path)
    left.remove()


def sweep(work: Path) -> None:
    """Clear away what killed runs left: their Triton, their copy of the repository and their shared memory.

    Other containers and hosts may share the folder: what they hold is left alone, see core.files.Private.
    """
    for left in files.abandoned(work, PREFIX):
        with contextlib.suppress(OSError, ValueError, psutil.Error):
            triton = psutil.Process(int((left.path / "triton.pid").read_text()))
            if any(left.path.name in word for word in triton.cmdline()):  # the number may be another program's by now
                kill_group(triton.pid)
        remove_remains(left)
