"""What serving decides before and around a running Triton."""

import contextlib
import hashlib
import importlib.util
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import numpy as np
import pytest

from core import files, manifest, processor, triton_config
from serving import __main__ as command
from serving import discovery, releases, server, snapshot, supervisor
from serving import manifest as manifest_command
from serving.errors import ServingError
from serving.started import end, started
from tests.conftest import PROJECT
from webapp.settings import Settings
from webapp.uploads import BATCH_FILES
from webapp.views import BATCH_CONCURRENCY

NETWORK = 'name: "custom"\nbackend: "tensorflow"\noutput [{ name: "p" label_filename: "labels.txt" }]\n'
CHAIN = 'name: "classify_custom"\nplatform: "ensemble"\nensemble_scheduling { step [{ model_name: "custom" }] }\n'


@pytest.fixture
def repository(tmp_path):
    """The files of a network and its classifier, with nothing in them."""
    root = tmp_path / "model_repository"
    saved = root / "custom" / "1" / "model.savedmodel"
    for path in (saved / "variables" / "variables.index", saved / "variables" / "variables.data-00000-of-00001"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    (saved / "saved_model.pb").write_bytes(b"graph")
    (root / "custom" / "config.pbtxt").write_text(NETWORK)
    (root / "custom" / "labels.txt").write_text("a\nb\n")
    (root / "classify_custom" / "1").mkdir(parents=True)
    (root / "classify_custom" / "config.pbtxt").write_text(CHAIN)
    digest = hashlib.sha256(b"graph").hexdigest()
    table = {"files": {"model.savedmodel/saved_model.pb": digest}}
    (root / "custom" / "1" / "provenance.json").write_text(json.dumps(table))
    manifest.write(root)
    return root


def test_a_complete_repository_is_copied_without_hidden_files(repository, tmp_path):
    (repository / "custom" / ".gitignore").write_text("/1\n")
    (repository / ".cache").mkdir()
    models = snapshot.take(repository, tmp_path / "copy")
    assert [model.name for model in models] == ["classify_custom", "custom"]
    assert (tmp_path / "copy/custom/1/model.savedmodel/saved_model.pb").read_bytes() == b"graph"
    assert (tmp_path / "copy/classify_custom/1").is_dir()
    assert not list((tmp_path / "copy").rglob(".*"))


PARTS = [
    "custom/labels.txt",
    "custom/1/model.savedmodel/saved_model.pb",
    "custom/1/model.savedmodel/variables/variables.index",
    "custom/1/model.savedmodel/variables/variables.data-00000-of-00001",
]


@pytest.mark.parametrize("part", PARTS)
def test_a_missing_part_is_named_with_the_command_that_makes_it(repository, part):
    (repository / part).unlink()
    with pytest.raises(ServingError, match="dvc repro") as caught:
        snapshot.require_complete(repository)
    assert part.split("-00000")[0] in str(caught.value)


@pytest.mark.parametrize(("old", "new", "message"), [('"custom"', '"other"', "other, which classify_custom calls")])
def test_a_chain_needs_its_steps(repository, old, new, message):
    config = repository / "classify_custom" / "config.pbtxt"
    config.write_text(config.read_text().replace(old, new))
    with pytest.raises(ServingError, match=message):
        snapshot.require_complete(repository)


@pytest.mark.parametrize("name", ["custom", "classify_custom"])
def test_every_model_needs_a_version_folder(repository, name):
    (repository / name / "1").rename(repository / name / "new")
    with pytest.raises(ServingError, match=f"{name}/1"):
        snapshot.require_complete(repository)


def test_a_configuration_that_cannot_be_read_is_named_with_the_place(repository):
    (repository / "custom" / "config.pbtxt").write_text('name: "custom"\nbackends: "tensorflow"\n')
    with pytest.raises(ServingError, match="custom/config.pbtxt. Received: 2:.*backends.*dvc repro"):
        snapshot.require_complete(repository)


def test_queue_policies_go_and_all_else_stays(repository):
    path = repository / "custom" / "config.pbtxt"
    batching = "dynamic_batching {{ preferred_batch_size: [ 1 ] {} }}"
    policy = "default_queue_policy { max_queue_size: 64 }"
    path.write_text(f"# a {{comment}}\n{NETWORK}{batching.format(policy)}")
    snapshot.drop_queue_policies(repository)
    changed = triton_config.read(path)
    path.write_text(NETWORK + batching.format(""))
    assert changed == triton_config.read(path)


def test_in_an_older_release_models_get_new_names_and_tensors_keep_theirs(tmp_path):
    path = tmp_path / "config.pbtxt"
    path.write_text('name: "classify_custom" input { name: "custom" } ensemble_scheduling { step { '
                    'model_name: "custom" input_map { key: "custom" value: "custom" } } }')
    releases.rename(path, {"custom": "custom.1", "classify_custom": "classify_custom.1"})
    config = triton_config.read(path)
    assert (config.name, config.input[0].name, triton_config.steps(config)) == (
        "classify_custom.1", "custom", ("custom.1",))
    assert config.ensemble_scheduling.step[0].input_map == {"custom": "custom"}


def test_no_repository_at_all(tmp_path):
    with pytest.raises(ServingError, match="dvc repro"):
        snapshot.read(tmp_path / "absent")


def test_a_changed_file_is_refused(repository, tmp_path):
    (repository / "custom/1/model.savedmodel/saved_model.pb").write_bytes(b"grapf")
    with pytest.raises(ServingError, match=r"saved_model.pb \(changed\).*dvc repro --force"):
        snapshot.take(repository, tmp_path / "copy")


def rewritten(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new))


