"""Files that are never half written."""

import contextlib
import fcntl
import json
import os
import pathlib

# where the results of the whole runs are kept
RESULTS = pathlib.Path(__file__).resolve().parent / "results"
# and those of first looks, below where one is
RUNS = pathlib.Path("runs")


@contextlib.contextmanager
def replaced(path):
    """A binary file to write, which takes the place of `path` in one step once it is complete."""
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    with open(new, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)


@contextlib.contextmanager
def locked(path):
    """While it lasts, no other process is in here with the same path; a process that is killed leaves."""
    with open(path.with_name(f"{path.name}.lock"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write(path, text):
    """Writes a text file in one step."""
    with replaced(path) as file:
        file.write(text.encode())


def read_json(path):
    """What a JSON file holds.

    Raises:
        ValueError: if it is none; the message names the file.
    """
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is no JSON file ({error}): move it away, or write to another directory") from error
