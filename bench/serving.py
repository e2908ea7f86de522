"""Times serving: our request path from upload to answer against what a user would pick instead, and the bare model.

    python -m bench.serving --rounds 3 --seconds 8
    python -m bench.serving --uploads large --output bench/serving-large.json
    python -m bench.serving --scaling

Needs wrk (Debian: apt-get install wrk) and bench/requirements.txt. All serve the same untrained custom network at
224 x 224 and get the same JPEG files: of the size and quality that those of the data set have, or large ones. In each
round every contender is started, asked by 1, 4 and 16 connections and stopped; they take turns, since timings drift,
and the in-process upper bound, the bare model in a loop, runs before and after our server. bfloat16 takes part where
the processor computes it. Prints a table and writes bench/serving.json and docs/serving.png. With --scaling our server
alone, on 1 core to all of them and with one and two networks loaded: bench/scaling.json.
"""

import argparse
import contextlib
import io
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib import request

import numpy as np
import psutil
from PIL import Image

from core import contract, files, manifest, processor
from serving.errors import ServingError
from serving.started import started

PROJECT = Path(__file__).resolve().parents[1]
OUTPUT, PLOT, SCALING = Path("bench/serving.json"), Path("docs/serving.png"), Path("bench/scaling.json")
WORK = Path(".bench")
SIZE, JPEGS, CALIBRATION = 224, 16, 64
DATA_SET, LARGE = "data-set", "large"
UPLOADS = {DATA_SET: (224, 75), LARGE: (512, 90)}
"""Side in pixels and JPEG quality of the files that are sent: the data set's own, and an export at full size."""
CONNECTIONS = (1, 4, 16)
BOUNDARY = b"bench"
HEADERS = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY.decode()}"}
START_SECONDS = 120
INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
"""What decides how fast the three precisions are, in the words of /proc/cpuinfo."""
SETTLE = 2
"""Seconds in which a server ends what the previous measurement has left behind when its connections were cut."""


@dataclass(frozen=True)
class Contender:
    """A server to be timed.

    Attributes:
        name: in tables. command: starts it; {port} is replaced. environment: added to ours.
    """

    name: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)


def prepare(folder: Path) -> None:
    """Write the network as .keras and model repositories in three precisions, and the requests' bodies.

    Args:
        folder: where to; what is there is kept.
    """
    if (folder / "ready").exists():
        return
    import keras
    import tensorflow as tf

    from stages.common import params
    from stages.data import preprocess
    from stages.networks import custom, resnet50
    from stages.triton import quantization, saved_model

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    keras.utils.set_random_seed(1)
    knobs = params.load(PROJECT / "params.yaml")
    network = custom.build(knobs.train_custom, input_pooling=1)
    network.save(folder / "custom.keras")
    saved = folder / "saved_model"
    saved_model.save_network(network, SIZE, saved)

    keras.utils.set_random_seed(1)
    base, _ = resnet50.choose_base("none", knobs.train_resnet.bn_momentum)
    second = folder / "saved_resnet50"
    saved_model.save_network(resnet50.build(knobs.train_resnet, base, False, input_pooling=1), SIZE, second)

    pngs = drawn(UPLOADS[LARGE][0], CALIBRATION)
    pixels = np.stack([preprocess.decode(tf.constant(png), SIZE).numpy() for png in pngs])
    int8 = {name: quantization.quantized(path, pixels) for name, path in (("custom", saved), ("resnet50", second))}
    for precision in contract.PRECISIONS:
        write_repository(folder / precision, precision, {"custom": saved}, int8)
    write_repository(folder / "two", "int8", {"custom": saved, "resnet50": second}, int8)
    for kind, (size, quality) in UPLOADS.items():
        (folder / kind).mkdir()
        for index, png in enumerate(drawn(size, JPEGS)):
            (folder / kind / f"{index:02}.form").write_bytes(form(jpeg(png, quality)))
    (folder / "ready").touch()


