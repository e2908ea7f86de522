"""What Triton gets: configurations from signatures, versions that are whole, checked and replaced as one."""

import json
import resource
import shutil
import subprocess
import sys
from dataclasses import asdict, replace

import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml

from core import contract, files, manifest, triton_config
from imaging import golden
from stages import export, prepare
from stages.common import command
from stages.data import dataset, preprocess
from stages.layers import answer
from stages.networks.registry import NETWORKS
from stages.scoring import calibration, reports
from stages.triton import config as configuration
from stages.triton import provenance, saved_model
from tests.conftest import PROJECT

SERVED = (*NETWORKS, contract.ENSEMBLE)
DECISIONS = {"custom": {"temperature": 1.5, "average_flip": True, "review_threshold": 0.7},
             "resnet50": {"temperature": 0.8, "average_flip": False, "review_threshold": 1.0,
                          "tta_review_threshold": 0.9},
             "transfer": {"temperature": 1.2, "average_flip": True, "review_threshold": 0.8},
             "ensemble": {"temperature": 0.9, "average_flip": False, "review_threshold": 0.6}}


PREDICTIONS = "digest,actual,predicted\na,glioma,glioma\nb,glioma,pituitary\nc,notumor,notumor\nd,glioma,glioma\n"
RELIABILITY = "images,confidence,accuracy\n1,0.4000,0.0000\n3,0.9000,1.0000\n"


def served(name: str, pixels) -> np.ndarray:
    """Return what the trained network answers to pixels, with what evaluate decided."""
    if name == contract.ENSEMBLE:
        parts = [served(one, pixels) for one in NETWORKS]
        return calibration.with_temperature(np.mean(parts, axis=0), DECISIONS[name]["temperature"])
    trained = NETWORKS[name].load()
    plain = trained(pixels).numpy()
    if DECISIONS[name]["average_flip"]:
        plain = (plain + trained(np.array(pixels)[:, :, ::-1]).numpy()) / 2
    return calibration.with_temperature(plain, DECISIONS[name]["temperature"])


@pytest.fixture(scope="module")
def workplace(tiny, tmp_path_factory):
    """A folder where prepare has run, with small networks in place of the trained ones."""
    folder = tmp_path_factory.mktemp("export")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        prepare.main(tiny)
        for seed, (name, one) in enumerate(NETWORKS.items()):
            network(seed).save(_made(one.model))
            files.write_json(folder / "reports" / one.stage / "metrics.json", {"network": name})
        files.write_json(reports.DECISIONS, DECISIONS)
        for name in SERVED:
            files.write_text(reports.REPORTS / name / "predictions.csv", PREDICTIONS)
            files.write_text(reports.REPORTS / name / "reliability.csv", RELIABILITY)
        files.write_json(reports.SCORES, {name: {"accuracy": 0.5} for name in SERVED})
        export.main(tiny)
    (folder / "params.yaml").write_text(yaml.safe_dump(asdict(tiny)))
    return folder


def _made(path):
    path.parent.mkdir(exist_ok=True)
    return path


def network(seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    pixels = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, strides=4)(pixels)
    x = keras.layers.Dropout(0.5)(keras.layers.GlobalAveragePooling2D()(x))
    return keras.Model(pixels, keras.layers.Dense(len(contract.CLASSES), "softmax")(x))


