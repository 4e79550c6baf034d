"""Hostile and broken files: models, images and results, made from a few that are whole.

Whoever plants code in a file plants the making of a file `CANARY`, which must never appear.
"""

import base64
import dataclasses
import io
import json
import marshal
import os
import pathlib
import pickle
import struct
import types
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Literal

import h5py
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


def cases(seed: int = 0) -> list[Case]:
    """All of them, the same for the same seed."""
    rng = np.random.default_rng(seed)
    base = Base()
    return [
        *broken_archives(base, rng),
        *odd_archives(base),
        *broken_configs(base, rng),
        *gadgets(base),
        *broken_weights(base, rng),
        *huge_models(base),
        *legacy_files(base, rng),
        *no_models(base),
        *broken_images(rng),
        *odd_images(rng),
        *class_names(),
        *results(rng, "ShapleyValues"),
        *results(rng, "Explanation"),
    ]


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


def broken_archives(base: Base, rng: np.random.Generator) -> Iterator[Case]:
    def case(name: str, data: bytes, expected: Expected = "error") -> Case:
        return Case(name, "model", content(data), "model.keras", expected)

    yield case("whole", base.keras, "works")
    for i in range(40):
        yield case(f"cut {i}", cut(base.keras, rng))
    for i in range(60):
        yield case(f"bits of the archive {i}", flipped(base.keras, rng, 1 + i % 8), "either")
    for i in range(10):
        start = int(rng.integers(len(base.keras) - 64))
        zeroed = base.keras[:start] + bytes(64) + base.keras[start + 64 :]
        yield case(f"64 zeros in the archive {i}", zeroed, "either")
    yield case("garbage behind", base.keras + bytes(range(256)) * 4, "either")
    yield case("garbage before", bytes(range(256)) * 4 + base.keras, "either")
    yield case("twice", base.keras * 2, "either")


def odd_archives(base: Base) -> Iterator[Case]:
    def case(name: str, data: bytes | Callable[[], bytes], expected: Expected = "error") -> Case:
        return Case(name, "model", content(data), "model.keras", expected)

    for name in ("config", "weights"):
        yield case(f"without {name}", base.archive(**{name: None}))
        yield case(f"empty {name}", base.archive(**{name: b""}))
    yield case("without metadata", base.archive(metadata=None), "works")
    yield case("deflated", zipped(base.members, zipfile.ZIP_DEFLATED), "works")
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        yield case(f"method {method}", zipped(base.members, method), "works")
    yield case("no members", zipped({}))
    yield case("an archive in an archive", zipped({"model.keras": base.keras}))
    yield case("in a folder", zipped({f"model/{name}": part for name, part in base.members.items()}))
    escapes = ["../CANARY", "../../../../CANARY", "/tmp/CANARY", "..\\CANARY", "assets/../../CANARY", "C:\\CANARY"]
    for name in (*escapes, "assets/./../CANARY", "assets/" + "a/" * 500, "\n"):
        # more than three members make Keras unpack them
        members = base.members | {name: b"canary", "assets/file": b""}
        yield case(f"path {name[:20]!r}", zipped(members), "either")
    link = zipfile.ZipInfo("assets")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    file = io.BytesIO(zipped(base.members))
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(link, "..")
        archive.writestr("assets/CANARY", "canary")
    yield case("a link as a folder", file.getvalue(), "either")
    file = io.BytesIO(base.keras)
    with warnings.catch_warnings(), zipfile.ZipFile(file, "a") as archive:
        warnings.simplefilter("ignore")
        archive.writestr(CONFIG, "{}")
    yield case("two configs", file.getvalue(), "either")
    # flags: encrypted, and methods that there are not
    for name, place, value in (("encrypted", 8, 1), ("method 99", 10, 99), ("version 99", 6, 255)):
        data = bytearray(base.keras)
        place_of = data.find(b"PK\x01\x02")
        while place_of >= 0:
            struct.pack_into("<H", data, place_of + place, value)
            place_of = data.find(b"PK\x01\x02", place_of + 4)
        yield case(name, bytes(data))
    size = 3 * 2**28
    yield case("bomb of zeros", zlib_bomb(base, CONFIG, b"\0", size))
    yield case("bomb of spaces", zlib_bomb(base, CONFIG, b" ", size))
    yield case("bomb of brackets", zlib_bomb(base, CONFIG, b"[", 10**6))
    yield case("bomb of weights", zlib_bomb(base, WEIGHTS, b"\0", size))
    yield case("bomb beside", zlib_bomb(base, "assets/bomb", b"\0", size), "either")
    yield case("declares 2**40 bytes", declaring(base, 2**40))
    yield case("declares 2**31 bytes", declaring(base, 2**31))


def zlib_bomb(base: Base, name: str, byte: bytes, size: int) -> Callable[[], bytes]:
    """Makes a model with a member of this one byte over and over."""
    return lambda: bomb(base.members, name, byte, size)


