"""What the command explains: images, or the rows of a table, as a model takes them."""

import argparse
import csv
import importlib
import math
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_shapley.models.tracing import output_sizes, trace
from keras_shapley.utils.command_lines import CommandLineError, one_line, printable
from keras_shapley.utils.images import read_image

# what a folder is searched for
_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
# bytes of a value, which is kept of the image, of the baseline, and as relevance
_BYTES = 3 * 4
_LARGEST = float(np.finfo("float32").max)


class Images(NamedTuple):
    """Images from files.

    Attributes:
        paths: of the files.
        pixels: as the model receives them, but for their range and axes: uint8, `(batch, height, width[, channels])`.
        x: as the model receives them.
    """

    paths: list[pathlib.Path]
    pixels: np.ndarray
    x: np.ndarray


class Table(NamedTuple):
    """Rows from a file.

    Attributes:
        path: of the file.
        columns: their names.
        x: `(rows, columns)`, or a dict of `(rows, 1)` by the names of the model's inputs.
    """

    path: pathlib.Path
    columns: list[str]
    x: Any


class ImageShape(NamedTuple):
    """Shape of the images that a model takes. `channels` is None if they have no axis of channels."""

    height: int
    width: int
    channels: int | None


def read_inputs(model: keras.Model, args: argparse.Namespace) -> Images | Table:
    """The inputs that a command line names.

    Raises:
        CommandLineError: if a file cannot be read, or does not fit the model.
    """
    paths = list(_files(args.inputs))
    tables = [path for path in paths if path.suffix.lower() == ".csv"]
    if not tables:
        return _images(model, paths, args)
    if len(paths) > 1:
        raise CommandLineError(f"a .csv file must be the only input, and there are {len(paths)}")
    for name in ("players", "overlay", "range", "preprocess", "size"):
        if getattr(args, name):
            raise CommandLineError(f"--{name} is for images, and not for the rows of {tables[0]}")
    return _table(model, tables[0])


def in_data_format(images: np.ndarray) -> np.ndarray:
    """Images in Keras's data format; they come with channels last."""
    channels_first = images.ndim == 4 and keras.config.image_data_format() == "channels_first"
    return np.moveaxis(images, -1, 1) if channels_first else images


def _files(paths: Sequence[pathlib.Path]) -> Iterator[pathlib.Path]:
    """The files, and in the place of each folder the images in it."""
    for path in paths:
        if path.is_dir():
            found = sorted(file for file in path.iterdir() if file.suffix.lower() in _SUFFIXES)
            if not found:
                raise CommandLineError(f"{path} holds no image, a file with a name in {' '.join(_SUFFIXES)}")
            yield from found
        else:
            yield path


def _images(model: keras.Model, paths: list[pathlib.Path], args: argparse.Namespace) -> Images:
    shape = _image_shape(model, args.size)
    _check_memory(model, shape, min(args.batch_size, len(paths)))
    pixels = np.stack([_read_image(path, shape) for path in paths])
    if args.preprocess is not None:
        x = _preprocessed(pixels, args.preprocess)
    else:
        x = _scaled(pixels, args.range or _default_range(model))
    return Images(paths, pixels, in_data_format(x))


def _image_shape(model: keras.Model, size: Sequence[int] | None) -> ImageShape:
    """Shape of the images that the model takes, of which `--size` can give height and width."""
    shapes = [tuple(tensor.shape[1:]) for tensor in getattr(model, "inputs", None) or []]
    if len(shapes) != 1 or len(shapes[0]) not in (2, 3):
        raise CommandLineError(
            f"the model must take one batch of images, and takes inputs of shape {shapes}. Give rows of numbers as a "
            ".csv file"
        )
    (shape,) = shapes
    if len(shape) == 3 and keras.config.image_data_format() == "channels_first":
        shape = (*shape[1:], shape[0])
    channels = shape[2] if len(shape) == 3 else None
    if channels not in (None, 1, 3):
        raise CommandLineError(f"the model must take images of 1 or 3 channels, and takes {channels}")
    if size is not None and (min(size) < 1 or any(own not in (None, given) for own, given in zip(shape, size))):
        raise CommandLineError(f"--size must fit the model's input of shape {shape}, and is {tuple(size)}")
    height, width = size or shape[:2]
    if height is None or width is None:
        raise CommandLineError("the model takes images of any size: choose one by --size HEIGHT WIDTH")
    return ImageShape(height, width, channels)