CHANGES = {  # what the manifest does not say -> what is done
    "config.pbtxt (changed)": lambda root: rewritten(root / "custom/config.pbtxt", "custom", "custom "),
    "labels.txt (changed)": lambda root: rewritten(root / "custom/labels.txt", "a", "b"),
    "classify_custom/1/new.py (not in it)": lambda root: (root / "classify_custom/1/new.py").touch(),
    "notes/text (not in it)": lambda root: [(root / "notes").mkdir(), (root / "notes/text").touch()],
    "provenance.json (missing)": lambda root: (root / "custom/1/provenance.json").unlink(),
    "Received: none. Export it again": lambda root: (root / manifest.FILE).unlink(),
    "cannot be read": lambda root: (root / manifest.FILE).write_text('{"files": {}}'),
}


@pytest.mark.parametrize("message", CHANGES)
def test_what_is_served_is_exactly_what_was_exported(repository, tmp_path, message):
    CHANGES[message](repository)
    with pytest.raises(ServingError, match=re.escape(message)):
        snapshot.take(repository, tmp_path / "copy")
    with pytest.raises(ServingError, match=re.escape(message)):
        releases.publish(repository, tmp_path / "releases")


def test_a_repository_without_a_manifest_gets_one_on_request_if_its_networks_are_the_exported_ones(
        repository, tmp_path, capsys):
    (repository / manifest.FILE).unlink()
    saved = repository / "custom/1/model.savedmodel/saved_model.pb"
    saved.write_bytes(b"grapf")
    assert manifest_command.main([str(repository)]) == 1 and "SHA-256" in capsys.readouterr().err
    saved.write_bytes(b"graph")
    assert manifest_command.main([str(repository)]) == 0
    assert snapshot.take(repository, tmp_path / "copy")


def test_a_copy_made_while_exports_replace_the_repository_is_whole_or_refused(repository, tmp_path):
    ended, copies = threading.Event(), [tmp_path / str(number) for number in range(20)]
    parts = ("custom/labels.txt", "classify_custom/config.pbtxt")

    def export(number: int) -> None:
        with files.replacing(repository, tmp_path / "scratch") as new:
            shutil.copytree(repository, new)
            for part in parts:
                (new / part).write_text(f"{CHAIN}# {number}\n")
            manifest.write(new)

    def export_on() -> None:
        for number in itertools.count(1):
            if ended.is_set():
                return
            export(number)

    export(0)
    exporting = threading.Thread(target=export_on)
    exporting.start()
    for copy in copies:
        with contextlib.suppress(ServingError):
            snapshot.take(repository, copy)
            assert (copy / parts[0]).read_text() == (copy / parts[1]).read_text()
    ended.set()
    exporting.join()


@pytest.mark.parametrize("text", ["{", "[1]", '{"files": 3}'])
def test_an_unreadable_provenance_is_refused(repository, text):
    (repository / "custom/1/provenance.json").write_text(text)
    with pytest.raises(ServingError, match="custom/1/provenance.json"):
        snapshot.require_digests(repository)


