"""Puts a network of a finished run into published/: the model for DVC's remote in Git, its facts beside it.

    python -m tools.publish RUN      RUN: the folder of a clone where `export` ended, on real images

Then commit published/. The remote (published/remote) holds one version and is at most LARGEST bytes; figures that show
images are left out. `make serve-published` pulls the model: dvc pull -r published published/model_repository
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from core import contract, files, manifest
from stages.networks.registry import NETWORKS

PROJECT = Path(__file__).resolve().parents[1]
HERE = PROJECT / "published"
FACTS = ("params.yaml", "MODEL_CARD.md", "reports/prepare", "reports/evaluate/*.*", "reports/export")
REMOTE = "published"
LARGEST = 25_000_000
"""Bytes of the remote: every published version stays in Git's history for ever."""


def check(run: Path, network: str) -> None:
    """Check that a run has exported a network by its name, trained on real images.

    Raises:
        SystemExit: naming what was expected and what came.
    """
    try:
        facts = json.loads((run / "model_repository" / network / contract.VERSION / "provenance.json").read_text())
    except (OSError, ValueError) as error:
        sys.exit(f"Expected a folder where `export` has ended, with {network} in it. Received: {run} ({error})")
    if facts["data"]["source"] == contract.PHANTOM:
        sys.exit("Expected a network trained on real images. Received: one trained on phantoms.")


def tracked(run: Path, network: str) -> list[str]:
    """Return the facts of a run and of a network that Git tracks: figures that show images are not among them."""
    wanted = [f":(glob){name}" for name in
              (*FACTS, f"reports/{NETWORKS[network].stage}", f"reports/evaluate/{network}")]
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", *wanted], cwd=run,
                            capture_output=True, text=True, check=True)
    return sorted(set(listed.stdout.splitlines()))


def copy_facts(run: Path, network: str, target: Path) -> None:
    """Copy params, reports and model card into a folder, replacing what it held."""
    with files.replacing(target) as new:
        for name in tracked(run, network):
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(run / name, new / name)


def copy_models(run: Path, network: str, target: Path) -> None:
    """Copy what serves a network into a model repository, replacing what it held."""
    with files.replacing(target) as new:
        for name in (contract.PREPROCESS, network, contract.classifier(network), contract.explain(network)):
            shutil.copytree(run / "model_repository" / name, new / name)
        manifest.write(new)


def store(target: Path) -> None:
    """Let DVC track the model repository and keep it, alone, in the remote.

    Raises:
        SystemExit: the remote would be larger than LARGEST.
    """
    subprocess.run(["dvc", "add", "--quiet", str(target)], cwd=PROJECT, check=True)
    pointer = target.with_name(f"{target.name}.dvc")
    entry = yaml.safe_load(pointer.read_text())
    entry["outs"][0]["remote"] = REMOTE
    files.write_text(pointer, yaml.safe_dump(entry, sort_keys=False))
    shutil.rmtree(HERE / "remote", ignore_errors=True)
    subprocess.run(["dvc", "push", "--quiet", "--remote", REMOTE, str(pointer)], cwd=PROJECT, check=True)
    size = sum(path.stat().st_size for path in (HERE / "remote").rglob("*") if path.is_file())
    print(f"published/remote: {size:,} bytes")
    if size > LARGEST:
        sys.exit(f"Expected at most {LARGEST:,} bytes. Received: {size:,}. Do not commit it.")


def main() -> None:
    """Read the command line and publish."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a clone where the pipeline has run on real images")
    parser.add_argument("--network", choices=NETWORKS, default="transfer", help="default: transfer")
    given = parser.parse_args()
    check(given.run, given.network)
    copy_facts(given.run, given.network, HERE / "run")
    copy_models(given.run, given.network, HERE / "model_repository")
    store(HERE / "model_repository")


if __name__ == "__main__":
    main()