def drawn(size: int, count: int) -> list[bytes]:
    """Return so many phantoms of size x size pixels, each class in turn, as PNG files."""
    from stages.data import phantom

    return [phantom.png(phantom.draw(contract.CLASSES[i % len(contract.CLASSES)], i, size).image) for i in range(count)]


def write_onnx(network: Path, path: Path) -> None:
    """Write a network as ONNX, for those who serve that.

    Args:
        network: .keras file. path: where to; what is there is kept.
    """
    if path.exists():
        return
    import keras
    import onnx
    import tensorflow as tf
    import tf2onnx

    from stages.layers import normalization  # noqa: F401  (registers the network's own layer)

    loaded = keras.models.load_model(network, compile=False)
    graph, _ = tf2onnx.convert.from_function(
        tf.function(lambda pixels: loaded(pixels, training=False), autograph=False),
        input_signature=[tf.TensorSpec([None, SIZE, SIZE, 3], tf.float32, name=contract.PIXELS)])
    onnx.save(graph, path)


def write_repository(repository: Path, precision: str, networks: dict[str, Path], int8: dict) -> None:
    """Write a model repository.

    Args:
        repository: where to. precision: out of contract.PRECISIONS. networks: name -> SavedModel.
        int8: name -> its int8 form for OpenVINO.
    """
    import openvino as ov

    from stages.triton import config, provenance, quantization, saved_model

    runtime = {contract.RUNTIME: "openvino", contract.PRECISION: precision}

    def finish(name: str, facts: dict) -> None:
        version = repository / name / contract.VERSION
        config.write(repository, config.model(name, version / contract.SAVED_MODEL, 8, facts))
        (version / contract.PROVENANCE).write_text(json.dumps({"files": provenance.digests(version)}))

    saved_model.save_preprocess(SIZE, repository / contract.PREPROCESS / contract.VERSION / contract.SAVED_MODEL)
    finish(contract.PREPROCESS, {contract.RUNTIME: "numpy"})
    for network, saved in networks.items():
        version = repository / network / contract.VERSION
        shutil.copytree(saved, version / contract.SAVED_MODEL)
        if precision == "int8":
            ov.save_model(int8[network], version / quantization.INT8, compress_to_fp16=False)
        finish(network, runtime)
        config.write(repository, config.classifier(network, runtime, 8))
    manifest.write(repository)


def jpeg(png: bytes, quality: int) -> bytes:
    """Return a picture as JPEG."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(png)) as image:
        image.convert("RGB").save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def form(image: bytes) -> bytes:
    """Return a multipart/form-data body with a file."""
    head = b'Content-Disposition: form-data; name="file"; filename="scan.jpg"\r\nContent-Type: image/jpeg'
    return b"--" + BOUNDARY + b"\r\n" + head + b"\r\n\r\n" + image + b"\r\n--" + BOUNDARY + b"--\r\n"


def ours(folder: Path, repository: str, cores: int | None = None) -> Contender:
    """Return our server, as `make serve` runs it.

    Args:
        folder: see prepare. repository: the name of a model repository in it. cores: as many of them only.
    """
    page = [sys.executable, "-m", "gunicorn", "-c", "webapp/gunicorn.conf.py", "webapp:create_app()"]
    serving = [sys.executable, "-m", "serving", "--repository", str(folder / repository), "--http-port", "0"]
    log = ["--log-file", str(folder / "triton.log")]
    bound = ["taskset", "--cpu-list", ",".join(map(str, sorted(os.sched_getaffinity(0))[:cores]))]
    return Contender(f"ours, {repository}", [*bound, *serving, *log, "--", *page])


def precisions() -> list[str]:
    """Return those of contract.PRECISIONS that this processor speeds up, float32 first."""
    fast = processor.has(processor.BFLOAT16)
    return [name for name in contract.PRECISIONS if fast or name != "bfloat16"]


def contenders(folder: Path) -> list[Contender]:
    """Return who takes part."""
    cores = len(os.sched_getaffinity(0))
    gunicorn = [sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:{port}"]
    onnx = {"BENCH_ONNX": str(folder / "model.onnx")}
    all_threads = onnx | {"BENCH_THREADS": str(cores)}

    return [
        *(ours(folder, precision) for precision in reversed(precisions())),
        Contender("Flask + Keras, gunicorn -w 4", [*gunicorn, "-w", "4", "bench.contenders.flask_keras:app"],
                  {"BENCH_KERAS": str(folder / "custom.keras")}),
        Contender(f"Flask + ONNX Runtime, 1 worker x {cores} threads",
                  [*gunicorn, "-w", "1", "bench.contenders.flask_onnx:app"], all_threads),
        Contender(f"Flask + ONNX Runtime, {cores} workers x 1 thread",
                  [*gunicorn, "-w", str(cores), "bench.contenders.flask_onnx:app"], onnx | {"BENCH_THREADS": "1"}),
        Contender("LitServe + ONNX Runtime", [sys.executable, "-m", "bench.contenders.lit"], all_threads),
        Contender("BentoML + ONNX Runtime", [sys.executable, "-m", "bentoml", "serve", "--host", "127.0.0.1", "--port",
                                             "{port}", "bench.contenders.bento:Classifier"], all_threads),
    ]


def bare(folder: Path, precision: str, seconds: float) -> float:
    """Return the images a second of the compiled model in a loop: all cores, probabilities only, nothing around it.

    Args:
        folder: see prepare. precision: out of contract.PRECISIONS. seconds: of looping.
    """
    script = f"""
