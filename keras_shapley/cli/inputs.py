"""What the command explains: images, or the rows of a table, as a model takes them."""

import argparse
import importlib
import math
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_shapley.cli.tables import chosen, read_rows, shown_names
from keras_shapley.models.tracing import output_sizes, trace
from keras_shapley.utils.command_lines import CommandLineError, check_file, one_line, warn
from keras_shapley.utils.images import read_image
from keras_shapley.utils.wording import count

# what a folder is searched for
_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
# bytes of a value, which is kept of the image, of the baseline, and as relevance
_BYTES = 3 * 4


class Images(NamedTuple):
    """Images from files.

    Attributes:
        paths: of the files.
        pixels: as the model receives them, but for their range and axes: uint8, `(batch, height, width[, channels])`.
        x: as the model receives them.
        notes: what was done to them that is worth telling.
        n_skipped: number of files that are not among them, as they could not be read.
    """

    paths: list[pathlib.Path]
    pixels: np.ndarray
    x: np.ndarray
    notes: list[str]
    n_skipped: int


class Table(NamedTuple):
    """Rows from a file.

    Attributes:
        path: of the file.
        columns: their names.
        x: `(rows, columns)`, or a dict of `(rows, 1)` by the names of the model's inputs.
        notes: what was done to them that is worth telling.
        n_skipped: number of files that could not be read.
    """

    path: pathlib.Path
    columns: list[str]
    x: Any
    notes: Sequence[str] = ()
    n_skipped: int = 0


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
    paths = list(_files(args.inputs, args.skip_broken))
    tables = [path for path in paths if path.suffix.lower() == ".csv"]
    if not tables:
        for name in ("columns", "ignore"):
            if getattr(args, name):
                raise CommandLineError(f"--{name} is for the rows of a .csv file, and not for images")
        return _images(model, paths, args)
    if len(paths) > 1:
        raise CommandLineError(f"a .csv file must be the only input, and there are {len(paths)}")
    for name in ("players", "overlay", "range", "preprocess", "size", "skip_broken"):
        if getattr(args, name):
            option = name.replace("_", "-")
            raise CommandLineError(f"--{option} is for images, and not for the rows of {tables[0]}")
    return _table(model, tables[0], args)


def in_data_format(images: np.ndarray) -> np.ndarray:
    """Images in Keras's data format; they come with channels last."""
    channels_first = images.ndim == 4 and keras.config.image_data_format() == "channels_first"
    return np.moveaxis(images, -1, 1) if channels_first else images


def _files(paths: Sequence[pathlib.Path], skip_broken: bool) -> Iterator[pathlib.Path]:
    """The files, and in the place of each folder the images in it; a folder without any as such, to be skipped."""
    for path in paths:
        if path.is_dir():
            found = sorted(file for file in path.iterdir() if file.suffix.lower() in _SUFFIXES and not file.is_dir())
            if not found and not skip_broken:
                raise CommandLineError(_no_image_in(path))
            yield from found or [path]
        else:
            yield path


def _no_image_in(folder: pathlib.Path) -> str:
    return f"{folder} holds no image, a file with a name in {' '.join(_SUFFIXES)}"


def _images(model: keras.Model, paths: list[pathlib.Path], args: argparse.Namespace) -> Images:
    shape = _image_shape(model, args.size)
    _check_memory(model, shape, min(args.batch_size, len(paths)))
    preprocess = None if args.preprocess is None else _preprocessing(args.preprocess, shape)
    limits = args.range or (_default_range(model) if preprocess is None else (0.0, 1.0))
    _check_range(*limits)
    read, images, notes = [], [], []
    for path in paths:
        try:
            image, changes = _read_image(path, shape)
        except CommandLineError as error:
            if not args.skip_broken:
                remedy = ". Go on without such files by --skip-broken" if len(paths) > 1 else ""
                raise CommandLineError(f"{error}{remedy}") from error
            warn(f"skipped: {error}")
            continue
        read.append(path)
        images.append(image)
        notes += [f"{path}: {change}" for change in changes]
    if not read:
        raise CommandLineError(f"none of {count(len(paths), 'file')} can be read as an image")
    pixels = np.stack(images)
    if preprocess is None:
        low, high = limits
        x = low + pixels.astype("float32") / 255 * (high - low)
        notes.append(f"pixels are scaled to the range {low:g} to {high:g}")
    else:
        x = preprocess(pixels)
    return Images(read, pixels, in_data_format(x), notes, len(paths) - len(read))


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


