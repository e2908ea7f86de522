"""Puts the custom network of a finished run into published/: the model for DVC's remote in Git, its facts beside it.

    python -m tools.publish RUN      RUN: the folder of a clone where `dvc repro` ended, on real images

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

PROJECT = Path(__file__).resolve().parents[1]
HERE = PROJECT / "published"
MODELS = (contract.PREPROCESS, "custom", contract.classifier("custom"), contract.explain("custom"))
FACTS = ("params.yaml", "MODEL_CARD.md", "reports/prepare", "reports/train_custom", "reports/train_resnet",
         "reports/train_transfer", "reports/evaluate", "reports/export")
REMOTE = "published"
LARGEST = 25_000_000
"""Bytes of the remote: every published version stays in Git's history for ever."""


def check(run: Path) -> None:
    """Check that a run has exported a network that was trained on real images.

    Raises:
        SystemExit: naming what was expected and what came.
    """
    try:
        facts = json.loads((run / "model_repository/custom/1/provenance.json").read_text())
    except (OSError, ValueError) as error:
        sys.exit(f"Expected a folder where `dvc repro` has ended. Received: {run} ({error})")
    if facts["data"]["source"] == contract.PHANTOM:
        sys.exit("Expected a network trained on real images. Received: one trained on phantoms.")


def tracked(run: Path) -> list[str]:
    """Return the facts of a run that Git tracks: figures that show images are not among them."""
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", *FACTS], cwd=run,
                            capture_output=True, text=True, check=True)
    return sorted(set(listed.stdout.splitlines()))


def copy_facts(run: Path, target: Path) -> None:
    """Copy params, reports and model card into a folder, replacing what it held."""
    with files.replacing(target) as new:
        for name in tracked(run):
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(run / name, new / name)


def copy_models(run: Path, target: Path) -> None:
    """Copy what serves the custom network into a model repository, replacing what it held."""
    with files.replacing(target) as new:
        for name in MODELS:
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
    run = parser.parse_args().run
    check(run)
    copy_facts(run, HERE / "run")
    copy_models(run, HERE / "model_repository")
    store(HERE / "model_repository")


if __name__ == "__main__":
    main()