import sys, time
import numpy as np
import openvino
core = openvino.Core()
model = core.read_model(sys.argv[1])
model.reshape([1, {SIZE}, {SIZE}, 3])
asked = openvino.Model([model.output("{contract.PROBABILITIES}").node], model.get_parameters())
hints = {{"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": sys.argv[2]}}
run = core.compile_model(asked, "CPU", hints).create_infer_request()
pixels = np.random.default_rng(0).random((1, {SIZE}, {SIZE}, 3), np.float32)
for _ in range(20):
    run.infer([pixels], share_inputs=True)
count, start = 0, time.perf_counter()
while time.perf_counter() - start < {seconds}:
    run.infer([pixels], share_inputs=True)
    count += 1
print(count / (time.perf_counter() - start))
"""
    version = folder / precision / "custom/1"
    model = next(version.glob("*.int8/model.xml"), version / "model.savedmodel")
    hint = "bf16" if precision == "bfloat16" else "f32"
    run = subprocess.run([sys.executable, "-c", script, str(model), hint], capture_output=True, text=True, check=True)
    return float(run.stdout)


@contextlib.contextmanager
def running(contender: Contender, log: Path):
    """Start a server on a free port; yield the port, its process and the seconds to its first answer; end it.

    Args:
        contender: to start. log: gets what it prints.
    """
    port = free_port()
    # The variable is that of our training (stages/__init__.py): the others run as a user would start them.
    inherited = {key: value for key, value in os.environ.items() if key != "TF_ENABLE_ONEDNN_OPTS"}
    environment = inherited | contender.environment | {
        "PORT": str(port), "BENCH_SIZE": str(SIZE), "TF_CPP_MIN_LOG_LEVEL": "3", "BENTOML_DO_NOT_TRACK": "true"}
    command = [word.format(port=port) for word in contender.command]
    upload = request.Request(f"http://127.0.0.1:{port}/predict", forms(log.parent)[0].read_bytes(), HEADERS)
    start = time.perf_counter()
    try:
        with started(command, upload, START_SECONDS, log, cwd=PROJECT, env=environment) as process:
            yield port, process, time.perf_counter() - start
    except ServingError as error:
        sys.exit(f"{contender.name} does not answer:\n{error.log}")


def free_port() -> int:
    """Return a port of the loopback address that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def forms(folder: Path, uploads: str = DATA_SET) -> list[Path]:
    """Return the bodies of requests that prepare() wrote, out of UPLOADS."""
    return sorted((folder / uploads).glob("*.form"))


