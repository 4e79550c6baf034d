"""Configurations with odd values, and with code that must not run."""

import io
import json
import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np

from faults.corpus.base import (
    CANARY,
    CONFIG,
    WEIGHTS,
    Base,
    Case,
    Evil,
    Expected,
    content,
    cut,
    flipped,
    layer,
    marshalled,
    zipped,
)


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
