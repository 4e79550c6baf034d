"""Weights and files in the old format, both HDF5, and models that declare too much."""

import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import h5py
import numpy as np

from faults.corpus.base import (
    WEIGHTS,
    Base,
    Case,
    Expected,
    content,
    cut,
    flipped,
    layer,
    marshalled,
)


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