def drive(port: int, connections: int, seconds: float, bodies: list[Path]) -> dict[str, float]:
    """Upload forms for so many seconds, see load()."""
    return load(f"http://127.0.0.1:{port}/predict", HEADERS, bodies, connections, seconds)


def load(url: str, headers: dict[str, str], bodies: list[Path], connections: int, seconds: float) -> dict[str, float]:
    """Ask for so many seconds; return requests a second, p50, p95 and p99 in milliseconds, and errors.

    Args:
        url: of POST requests. headers: of each. bodies: files, sent in turn. connections: each asks again when it has
            its answer. seconds: of asking.
    """
    fields = [word for name, value in headers.items() for word in ("-H", f"{name}: {value}")]
    run = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", "bench/wrk.lua",
                          *fields, url, "--", *map(str, bodies)],
                         cwd=PROJECT, capture_output=True, text=True, check=True)
    found = json.loads(run.stdout.splitlines()[-1])
    return {"requests_per_second": found["requests"] / found["seconds"],
            **{key: found[key] for key in ("p50", "p95", "p99", "errors")}}


def family(root: int) -> list[psutil.Process]:
    """Return a process and all its descendants."""
    process = psutil.Process(root)
    return [process, *process.children(recursive=True)]


def words(process: psutil.Process) -> str:
    """Return the command line of a process."""
    return " ".join(process.cmdline())


def memory(root: int) -> float:
    """Return the proportional set size of a process and all its descendants, in MB of 10^6 bytes."""
    total = 0
    for process in family(root):
        with contextlib.suppress(psutil.Error):
            total += process.memory_full_info().pss
    return total / 1e6


def processor_time(root: int) -> dict[str, float]:
    """Return the seconds that each part of our server has computed for, user and system time together."""
    parts = {"preprocess_0_0": "preprocess", "custom_0_0": "network", "bin/tritonserver": "Triton", "gunicorn": "page"}
    found = dict.fromkeys(parts.values(), 0.0)
    for process in family(root):
        with contextlib.suppress(psutil.Error):
            line, times = words(process), process.cpu_times()
            name = next((parts[part] for part in parts if part in line and "-m serving" not in line), None)
            if name:
                found[name] += times.user + times.system
    return found


def instructions() -> list[str]:
    """Return which of INSTRUCTIONS the processor has."""
    known = set(Path("/proc/cpuinfo").read_text().split())
    return [name for name in INSTRUCTIONS if name in known]


def described(rounds: int, seconds: float, bodies: list[Path]) -> dict:
    """Return what a record says of the machine and of the measurement: turns of each, seconds of each drive, bodies."""
    size, quality = UPLOADS[bodies[0].parent.name]
    sent = {"jpeg_size": size, "jpeg_quality": quality,
            "body_bytes": statistics.median(path.stat().st_size for path in bodies)}
    machine = {"machine": platform.machine(), "cores": len(os.sched_getaffinity(0)), "instructions": instructions(),
               "python": platform.python_version()}
    return {"size": SIZE, **sent, "rounds": rounds, "seconds": seconds, **machine}


