"""Times `python -m client FOLDER` against the peak of the server that it asks.

    python -m bench.folder --files 3000

Needs wrk (Debian: apt-get install wrk) and bench/requirements.txt. One Triton serves the network of bench.serving in
int8. In each round wrk, compiled, asks it for the probabilities of the same JPEG files, one a request and several; then
the client classifies a folder of so many of them, and one of a hundredth, so that its start can be taken off. All share
the cores. Prints the rates and writes bench/folder.json.
"""

import argparse
import contextlib
import itertools
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput

from bench import serving
from client.batch import PER_REQUEST
from core import contract, files
from serving.errors import ServingError
from serving.started import started

OUTPUT = Path("bench/folder.json")
HEADER = 512
"""Bytes of a request before the image, filled up with spaces: wrk sends the same header fields with each."""
SHARES = (1, PER_REQUEST // 2, PER_REQUEST)
ASKED = ((4, 1), (16, 1), *itertools.product((3, 6), SHARES[1:]))
"""Connections of wrk and images of each request: what the server answers most to is its peak."""


def jpegs(work: Path) -> list[bytes]:
    """Return the JPEG files in the forms that serving.prepare wrote."""
    forms = [path.read_bytes() for path in serving.forms(work)]
    return [one.partition(b"\r\n\r\n")[2].rpartition(b"\r\n--")[0] for one in forms]


@contextlib.contextmanager
def filled(work: Path, images: list[bytes], count: int) -> Iterator[Path]:
    """Yield a folder of so many files, the images in turn, with room for tables beside it; remove both."""
    target = work / f"files-{count}" / "images"
    shutil.rmtree(target.parent, ignore_errors=True)
    target.mkdir(parents=True)
    try:
        for index in range(count):
            (target / f"{index:06}.jpg").write_bytes(images[index % len(images)])
        yield target
    finally:
        shutil.rmtree(target.parent)


def request(images: list[bytes]) -> bytes:
    """Return the body with which tritonclient asks for the probabilities of images, its JSON HEADER bytes long."""
    tensor = InferInput(contract.IMAGE_INPUT, [len(images), 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[image] for image in images], np.object_))
    body, length = InferenceServerClient.generate_request_body(
        [tensor], outputs=[InferRequestedOutput(contract.PROBABILITIES)])
    return body[:length].ljust(HEADER) + body[length:]


@contextlib.contextmanager
def triton(work: Path) -> Iterator[str]:
    """Run `python -m serving` on the int8 repository that serving.prepare wrote; yield host:port once it is ready."""
    url = f"127.0.0.1:{serving.free_port()}"
    command = [sys.executable, "-m", "serving", "--repository", str(work / "int8"), "--http-port", url.split(":")[1],
               "--log-file", str(work / "triton.log")]
    try:
        with started(command, f"http://{url}/v2/health/ready", serving.START_SECONDS, work / "server.log",
                     cwd=serving.PROJECT):
            yield url
    except ServingError as error:
        sys.exit(f"Triton does not answer:\n{error.log}")


def drive(url: str, bodies: list[Path], connections: int, seconds: float) -> float:
    """Return the requests a second that Triton answers to wrk."""
    target = f"http://{url}/v2/models/{contract.classifier('custom')}/infer"
    headers = {"Inference-Header-Content-Length": str(HEADER), "Content-Type": "application/octet-stream"}
    found = serving.load(target, headers, bodies, connections, seconds)
    if found["errors"]:
        sys.exit(f"Triton refuses requests: {found}")
    return found["requests_per_second"]


def seconds_for(url: str, folder: Path, table: Path) -> float:
    """Return how long the client takes to classify a folder into a table that is not there yet."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "client", str(folder), "--url", url, "--output", str(table)],
                   cwd=serving.PROJECT, check=True)
    return time.perf_counter() - start


def measure(work: Path, count: int, rounds: int, seconds: float) -> dict:
    """Let wrk and the client take turns.

    Args:
        work: see serving.prepare. count: files. rounds: turns of each. seconds: of each drive of wrk.

    Returns:
        files; images_per_second, the median; peak_images_per_second, the highest of the medians for ASKED;
        peak_connections and peak_images_per_request, which that was; of_peak, the ratio of the two.
    """
    few, rates, peaks = count // 100, [], {asked: [] for asked in ASKED}
    images = jpegs(work)
    bodies = {share: [work / f"{share}-{index:02}.request" for index in range(len(images))] for share in SHARES}
    for share, paths in bodies.items():
        for index, path in enumerate(paths):
            path.write_bytes(request([images[(index + more) % len(images)] for more in range(share)]))
    with filled(work, images, few) as small, filled(work, images, count) as large, triton(work) as url:
        drive(url, bodies[1], 4, 2)
        for number in range(1, rounds + 1):
            for (connections, share), found in peaks.items():
                found.append(share * drive(url, bodies[share], connections, seconds))
            short, long = (seconds_for(url, folder, folder.with_suffix(f".{number}.csv")) for folder in (small, large))
            rates.append((count - few) / (long - short))
            print(f"round {number}/{rounds}: client {rates[-1]:.1f}, wrk "
                  + ", ".join(f"{found[-1]:.1f}" for found in peaks.values()) + " images/s", flush=True)
    medians = {asked: statistics.median(found) for asked, found in peaks.items()}
    rate, best = statistics.median(rates), max(medians, key=medians.__getitem__)
    return {"files": count, "images_per_second": rate, "peak_images_per_second": medians[best],
            "peak_connections": best[0], "peak_images_per_request": best[1], "of_peak": rate / medians[best]}


def main() -> int:
    """Measure and write the file."""
    parser = argparse.ArgumentParser(prog="python -m bench.folder", description=__doc__.splitlines()[0],
                                     epilog="example: python -m bench.folder --files 3000")
    parser.add_argument("--files", type=int, default=3000, help="in the folder; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each; default: %(default)s")
    parser.add_argument("--seconds", type=int, default=8, help="of each measurement of wrk; default: %(default)s")
    options = parser.parse_args()
    if not shutil.which("wrk"):
        parser.error("Expected wrk on the PATH. Received: none. Install it: apt-get install wrk")
    work = (serving.PROJECT / serving.WORK).resolve()
    serving.prepare(work)
    found = measure(work, options.files, options.rounds, options.seconds)
    print(f"{found['of_peak']:.2f} of the server's peak")
    described = serving.described(options.rounds, options.seconds, serving.forms(work))
    files.write_json(serving.PROJECT / OUTPUT, described | found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
