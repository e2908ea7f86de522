"""The road from image bytes to a prediction through a real Triton, and the ways in which it breaks."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tritonclient.http import InferenceServerClient, InferInput

import client
from client import __main__ as command
from core import contract, manifest, triton_config
from imaging import decode
from serving.errors import ServingError
from serving.server import SHARED_MEMORY, Server
from serving.supervisor import Signals, supervise
from tests.support.repository import FACTS, NETWORKS, RUNTIMES, SERVED

ROOT = Path(__file__).parents[2]
CLOSE = 1e-5
"""Of probabilities: Triton and this process may use other kernels (TF_ENABLE_ONEDNN_OPTS) and batch sizes."""


@pytest.fixture(scope="module")
def directly(repository):
    """A function (image bytes, network) -> probabilities [4] that calls the SavedModels without Triton."""
    import tensorflow as tf

    def load(name):
        loaded = tf.saved_model.load(str(repository / name / "1" / "model.savedmodel"))
        return loaded, loaded.signatures["serving_default"]

    models = {name: load(name) for name in (contract.PREPROCESS, *SERVED)}

    def predict(image, network):
        pixels = models[contract.PREPROCESS][1](image=tf.constant([[decode.canonical(image)]]))[contract.PIXELS]
        return models[network][1](pixels=pixels)[contract.PROBABILITIES].numpy()[0]

    return predict


def values(prediction):
    """The probabilities of a prediction as an array."""
    return np.array(list(prediction.probabilities.values()))


def remains(name):
    """Processes and shared memory that carry the name of a private folder."""
    listed = subprocess.run(["ps", "-ww", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    processes = [line for line in listed.splitlines() if name in line]
    return processes + [path.name for path in SHARED_MEMORY.glob(f"{name}*")]


def serve(repository, *command, **options):
    """Run `python -m serving` on a free port; extra arguments follow the --."""
    log = repository.parent / "logs" / "triton.log"
    words = ["--repository", str(repository), "--http-port", "0", "--log-file", str(log)]
    return subprocess.Popen(
        [sys.executable, "-m", "serving", *words, *command], cwd=ROOT, stderr=subprocess.PIPE, text=True, **options
    )


@pytest.mark.parametrize("network", SERVED)
def test_triton_answers_what_tensorflow_answers(classifier, directly, scans, network):
    for scan in scans:
        prediction = classifier.classify(scan, network)
        np.testing.assert_allclose(values(prediction), directly(scan, network), atol=CLOSE)
    assert prediction.model == network


@pytest.mark.parametrize("network", SERVED)
def test_the_networks_tell_the_scans_apart(classifier, scans, network):
    rows = np.array([values(classifier.classify(scan, network)) for scan in scans])
    assert np.ptp(rows, axis=0).max() > 0.1  # else the comparison above would prove nothing


def test_eight_threads_share_one_classifier(classifier, directly, scans):
    with ThreadPoolExecutor(8) as pool:
        predictions = list(pool.map(classifier.classify, scans * 4))
    expected = [directly(scan, NETWORKS[0]) for scan in scans] * 4
    np.testing.assert_allclose([values(one) for one in predictions], expected, atol=CLOSE)


def test_heatmaps_and_predictions_may_be_asked_for_at_the_same_time(classifier, scans):
    """Under load OpenVINO computes no maps, but for who asks for them."""
    known = [classifier.explain(scan) for scan in scans]

    def ask(number):
        index = number % len(scans)
        if number % 3:
            return np.abs(values(classifier.classify(scans[index])) - values(known[index].prediction)).max()
        found = classifier.explain(scans[index]).heatmaps
        return max(np.abs(found[name] - heatmap).max() for name, heatmap in known[index].heatmaps.items())

    with ThreadPoolExecutor(8) as pool:
        assert max(pool.map(ask, range(96))) < CLOSE


def test_one_corrupt_image_among_twelve_fails_alone(classifier, directly, scans, monkeypatch):
    monkeypatch.setattr("client.classifier.canonical", lambda data, **_options: data)  # let it reach Triton
    classifier.classify(scans[0])  # so that the labels are known and every request is one inference

    def ask(data):
        try:
            return classifier.classify(data)
        except client.ClientError as error:
            return error.code

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(ask, [*scans[:5], b"\x89PNG garbage", *scans[6:]]))
    assert answers.pop(5) == "corrupt_image"
    assert [type(answer) for answer in answers] == [client.Prediction] * 11


def test_a_truncated_image_is_named_as_such(classifier, scans, monkeypatch):
    monkeypatch.setattr("client.classifier.canonical", lambda data, **_options: data)
    with pytest.raises(client.BadImage) as caught:
        classifier.classify(scans[1][:120])
    assert caught.value.code == "corrupt_image" and "/" not in str(caught.value)


def test_a_batch_of_images_in_one_request(server, directly, scans):
    triton = InferenceServerClient(server.url)
    tensor = InferInput(contract.IMAGE_INPUT, [3, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[decode.canonical(scan)] for scan in scans[:3]], dtype=np.object_))
    answer = triton.infer(contract.classifier("custom"), [tensor]).as_numpy(contract.PROBABILITIES)
    triton.close()
    np.testing.assert_allclose(answer, [directly(scan, "custom") for scan in scans[:3]], atol=CLOSE)


def test_the_server_describes_itself(classifier):
    assert classifier.is_live()
    assert classifier.models() == dict.fromkeys(SERVED, True)
    shown = {contract.TITLE: "Custom CNN", contract.RANK: "0"}
    assert classifier.describe("custom") == FACTS | RUNTIMES["custom"] | shown


def test_dangerous_interfaces_are_closed(server):
    triton = InferenceServerClient(server.url)
    with pytest.raises(Exception, match="restricted|disallowed"):
        triton.get_system_shared_memory_status()
    triton.close()


def test_a_stopped_server_is_asked_once(server, scans, monkeypatch):
    infer, asked = InferenceServerClient.infer, []

    def counted(self, model, *arguments, **options):
        asked.append(model)
        return infer(self, model, *arguments, **options)

    classifier = client.Classifier(server.url, timeout=1)
    classifier.classify(scans[0])
    os.kill(server.pid, signal.SIGSTOP)
    monkeypatch.setattr(InferenceServerClient, "infer", counted)
    try:
        with pytest.raises(client.DeadlineExceeded):
            classifier.classify(scans[0])
        assert len(asked) == 1
    finally:
        os.kill(server.pid, signal.SIGCONT)
    assert classifier.classify(scans[0]).label in contract.CLASSES
    classifier.close()


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_threads_that_end_leave_no_connections(classifier, scans):
    counts = []
    for _ in range(3):
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(classifier.classify, scans))
        counts.append(open_files())
    assert counts[2] <= counts[0] + 2


GEVENT = """
from gevent import monkey; monkey.patch_all()
import sys, gevent, client
from pathlib import Path
classifier = client.Classifier(sys.argv[1], timeout=30)
scan = Path(sys.argv[2]).read_bytes()
for _ in range(3):
    jobs = [gevent.spawn(classifier.classify, scan) for _ in range(8)]
    labels = {job.get().label for job in jobs}
