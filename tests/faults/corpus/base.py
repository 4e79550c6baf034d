"""What cases are made of: files that are whole, and ways to change them."""

import base64
import dataclasses
import io
import json
import marshal
import os
import pathlib
import types
import warnings
import zipfile
from collections.abc import Callable
from typing import Any, Literal

import keras
import numpy as np
from keras import layers
from PIL import Image

import keras_shapley as ks

CANARY = "CANARY"
CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
Expected = Literal["error", "works", "either"]


@dataclasses.dataclass(frozen=True)
class Case:
    """A file, and what must become of the command that gets it.

    Attributes:
        name: of the case.
        kind: `"model"`, `"image"`, `"classes"`, `"ShapleyValues"` or `"Explanation"`.
        make: function of a path that makes the file.
        file: name of the file.
        expected: whether it is refused, works, or may do either, as for a flipped bit.
    """

    name: str
    kind: str
    make: Callable[[pathlib.Path], None]
    file: str
    expected: Expected = "error"


class Evil:
    """Pickled, an order to make the canary."""

    def __reduce__(self):
        return os.mkdir, (CANARY,)


def plain_model() -> keras.Model:
    """The model of which most files are made: grey images of 8 x 8, three classes."""
    keras.utils.set_random_seed(0)
    parts = [layers.Conv2D(2, 3, activation="relu"), layers.Flatten(), ks.SADense(6), layers.Dense(3, "softmax")]
    return keras.Sequential([keras.Input((8, 8, 1)), *parts])


class Base:
    """The parts of a model's file, and that file in the old format."""

    def __init__(self) -> None:
        import tempfile

        model = plain_model()
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            path = pathlib.Path(folder)
            model.save(path / "model.keras")
            # keras_shapley's layers are in old files, too
            model.save(path / "model.h5")
            self.keras = (path / "model.keras").read_bytes()
            self.h5 = (path / "model.h5").read_bytes()
        with zipfile.ZipFile(io.BytesIO(self.keras)) as archive:
            self.members = {name: archive.read(name) for name in archive.namelist()}
        self.config = json.loads(self.members[CONFIG])

    def archive(self, **members: bytes | None) -> bytes:
        """The file with other members; those that are None are left out."""
        names = {"config": CONFIG, "metadata": METADATA, "weights": WEIGHTS}
        changed = self.members | {names[name]: content for name, content in members.items()}
        return zipped({name: content for name, content in changed.items() if content is not None})

    def with_config(self, config: Any) -> bytes:
        return self.archive(config=json.dumps(config).encode())

    def with_layer(self, *configs: dict[str, Any]) -> bytes:
        """A file with other layers behind the first, and the weights of none."""
        config = json.loads(json.dumps(self.config))
        stack = config["config"]["layers"]
        config["config"]["layers"] = [stack[0], *configs]
        config["config"].pop("build_input_shape", None)
        config.pop("build_config", None)
        return self.with_config(config)


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def content(data: bytes | Callable[[], bytes]) -> Callable[[pathlib.Path], None]:
    """Makes a file of this content, which is made when it is needed if it is a function."""

    def make(path: pathlib.Path) -> None:
        path.write_bytes(data() if callable(data) else data)

    return make


def flipped(data: bytes, rng: np.random.Generator, n: int) -> bytes:
    """With `n` bits the other way."""
    changed = bytearray(data)
    for place in rng.integers(len(data), size=n):
        changed[place] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def cut(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: rng.integers(1, len(data))]


def layer(class_name: str, module: str = "keras.layers", /, **config: Any) -> dict[str, Any]:
    """A layer, as config.json has it."""
    return {
        "module": module,
        "class_name": class_name,
        "config": {"name": class_name.lower(), **config},
        "registered_name": None,
    }


def bomb(members: dict[str, bytes], name: str, byte: bytes, size: int, head: bytes = b"") -> bytes:
    """An archive with a member that is a thousand times as large as what is stored of it."""
    file = io.BytesIO(zipped({each: part for each, part in members.items() if each != name}))
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive, archive.open(name, "w") as member:
        member.write(head)
        block = byte * min(size, 2**20)
        for _ in range(size // len(block)):
            member.write(block)
    return file.getvalue()


def marshalled() -> str:
    """A function that makes the canary, as Keras saves a lambda."""
    code = compile(f"lambda x: (__import__('os').mkdir({CANARY!r}), x)[1]", "<lambda>", "eval").co_consts
    function = next(each for each in code if isinstance(each, types.CodeType))
    return base64.b64encode(marshal.dumps(function)).decode()


def image_bytes(image: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()
