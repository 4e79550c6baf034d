"""Names of classes, and files of results."""

import io
import json
import os
import pathlib
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
from PIL import Image

import keras_shapley as ks
from faults.corpus.base import (
    Case,
    Evil,
    Expected,
    bomb,
    content,
    cut,
    flipped,
    image_bytes,
    plain_model,
    zipped,
)


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
