"""The whole pipeline on a machine without data: phantoms -> dvc repro -> Triton -> web page -> answers.

    python demo.py --once          (or: make demo ONCE=1)

Works in .demo/, a copy of the project with smaller params, so the project's own results stay as they are. A second run
trains nothing that has not changed. About three minutes on two cores.
"""

import argparse
import os
import shutil
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import requests
import yaml

from core import contract
from serving.errors import ServingError
from serving.started import started
from stages.data import phantom
from stages.networks.registry import NETWORKS

PROJECT = Path(__file__).resolve().parent
WORKPLACE = PROJECT / ".demo"
CHANGES = {
    "prepare": {"image_size": 64, "phantom_per_class": 60},
    "train": {"lr": 0.001, "batch_size": 16, "epochs": 10},
    "train_custom": {"dropout": 0.0},
    "train_transfer": {"image_size": 64, "epochs": 6},
}
"""Params that differ from params.yaml, so that training takes minutes; the printed scores are those of this recipe."""
SAMPLE_SEED = 10**6
START_SECONDS = 120


def tracked_files() -> list[str]:
    """Return the paths of all files that Git tracks and that still exist."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.split("\0") if name and (PROJECT / name).is_file()]


def copy_project() -> None:
    """Copy the project's files into the workplace, with the demo's params and a DVC set-up that needs no Git."""
    for name in tracked_files():
        target = WORKPLACE / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if name != "dvc.lock":
            shutil.copyfile(PROJECT / name, target)
    params = yaml.safe_load((PROJECT / "params.yaml").read_text())
    for section, changes in CHANGES.items():
        params[section].update(changes)
    params["train"]["start"]["epochs"] = 0
    (WORKPLACE / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    subprocess.run([sys.executable, "-m", "dvc", "config", "--local", "core.no_scm", "true"], cwd=WORKPLACE, check=True)


def write_samples(folder: Path) -> dict[str, Path]:
    """Draw one phantom of each class that training has not seen; return the files by class."""
    folder.mkdir(exist_ok=True)
    samples = {label: folder / f"{label}.png" for label in contract.CLASSES}
    for index, (label, path) in enumerate(samples.items()):
        path.write_bytes(phantom.png(phantom.draw(label, SAMPLE_SEED + index, 224).image))
    return samples


def servers(port: int) -> AbstractContextManager:
    """Run Triton and gunicorn on the workplace's model repository, as `make serve` does, until the block ends."""
    command = [sys.executable, "-m", "serving", "--repository", "model_repository", "--http-port", "0", "--",
               sys.executable, "-m", "gunicorn", "-c", "webapp/gunicorn.conf.py", "webapp:create_app()"]
    return started(command, f"http://127.0.0.1:{port}/health", START_SECONDS, cwd=WORKPLACE,
                   env=os.environ | {"BIND": f"127.0.0.1:{port}"})


def predict(url: str, image: Path, model: str) -> dict:
    """Post an image to /predict as a browser would, and return the answer."""
    with image.open("rb") as file:
        answer = requests.post(f"{url}/predict", data={"model": model}, files={"file": file}, timeout=30)
    answer.raise_for_status()
    return answer.json()


def show_answers(url: str, samples: dict[str, Path]) -> None:
    """Classify every sample with every network through the web page, and print a line for each."""
    for model in NETWORKS:
        for label, path in samples.items():
            answer = predict(url, path, model)
            numbers = "  ".join(f"{name} {value:.3f}" for name, value in answer["all_probabilities"].items())
            print(f"{model:9} drawn as {label:10} -> {answer['predicted_class']:10} {numbers}")
    print(contract.DISCLAIMER)


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--once", action="store_true", help="stop after the answers instead of serving on")
    parser.add_argument("--port", type=int, default=5000, help="port of the web page (default 5000)")
    options = parser.parse_args()
    copy_project()
    subprocess.run([sys.executable, "-m", "dvc", "repro"], cwd=WORKPLACE, check=True)
    samples = write_samples(WORKPLACE / "samples")
    url = f"http://127.0.0.1:{options.port}"
    try:
        with servers(options.port) as running:
            show_answers(url, samples)
            print(f"The page: {url}   images to try: {WORKPLACE / 'samples'}", flush=True)
            if not options.once:
                print("Ctrl-C stops it.", flush=True)
                running.wait()
    except KeyboardInterrupt:
        print("Stopped.")
    except requests.HTTPError as error:
        sys.exit(f"The page answered {error.response.status_code}: {error.response.text}")
    except ServingError as error:
        sys.exit(f"{error} The servers' messages are above.")


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"demo: {' '.join(error.cmd)} ended with code {error.returncode}; its message is above.")