def bomb(members: dict[str, bytes], name: str, byte: bytes, size: int, head: bytes = b"") -> bytes:
    """An archive with a member that is a thousand times as large as what is stored of it."""
    file = io.BytesIO(zipped({each: part for each, part in members.items() if each != name}))
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive, archive.open(name, "w") as member:
        member.write(head)
        block = byte * min(size, 2**20)
        for _ in range(size // len(block)):
            member.write(block)
    return file.getvalue()


def declaring(base: Base, size: int) -> bytes:
    """The weights say in the archive's directory that they are this large."""
    data = bytearray(base.keras)
    place = data.find(b"PK\x01\x02")
    while place >= 0:
        length = struct.unpack_from("<H", data, place + 28)[0]
        if data[place + 46 : place + 46 + length] == WEIGHTS.encode():
            struct.pack_into("<I", data, place + 24, min(size, 2**32 - 2))
        place = data.find(b"PK\x01\x02", place + 4)
    return bytes(data)


def nodes_of(config: Any, path: tuple = ()) -> Iterator[tuple]:
    """Paths of all values in nested dicts and lists."""
    items = config.items() if isinstance(config, dict) else enumerate(config) if isinstance(config, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from nodes_of(value, (*path, key))


_ODD_VALUES = (None, -1, 0, 1.5, 1e308, float("nan"), "", "x" * 100, [], {}, True, [[[]]], 2**70, "../../etc/passwd")


def broken_configs(base: Base, rng: np.random.Generator) -> Iterator[Case]:
    def case(name: str, data: bytes, expected: Expected = "either") -> Case:
        return Case(name, "model", content(data), "model.keras", expected)

    paths = sorted(nodes_of(base.config), key=str)
    for i in range(80):
        config = json.loads(json.dumps(base.config))
        *way, last = paths[rng.integers(len(paths))]
        parent = config
        for key in way:
            parent = parent[key]
        if i % 4:
            parent[last] = _ODD_VALUES[rng.integers(len(_ODD_VALUES))]
        else:
            del parent[last]
        words = "/".join(map(str, [*way, last]))
        yield case(f"config {i}: {words}", base.with_config(config))
    text = base.members[CONFIG]
    for i in range(10):
        yield case(f"config cut {i}", base.archive(config=cut(text, rng)), "error")
        yield case(f"bits of config {i}", base.archive(config=flipped(text, rng, 1 + i % 3)))
    odd = [b"null", b"3", b"[]", b"{}", b'"model"', b"\xff\xfe", b"\0" * 9, b"NaN", b"[" * 5000 + b"]" * 5000]
    odd += [b'{"a":' * 5000 + b"1" + b"}" * 5000, b"9" * 5000, b"{" + b" " * 10**5]
    yield case("config in UTF-16", base.archive(config=text.decode().encode("utf-16")))
    for data in odd:
        yield case(f"config is {data[:12]!r}", base.archive(config=data), "error")
    for name in ("Sequential", "Functional", "Model", "Layer", "Dense", "Adam", "Variable", "L2", "Sum"):
        yield case(f"it is a {name}", base.with_config(base.config | {"class_name": name}))
        yield case(f"it is an empty {name}", base.with_config({**base.config, "class_name": name, "config": {}}))
    for name in ("mypackage>Own", "keras_shapley>SADense", "Own"):
        data = base.with_layer({**layer("Own", "mypackage.layers"), "registered_name": name})
        yield case(f"unknown class {name}", data, "error")


def marshalled() -> str:
    """A function that makes the canary, as Keras saves a lambda."""
    code = compile(f"lambda x: (__import__('os').mkdir({CANARY!r}), x)[1]", "<lambda>", "eval").co_consts
    function = next(each for each in code if isinstance(each, types.CodeType))
    return base64.b64encode(marshal.dumps(function)).decode()


def gadgets(base: Base) -> Iterator[Case]:
    """Names of callables that do more than a layer, in every place where a file can name one."""

    def case(name: str, *configs: dict[str, Any]) -> Case:
        return Case(f"gadget {name}", "model", content(base.with_layer(*configs)), "model.keras")

    code = marshalled()
    lambdas = [
        {"class_name": "__lambda__", "config": {"code": code, "defaults": None, "closure": None}},
        {"class_name": "function", "config": "mkdir", "module": "os", "registered_name": "mkdir"},
        {"class_name": "function", "config": "system", "module": "os", "registered_name": "system"},
        {"class_name": "function", "config": "exec", "module": "builtins", "registered_name": "exec"},
        {"class_name": "function", "config": "run", "module": "subprocess", "registered_name": "run"},
        {"class_name": "function", "config": "get_file", "module": "keras.utils", "registered_name": "get_file"},
        {"class_name": "function", "config": "load_model", "module": "keras.models", "registered_name": "load_model"},
        {
            "class_name": "function",
            "config": "enable_unsafe_deserialization",
            "module": "keras.config",
            "registered_name": "enable_unsafe_deserialization",
        },
        [code, None, None],
        code,
    ]
    for i, function in enumerate(lambdas):
        yield case(f"lambda {i}", layer("Lambda", function=function, arguments={"x": CANARY, "path": CANARY}))
        if isinstance(function, dict):
            yield case(f"activation {i}", layer("Activation", activation=function))
            yield case(f"initializer {i}", layer("Dense", units=3, kernel_initializer=function))
            yield case(f"layer {i}", function)
    for module, name in (
        ("os", "mkdir"),
        ("os", "system"),
        ("subprocess", "Popen"),
        ("builtins", "eval"),
        ("builtins", "exec"),
        ("pickle", "loads"),
        ("numpy", "load"),
        ("torch", "load"),
        ("shutil", "rmtree"),
        ("keras.src.utils.file_utils", "copy"),
        ("keras.src.utils.python_utils", "func_load"),
        ("keras.src.saving.saving_lib", "load_model"),
        ("keras.config", "enable_unsafe_deserialization"),
        ("keras_shapley.cli", "main"),
        ("faults.corpus", "Evil"),
    ):
        yield case(f"class {module}.{name}", layer(name, module))
        yield case(f"class {module}.{name}, with arguments", {**layer(name, module), "config": {"path": CANARY}})
    pickled = pickle.dumps(Evil())
    bytes_of = {"class_name": "__bytes__", "config": {"value": pickled.decode("latin-1")}}
    yield case("torch module", layer("TorchModuleWrapper", "keras.utils", module=bytes_of))
    yield case("saved model", layer("TFSMLayer", filepath="/", call_endpoint="serve"))
    yield case("jax function", layer("JaxLayer", call_fn=lambdas[0]))
    yield case("flax module", layer("FlaxLayer", module=bytes_of))
    for word in ("/etc/passwd", "/dev/zero", "https://127.0.0.1:9/file"):
        yield case(f"words of {word}", layer("StringLookup", vocabulary=word), layer("Dense", units=3))
    before = [layer("Lambda", function=lambdas[7]), layer("Lambda", function=lambdas[0])]
    yield case("two in a row", *before)
    for key in ("compile_config", "build_config"):
        config = {**base.config, key: {"optimizer": lambdas[0], "loss": lambdas[1], "input_shape": lambdas[0]}}
        yield Case(f"gadget in {key}", "model", content(base.with_config(config)), "model.keras", "either")
    arrays = io.BytesIO()
    np.savez(arrays, layers=np.array([Evil()], object))
    for name in ("model.weights.npz", "model.weights.h5"):
        members = {n: part for n, part in base.members.items() if n != WEIGHTS} | {name: arrays.getvalue()}
        yield Case(f"gadget in {name}", "model", content(zipped(members)), "model.keras")


def changed_h5(data: bytes, change: Callable[[h5py.File], None]) -> bytes:
    file = io.BytesIO(data)
    with h5py.File(file, "r+") as h5:
        change(h5)
    return file.getvalue()


def datasets(h5: h5py.File) -> list[str]:
    found: list[str] = []
    h5.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None)
    return found


def replacing(**options: Any) -> Callable[[h5py.File], None]:
    """Puts another data set in the place of the largest."""

    def change(h5: h5py.File) -> None:
        name = max(datasets(h5), key=lambda name: h5[name].size)
        own = {"shape": h5[name].shape} if options.get("shape", 0) is None else {}
        del h5[name]
        h5.create_dataset(name, **options | own)

    return change


def linking(link: Any) -> Callable[[h5py.File], None]:
    def change(h5: h5py.File) -> None:
        name = max(datasets(h5), key=lambda name: h5[name].size)
        del h5[name]
        h5[name] = link

    return change


def filling(value: float) -> Callable[[h5py.File], None]:
    def change(h5: h5py.File) -> None:
        name = max(datasets(h5), key=lambda name: h5[name].size)
        h5[name][...] = np.full(h5[name].shape, value, "float32")

    return change


def virtual(h5: h5py.File) -> None:
    name = max(datasets(h5), key=lambda name: h5[name].size)
    shape = h5[name].shape
    del h5[name]
    layout = h5py.VirtualLayout(shape, "f4")
    layout[...] = h5py.VirtualSource("/etc/passwd", "x", shape)
    h5.create_virtual_dataset(name, layout)


CHANGES: dict[str, tuple[Callable[[h5py.File], None], Expected]] = {
    "NaN": (filling(np.nan), "error"),
    "infinity": (filling(np.inf), "error"),
    "large numbers": (filling(3e38), "either"),
    "zeros": (filling(0.0), "works"),
    "another shape": (replacing(shape=(3, 3), dtype="f4"), "error"),
    "no axes": (replacing(shape=(), dtype="f4"), "error"),
    "no elements": (replacing(shape=(0,), dtype="f4"), "error"),
    "2**50 elements": (replacing(shape=(2**25, 2**25), dtype="f4", chunks=(64, 64), compression="gzip"), "error"),
    "2**29 elements": (replacing(shape=(2**15, 2**14), dtype="f4", chunks=(64, 64), compression="gzip"), "error"),
    "2**29 elements, not filled": (replacing(shape=(2**15, 2**14), dtype="f4"), "error"),
    "words": (replacing(data="words"), "error"),
    "references": (replacing(shape=(2,), dtype=h5py.ref_dtype), "error"),
    "objects": (replacing(shape=None, dtype=h5py.string_dtype()), "error"),
    "complex": (replacing(shape=None, dtype="c8"), "either"),
    "ints": (replacing(shape=None, dtype="i4"), "either"),
    "an external link": (linking(h5py.ExternalLink("/etc/passwd", "x")), "error"),
    "a soft link": (linking(h5py.SoftLink("/none")), "error"),
    "a group": (lambda h5: linking(h5py.SoftLink("/"))(h5), "error"),
    "an external file": (replacing(shape=None, dtype="f4", external=[("/etc/passwd", 0, 2**20)]), "error"),
    "virtual": (virtual, "error"),
    "nothing": (lambda h5: h5.clear(), "error"),
}


def broken_weights(base: Base, rng: np.random.Generator) -> Iterator[Case]:
    def case(name: str, weights: bytes, expected: Expected = "either") -> Case:
        return Case(f"weights: {name}", "model", content(base.archive(weights=weights)), "model.keras", expected)

    whole = base.members[WEIGHTS]
    for i in range(20):
        yield case(f"cut {i}", cut(whole, rng), "error")
    for i in range(40):
        yield case(f"bits {i}", flipped(whole, rng, 1 + 4 * (i % 8)))
    for name, (change, expected) in CHANGES.items():
        yield case(name, changed_h5(whole, change), expected)
    for name, data in {"text": b"words", "zeros": bytes(2000), "the model": base.h5, "an archive": base.keras}.items():
        yield case(f"are {name}", data, "error")


def huge_models(base: Base) -> Iterator[Case]:
    def case(name: str, *configs: dict[str, Any]) -> Case:
        return Case(f"huge: {name}", "model", content(base.with_layer(*configs)), "model.keras")

    flat = layer("Flatten")
    for units in (10**7, 10**9, 2**31, 10**12, 10**15, 2**63):
        yield case(f"{units:.0e} units", flat, layer("Dense", units=units))
        yield case(f"{units:.0e} units of SA", flat, {**layer("SADense", "keras_shapley.layers.sa", units=units)})
        yield case(f"{units:.0e} filters", layer("Conv2D", filters=units, kernel_size=3))
    yield case("kernels", layer("Conv2D", filters=4, kernel_size=10**5, padding="same"), flat)
    yield case("many words", flat, layer("Embedding", input_dim=10**10, output_dim=8))
    yield case("a long state", layer("Reshape", target_shape=[8, 8]), layer("LSTM", units=10**6))
    small = [{**layer("Dense", units=40_000), "config": {"name": f"d{i}", "units": 40_000}} for i in range(4)]
    yield case("four layers of 40,000", flat, *small)
    for size in (10**5, 10**6, 10**9):
        yield case(f"made {size:.0e} times larger", layer("UpSampling2D", size=[size, size]), flat)
        yield case(f"with a border of {size:.0e}", layer("ZeroPadding2D", padding=size), flat)
    yield case("repeated", flat, layer("RepeatVector", n=10**10), {**layer("Flatten"), "config": {"name": "f2"}})
    for size in (10**5, 10**6, 10**9, 2**63):
        config = json.loads(json.dumps(base.config))
        config["config"]["layers"][0]["config"]["batch_shape"] = [None, size, size, 1]
        config["config"]["layers"] = [config["config"]["layers"][0], layer("GlobalAveragePooling2D")]
        for key in ("build_input_shape", "build_config"):
            config["config"].pop(key, None)
            config.pop(key, None)
        data = base.with_config(config)
        yield Case(f"huge: images of {size:.0e} pixels a side", "model", content(data), "model.keras")
    inner = layer("Dense", units=3)
    for i in range(200):
        inner = layer("Sequential", "keras", layers=[inner])
        inner["config"]["name"] = f"s{i}"
    yield case("200 models in one another", flat, inner)


def legacy_files(base: Base, rng: np.random.Generator) -> Iterator[Case]:
    def case(name: str, data: bytes, expected: Expected = "error", file: str = "model.h5") -> Case:
        return Case(f"h5: {name}", "model", content(data), file, expected)

    yield case("whole", base.h5, "works")
    yield case("whole .hdf5", base.h5, "works", "model.hdf5")
    for i in range(20):
        yield case(f"cut {i}", cut(base.h5, rng))
    for i in range(40):
        yield case(f"bits {i}", flipped(base.h5, rng, 1 + 4 * (i % 8)), "either")
    for name, (change, expected) in CHANGES.items():
        # old files are compared by their order, not by name
        yield case(name, changed_h5(base.h5, change), "error" if expected == "error" else "either")
    with h5py.File(io.BytesIO(base.h5)) as h5:
        text = h5.attrs["model_config"]
    text = text if isinstance(text, str) else text.decode()

    def with_config(config: str) -> bytes:
        return changed_h5(base.h5, lambda h5: h5.attrs.__setitem__("model_config", config))

    for i in range(10):
        yield case(f"config cut {i}", with_config(text[: rng.integers(len(text))]))
    for i in range(10):
        words = flipped(text.encode(), rng, 2).decode("ascii", "replace").replace("\0", "?")
        yield case(f"bits of config {i}", with_config(words), "either")
    yield case("no config", changed_h5(base.h5, lambda h5: h5.attrs.__delitem__("model_config")))
    yield case("config is a number", changed_h5(base.h5, lambda h5: h5.attrs.__setitem__("model_config", 3)))
    config = json.loads(text)
    head = config["config"]["layers"][0]
    code = marshalled()
    for name, inner in {
        "lambda": {"class_name": "Lambda", "config": {"name": "l", "function": [code, None, None]}},
        "typed lambda": {
            "class_name": "Lambda",
            "config": {"name": "l", "function": [code, None, None], "function_type": "lambda", "module": "os"},
        },
        "function": {
            "class_name": "Lambda",
            "config": {"name": "l", "function": "mkdir", "function_type": "function", "module": "os"},
        },
        "many units": {"class_name": "Dense", "config": {"name": "d", "units": 10**8}},
        "own class": {"class_name": "Own", "config": {"name": "o"}},
    }.items():
        changed = json.loads(json.dumps(config))
        changed["config"]["layers"] = [head, {"class_name": "Flatten", "config": {"name": "f"}}, inner]
        yield case(name, with_config(json.dumps(changed)))


def no_models(base: Base) -> Iterator[Case]:
    def case(name: str, make: Callable[[pathlib.Path], None], file: str, expected: Expected = "error") -> Case:
        return Case(name, "model", make, file, expected)

    pickled = pickle.dumps(Evil())
    npz = io.BytesIO()
    np.savez(npz, a=np.array([Evil()], object))
    png = image_bytes(Image.new("L", (8, 8)), "PNG")
    for file in ("model.keras", "model.h5", "model.hdf5", "model.pkl", "model.pt", "model.pb", "model.onnx", "model"):
        yield case(f"empty {file}", content(b""), file)
        yield case(f"pickled {file}", content(pickled), file)
        yield case(f"text {file}", content(b"words\n" * 9), file)
        yield case(f"picture {file}", content(png), file)
    yield case("arrays", content(npz.getvalue()), "model.keras")
    yield case("h5 as keras", content(base.h5), "model.keras")
    yield case("keras as h5", content(base.keras), "model.h5")
    yield case("keras with another name", content(base.keras), "model.zip")
    yield case("weights", content(base.members[WEIGHTS]), "model.weights.h5")

    def folder(members: dict[str, bytes]) -> Callable[[pathlib.Path], None]:
        def make(path: pathlib.Path) -> None:
            for name, data in members.items():
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                (path / name).write_bytes(data)

        return make

    saved = {"saved_model.pb": b"\x08\x01", "variables/variables.index": b"", "keras_metadata.pb": b""}
    yield case("SavedModel", folder(saved), "model")
    yield case("broken folder", folder({CONFIG: b"{}"}), "model")
    yield case("folder with half a config", folder({CONFIG: base.members[CONFIG][:100], WEIGHTS: b""}), "model")
    yield case("folder with a name of a file", folder({"x": b""}), "model.keras")
    yield case("FIFO", os.mkfifo, "model.keras")
    yield case("FIFO h5", os.mkfifo, "model.h5")
    yield case("link to nothing", lambda path: path.symlink_to("none"), "model.keras")
    yield case("link to itself", lambda path: path.symlink_to(path.name), "model.keras")
    yield case("endless", lambda path: path.symlink_to("/dev/zero"), "model.keras")
    yield case("endless h5", lambda path: path.symlink_to("/dev/zero"), "model.h5")
    yield case("no such file", lambda path: None, "model.keras")
    yield case("too long a name", lambda path: None, "m" * 300 + ".keras")
    for name in ("mo\ndel.keras", "mödel é 漢.keras", "-model.keras", "mod el'\"$(touch CANARY).keras", "%s{0}.keras"):
        yield case(f"name {name!r}", content(base.keras), name, "works")
    yield case("broken, with a name of two lines", content(b"words"), "mo\ndel.keras")


def image_bytes(image: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: tuple[bytes, bytes], bits: int = 8, colour: int = 0) -> bytes:
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(png_chunk(*chunk) for chunk in chunks) + png_chunk(b"IEND", b"")


FORMATS = {"PNG": "png", "JPEG": "jpg", "GIF": "gif", "TIFF": "tif", "WEBP": "webp", "BMP": "bmp", "JPEG2000": "jp2"}


def broken_images(rng: np.random.Generator) -> Iterator[Case]:
    def case(name: str, data: bytes, file: str, expected: Expected = "either") -> Case:
        return Case(f"image: {name}", "image", content(data), file, expected)

    pixels = rng.integers(0, 256, (24, 31, 3)).astype("uint8")
    for form, suffix in FORMATS.items():
        data = image_bytes(Image.fromarray(pixels), form)
        yield case(f"whole {form}", data, f"image.{suffix}", "works")
        yield case(f"whole {form}, named .txt", data, "image.txt", "works")
        for i in range(8):
            yield case(f"{form} cut {i}", cut(data, rng), f"image.{suffix}")
        for i in range(10):
            yield case(f"{form} bits {i}", flipped(data, rng, 1 + 2 * (i % 5)), f"image.{suffix}")
        yield case(f"{form} of zeros", bytes(len(data)), f"image.{suffix}", "error")
        yield case(f"{form} head of zeros", bytes(16) + data[16:], f"image.{suffix}")
        yield case(f"{form} is text", b"words\n" * 20, f"image.{suffix}", "error")
    for i in range(10):
        data = b"".join([png(24, 31)[:8], rng.bytes(200)])
        yield case(f"noise {i}", data, "image.png", "error")


def odd_images(rng: np.random.Generator) -> Iterator[Case]:
    def case(
        name: str, data: bytes | Callable[[], bytes], file: str = "image.png", expected: Expected = "error"
    ) -> Case:
        return Case(f"image: {name}", "image", content(data), file, expected)

    rows = b"".join(b"\0" + bytes(8) for _ in range(8))
    yield case("by hand", png(8, 8, (b"IDAT", zlib.compress(rows))), expected="works")
    for width, height in ((0, 0), (0, 8), (8, 0), (10**5, 10**5), (2**31 - 1, 2**31 - 1), (2**31, 1), (10**9, 1)):
        yield case(f"{width} x {height}", png(width, height, (b"IDAT", zlib.compress(rows))))
    yield case("too few rows", png(8, 800, (b"IDAT", zlib.compress(rows))), expected="either")
    yield case(
        "rows that unpack to 256 MiB", lambda: png(8, 8, (b"IDAT", zlib.compress(bytes(2**28)))), expected="either"
    )
    yield case(
        "13,000 x 13,000",
        lambda: png(13_000, 13_000, (b"IDAT", zlib.compress(bytes(13_001 * 13_000)))),
        expected="works",
    )
    yield case("13,500 x 13,500", png(13_500, 13_500, (b"IDAT", zlib.compress(bytes(100)))))
    for name in (b"zTXt", b"iCCP"):
        text = b"Comment\0\0" + zlib.compress(bytes(2**27))
        yield case(f"{name.decode()} bomb", png(8, 8, (name, text), (b"IDAT", zlib.compress(rows))), expected="either")
    yield case("no data", png(8, 8))
    yield case("17 bits", png(8, 8, (b"IDAT", zlib.compress(rows)), bits=17))
    yield case("no palette", png(8, 8, (b"IDAT", zlib.compress(rows)), colour=3), expected="either")
    small = rng.integers(0, 256, (9, 7, 4)).astype("uint8")
    colours = Image.fromarray(small[..., :3])
    kinds = {
        "grey": (colours.convert("L"), "PNG", {}),
        "one bit": (colours.convert("1"), "PNG", {}),
        "palette": (colours.convert("P"), "PNG", {}),
        "palette with transparency": (colours.convert("P"), "PNG", {"transparency": bytes(range(256))}),
        "grey and alpha": (colours.convert("LA"), "PNG", {}),
        "alpha": (Image.fromarray(small), "PNG", {}),
        "16 bits": (Image.fromarray(small[..., 0].astype("uint16") * 257), "PNG", {}),
        "16 bits TIFF": (Image.fromarray(small[..., 0].astype("uint16") * 257), "TIFF", {}),
        "floats": (Image.fromarray(small[..., 0] / np.float32(255)), "TIFF", {}),
        "CMYK": (colours.convert("CMYK"), "JPEG", {}),
        "CMYK TIFF": (colours.convert("CMYK"), "TIFF", {}),
        "YCbCr": (colours.convert("YCbCr"), "TIFF", {}),
        "LAB": (colours.convert("LAB"), "TIFF", {}),
        "animated": (colours, "GIF", {"save_all": True, "append_images": [colours.rotate(90)] * 3}),
        "animated PNG": (colours, "PNG", {"save_all": True, "append_images": [colours.rotate(180)]}),
        "progressive": (colours, "JPEG", {"progressive": True}),
        "one pixel": (colours.resize((1, 1)), "PNG", {}),
        "a line": (colours.resize((3000, 1)), "PNG", {}),
        "icon": (colours.resize((16, 16)), "ICO", {}),
        "PPM": (colours, "PPM", {}),
        "TGA": (colours, "TGA", {}),
        "turned": (
            colours,
            "JPEG",
            {"exif": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"},
        ),
    }
    for name, (image, form, options) in kinds.items():
        # Pillow makes no colours of LAB
        expected = "error" if name == "LAB" else "works"
        yield case(name, image_bytes(image, form, **options), f"image.{form.lower()}", expected)
    for name, value in {"NaN": np.nan, "infinity": np.inf, "negative": -3.0}.items():
        data = np.zeros((4, 5), "float32")
        data[1, 2] = value
        yield case(f"floats with {name}", image_bytes(Image.fromarray(data), "TIFF"), "image.tif")
    for name, exif in {
        "odd": b"Exif\0\0" + rng.bytes(40),
        "orientation 99": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x63\0\0\0\0\0\0\0",
    }.items():
        yield case(f"EXIF is {name}", image_bytes(colours, "JPEG", exif=exif), "image.jpg", "either")
    script = (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(CANARY) (w) file closefile showpage\n%%EOF\n"
    )
    yield case("EPS, which is a program", script, "image.eps")
    yield case("SVG", b"<svg xmlns='http://www.w3.org/2000/svg' width='8' height='8'/>", "image.svg")
    yield case("PDF", b"%PDF-1.4\n" + bytes(100), "image.pdf")
    yield case("pickled", pickle.dumps(Evil()))
    npy = io.BytesIO()
    np.save(npy, np.array([Evil()], object))
    yield case("array", npy.getvalue(), "image.npy")

    def special(name: str, make: Callable[[pathlib.Path], None], file: str = "image.png", expected: Expected = "error"):
        return Case(f"image: {name}", "image", make, file, expected)

    fine = image_bytes(colours, "PNG")
    yield special("folder", pathlib.Path.mkdir)
    yield special("FIFO", os.mkfifo)
    yield special("link to nothing", lambda path: path.symlink_to("none"))
    yield special("link to itself", lambda path: path.symlink_to(path.name))
    yield special("endless", lambda path: path.symlink_to("/dev/zero"))
    yield special("no such file", lambda path: None)
    yield special("too long a name", lambda path: None, "i" * 300 + ".png")

    def linked(path: pathlib.Path) -> None:
        path.with_name("real.png").write_bytes(fine)
        path.symlink_to("real.png")

    yield special("link", linked, expected="works")
    if os.geteuid():
        yield special("unreadable", lambda path: (path.write_bytes(fine), path.chmod(0))[1])
    for name in (
        "im\nage.png",
        "im\tä漢🙂.png",
        "-image.png",
        "a'\"$(touch CANARY).png",
        "%s{0}.png",
        " .png",
        "i" * 200 + ".png",
        ".png",
        "..png",
    ):
        yield case(f"name {name[:30]!r}", fine, name, "works")
    yield special("no Unicode", lambda path: path.write_bytes(fine) and None, os.fsdecode(b"\xff\xfe.png"), "works")


def class_names() -> Iterator[Case]:
    def case(name: str, data: bytes, expected: Expected = "error") -> Case:
        return Case(f"classes: {name}", "classes", content(data), "names.txt", expected)

    yield case("three", b"cat\ndog\nowl\n", "works")
    yield case("Windows", b"cat\r\ndog\r\nowl", "works")
    yield case("Unicode", "кот\nchien é\n🙂\n".encode(), "works")
    yield case("mathematics", b"$x_\n$\\frac{\n\\oops$\n", "works")
    yield case("long", b"a" * 5000 + b"\nb\nc\n", "works")
    yield case("control characters", b"a\x1b[31m\nb\x07\nc\x08\n", "works")
    yield case("the same", b"cat\ncat\ncat\n", "works")
    yield case("two", b"cat\ndog\n")
    yield case("none", b"")
    yield case("a million", b"a\n" * 10**6)
    yield case("Latin-1", b"caf\xe9\nb\nc\n")
    yield case("zeros", bytes(3000))
    yield case("picture", image_bytes(Image.new("L", (8, 8)), "PNG"))
    yield Case("classes: folder", "classes", pathlib.Path.mkdir, "names.txt")
    yield Case("classes: FIFO", "classes", os.mkfifo, "names.txt")
    yield Case("classes: no such file", "classes", lambda path: None, "names.txt")
    yield Case("classes: endless", "classes", lambda path: path.symlink_to("/dev/zero"), "names.txt")


def results(rng: np.random.Generator, kind: Literal["ShapleyValues", "Explanation"]) -> Iterator[Case]:
    import tempfile

    def case(name: str, data: bytes | Callable[[], bytes], expected: Expected = "error") -> Case:
        return Case(f"{kind}: {name}", kind, content(data), "values.npz", expected)

    # an array of the result, one of a structure, one that it has not, and a structure of several arrays
    array, part, other, structure = {
        "ShapleyValues": ("values", "x.0", "x.2", "x"),
        "Explanation": ("output", "input.0", "input.1", "amplification"),
    }[kind]
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "values.npz")
        if kind == "ShapleyValues":
            x = {"a": rng.normal(size=(2, 3)), "b": (rng.normal(size=(2, 2)),)}
            ks.exact_shapley_values(lambda x: x["a"].sum(axis=1), x, None, players="inputs").save(path)
        else:
            ks.LRP(plain_model()).explain(rng.random((2, 8, 8, 1)), [[0, 1]]).save(path)
        whole = path.read_bytes()
    with np.load(io.BytesIO(whole)) as file:
        arrays = {name: file[name] for name in file.files}
    described = json.loads(str(arrays["description"]))

    def packed(**changed: Any) -> bytes:
        file = io.BytesIO()
        np.savez(file, **{name: value for name, value in (arrays | changed).items() if value is not None})
        return file.getvalue()

    def with_description(value: Any) -> bytes:
        return packed(description=np.array(json.dumps(value)))

    yield case("whole", whole, "works")
    yield case("stored", packed(), "works")
    for i in range(20):
        yield case(f"cut {i}", cut(whole, rng))
    for i in range(30):
        yield case(f"bits {i}", flipped(whole, rng, 1 + i % 6), "either")
    evil = np.array([Evil()], object)
    for name in arrays:
        yield case(f"{name} pickled", packed(**{name: evil}))
        yield case(f"without {name}", packed(**{name: None}))
    for name in (array, part):
        yield case(f"{name} are words", packed(**{name: np.array("words")}))
        yield case(f"{name} have another shape", packed(**{name: np.zeros((1, 2, 3, 4))}))
    yield case("another array", packed(more=np.zeros(3)))
    yield case("another input", packed(**{other: np.zeros((2, 3))}))
    for i, value in enumerate([None, 3, [], {}, "words", {"format": described["format"]}]):
        yield case(f"description {i}", with_description(value))
    for i, skeleton in enumerate([None, "a", [], ["dict", 3], ["list", [0, 9]], ["dict", [["a", 0]]], 0, -1, 2**70]):
        skeletons = described["skeletons"] | {structure: skeleton}
        yield case(f"skeleton {i}", with_description(described | {"skeletons": skeletons}))
    for i, skeletons in enumerate([None, [], {}, described["skeletons"] | {"more": 0}]):
        yield case(f"skeletons {i}", with_description(described | {"skeletons": skeletons}))
    for i, dtypes in enumerate([None, {array: 3}, {array: "os"}, {"more": "bfloat16"}, {array: "bfloat16"}]):
        yield case(f"dtypes {i}", with_description(described | {"dtypes": dtypes}))
    skeletons = described["skeletons"] | {structure: "deep"}
    deep = json.dumps(described | {"skeletons": skeletons}).replace('"deep"', '["list", [' * 450 + "0" + "]]" * 450)
    yield case("deep skeleton", packed(description=np.array(deep)))
    method = "method" if kind == "ShapleyValues" else "head_paths"
    for i, fields in enumerate([None, [], {}, {method: 3}, described["fields"] | {"more": 1}]):
        yield case(f"fields {i}", with_description(described | {"fields": fields}))
    yield case("fields of another kind", with_description(described | {"fields": described["fields"] | {method: []}}))
    text = json.dumps(described)
    yield case("half a description", packed(description=np.array(text[:60])))
    yield case("deep description", packed(description=np.array("[" * 10**5)))
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}

    def header(shape: tuple[int, ...], descr: str = "<f8", rest: bytes = b"") -> bytes:
        words = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
        return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(words)) + words + rest

    for name, data in {
        "2**50 numbers": header((2**25, 2**25)),
        "10**9 numbers": header((10**9,)),
        "negative shape": header((-1, 3)),
        "objects": header((1,), "|O", pickle.dumps([Evil()])),
        "code": b"\x93NUMPY\x01\x00v\x00" + b"{'descr': __import__('os').mkdir('CANARY'), }".ljust(117) + b"\n",
        "no header": b"\x93NUMPY",
        "version 9": b"\x93NUMPY\x09\x00",
        "plain pickle": pickle.dumps(Evil()),
    }.items():
        yield case(f"array of {name}", zipped(members | {f"{array}.npy": data}))
        yield case(f"only {name}", data)
    for name in (f"{array}.npy", "more.npy"):
        head = header((3 * 2**28,), "|u1")
        yield case(f"bomb {name}", lambda name=name, head=head: bomb(members, name, b"\0", 3 * 2**28, head))
    words = header((), f"<U{3 * 2**26}")
    yield case("bomb of words", lambda: bomb(members, "description.npy", b"\0", 3 * 2**28, words))
    for file in (os.mkfifo, pathlib.Path.mkdir, lambda path: None, lambda path: path.symlink_to("/dev/zero")):
        yield Case(f"{kind}: special {len(str(file))}", kind, file, "values.npz")
