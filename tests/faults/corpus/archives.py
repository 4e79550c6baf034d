"""Archives that are broken or hostile, and files that hold no model."""

import io
import os
import pathlib
import pickle
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from faults.corpus.base import (
    CONFIG,
    WEIGHTS,
    Base,
    Case,
    Evil,
    Expected,
    bomb,
    content,
    cut,
    flipped,
    image_bytes,
    zipped,
)


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
