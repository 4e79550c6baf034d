"""Results as `.npz` files without pickle: arrays by name, and a description of the rest in JSON."""

import dataclasses
import io
import itertools
import json
import os
import pathlib
import zipfile
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import numpy as np

from keras_shapley.utils.files import MOST_EXPANSION, check_declared, write
from keras_shapley.utils.structures import filled, leaves
from keras_shapley.utils.typing import Structure

# what NumPy's files know: bools, integers, floats, complex numbers, bytes and strings
_KINDS = "biufcSU"


@dataclasses.dataclass(frozen=True)
class ResultFormat:
    """How the results of a class are kept in a file.

    Args:
        name: of the class.
        structures: fields that are an array, or lists, tuples and dicts of arrays. The other fields are arrays, None,
            and what JSON knows.
        is_result: whether fields that were read are those of a result. It may raise any error if they are not.
    """

    name: str
    structures: tuple[str, ...]
    is_result: Callable[[dict[str, Any]], bool]

    @property
    def _version(self) -> str:
        return f"keras_shapley.{self.name}, 1"

    def save(self, path: str | os.PathLike[str], fields: dict[str, Any]) -> None:
        """Writes the fields of a result, in one step.

        Raises:
            OSError: if the file cannot be written.
            ValueError: if an array holds Python objects, which only pickle could write.
        """
        arrays: dict[str, np.ndarray] = {}
        skeletons: dict[str, Any] = {}
        rest: dict[str, Any] = {}
        for name, value in fields.items():
            if name in self.structures:
                for number, leaf in enumerate(leaves(value)):
                    arrays[f"{name}.{number}"] = leaf
                skeletons[name] = _to_json(value, itertools.count())
            elif isinstance(value, np.ndarray):
                arrays[name] = value
            else:
                rest[name] = value
        described = {"format": self._version, "skeletons": skeletons, "fields": rest, "dtypes": {}}
        for name, array in arrays.items():
            if array.dtype.hasobject:
                raise ValueError(f"{self.name}.save writes arrays of numbers. Received: {name!r} of dtype object")
            if array.dtype.kind not in _KINDS:
                # bfloat16 and its kin, which NumPy's files do not name
                described["dtypes"][name] = array.dtype.name
                arrays[name] = array.view(f"u{array.dtype.itemsize}")
        arrays["description"] = np.array(json.dumps(described))
        write(pathlib.Path(path), _packed(arrays))

    def load(self, path: str | os.PathLike[str]) -> dict[str, Any]:
        """The fields that `save` wrote.

        Raises:
            ValueError: if the file holds no result of the class.
            OSError: if there is no file, or it cannot be read.
        """
        path = pathlib.Path(path)
        message = f"`path` must be a file that {self.name}.save wrote. Received: {path}"
        # a pipe may never end
        if path.exists() and not path.is_file():
            raise ValueError(f"{message}, which is no file")
        with path.open("rb") as file:
            try:
                fields = self._unpacked(path, file)
                if not self.is_result(fields):
                    raise ValueError
            except Exception as error:
                # a file of something else may raise anything
                raise ValueError(message) from error
        return fields

    def _unpacked(self, path: pathlib.Path, file: BinaryIO) -> dict[str, Any]:
        """The fields in an NPZ file."""
        with zipfile.ZipFile(file) as archive:
            check_declared(path, sum(member.file_size for member in archive.infolist()))
        file.seek(0)
        with np.load(file, allow_pickle=False) as saved:
            arrays = {name: saved[name] for name in saved.files}
        described = json.loads(str(arrays.pop("description")))
        if described["format"] != self._version or set(described["skeletons"]) != set(self.structures):
            raise ValueError
        for name, dtype in described["dtypes"].items():
            arrays[name] = arrays[name].view(_named_dtype(dtype))
        fields = described["fields"]
        for name in self.structures:
            skeleton = _from_json(described["skeletons"][name])
            count = sum(key.startswith(f"{name}.") for key in arrays)
            if sorted(leaves(skeleton)) != list(range(count)):
                raise ValueError
            fields[name] = filled(skeleton, [arrays.pop(f"{name}.{number}") for number in range(count)])
        return {**fields, **arrays}


def _named_dtype(name: str) -> np.dtype:
    """One of the dtypes that NumPy's files do not name."""
    # it comes with Keras
    import ml_dtypes

    dtype = np.dtype(getattr(ml_dtypes, name))
    if dtype.kind in _KINDS or dtype.hasobject:
        raise ValueError
    return dtype


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


def _to_json(structure: Structure, numbers: Iterator[int]) -> Any:
    """The skeleton of a structure in what JSON tells apart: numbers of arrays, and pairs of a kind and its parts."""
    if isinstance(structure, dict):
        return ["dict", [[key, _to_json(part, numbers)] for key, part in structure.items()]]
    if isinstance(structure, (list, tuple)):
        kind = "tuple" if isinstance(structure, tuple) else "list"
        return [kind, [_to_json(part, numbers) for part in structure]]
    return next(numbers)


def _from_json(described: Any) -> Structure:
    if isinstance(described, int):
        return described
    kind, parts = described
    if kind == "dict":
        return {key: _from_json(part) for key, part in parts}
    return tuple(map(_from_json, parts)) if kind == "tuple" else list(map(_from_json, parts))