def measure(folder: Path, bodies: list[Path], rounds: int, seconds: float, only: str) -> dict[str, dict]:
    """Let all take turns; return by name what each round measured.

    Args:
        folder: see prepare. bodies: to send. rounds: turns of each. seconds: of each drive. only: part of the names to
            take.
    """
    taking_part = [one for one in contenders(folder) if only in one.name]
    found = {one.name: {"start": [], "memory": [], **{str(n): [] for n in CONNECTIONS}} for one in taking_part}
    loops = {precision: [] for precision in precisions()}
    for number in range(1, rounds + 1):
        for one in taking_part:
            precision = one.name.removeprefix("ours, ")
            if precision in loops:
                loops[precision].append(bare(folder, precision, seconds))
            with running(one, folder / "server.log") as (port, process, start):
                found[one.name]["start"].append(start)
                drive(port, 4, 2, bodies)
                for connections in CONNECTIONS:
                    time.sleep(SETTLE)
                    found[one.name][str(connections)].append(drive(port, connections, seconds, bodies))
                found[one.name]["memory"].append(memory(process.pid))
            speeds = "  ".join(f"{found[one.name][str(n)][-1]['requests_per_second']:6.1f}" for n in CONNECTIONS)
            print(f"round {number}/{rounds}  {speeds} requests/s  {start:5.1f} s  "
                  f"{found[one.name]['memory'][-1]:6.0f} MB  {one.name}", flush=True)
            if precision in loops:
                loops[precision].append(bare(folder, precision, seconds))
                print(f"round {number}/{rounds}  upper bound before and after: "
                      + ", ".join(f"{speed:.1f}" for speed in loops[precision][-2:]) + " images/s", flush=True)
    return {"bare_loop": {name: statistics.median(speeds) for name, speeds in loops.items() if speeds},
            "servers": {name: summary(rows) for name, rows in found.items()}}


def scaling(folder: Path, bodies: list[Path], rounds: int, seconds: float) -> list[dict]:
    """Time our server in int8 with 16 connections on 1, 2, ... cores, with one and two networks loaded.

    Args:
        folder: see prepare. bodies: to send. rounds: turns of each. seconds: of each drive.

    Returns:
        for each case cores, networks, the medians of requests_per_second, memory_mb and p50, and the processor time
        that each part takes for a request, in ms.
    """
    cores = [2**power for power in range(len(os.sched_getaffinity(0)).bit_length())]
    cases = {(count, networks): [] for count in cores for networks in (1, 2)}
    for number in range(1, rounds + 1):
        for (count, networks), rows in cases.items():
            with running(ours(folder, "int8" if networks == 1 else "two", count), folder / "server.log") as server:
                port, process, _ = server
                drive(port, 4, 2, bodies)
                time.sleep(SETTLE)
                before = processor_time(process.pid)
                found = drive(port, CONNECTIONS[-1], seconds, bodies)
                after = processor_time(process.pid)
                answered = found["requests_per_second"] * seconds
                rows.append({"requests_per_second": found["requests_per_second"], "p50": found["p50"],
                             "memory_mb": memory(process.pid),
                             **{name: 1000 * (after[name] - before[name]) / answered for name in after}})
            print(f"round {number}/{rounds}  {count} cores, {networks} networks: "
                  f"{rows[-1]['requests_per_second']:.1f} requests/s, {rows[-1]['memory_mb']:.0f} MB", flush=True)
    return [{"cores": count, "networks": networks, **{key: statistics.median(row[key] for row in rows)
                                                      for key in rows[0]}}
            for (count, networks), rows in cases.items()]


def summary(rows: dict[str, list]) -> dict:
    """Return the medians over the rounds."""
    by_connections = {str(n): {key: statistics.median(one[key] for one in rows[str(n)]) for key in rows[str(n)][0]}
                      for n in CONNECTIONS}
    return {"start_seconds": statistics.median(rows["start"]), "memory_mb": statistics.median(rows["memory"]),
            "connections": by_connections}


def table(found: dict) -> str:
    """Return the results as a Markdown table."""
    lines = ["| | " + " | ".join(f"requests/s at {n}" for n in CONNECTIONS) + " | p50 / p95 / p99 at 1, ms "
             "| at 16, ms | memory, MB | first answer, s | errors |", "|---" * 9 + "|"]
    for name, row in found["servers"].items():
        parts = row["connections"]
        speeds = " | ".join(f"{parts[str(n)]['requests_per_second']:.1f}" for n in CONNECTIONS)
        times = " | ".join(" / ".join(f"{parts[str(n)][key]:.0f}" for key in ("p50", "p95", "p99")) for n in (1, 16))
        errors = sum(part["errors"] for part in parts.values())
        lines.append(f"| {name} | {speeds} | {times} | {row['memory_mb']:.0f} | {row['start_seconds']:.1f} "
                     f"| {errors:.0f} |")
    for precision, speed in found["bare_loop"].items():
        lines.append(f"| in-process upper bound, {precision} | {speed:.1f} | | | {1000 / speed:.1f} | | | | |")
    return "\n".join(lines)


