"""The networks, one entry each: what is trained, evaluated, exported and served follows from it.

A network is a module of this folder with its name: there stand the class of its section of params.yaml and recipe(),
which builds it and says in which phases it is trained. The training stages do not read this file, so that a further
entry, or another title, retrains nothing.
"""

import errno
import os
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from stages.common import command

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Network:
    """A network: its name, title for people, DVC stage (and section of params.yaml), and that section's class."""

    name: str
    title: str
    stage: str
    section: str

    @property
    def model(self) -> Path:
        """The file that the stage writes."""
        return Path("models") / f"{self.name}.keras"

    @property
    def module(self) -> str:
        """The module that builds the network."""
        return f"{__package__}.{self.name}"

    def load(self) -> "keras.Model":
        """Return the trained network.

        Raises:
            FileNotFoundError: there is no file `model`; its stage has not run.
        """
        import keras

        if not self.model.exists():  # Keras says so with another kind of error
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.model))
        import_module(self.module)  # makes its own kinds of layers known to Keras
        return keras.models.load_model(self.model, compile=False)


NETWORKS = {network.name: network for network in (
    Network("custom", "Custom CNN", "train_custom", "TrainCustom"),
    Network("resnet50", "ResNet-50", "train_resnet", "TrainResnet"),
    Network("transfer", "EfficientNet-Lite, from ImageNet", "train_transfer", "TrainTransfer"),
)}
"""All networks by name; the first one answers when a request names none."""


def chosen(names: list[str], param: str) -> list[Network]:
    """Return the networks that a param names, all for [], in the order of the registry.

    Raises:
        StageError: there is no network of that name.
    """
    if unknown := [name for name in names if name not in NETWORKS]:
        raise command.StageError(f"Expected {param} to hold names of {', '.join(NETWORKS)}. "
                                 f"Received: {unknown[0]!r}. Correct it, or give [] for all.")
    return [network for name, network in NETWORKS.items() if not names or name in names]
