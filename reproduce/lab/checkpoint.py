"""A training that goes on after its last complete epoch when it was killed."""

import json
import pathlib
from typing import Any

import keras
import numpy as np

from lab import files
from lab.measuring import Stopwatch
from lab.rows import Run

CHECKPOINT, HISTORY = "checkpoint.npz", "history.jsonl"


class Checkpoint(keras.callbacks.Callback):
    """Saves, after every epoch, all that a resumed run needs, and appends a line to history.jsonl.

    Args:
        directory: of the files.
        run: the settings of the run, which a resumed run must share.

    Raises:
        ValueError: if the directory holds another run.
    """

    def __init__(self, directory: pathlib.Path, run: Run) -> None:
        super().__init__()
        self.directory, self.run = directory, run
        self.history: list[dict[str, Any]] = []
        if not (directory / CHECKPOINT).exists():
            return
        with np.load(directory / CHECKPOINT) as file:
            record = json.loads(str(file["record"]))
        for name, value in run.items():
            saved = record["run"].get(name)
            if saved != value:
                raise ValueError(
                    f"{directory} holds a run with {name} = {saved!r}, not {value!r}: "
                    "give another --out, or that run's settings to resume it."
                )
        self.history = record["history"]

    def restore(self, model: keras.Model) -> None:
        """Puts the saved values, if there are any, into the compiled model and its optimizer."""
        if self.history:
            with np.load(self.directory / CHECKPOINT) as file:
                for index, variable in enumerate(_variables(model)):
                    variable.assign(file[f"variable_{index}"])

    def on_train_begin(self, logs: Any = None) -> None:
        # written anew, because a run can be killed between its checkpoint and its line
        files.write(self.directory / HISTORY, "".join(json.dumps(line) + "\n" for line in self.history))

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.watch = Stopwatch()
        # of the first step; six digits, because float32 is not the number that was given
        self.learning_rate = float(f"{float(self.model.optimizer.learning_rate):.6g}")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        line = {"epoch": epoch + 1, "learning_rate": self.learning_rate}
        line |= {name: round(float(logs[name]), 6) for name in ("accuracy", "val_accuracy", "loss", "val_loss")}
        line["seconds"] = round(self.watch.seconds, 1)
        self.history.append(line)

        values = {f"variable_{i}": keras.ops.convert_to_numpy(v) for i, v in enumerate(_variables(self.model))}
        with files.replaced(self.directory / CHECKPOINT) as file:
            np.savez(file, record=json.dumps({"run": self.run, "history": self.history}), **values)
        with open(self.directory / HISTORY, "a") as file:
            file.write(json.dumps(line) + "\n")


def _variables(model: keras.Model) -> list[keras.Variable]:
    return [*model.variables, *model.optimizer.variables]
