"""Results as `.npz` files without pickle: arrays by name, and a description of the rest in JSON."""

import io
import json
import os
import pathlib
import zipfile
from typing import Any, BinaryIO

import numpy as np

from keras_shapley.utils.files import MOST_EXPANSION, check_declared, write
from keras_shapley.utils.structures import filled, leaves, skeleton_of
from keras_shapley.utils.typing import Structure

_FORMAT = "keras_shapley.ShapleyValues, 1"
# fields that are nested as the inputs are
_STRUCTURES = ("players", "x")
_FIELDS = {
    *("values", "stderr", "baseline_value", "total", "residual", "target"),
    *("n_evaluations", "method", "feature_names", *_STRUCTURES),
}


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
    arrays["description"] = np.array(json.dumps(described))
    write(pathlib.Path(path), _packed(arrays))


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The fields that `save` wrote.

    Raises:
        ValueError: if the file holds no result.
        OSError: if there is no file, or it cannot be read.
    """
    path = pathlib.Path(path)
    # a pipe may never end
    if path.exists() and not path.is_file():
        raise ValueError(f"`path` must be a file that ShapleyValues.save wrote. Received: {path}, which is no file")
    with path.open("rb") as file:
        try:
            fields = _unpacked(path, file)
            _check(fields)
        except Exception as error:
            # a file of something else may raise anything
            raise ValueError(f"`path` must be a file that ShapleyValues.save wrote. Received: {path}") from error
    return fields


def _packed(arrays: dict[str, np.ndarray]) -> bytes:
    """The arrays as an NPZ file, compressed unless they are so regular that `load` would take them for an attack."""
    content = b""
    for save in (np.savez_compressed, np.savez):
        buffer = io.BytesIO()
        save(buffer, **arrays)  # pyright: ignore
        content = buffer.getvalue()
        if sum(array.nbytes for array in arrays.values()) < MOST_EXPANSION / 2 * len(content):
            break
    return content


def _unpacked(path: pathlib.Path, file: BinaryIO) -> dict[str, Any]:
    """The fields in an NPZ file."""
    with zipfile.ZipFile(file) as archive:
        check_declared(path, sum(member.file_size for member in archive.infolist()))
    file.seek(0)
    with np.load(file, allow_pickle=False) as saved:
        arrays = {name: saved[name] for name in saved.files}
    described = json.loads(str(arrays.pop("description")))
    if described["format"] != _FORMAT:
        raise ValueError
    fields = described["fields"]
    skeleton = _from_json(described["skeleton"])
    for name in _STRUCTURES:
        count = sum(key.startswith(f"{name}.") for key in arrays)
        fields[name] = filled(skeleton, [arrays.pop(f"{name}.{number}") for number in range(count)])
    return {**fields, **arrays}


def _check(fields: dict[str, Any]) -> None:
    """Raises an error if fields are not those of a result."""
    n_inputs, n_players, *outputs = fields["values"].shape
    shape = (n_inputs, *outputs)
    parts = [leaves(fields[name]) for name in _STRUCTURES]
    is_result = (
        set(fields) == _FIELDS
        and all(fields[name].dtype.kind == "f" for name in ("values", "baseline_value", "total", "residual"))
        and fields["total"].shape == fields["residual"].shape == shape
        and (fields["stderr"] is None or fields["stderr"].shape == fields["values"].shape)
        and (fields["target"] is None or len(fields["target"]) == n_inputs)
        and all(x.shape == (n_inputs, *players.shape) for players, x in zip(*parts, strict=True))
        and all(0 <= players.min() and players.max() < n_players for players in parts[0] if players.size)
        and isinstance(fields["n_evaluations"], int)
        and isinstance(fields["method"], str)
        and (fields["feature_names"] is None or len(fields["feature_names"]) == n_players)
    )
    if not is_result:
        raise ValueError


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