def _read_image(path: pathlib.Path, shape: ImageShape) -> tuple[np.ndarray, list[str]]:
    """Pixels of a file, uint8, resized to the shape that the model takes, and what was done to them."""
    if path.is_dir():
        raise CommandLineError(_no_image_in(path))
    check_file(path)
    try:
        pixels, changes = read_image(path, shape.height, shape.width, has_colour=shape.channels == 3)
    except ValueError as error:
        raise CommandLineError(f"{path} cannot be read as an image: {one_line(error)}") from error
    return pixels[..., None] if shape.channels == 1 else pixels, changes


def _preprocessing(name: str, shape: ImageShape) -> Callable[[np.ndarray], np.ndarray]:
    """`preprocess_input` of a module of `keras.applications`, as a function of 8-bit images."""
    modules = sorted(name for name in dir(keras.applications) if name.islower() and not name.startswith("_"))
    if name not in modules:
        raise CommandLineError(f"--preprocess must be one of {', '.join(modules)}, and is {name}")
    module = importlib.import_module(f"keras.applications.{name}")

    def preprocess(images: np.ndarray) -> np.ndarray:
        return np.asarray(module.preprocess_input(images.astype("float32"), data_format="channels_last"))

    if shape.channels != 3 and np.ptp(preprocess(np.full((1, 1, 1, 3), 128))) > 0:
        received = "images without an axis of channels" if shape.channels is None else "images of 1 channel"
        raise CommandLineError(
            f"--preprocess {name} is for images of 3 channels, which it takes apart, and the model takes {received}. "
            "Say which range of pixels it takes, as by --range 0 1"
        )
    return preprocess


def _check_range(low: float, high: float) -> None:
    with np.errstate(over="ignore"):
        width = np.float32(high) - np.float32(low)
    if not (0 < width < np.inf):
        raise CommandLineError(f"--range must be two numbers, the lower first, and is {low:g} {high:g}")


def _default_range(model: keras.Model) -> tuple[float, float]:
    """0 to 255 for a model that rescales pixels itself, else 0 to 1."""
    scaling_layers = (keras.layers.Rescaling, keras.layers.Normalization)
    rescales = any(isinstance(call.op, scaling_layers) for call in trace(model).calls)
    return (0.0, 255.0) if rescales else (0.0, 1.0)


def _table(model: keras.Model, path: pathlib.Path, args: argparse.Namespace) -> Table:
    """The rows of a .csv file, by the model's columns."""
    rows = read_rows(path)
    places = chosen(rows, args.columns, args.ignore)
    columns = [rows.names[place] for place in places]
    shapes = {tensor.name: tuple(tensor.shape[1:]) for tensor in getattr(model, "inputs", None) or []}
    if len(shapes) == 1 and len(next(iter(shapes.values()))) == 1:
        ((n_columns,),) = shapes.values()
        if len(columns) != n_columns:
            raise CommandLineError(
                f"the model takes {count(n_columns, 'column')}, and {path} gives {len(columns)}: "
                f"{shown_names(columns)}. Choose them by --columns NAME,NAME or leave some out by --ignore NAME"
            )
        return Table(path, columns, rows.numbers(places))
    if not shapes or not set(shapes.values()) <= {(), (1,)}:
        raise CommandLineError(
            f"the model must take rows of numbers, or a column by the name of each input, to explain {path}, and takes "
            f"inputs of shape {list(shapes.values())}"
        )
    missing = [name for name in shapes if name not in columns]
    if missing:
        raise CommandLineError(
            f"{path} must have a column for each input of the model, and has none for {missing[0]}. Columns: "
            f"{shown_names(columns)}"
        )
    names = list(shapes)
    numbers = rows.numbers([places[columns.index(name)] for name in names])
    return Table(path, names, {name: numbers[:, [i]] for i, name in enumerate(names)})