def test_the_wheel_of_this_python_is_found(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    found = discovery.find()
    assert found.binary.is_file() and found.stub.is_file() and found.core == "2.51.0"


def test_a_server_on_the_path_comes_first_and_keeps_its_own_python(tmp_path, monkeypatch):
    binary = tmp_path / "bin" / "tritonserver"
    binary.parent.mkdir()
    binary.write_text("#!/bin/sh\n")
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", str(binary.parent))
    found = discovery.find()
    assert found.binary == binary and found.backends == tmp_path / "backends"
    assert discovery.environment(found, {"PYTHONPATH": "/own"})["PYTHONPATH"] == "/own"


@pytest.mark.parametrize("native", [True, False])
def test_a_native_tensorflow_backend_is_preferred(tmp_path, native):
    (tmp_path / "backends" / "tensorflow").mkdir(parents=True)
    if native:
        (tmp_path / "backends" / "tensorflow" / discovery.NATIVE).touch()
    found = discovery.Installation(tmp_path / "t", tmp_path / "backends", None, (), "", own_python=False)
    discovery.lay_out_backends(found, tmp_path / "made")
    assert (tmp_path / "made" / "tensorflow" / "model.py").exists() != native


def test_a_python_without_shared_library_is_refused_naming_the_package():
    with pytest.raises(ServingError, match="apt-get install libpython3.11"):
        discovery.require_shared_python(0, (3, 11))


def test_numpy_2_is_refused():
    with pytest.raises(ServingError, match="requirements.txt"):
        discovery.require_numpy_1("2.1.0")


def test_the_environment_hides_the_users_python_path(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    made = discovery.environment(discovery.find(), {"PYTHONPATH": "/mine", "PYTHONHOME": "/x", "LD_LIBRARY_PATH": "/y"})
    assert "/mine" not in made["PYTHONPATH"] and "PYTHONHOME" not in made
    assert made["LD_LIBRARY_PATH"].split(":")[-1] == "/y" and "nvidia_pytriton.libs" in made["LD_LIBRARY_PATH"]
    assert Path(made["PATH"].split(":")[0], "python3").exists()


def test_a_taken_port_is_an_error_before_anything_starts(repository, capsys):
    with socket.create_server((server.HOST, 0)) as other:
        port = other.getsockname()[1]
        assert command.main(["--repository", str(repository), "--http-port", str(port)]) == 1
    assert f"Received: {port}" in capsys.readouterr().err
    assert not (repository.parent / ".serving").exists()


def test_without_a_port_of_ones_own_two_servers_run_side_by_side(monkeypatch):
    with socket.create_server((server.HOST, 0)) as other:
        monkeypatch.setattr(command, "PORT", other.getsockname()[1])
        assert command.chosen_port(None) not in (0, command.PORT)
    assert command.chosen_port(None) == command.PORT and command.chosen_port(0) == 0


def test_an_incomplete_repository_is_exit_code_1_and_one_message(repository, capsys):
    (repository / "custom/labels.txt").unlink()
    assert command.main(["--repository", str(repository), "--http-port", "0"]) == 1
    assert "Missing: custom/labels.txt. Run: dvc repro" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--"], ["--", "no-such-command"], ["--http-port", "70000"], ["--unknown"]])
def test_a_mistake_in_the_command_is_exit_code_2(words):
    with pytest.raises(SystemExit) as caught:
        command.main(words)
    assert caught.value.code == 2


def test_everything_listens_on_loopback_only(tmp_path):
    line = " ".join(server.command(Path("t"), tmp_path, 8000))
    assert "--http-address=127.0.0.1" in line and "--allow-grpc=false" in line and "--allow-metrics=false" in line


HOLDS = """
import sys; from pathlib import Path; from core import files; from serving import server
own = server.private(Path(sys.argv[1]))
folder = own.path
(folder / "model_repository").mkdir()
files.write_text(folder / "state.json", "{}")
with files.replacing(Path(sys.argv[1]) / "report") as new:
    new.write_text("half")
    print(folder.name, flush=True)
    sys.stdin.read()
"""


def test_only_remains_of_ended_processes_are_swept_and_a_namespace_of_its_own_is_no_end(tmp_path):
    held, names = [], []
    for inside in ([], ["unshare", "--user", "--map-root-user", "--pid", "--fork"]):  # the second one as in a container
        held.append(subprocess.Popen([*inside, sys.executable, "-c", HOLDS, tmp_path], cwd=PROJECT, text=True,
                                     stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True))
        names.append(held[-1].stdout.readline().strip())
    for name in names:
        (server.SHARED_MEMORY / f"{name}-test").touch()
    before = sorted(tmp_path.rglob("*"))
    server.sweep(tmp_path)
    files.sweep(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before and len(list(tmp_path.glob("run-*/state.json"))) == 2
    for process in held:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    server.sweep(tmp_path)
    files.sweep(tmp_path)
    assert not list(tmp_path.iterdir()) and not list(server.SHARED_MEMORY.glob(f"{names[0]}*"))


def test_the_canary_takes_whatever_it_meets_for_a_failure(monkeypatch):
    monkeypatch.setattr(supervisor, "CHECK_AGAIN", 0.01)
    watched = types.SimpleNamespace(check=lambda: int("what no client raises"))
    canary = supervisor.Canary(watched, 0.01)
    canary.start()
    assert canary.sick.wait(10)


def test_a_replaced_server_goes_on_for_as_long_as_a_batch_may_last():
    rounds = -(-BATCH_FILES // BATCH_CONCURRENCY)
    assert rounds * Settings.model_fields["CLASSIFY_TIMEOUT"].default < supervisor.DRAIN


def test_a_command_that_ignores_term_is_killed_with_its_children():
    script = "trap '' TERM; sleep 300 & echo $!; wait; wait"
    child = subprocess.Popen(["sh", "-c", script], start_new_session=True, stdout=subprocess.PIPE, text=True)
    grandchild = int(child.stdout.readline())
    end(child, 0.3)
    child.stdout.close()
    # KILL has been sent to a process that nobody here can wait for: it dies soon, not at once.
    deadline = time.monotonic() + 10
    while server.parent(grandchild) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert server.parent(grandchild) is None


SITE = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1"]


def test_what_is_started_answers_and_ends_with_the_block(tmp_path):
    port = server.free_port(0)
    with started([*SITE, str(port)], f"http://127.0.0.1:{port}/", 30, tmp_path / "log", cwd=tmp_path) as process:
        assert process.poll() is None
    assert process.returncode is not None and "GET /" in (tmp_path / "log").read_text()


@pytest.mark.parametrize(("command", "happened"), [
    ([sys.executable, "-c", "raise SystemExit('no luck')"], "exit code 1"), (["sleep", "60"], "no answer")])
def test_what_never_answers_is_ended_and_its_last_words_are_kept(tmp_path, command, happened):
    url = f"http://127.0.0.1:{server.free_port(0)}/"
    with pytest.raises(ServingError, match=f"Received: {happened}") as caught, \
            started(command, url, 30 if "exit" in happened else 0.2, tmp_path / "log"):
        pytest.fail("it has not answered")
    assert "no luck" in caught.value.log or happened == "no answer"


class Refusal(Exception):
    """Stands for Triton's exception, which exists only inside its stub."""


@pytest.fixture
def runtimes(monkeypatch):
    """What computes in the TensorFlow backend, outside Triton: for its decisions, not for its answers."""
    utilities = types.SimpleNamespace(TritonModelException=Refusal)
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", utilities)
    monkeypatch.setattr(sys, "path", [*sys.path])  # the backend adds its folder
    monkeypatch.setitem(sys.modules, "runtimes", loaded("runtimes"))
    return sys.modules["runtimes"]


@pytest.fixture
def backend(runtimes):
    """The module that Triton calls."""
    return loaded("model")


def loaded(name: str):
    """Load a module of the backend by its path, as Triton's stub does."""
    spec = importlib.util.spec_from_file_location(name, discovery.BACKEND / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("core", "numpy", "fits"), [
    ("2.51.0", "1.26.4", True),
    ("", "1.26.4", True),
    ("2.51.0", "2.1.0", False),
    ("", "2.1.0", False),
    ("2.52.0", "2.1.0", True),
    ("2.61.0", "2.3.0", True),
])  # fmt: skip
def test_the_backend_refuses_numpy_2_only_where_it_breaks(backend, core, numpy, fits):
    if fits:
        backend.require_fitting_numpy(numpy, core)
    else:
        with pytest.raises(Refusal, match="numpy<2"):
            backend.require_fitting_numpy(numpy, core)


class Asked:
    """A request of Triton's, which may no longer want its answer."""

    def __init__(self, pixels, wants=True):
        self.pixels, self.wants, self.answers = pixels, wants, []

    def requested_output_names(self):
        return ["out"]

    def get_response_sender(self):
        return self

    def send(self, response, flags):
        if not self.wants:
            raise RuntimeError("cancelled")
        self.answers.append(response)


@pytest.mark.parametrize("shapes", [[(1, 2), (1, 2), (1, 2)], [(1, 2), (1, 3), (1, 2)]])
def test_of_a_batch_every_request_is_answered_though_one_is_not_wanted_or_does_not_fit(backend, shapes):
    backend.pb_utils.__dict__.update(
        TRITONSERVER_RESPONSE_COMPLETE_FINAL=1, Logger=types.SimpleNamespace(log_error=print),
        Tensor=lambda name, array: array, InferenceResponse=lambda tensors: tensors)
    model = object.__new__(backend.TritonPythonModel)
    model.name, model.inputs, model.outputs = "custom", ["in"], ["out"]
    model.compute = lambda feed, wanted: {"out": feed["in"] + 1}
    requests = [Asked(np.full(shape, number), wants=number != 0) for number, shape in enumerate(shapes)]
    model._answer_together([backend.Waiting(one, {"in": one.pixels}, {"out"}, time.monotonic() + 60)
                            for one in requests])
    assert [[(answer[0] == one.pixels + 1).all() for answer in one.answers] for one in requests] == [[], [True], [True]]


@pytest.mark.parametrize(("cores", "stubs", "threads"), [(2, 3, 1), (8, 3, 2), (8, 1, 8)])
def test_all_stubs_together_use_no_more_threads_than_cores(runtimes, tmp_path, monkeypatch, cores, stubs, threads):
    monkeypatch.setattr(runtimes, "available_cores", lambda: cores)
    for name in range(stubs):
        (tmp_path / str(name) / "1/model.savedmodel").mkdir(parents=True)
        (tmp_path / str(name) / "1/model.savedmodel/saved_model.pb").touch()
    (tmp_path / "classify/1").mkdir(parents=True)
    assert runtimes.thread_counts({"name": "0"}, tmp_path) == (threads, 1)


def test_instances_count_as_stubs(runtimes, repository):
    instances = [{"kind": "KIND_CPU", "count": 3}]
    assert runtimes.count_stubs({"name": "custom", "instance_group": instances}, repository) == 3
    assert runtimes.count_stubs({"name": "other", "instance_group": instances}, repository) == 4


def test_the_parameters_of_the_native_backend_set_the_threads(runtimes, tmp_path):
    parameters = {"TF_NUM_INTRA_THREADS": {"string_value": "2"}, "TF_NUM_INTER_THREADS": {"string_value": "3"}}
    assert runtimes.thread_counts({"parameters": parameters}, tmp_path) == (2, 3)
    with pytest.raises(Refusal, match="'many'"):
        runtimes.thread_counts({"parameters": {"TF_NUM_INTRA_THREADS": {"string_value": "many"}}}, tmp_path)


PRECISION = 'parameters {\n  key: "precision"\n  value: { string_value: "int8" }\n}\n'


@pytest.mark.parametrize("has", [True, False])
def test_a_precision_that_the_processor_lacks_becomes_float32(repository, tmp_path, monkeypatch, capsys, has):
    monkeypatch.setattr(snapshot.processor, "has", lambda instructions: has)
    for name in ("custom", "classify_custom"):
        path = repository / name / "config.pbtxt"
        path.write_text(path.read_text() + PRECISION)
    manifest.write(repository)
    snapshot.take(repository, tmp_path / "copy")
    printed = capsys.readouterr().err
    for name in ("custom", "classify_custom"):
        text = (tmp_path / "copy" / name / "config.pbtxt").read_text()
        assert ('"int8"' in text, '"float32"' in text) == (has, not has)
        assert (f"{name}: exported for int8" in printed) != has
        assert '"int8"' in (repository / name / "config.pbtxt").read_text()


@pytest.mark.parametrize("flags, int8, bfloat16", [
    ("sse4_2 avx", False, False), ("avx avx2 fma", True, False), ("avx2 avx512f avx512_bf16 avx512_vnni", True, True)])
def test_which_processor_serves_which_precision(tmp_path, flags, int8, bfloat16):
    facts = tmp_path / "cpuinfo"
    facts.write_text(f"processor\t: 0\nflags\t\t: fpu {flags} xsave\n")
    has = {precision: processor.has(needed, facts) for precision, needed in snapshot.NEEDS.items()}
    assert has == {"int8": int8, "bfloat16": bfloat16}


def test_the_backend_refuses_a_runtime_that_it_does_not_know(runtimes):
    assert runtimes.choice({}, "runtime", runtimes.RUNTIMES) == "tensorflow"
    with pytest.raises(Refusal, match="Expected runtime to be one of.*'tpu'"):
        runtimes.choice({"parameters": {"runtime": {"string_value": "tpu"}}}, "runtime", runtimes.RUNTIMES)
