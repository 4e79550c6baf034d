"""Files that are written in one step, and where results are kept."""

import contextlib
import fcntl
import json
import os
import pathlib
from collections.abc import Iterator
from typing import IO, Any

from keras_shapley.utils.files import name_while_written, remove_abandoned

REPRODUCE = pathlib.Path(__file__).resolve().parents[1]
# the results of whole experiments
RESULTS = REPRODUCE / "results"
# the results of first looks, below the directory in which a script is started
RUNS = pathlib.Path("runs")


@contextlib.contextmanager
def replaced(path: pathlib.Path) -> Iterator[IO[bytes]]:
    """Opens a binary file for writing; it takes the place of `path` in one step once it is complete.

    What killed processes left half written of the same file is removed.
    """
    remove_abandoned(path)
    new = name_while_written(path)
    try:
        with open(new, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def locked(path: pathlib.Path) -> Iterator[None]:
    """Keeps all other processes out that lock the same path. The lock of a process that is killed ends with it."""
    with open(path.with_name(f"{path.name}.lock"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write(path: pathlib.Path, text: str) -> None:
    """Writes a text file in one step."""
    with replaced(path) as file:
        file.write(text.encode())


def write_json(path: pathlib.Path, value: Any, *, allow_nan: bool = True) -> None:
    """Writes a JSON file in one step."""
    write(path, json.dumps(value, indent=1, allow_nan=allow_nan) + "\n")


def read_json(path: pathlib.Path) -> Any:
    """The content of a JSON file.

    Raises:
        ValueError: if the file is not JSON; the message names it.
    """
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is no JSON file ({error}): move it away, or write to another directory") from error
