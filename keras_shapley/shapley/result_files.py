"""Results as `.npz` files without pickle: arrays by name, and a description of the rest in JSON."""

import io
import json
import os
import pathlib
import zipfile
from typing import Any

import numpy as np

from keras_shapley.utils.files import write
from keras_shapley.utils.structures import filled, leaves, skeleton_of
from keras_shapley.utils.typing import Structure

_FORMAT = "keras_shapley.ShapleyValues, 1"
# fields that are nested as the inputs are
_STRUCTURES = ("players", "x")


def save(path: str | os.PathLike[str], fields: dict[str, Any]) -> None:
    """Writes the fields of a result: arrays, structures of arrays, None, and what JSON knows."""
    arrays: dict[str, np.ndarray] = {}
    rest: dict[str, Any] = {}
    for name, value in fields.items():
        if name in _STRUCTURES:
            for number, leaf in enumerate(leaves(value)):
                arrays[f"{name}.{number}"] = leaf
        elif isinstance(value, np.ndarray):
            arrays[name] = value
        else:
            rest[name] = value
    described = {"format": _FORMAT, "skeleton": _to_json(skeleton_of(fields["x"])), "fields": rest}
    buffer = io.BytesIO()
    arrays["description"] = np.array(json.dumps(described))
    np.savez_compressed(buffer, **arrays)  # pyright: ignore
    write(pathlib.Path(path), buffer.getvalue())


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The fields that `save` wrote.

    Raises:
        ValueError: if the file holds no result.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        described = json.loads(str(arrays.pop("description")))
        if described["format"] != _FORMAT:
            raise ValueError
    except (AttributeError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"`path` must be a file that ShapleyValues.save wrote. Received: {os.fspath(path)}") from error
    fields = described["fields"]
    skeleton = _from_json(described["skeleton"])
    for name in _STRUCTURES:
        count = sum(key.startswith(f"{name}.") for key in arrays)
        fields[name] = filled(skeleton, [arrays.pop(f"{name}.{number}") for number in range(count)])
    return {**fields, **arrays}


def _to_json(skeleton: Structure) -> Any:
    """A skeleton in what JSON tells apart: numbers, and pairs of a kind and its parts."""
    if isinstance(skeleton, int):
        return skeleton
    if isinstance(skeleton, dict):
        return ["dict", [[key, _to_json(part)] for key, part in skeleton.items()]]
    return ["tuple" if isinstance(skeleton, tuple) else "list", [_to_json(part) for part in skeleton]]


def _from_json(described: Any) -> Structure:
    if isinstance(described, int):
        return described
    kind, parts = described
    if kind == "dict":
        return {key: _from_json(part) for key, part in parts}
    return tuple(map(_from_json, parts)) if kind == "tuple" else list(map(_from_json, parts))