@pytest.fixture
def copy(workplace, tmp_path, monkeypatch):
    """A copy of the workplace that a test may spoil, as current folder."""
    shutil.copytree(workplace, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


def contents(folder):
    """Return all files with their bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def config(folder, name: str) -> triton_config.ModelConfig:
    """Return a model's configuration."""
    return triton_config.read(folder / export.REPOSITORY / name / triton_config.FILE)


def parameters(folder, name: str) -> dict[str, str]:
    """Return the parameters of a model's configuration."""
    return triton_config.parameters(config(folder, name))


def test_the_repository_holds_what_the_classifiers_need(workplace):
    chains = [*map(contract.classifier, SERVED), *map(contract.explain, NETWORKS)]
    names = sorted(path.name for path in (workplace / export.REPOSITORY).iterdir())
    assert names == sorted([contract.PREPROCESS, *SERVED, *chains, manifest.FILE])
    assert manifest.differences(workplace / export.REPOSITORY) == []
    hidden = {str(path.relative_to(workplace / export.REPOSITORY))
              for path in (workplace / export.REPOSITORY).rglob("*") if path.name.startswith(".")}
    assert hidden == {f"{name}/1/.gitkeep" for name in chains}  # without a file DVC would lose the folder


@pytest.mark.parametrize("name", [contract.PREPROCESS, *SERVED])
def test_configurations_agree_with_signatures(workplace, name):
    folder, found = workplace / export.REPOSITORY / name, config(workplace, name)
    signature = tf.saved_model.load(str(folder / "1" / contract.SAVED_MODEL)).signatures["serving_default"]
    specs = {**signature.structured_input_signature[1], **signature.structured_outputs}
    assert {one.name: (one.data_type, list(one.dims)) for one in (*found.input, *found.output)} == {
        key: (configuration.TYPES[spec.dtype], list(spec.shape[1:])) for key, spec in specs.items()}
    assert found.backend == "tensorflow" and found.max_batch_size == 4
    (group,) = found.instance_group
    assert (group.kind, group.count) == (group.KIND_CPU, 1)
    assert found.dynamic_batching.default_queue_policy == configuration.QUEUE
    assert list(found.dynamic_batching.preferred_batch_size) == [1] * (name == contract.PREPROCESS)


def test_a_configuration_says_at_its_top_that_edits_are_lost(workplace):
    text = (workplace / export.REPOSITORY / "custom/config.pbtxt").read_text()
    assert text.startswith("# Generated by stages/export.py")


def test_labels_are_the_class_list(workplace):
    for name in (name_of(one) for one in NETWORKS for name_of in (str, contract.classifier, contract.explain)):
        labels = (workplace / export.REPOSITORY / name / "labels.txt").read_text()
        assert tuple(labels.split()) == contract.CLASSES


def test_a_classifier_is_a_linear_chain_and_names_its_data(workplace):
    assert triton_config.steps(config(workplace, "classify_custom")) == (contract.PREPROCESS, "custom")
    facts = parameters(workplace, "classify_custom")
    assert facts[contract.DATA_SOURCE] == contract.PHANTOM and facts[contract.REVIEW_THRESHOLD] == "0.700000"


def test_classifiers_say_how_people_call_their_networks_and_in_which_order(workplace):
    shown = [(facts[contract.TITLE], facts[contract.RANK]) for facts in
             (parameters(workplace, contract.classifier(name)) for name in SERVED)]
    assert shown == [("Custom CNN", "0"), ("ResNet-50", "1"), ("EfficientNet-Lite, from ImageNet", "2"),
                     ("All networks, averaged", "3")]


def test_the_mean_of_two_networks_is_called_both_and_one_network_has_none():
    both = export.titles([NETWORKS["custom"], NETWORKS["resnet50"]])
    assert both[contract.ENSEMBLE] == {contract.TITLE: "Both networks, averaged", contract.RANK: "2"}
    assert list(export.titles([NETWORKS["transfer"]])) == ["transfer"]


@pytest.mark.parametrize("name", SERVED)
def test_network_and_classifier_say_alike_what_computes(workplace, name):
    found = [{key: value for key, value in parameters(workplace, one).items()
              if key in (contract.RUNTIME, contract.PRECISION)} for one in (name, contract.classifier(name))]
    served = json.loads((workplace / export.REPOSITORY / name / "1/provenance.json").read_text())["decision"]["served"]
    assert found == [{"runtime": "openvino", "precision": served["precision"]}] * 2


@pytest.mark.parametrize("name", SERVED)
def test_the_golden_answers_are_the_trained_networks(workplace, monkeypatch, name):
    monkeypatch.chdir(workplace)
    known = golden.from_text(parameters(workplace, contract.classifier(name))[contract.GOLDEN])
    pixels = np.stack([preprocess.decode(tf.constant(one), 64).numpy() for one in golden.images()])
    assert np.allclose(known, served(name, pixels), atol=1e-5)


def test_int8_on_request_is_stored_beside_the_float_model_with_its_own_golden_answers(copy, tiny):
    export.main(replace(tiny, export=replace(tiny.export, precision="int8")))
    version = copy / export.REPOSITORY / "custom/1"
    assert (version / "openvino.int8/model.bin").is_file() and (version / "model.savedmodel/saved_model.pb").is_file()
    assert "openvino.int8/model.xml" in json.loads((version / "provenance.json").read_text())["files"]
    assert contract.GOLDEN_INT8 in parameters(copy, "classify_custom")


def test_tensorflow_on_request_writes_nothing_for_openvino(copy, tiny):
    export.main(replace(tiny, export=replace(tiny.export, runtime="tensorflow")))
    assert parameters(copy, "custom") == {contract.RUNTIME: "tensorflow"}
    assert not (copy / export.REPOSITORY / "custom/1/openvino.int8").exists()
    assert not parameters(copy, contract.PREPROCESS)


def test_for_a_gpu_tensorflow_computes_the_networks_and_nothing_is_in_int8(copy, tiny):
    export.main(replace(tiny, export=replace(tiny.export, precision="int8", instance_kind="gpu")))
    kinds = {name: config(copy, name).instance_group[0] for name in (contract.PREPROCESS, *SERVED)}
    assert {name for name, group in kinds.items() if group.kind == group.KIND_GPU} == set(SERVED)
    assert parameters(copy, "custom") == {contract.RUNTIME: "tensorflow"}
    assert contract.GOLDEN_INT8 not in parameters(copy, "classify_custom")


def test_bytes_to_probabilities_without_keras(workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    rows = dataset.read_manifest("test")[:3]
    encoded = tf.constant([[(dataset.FOLDER / row.path).read_bytes()] for row in rows])
    load = lambda name: tf.saved_model.load(  # noqa: E731
        str(export.REPOSITORY / name / "1" / contract.SAVED_MODEL)).signatures["serving_default"]
    got = load("custom")(pixels=load("preprocess")(image=encoded)["pixels"])["probabilities"]
    pixels = next(iter(dataset.batches(dataset.load("test", 64), 3)))[0]
    assert np.allclose(got, served("custom", pixels), atol=1e-5)


def test_weights_are_stored_once(workplace):
    saved = workplace / export.REPOSITORY / "custom/1" / contract.SAVED_MODEL
    stored = saved / "variables/variables.data-00000-of-00001"
    weights = 4 * network(0).count_params()
    assert weights <= stored.stat().st_size < 1.5 * weights + 2000


def test_weights_are_stored_in_the_order_of_the_network(workplace):
    trained = keras.models.load_model(workplace / NETWORKS["custom"].model, compile=False)
    saved = workplace / export.REPOSITORY / "custom/1" / contract.SAVED_MODEL
    stored = tf.train.load_checkpoint(str(saved / "variables/variables"))
    for index, weight in enumerate(trained.weights):
        found = stored.get_tensor(f"weights/{index}/.ATTRIBUTES/VARIABLE_VALUE")
        assert np.array_equal(found, np.array(weight))


def test_the_threshold_of_averages_is_served_where_there_is_one(workplace):
    assert contract.TTA_REVIEW_THRESHOLD not in parameters(workplace, "classify_custom")
    assert 0.9 <= float(parameters(workplace, "classify_resnet50")[contract.TTA_REVIEW_THRESHOLD]) <= 1


def test_of_two_thresholds_the_stricter_is_served_for_averages_as_well():
    own = {contract.REVIEW_THRESHOLD: 0.5, contract.TTA_REVIEW_THRESHOLD: 0.95}
    found = export.thresholds(DECISIONS["resnet50"], own)
    assert found == {contract.REVIEW_THRESHOLD: "1.000000", contract.TTA_REVIEW_THRESHOLD: "0.950000"}


def test_provenance_travels_with_the_version(workplace):
    folder = workplace / export.REPOSITORY / "custom" / "1"
    facts = json.loads((folder / "provenance.json").read_text())
    assert facts["data"]["source"] == contract.PHANTOM and facts["test_scores"] == {"accuracy": 0.5}
    assert {key: facts["decision"][key] for key in DECISIONS["custom"]} == DECISIONS["custom"]
    assert facts["decision"]["served"]["precision"] in contract.PRECISIONS
    assert facts["test_diagrams"]["confusion"] == [[2, 0, 0, 1], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert facts["test_diagrams"]["reliability"][1] == {"images": 3, "confidence": 0.9, "accuracy": 1.0}
    assert facts["params"]["prepare"]["image_size"] == 64 and facts["git_revision"]
    digests = provenance.digests(folder)
    assert facts["files"] == {name: value for name, value in digests.items() if "provenance" not in name}


def test_a_mismatch_fails_and_leaves_the_previous_version(copy, tiny, monkeypatch):
    before = contents(copy / export.REPOSITORY)
    save = saved_model.save_network

    def save_another(trained, size, folder, decision):
        save(network(8), size, folder, decision)
        return answer.explained(trained, decision["average_flip"], decision["temperature"])

    monkeypatch.setattr(saved_model, "save_network", save_another)
    with pytest.raises(command.StageError, match="within 1e-09.*a difference of.*Nothing was replaced"):
        export.main(replace(tiny, export=replace(tiny.export, tolerance=1e-9)))
    assert contents(copy / export.REPOSITORY) == before and not list((copy / ".export").iterdir())


def test_a_full_disk_is_one_message_and_leaves_the_previous_version(copy):
    before = contents(copy / export.REPOSITORY)
    network(7).save(NETWORKS["custom"].model)
    # A limit on the size of any written file acts as a full disk does: write() fails half-way.
    run = subprocess.run(
        [sys.executable, "-B", "-c", "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
         "import runpy; runpy.run_module('stages.export', run_name='__main__')"],
        env={"PYTHONPATH": str(PROJECT), "PATH": "/usr/bin:/bin", "HOME": str(copy)}, capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)))
    assert run.returncode == 1 and "Nothing was replaced" in run.stderr and "Traceback" not in run.stderr
    assert contents(copy / export.REPOSITORY) == before


def test_exporting_again_replaces_the_repository_with_what_is_in_it_no_more(copy, tiny):
    shutil.copytree(copy / export.REPOSITORY / "custom", copy / export.REPOSITORY / "retired")
    network(7).save(NETWORKS["custom"].model)
    before = (copy / export.REPOSITORY / "custom" / "1" / "provenance.json").read_text()
    export.main(tiny)
    assert (copy / export.REPOSITORY / "custom" / "1" / "provenance.json").read_text() != before
    assert not (copy / export.REPOSITORY / "retired").exists()
    assert manifest.differences(copy / export.REPOSITORY) == []


def test_tensorflow_2_17_of_the_stock_image_gives_the_same_answers(workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    python = PROJECT / ".venv-tf217" / "bin" / "python"
    if not python.exists():
        pytest.skip("no environment with TensorFlow 2.17: run `make .venv-tf217/.ready`")
    rows = dataset.read_manifest("test", workplace / dataset.FOLDER)[:3]
    paths = [str(workplace / dataset.FOLDER / row.path) for row in rows]
    script = """
import json, sys, tensorflow as tf
assert tf.__version__.startswith("2.17."), tf.__version__
repository, names, *paths = sys.argv[1:]
load = lambda name: tf.saved_model.load(f"{repository}/{name}/1/model.savedmodel").signatures["serving_default"]
pixels = load("preprocess")(image=tf.constant([[open(path, "rb").read()] for path in paths]))["pixels"]
print(json.dumps([load(name)(pixels=pixels)["probabilities"].numpy().tolist() for name in names.split()]))
"""
    words = [python, "-c", script, workplace / export.REPOSITORY, " ".join(SERVED), *paths]
    run = subprocess.run(words, capture_output=True, text=True, check=True)
    pixels = next(iter(dataset.batches(dataset.load("test", 64, workplace / dataset.FOLDER), 3)))[0]
    for got, name in zip(json.loads(run.stdout.splitlines()[-1]), SERVED, strict=True):
        assert np.allclose(got, served(name, pixels), atol=1e-5)
