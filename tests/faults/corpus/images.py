"""Images that are broken, and some that are only odd."""

import io
import os
import pathlib
import pickle
import struct
import zlib
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from faults.corpus.base import Case, Evil, Expected, content, cut, flipped, image_bytes


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
