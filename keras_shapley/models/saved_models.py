"""Saved models, from files that may be broken or hostile."""

import io
import json
import math
import pathlib
import warnings
import zipfile
from typing import Any

# installed with Keras
import h5py
import keras

from keras_shapley.models.keras_internals import declared_weights
from keras_shapley.utils.files import check_declared

_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
# of a weight
_BYTES = 4


def load(path: pathlib.Path) -> keras.Model:
    """The model in a `.keras` or `.h5` file. Code in the file is not executed.

    Before anything is read or made, what the file declares is compared with its size, so that a small file cannot take
    much memory.

    Raises:
        ValueError: if the file is none, or its model cannot be made here.
    """
    if not path.is_file():
        raise ValueError("it is not a file")
    kind = path.suffix.lower()
    try:
        with warnings.catch_warnings():
            # the words of Keras and zipfile on odd files
            warnings.simplefilter("ignore")
            if kind == ".keras":
                _check_archive(path)
            elif kind in (".h5", ".hdf5"):
                _check_legacy(path)
            else:
                raise ValueError("it must be a .keras or .h5 file")
            return keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        # a file that is no model, or whose layers are not known here, may raise anything
        raise ValueError(str(error) or type(error).__name__) from error


def _check_archive(path: pathlib.Path) -> None:
    """Raises a `ValueError` if a `.keras` file declares much more than it holds."""
    with zipfile.ZipFile(path) as archive:
        check_declared(path, sum(member.file_size for member in archive.infolist()))
        config = json.loads(archive.read(_CONFIG))
        if _WEIGHTS in archive.namelist():
            # not in the archive itself, where going back is slow
            with h5py.File(io.BytesIO(archive.read(_WEIGHTS))) as file:
                check_declared(path, _array_bytes(file))
    check_declared(path, _BYTES * declared_weights(config))


def _check_legacy(path: pathlib.Path) -> None:
    """Raises a `ValueError` if an `.h5` file declares much more than it holds."""
    with h5py.File(path) as file:
        check_declared(path, _array_bytes(file))
        config: Any = file.attrs.get("model_config")
    if config is None:
        raise ValueError("it holds no model, but perhaps the weights of one")
    check_declared(path, _BYTES * declared_weights(json.loads(config), is_legacy=True))


def _array_bytes(file: h5py.File) -> int:
    """Bytes of all arrays of a file, as they are declared."""
    sizes: list[int] = []

    def add(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            sizes.append(math.prod(item.shape or ()) * item.dtype.itemsize)

    file.visititems(add)
    return sum(sizes)