assert len(labels) == 1, labels
established = [row for row in Path("/proc/net/tcp").read_text().splitlines()
               if row.split()[2].endswith(f":{int(sys.argv[1].split(':')[1]):04X}") and row.split()[3] == "01"]
print(len(established))
"""


def test_a_patched_gevent_worker_keeps_its_connections(server, scans, tmp_path):
    (tmp_path / "scan.jpg").write_bytes(scans[0])
    words = [sys.executable, "-c", GEVENT, server.url, str(tmp_path / "scan.jpg")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert 1 <= int(done.stdout) <= 8 + 2  # 8 callers, 24 calls; 2 for the test's own clients


@pytest.fixture
def folder(tmp_path, scans):
    """A folder with two scans and a broken file."""
    for name, data in (("a.png", scans[1]), ("b.jpg", scans[0]), ("broken.png", b"\x89PNG\r\n\x1a\n broken")):
        (tmp_path / name).write_bytes(data)
    return tmp_path


@pytest.mark.parametrize(("names", "code", "lines"), [(["a.png", "b.jpg"], 0, 2), ([""], 1, 2), (["absent.png"], 1, 0)])
def test_the_command_prints_a_line_for_every_good_file(server, folder, capsys, names, code, lines):
    assert command.main([*(str(folder / name) for name in names), "--url", server.url]) == code
    output = capsys.readouterr()
    assert output.out.count("pituitary 0.") + output.out.count("pituitary 1.") == lines
    assert output.err.count(contract.DISCLAIMER) == 1 and "Traceback" not in output.err


def test_the_command_prints_json_on_request(server, folder, capsys):
    assert command.main([str(folder), "--url", server.url, "--model", "resnet50", "--json"]) == 1
    first, second, broken = map(json.loads, capsys.readouterr().out.splitlines())
    assert list(first) == list(second) == ["file", *client.Answer.model_fields]
    assert first["model_type"] == "resnet50" and set(first["all_probabilities"]) == set(contract.CLASSES)
    assert broken["error"]["code"] == "corrupt_image"


CHILD = """
import os, sys, client
is_live = client.Classifier(os.environ["TRITON_URL"]).is_live()
sys.exit(7 if is_live and os.sched_getscheduler(0) == os.SCHED_BATCH else 8)
"""


def test_serving_ends_with_its_command_and_leaves_nothing(repository):
    process = serve(repository, "--", sys.executable, "-c", CHILD)
    errors = process.communicate(timeout=120)[1]
    assert process.returncode == 7, errors
    assert "Ready: Triton on 127.0.0.1:" in errors
    name = f"run-{process.pid}-"
    assert not remains(name) and not list((repository.parent / ".serving").glob(f"{name}*"))


@pytest.mark.parametrize(("number", "awaited"), [(signal.SIGTERM, "Starting"), (signal.SIGINT, "Ready")])
def test_a_signal_ends_everything_in_order(repository, number, awaited):
    process = serve(repository)
    for line in process.stderr:
        if line.startswith(awaited):
            break
    process.send_signal(number)
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + number and "Traceback" not in errors
    assert not remains(f"run-{process.pid}-")


def test_what_a_killed_run_left_is_swept_by_the_next(repository):
    killed = serve(repository)
    for line in killed.stderr:
        if line.startswith("Ready"):
            break
    killed.kill()
    killed.communicate()
    assert remains(f"run-{killed.pid}-")
    following = serve(repository, "--", "true")
    errors = following.communicate(timeout=120)[1]
    assert following.returncode == 0, errors
    assert not remains(f"run-{killed.pid}-")


@pytest.fixture
def copy(repository, tmp_path):
    """A copy of the repository to break."""
    shutil.copytree(repository, tmp_path / "model_repository")
    return tmp_path / "model_repository"


def test_a_dead_stub_is_noticed_and_replaced(copy, scans):
    signals = Signals()
    with Server(copy) as server:
        stubs = subprocess.run(["ps", "-ww", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
        stub = next(line for line in stubs.splitlines() if "custom_0_0" in line and str(server.pid) in line)
        os.kill(int(stub.split()[0]), signal.SIGKILL)
        with pytest.raises(client.ServerBroken):
            client.Classifier(server.url).classify(scans[0])
        first = server.pid
        with ThreadPoolExecutor(1) as pool:
            end = pool.submit(supervise, server, [], signals, check_every=0.2)
            deadline = time.monotonic() + 90
            while time.monotonic() < deadline and not end.done() and not answers(server, first, scans[0]):
                time.sleep(0.5)
            signals.received = signal.SIGTERM
        assert server.pid != first and answers(server, first, scans[0])


def answers(server, first, scan):
    """Whether a server has another process than the first one, and it classifies."""
    try:
        return server.pid != first and bool(client.Classifier(server.url, timeout=2).classify(scan))
    except client.ClientError:
        return False


def rename_output(copy):
    for name in ("custom", "classify_custom"):
        path = copy / name / triton_config.FILE
        config = triton_config.read(path)
        if chain := config.ensemble_scheduling.step:
            chain[1].output_map["scores"] = chain[1].output_map.pop("probabilities")
        else:
            next(output for output in config.output if output.name == "probabilities").name = "scores"
        triton_config.write(path, config)


def swap_labels(copy):
    (copy / "classify_resnet50" / "labels.txt").write_text("\n".join(reversed(contract.CLASSES)) + "\n")


BROKEN = [(rename_output, "Expected custom/config.pbtxt to name"), (swap_labels, "names its classes differently")]


@pytest.mark.parametrize(("change", "message"), BROKEN)
def test_a_repository_that_would_answer_wrongly_is_not_served(copy, change, message):
    change(copy)
    manifest.write(copy)
    server = Server(copy)
    with pytest.raises(ServingError) as caught:
        server.start()
    assert message in str(caught.value) + caught.value.log
    assert server.pid is None and not list((copy.parent / ".serving").iterdir())


def test_after_the_server_has_gone_the_client_says_so(copy, scans):
    with Server(copy) as server:
        classifier = client.Classifier(server.url)
        classifier.classify(scans[0])
    with pytest.raises(client.ServerUnavailable, match="make serve"):
        classifier.classify(scans[0])
