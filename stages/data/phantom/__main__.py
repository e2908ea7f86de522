"""Writes a data set of phantoms from the command line."""

import argparse
import sys
from pathlib import Path

from core import contract
from stages.data.phantom import write_dataset


def main(arguments: list[str] | None = None) -> int:
    """Write a data set of phantoms from the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.data.phantom",
        description="Write synthetic brain-MRI slices, one folder per class.",
        epilog="example: python -m stages.data.phantom phantoms --images-per-class 10 --size 224 --seed 0",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="written here; must not exist yet")
    parser.add_argument("--images-per-class", type=int, default=10, metavar="N", help="default: %(default)s")
    parser.add_argument("--size", type=int, default=224, help="pixels a side, at least 32; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same images; default: %(default)s")
    parser.add_argument("--masks", type=Path, metavar="FOLDER", help="also write tumour masks, here")
    given = parser.parse_args(arguments)
    try:
        write_dataset(given.folder, given.images_per_class, given.size, given.seed, masks=given.masks)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"phantom: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("phantom: interrupted, nothing was written", file=sys.stderr)
        return 130
    print(f"{given.images_per_class * len(contract.CLASSES)} images in {given.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
