"""What children of a warm process are told to do."""

import os
import pathlib

import torch  # noqa: F401, before TensorFlow

import tensorflow  # noqa: F401, isort: skip, which Keras imports for some files, in each child for seconds

from keras_shapley import ShapleyValues
from keras_shapley.cli import main


def command(*words: str) -> int:
    """The command line."""
    return main(words)


def load_result(path: str) -> int:
    """The loader of results; an error ends as one of the command line does, so that both are judged alike."""
    try:
        repr(ShapleyValues.load(path))
    except (OSError, ValueError) as error:
        os.write(2, f"keras_shapley: error: {' '.join(str(error).split())}\n".encode())
        return 2
    return 0


def names(directory: str) -> list[str]:
    """All that is below a directory."""
    return sorted(str(path.relative_to(directory)) for path in pathlib.Path(directory).rglob("*"))
