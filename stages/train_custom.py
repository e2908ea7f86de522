"""Trains the custom network: five blocks of two convolutions, from scratch.

    python -m stages.train_custom          (or: dvc repro train_custom)

Reads data/prepared, writes models/custom.keras and reports/train_custom/. An interrupted run continues with the same
command. With the default params about ten minutes on two cores.
"""

from stages.networks import custom
from stages.training import run

if __name__ == "__main__":
    run.main("train_custom", custom.recipe, __doc__)