def _check_memory(model: keras.Model, shape: ImageShape, n_images: int) -> None:
    """Raises a `CommandLineError` if the values of a model for some images need more memory than the machine has."""
    if not hasattr(os, "sysconf"):
        return
    sides, channels = (shape.height, shape.width), () if shape.channels is None else (shape.channels,)
    is_first = keras.config.image_data_format() == "channels_first"
    values = output_sizes(trace(model), [(*channels, *sides) if is_first else (*sides, *channels)], ["float32"])
    needed = _BYTES * n_images * (math.prod((*sides, *channels)) + sum(values.values()))
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        raise CommandLineError(
            f"the model needs {needed / 2**30:,.0f} GiB for {n_images} images of {shape.height} x {shape.width}, "
            f"and this machine has {there / 2**30:,.0f} GiB: try a smaller --batch-size or --size"
        )


def _read_image(path: pathlib.Path, shape: ImageShape) -> np.ndarray:
    """Pixels of a file, uint8, resized to the shape that the model takes."""
    try:
        pixels, changes = read_image(path, shape.height, shape.width, has_colour=shape.channels == 3)
    except ValueError as error:
        raise CommandLineError(f"{path} cannot be read as an image: {one_line(error)}") from error
    for change in changes:
        print(printable(f"{path}: {change}"))
    return pixels[..., None] if shape.channels == 1 else pixels


def _preprocessed(images: np.ndarray, name: str) -> np.ndarray:
    """Images after `preprocess_input` of a module of `keras.applications`."""
    modules = sorted(name for name in dir(keras.applications) if name.islower() and not name.startswith("_"))
    if name not in modules:
        raise CommandLineError(f"--preprocess must be one of {', '.join(modules)}, and is {name}")
    module = importlib.import_module(f"keras.applications.{name}")
    return np.asarray(module.preprocess_input(images.astype("float32"), data_format="channels_last"))


def _scaled(images: np.ndarray, limits: Sequence[float]) -> np.ndarray:
    """Images with pixels from the lower to the upper limit."""
    low, high = limits
    with np.errstate(over="ignore"):
        width = np.float32(high) - np.float32(low)
    if not (0 < width < np.inf):
        raise CommandLineError(f"--range must be two numbers, the lower first, and is {low:g} {high:g}")
    print(f"pixels are scaled to the range {low:g} to {high:g}")
    return low + images.astype("float32") / 255 * (high - low)


def _default_range(model: keras.Model) -> tuple[float, float]:
    """0 to 255 for a model that rescales pixels itself, else 0 to 1."""
    scaling_layers = (keras.layers.Rescaling, keras.layers.Normalization)
    rescales = any(isinstance(call.op, scaling_layers) for call in trace(model).calls)
    return (0.0, 255.0) if rescales else (0.0, 1.0)


def _table(model: keras.Model, path: pathlib.Path) -> Table:
    """The rows of a .csv file, by the model's columns."""
    columns, rows = _rows(path)
    shapes = {tensor.name: tuple(tensor.shape[1:]) for tensor in getattr(model, "inputs", None) or []}
    if len(shapes) == 1 and len(next(iter(shapes.values()))) == 1:
        ((n_columns,),) = shapes.values()
        if len(columns) != n_columns:
            raise CommandLineError(f"{path} must have {n_columns} columns, as the model has, and has {len(columns)}")
        return Table(path, columns, rows)
    if not shapes or not set(shapes.values()) <= {(), (1,)}:
        raise CommandLineError(
            f"the model must take rows of numbers, or a column by the name of each input, to explain {path}, and takes "
            f"inputs of shape {list(shapes.values())}"
        )
    missing = [name for name in shapes if name not in columns]
    if missing:
        raise CommandLineError(f"{path} must have a column for each input of the model, and has none for {missing[0]}")
    return Table(path, list(shapes), {name: rows[:, [columns.index(name)]] for name in shapes})


def _rows(path: pathlib.Path) -> tuple[list[str], np.ndarray]:
    """Names of the columns, and the numbers, float32, `(rows, columns)`."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [line for line in csv.reader(file) if line]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CommandLineError(f"{path} cannot be read as a table: {one_line(error)}") from error
    has_names = bool(lines) and any(_number(cell) is None for cell in lines[0])
    names = lines.pop(0) if has_names else [f"column {i}" for i in range(len(lines[0]) if lines else 0)]
    if not lines:
        raise CommandLineError(f"{path} has no rows")
    for number, line in enumerate(lines, start=1 + has_names):
        if len(line) != len(names):
            raise CommandLineError(f"{path}: line {number} must have {len(names)} columns, and has {len(line)}")
        for name, cell in zip(names, line):
            value = _number(cell)
            if value is None or not abs(value) <= _LARGEST:
                raise CommandLineError(f"{path}: line {number} must have a number in column {name!r}, and has {cell!r}")
    return [name.strip() for name in names], np.array(lines, "float64").astype("float32")


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None
