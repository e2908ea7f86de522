"""What a person sees of a stage: its own sentences, nothing of TensorFlow, and one line after Ctrl-C."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.conftest import PROJECT

NOISE = re.compile(r"absl|cuInit|cuda|AutoGraph|oneDNN|retracing|rendezvous|cpu_feature_guard|^[IWEF]\d{4} ", re.M)
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}


def start(stage: str, folder: Path, *words: str, **more: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-m", f"stages.{stage}", *words], cwd=folder, text=True,
                            env=ENVIRONMENT | {"PYTHONPATH": str(PROJECT)} | more, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE)


def run(stage: str, folder: Path, *words: str, **more: str) -> tuple[str, str]:
    """Return what a stage writes on stdout and stderr."""
    process = start(stage, folder, *words, **more)
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    return output, errors


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> tuple[Path, str]:
    """A folder with small params in which `prepare` has run, and what that wrote on stderr."""
    folder = tmp_path_factory.mktemp("stages")
    tree = yaml.safe_load((PROJECT / "params.yaml").read_text())
    tree["prepare"] |= {"image_size": 64, "phantom_per_class": 8}
    tree["train"] |= {"epochs": 3, "batch_size": 8}
    tree["train"]["start"]["epochs"] = 0
    (folder / "params.yaml").write_text(yaml.safe_dump(tree))
    return folder, run("prepare", folder)[1]


def test_prepare_shows_nothing_of_tensorflow(prepared):
    assert not NOISE.search(prepared[1])


def test_a_training_shows_nothing_of_tensorflow_and_ends_with_sentences(prepared):
    output, errors = run("train_custom", prepared[0])
    assert errors == ""
    assert re.search(r"\ntrain_custom: 3 epochs on phantom. The best one, \d, has a validation accuracy of 0\.\d{4} "
                     r"at a loss of \d\.\d{4}.\nWritten: models/custom.keras, reports/train_custom.\n$", output)


def test_of_what_tensorflow_logs_only_retracing_is_kept_back():
    code = ("import stages; from tensorflow.python.platform import tf_logging as log; "
            "log.warning('5 out of the last 21 calls to %s triggered tf.function retracing.', 1); log.warning('news')")
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.stderr == "WARNING:tensorflow:news\n"


def test_who_asks_for_tensorflows_messages_gets_them(tmp_path):
    (tmp_path / "params.yaml").write_text("")
    process = start("train_custom", tmp_path, TF_CPP_MIN_LOG_LEVEL="0")
    assert "oneDNN" in process.communicate()[1]


def test_help_is_the_docstring_with_its_example(tmp_path):
    assert "python -m stages.train_resnet  " in run("train_resnet", tmp_path, "--help")[0]


def stopped(process: subprocess.Popen) -> list[str]:
    """Return the lines on stderr after Ctrl-C."""
    process.send_signal(signal.SIGINT)
    errors = process.communicate()[1]
    assert process.returncode == 130
    return [line for line in errors.splitlines() if line]


def test_ctrl_c_in_a_training_says_in_one_line_that_it_goes_on(prepared):
    state = prepared[0] / ".resume/train_custom.npz"
    process = start("train_custom", prepared[0])
    while not state.exists():
        assert process.poll() is None
        time.sleep(0.01)
    assert stopped(process) == ["train_custom.py: interrupted. Its finished epochs are kept: the same command "
                                "continues after them."]
    assert state.exists()


def test_ctrl_c_while_modules_load_is_one_line_too(prepared):
    process = start("prepare", prepared[0])
    while b"libtensorflow" not in Path(f"/proc/{process.pid}/maps").read_bytes():
        assert process.poll() is None
        time.sleep(0.01)
    assert len(stopped(process)) == 1