def ratios(found: dict) -> str:
    """Return, as a Markdown table, our requests/s at 4 and 16 connections as multiples of what each other one does."""
    def speed(name: str, connections: int) -> float:
        return found["servers"][name]["connections"][str(connections)]["requests_per_second"]

    def row(title: str, mine: str, limits: tuple[float, float]) -> str:
        return f"| {title} | " + " | ".join(
            f"{speed(mine, n) / limit:.3f}" for n, limit in zip(CONNECTIONS[1:], limits, strict=True)) + " |"

    lines = ["| ours against | at 4 connections | at 16 connections |", "|---|---|---|"]
    for precision, loop in found["bare_loop"].items():
        lines.append(row(f"the in-process upper bound, {precision}", f"ours, {precision}", (loop, loop)))
    for name in found["servers"]:
        if not name.startswith("ours"):
            lines.append(row(f"{name}, ours in int8", "ours, int8", tuple(speed(name, n) for n in CONNECTIONS[1:])))
    return "\n".join(lines)


def plot(found: dict, path: Path) -> None:
    """Draw requests a second at each number of connections, as bars, and the upper bounds as lines."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = list(found["servers"])
    figure, axes = plt.subplots(figsize=(9, 4.8), layout="constrained")
    for offset, connections in enumerate(CONNECTIONS):
        speeds = [found["servers"][name]["connections"][str(connections)]["requests_per_second"] for name in names]
        places = np.arange(len(names)) + 0.27 * (offset - 1)
        bars = axes.barh(places, speeds, 0.25, color=f"C{offset}", label=f"{connections} connections")
        axes.bar_label(bars, fmt="%.0f", fontsize=7, padding=2)
    for (precision, speed), style in zip(found["bare_loop"].items(), (":", "--", "-"), strict=False):
        axes.axvline(speed, color="grey", linestyle=style, label=f"in-process upper bound, {precision}")
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set(xlabel="requests/s", title=f"POST /predict, custom network at {SIZE} x {SIZE}, {found['cores']} cores")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> int:
    """Measure and write the files."""
    parser = argparse.ArgumentParser(prog="python -m bench.serving", description=__doc__.splitlines()[0],
                                     epilog="example: python -m bench.serving --rounds 3 --seconds 8")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contender; default: %(default)s")
    parser.add_argument("--seconds", type=int, default=8, help="of each measurement; default: %(default)s")
    parser.add_argument("--uploads", choices=UPLOADS, default=DATA_SET, help="what is sent; default: %(default)s")
    parser.add_argument("--only", default="", help="time contenders with this in their name, and write no files")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where to; the plot is drawn for %(default)s only")
    parser.add_argument("--scaling", action="store_true", help="our server alone, by cores and networks")
    options = parser.parse_args()
    if not shutil.which("wrk"):
        parser.error("Expected wrk on the PATH. Received: none. Install it: apt-get install wrk")
    folder = (PROJECT / WORK).resolve()
    prepare(folder)
    bodies = forms(folder, options.uploads)
    found = described(options.rounds, options.seconds, bodies)
    if options.scaling:
        files.write_json(PROJECT / SCALING, found | {"cases": scaling(folder, bodies, options.rounds, options.seconds)})
        return 0
    write_onnx(folder / "custom.keras", folder / "model.onnx")
    found |= measure(folder, bodies, options.rounds, options.seconds, options.only)
    print(table(found))
    if not options.only:
        print(ratios(found))
        files.write_json(PROJECT / options.output, found)
        if options.output == OUTPUT:
            plot(found, PROJECT / PLOT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
