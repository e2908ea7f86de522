"""Where a training stands, on disk: an interrupted run goes on and ends with the numbers of an uninterrupted one.

After each epoch everything that the rest of the run depends on is written to .resume/: weights, optimizer, dropout's
random state, early stopping's and the plateau's memory, history. The same command then continues after the last
finished epoch (operations are deterministic for one machine and number of threads). Keras's BackupAndRestore keeps
neither early stopping's nor the learning rate's state.
"""

import hashlib
import json
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path

import keras
import numpy as np

from core import files

FOLDER = Path(".resume")


@dataclass
class State:
    """Where a run stands: phase and epoch to do next, whether the phase has stopped, history, callbacks' memory."""

    key: str
    phase: int = 0
    epoch: int = 0
    stopped: bool = False
    rows: list[dict] = field(default_factory=list)
    memory: dict[str, dict] = field(default_factory=dict)
    variables: list[np.ndarray] = field(default_factory=list)
    best_weights: list[np.ndarray] = field(default_factory=list)


def save_state(path: Path, state: State) -> None:
    """Write a state as one .npz file, replacing the previous one as a whole."""
    facts = {name: value for name, value in asdict(state).items() if name not in ("variables", "best_weights")}
    arrays = {f"variables_{index:05d}": array for index, array in enumerate(state.variables)}
    arrays |= {f"best_{index:05d}": array for index, array in enumerate(state.best_weights)}
    with files.replacing(path) as new, new.open("wb") as file:
        np.savez(file, facts=np.array(json.dumps(facts)), **arrays)


def load_state(path: Path, key: str) -> State:
    """Read the state of an interrupted run, or start afresh.

    Args:
        path: the .npz file.
        key: see run.fingerprint(); a state with another one is not continued, and that is printed.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            facts = json.loads(str(stored["facts"]))
            state = State(**facts,
                          variables=[stored[name] for name in sorted(stored) if name.startswith("variables_")],
                          best_weights=[stored[name] for name in sorted(stored) if name.startswith("best_")])
    except FileNotFoundError:
        return State(key)
    except (ValueError, KeyError, TypeError, OSError, zipfile.BadZipFile) as error:
        print(f"Cannot read the interrupted run in {path} ({error}): starting from the first epoch.")
        return State(key)
    if state.key != key:
        print(f"The interrupted run in {path} had other params, data, code or libraries: starting from the first "
              "epoch.")
        return State(key)
    print(f"Continuing the interrupted run in {path}: {len(state.rows)} epochs are done.")
    return state


def fingerprint(*parts) -> str:
    """Return a digest of params, data digests and the like, which decides whether a run may be continued."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=asdict).encode()).hexdigest()[:16]


class KeepState(keras.callbacks.Callback):
    """Writes the state after each epoch, and gives the other callbacks their memory back at the start.

    Must be the last callback: the others reset themselves when training begins.
    """

    def __init__(self, path: Path, state: State, phase: str, others: dict[str, keras.callbacks.Callback]):
        super().__init__()
        self.path, self.state, self.phase, self.others = path, state, phase, others

    def on_train_begin(self, logs=None):
        """Restore what the callbacks knew."""
        for name, memory in self.state.memory.items():
            for key, value in memory.items():
                setattr(self.others[name], key, value)
        if self.state.best_weights:
            self.others["stopping"].best_weights = self.state.best_weights

    def on_epoch_end(self, epoch, logs=None):
        """Add a row to the history and write the state."""
        state, stopping, plateau = self.state, self.others["stopping"], self.others["plateau"]
        values = {name: float(value) for name, value in logs.items()}
        state.rows.append({"epoch": len(state.rows) + 1, "phase": self.phase, **values})
        state.epoch, state.stopped = epoch + 1, bool(self.model.stop_training)
        state.memory = {
            "stopping": {"wait": stopping.wait, "best": float(stopping.best), "best_epoch": stopping.best_epoch},
            "plateau": {"wait": plateau.wait, "best": float(plateau.best)},
            "checkpoint": {"best": float(self.others["checkpoint"].best)},
        }
        state.best_weights = stopping.best_weights or []
        state.variables = [np.array(variable) for variable in all_variables(self.model)]
        save_state(self.path, state)


def all_variables(network: keras.Model) -> list:
    """Return everything that changes during training: weights, dropout's random states, the optimizer's variables."""
    return [*network.variables, *network.optimizer.variables]


def enter_next_phase(network: keras.Model, state: State) -> None:
    """Move the state on: the weights stay; optimizer and callbacks start anew, and so are not kept."""
    state.phase, state.epoch, state.stopped = state.phase + 1, 0, False
    state.memory, state.best_weights = {}, []
    state.variables = [np.array(variable) for variable in network.variables]
