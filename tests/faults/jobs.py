"""What children of a warm process are told to do."""

import os
import pathlib

import keras_shapley as ks
from keras_shapley.cli import main


def command(*words: str) -> int:
    """The command line."""
    return main(words)


def load_result(kind: str, path: str) -> int:
    """The loader of a class's results; an error ends as one of the command line does: both are judged alike."""
    try:
        repr(getattr(ks, kind).load(path))
    except (OSError, ValueError) as error:
        os.write(2, f"keras_shapley: error: {' '.join(str(error).split())}\n".encode())
        return 2
    return 0


def names(directory: str) -> list[str]:
    """All that is below a directory."""
    return sorted(str(path.relative_to(directory)) for path in pathlib.Path(directory).rglob("*"))
