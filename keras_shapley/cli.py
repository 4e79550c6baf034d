"""`python -m keras_shapley explain MODEL IMAGE...`: heatmaps of a saved model from the command line."""

import argparse
import contextlib
import importlib
import math
import os
import pathlib
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import keras
import numpy as np

from keras_shapley.callbacks.subject import Subject, rules_in_words
from keras_shapley.lrp.diagnosis import Remedies, diagnosis
from keras_shapley.lrp.explainer import LRP
from keras_shapley.lrp.explanation import Explanation
from keras_shapley.lrp.presets import PRESETS
from keras_shapley.models import saved_models
from keras_shapley.models.outputs import ModelOutput, output_index
from keras_shapley.models.tracing import output_sizes, trace
from keras_shapley.plotting.arrays import height_and_width
from keras_shapley.plotting.files import npz_content, png_content
from keras_shapley.plotting.heatmaps import plot_heatmaps
from keras_shapley.utils.command_lines import CommandLineError, Parser, check_file, one_line, printable
from keras_shapley.utils.files import check_writable, write
from keras_shapley.utils.images import read_image

DESCRIPTION = "Shapley activations and relevance propagation for Keras 3 (Li & Cui, arXiv 1909.06143)."
EXAMPLES = """\
examples:
  python -m keras_shapley explain model.keras cat.jpg dog.png
  python -m keras_shapley explain model.keras photos/*.jpg --classes names.txt --target cat --out heatmaps
  python -m keras_shapley explain resnet50v2.keras cat.jpg --preprocess resnet_v2 --rules epsilon_plus

Each image gets a picture in the folder --out. It shows the image as the model receives it, beside the relevance of its
pixels. The title says what is explained, for example "cat (46 %)" or "output 0: 3.2": red pixels raise it, blue pixels
lower it. Relevance is measured from a baseline, an image of the value --baseline in each pixel, and sums to what
the image adds to the output there. The headline names the rules. A warning is printed where relevance grew more than
100 times on its way, or where less than half of it arrives at the pixels.
"""


# images with a shorter side than this have no map of patches; others have as many patches on that side
_SMALL = 64
_PATCHES = 14
# bytes of a value
_FLOAT32 = 4
# how an option that helps is written here
_REMEDIES = Remedies(auto="--rules auto", baseline="--baseline")


class ImageShape(NamedTuple):
    """Shape of the images that a model takes. `channels` is None if they have no axis of channels."""

    height: int
    width: int
    channels: int | None


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    args = parser().parse_args(argv)
    try:
        explain(args)
    except (CommandLineError, OSError, ValueError) as error:
        print(f"keras_shapley: error: {one_line(error)}", file=sys.stderr)
        return 2
    return 0


def parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    top = Parser(prog="python -m keras_shapley", description=DESCRIPTION)
    commands = top.add_subparsers(dest="command", required=True)
    command = commands.add_parser(
        "explain",
        help="draw LRP heatmaps of images for a saved model",
        description="Draws LRP heatmaps of images for a saved Keras model.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = command.add_argument
    path = pathlib.Path
    add("model", type=path, metavar="MODEL", help="the saved model, a .keras or .h5 file")
    add("images", type=path, nargs="+", metavar="IMAGE", help="image files, which are resized to the model's input")
    add(
        "--out",
        type=path,
        default=path("explanations"),
        metavar="DIR",
        help="folder for the pictures (default: explanations)",
    )
    add(
        "--rules",
        choices=("auto", *PRESETS),
        default="auto",
        help="auto: Shapley propagation from the baseline (default); paper: eq. (2); or another preset of LRP rules",
    )
    add(
        "--baseline",
        type=float,
        metavar="VALUE",
        help="what a pixel is at the baseline, in the range that the model takes (default: 0 for --rules auto, and no "
        "baseline for other rules)",
    )
    add("--merge-batch-norm", action="store_true", help="merge each BatchNormalization into the layer beside it")
    add("--output", metavar="NAME", help="name or number of the output to explain, for a model with several outputs")
    add(
        "--target",
        metavar="CLASS",
        help="number of the class or unit to explain, or its name in --classes (default: the largest). A single unit "
        "is explained itself: if it is a probability, red pixels speak for class 1 and blue pixels for class 0",
    )
    add(
        "--classes",
        type=path,
        metavar="FILE",
        help="text file with the name of one class in each line: two names for a single probability, else one for each "
        "unit",
    )
    scaling = command.add_mutually_exclusive_group()
    scaling.add_argument(
        "--range",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="range of the pixels that the model takes. By default pixels are scaled to 0-1, or to 0-255 if the model "
        "rescales them itself by a Rescaling or Normalization layer",
    )
    scaling.add_argument(
        "--preprocess",
        metavar="NAME",
        help="module of keras.applications whose preprocess_input the pixels go through, for example resnet_v2",
    )
    add("--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="image size, if the model takes any size")
    add("--batch-size", type=int, default=8, metavar="N", help="number of images explained at a time (default: 8)")
    add(
        "--arrays",
        action="store_true",
        help="also write an .npz file for each image: relevance, output, target, and probability if the output is one",
    )
    add(
        "--overwrite",
        action="store_true",
        help="replace pictures of the same name. By default a new one has a number. An image is never replaced",
    )
    return top


def explain(args: argparse.Namespace) -> None:
    """Draws the heatmaps. Nothing is written before all images have been read and explained."""
    if args.batch_size < 1:
        raise CommandLineError(f"--batch-size must be 1 or more, and is {args.batch_size}")
    names = None if args.classes is None else _read_class_names(args.classes)
    model = _load_model(args.model)
    shape = _image_shape(model, args.size)
    output = _output_index(model, args.output)
    with _model_errors(args.model):
        _check_memory(model, shape, min(args.batch_size, len(args.images)))
        explainer = LRP(
            model, rules=args.rules, baseline=args.baseline, output=output, merge_batch_norm=args.merge_batch_norm
        )
    images = np.stack([_read_image(path, shape) for path in args.images])
    if names is not None:
        _check_names(names, explainer.output, str(args.classes))
    target = None if args.target is None else _target(args.target, explainer.output, names)
    if args.preprocess is not None:
        x = _preprocessed(images, args.preprocess)
    else:
        x = _scaled(images, args.range or _default_range(model))
    check_writable("--out", args.out)

    with _model_errors(args.model):
        explanations = _explained(explainer, _in_data_format(x), target, args.batch_size)
    arrays = _joined(explanations)
    _check(explanations, explainer, args.images)
    subject = Subject(explainer.output, names=names)
    titles = [title for explanation in explanations for title in subject.titles(explanation)]
    title = f"Relevance, {rules_in_words(explainer)}"
    title += "" if explainer.baseline is None else f", from a baseline of {explainer.baseline:g}"
    _write(arrays, titles, title, _in_data_format(images), args)


def _load_model(path: pathlib.Path) -> keras.Model:
    check_file(path)
    try:
        return saved_models.load(path)
    except ValueError as error:
        raise CommandLineError(f"{path} cannot be loaded as a Keras model: {one_line(error)}") from error


@contextlib.contextmanager
def _model_errors(path: pathlib.Path) -> Iterator[None]:
    """Names the file of a model whose layers raise what the command does not expect."""
    try:
        yield
    except (CommandLineError, OSError, ValueError):
        raise
    except Exception as error:
        raise CommandLineError(f"{path} cannot be explained: {one_line(error)}") from error


def _image_shape(model: keras.Model, size: Sequence[int] | None) -> ImageShape:
    """Shape of the images that the model takes, of which `--size` can give height and width."""
    shapes = [tuple(tensor.shape[1:]) for tensor in getattr(model, "inputs", None) or []]
    if len(shapes) != 1 or len(shapes[0]) not in (2, 3):
        raise CommandLineError(f"the model must take one batch of images, and takes inputs of shape {shapes}")
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
    size = (shape.height, shape.width) if shape.channels is None else shape
    first = shape.channels is not None and keras.config.image_data_format() == "channels_first"
    values = output_sizes(trace(model), [(size[-1], *size[:-1]) if first else tuple(size)], ["float32"])
    needed = _FLOAT32 * n_images * (math.prod(size) + sum(values.values()))
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        raise CommandLineError(
            f"the model needs {needed / 2**30:,.0f} GiB for {n_images} images of {shape.height} x {shape.width}, "
            f"and this machine has {there / 2**30:,.0f} GiB: try a smaller --batch-size or --size"
        )


def _read_image(path: pathlib.Path, shape: ImageShape) -> np.ndarray:
    """Pixels of a file, uint8, resized to the shape that the model takes."""
    check_file(path)
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


def _in_data_format(images: np.ndarray) -> np.ndarray:
    """Images in Keras's data format; they come with channels last."""
    channels_first = images.ndim == 4 and keras.config.image_data_format() == "channels_first"
    return np.moveaxis(images, -1, 1) if channels_first else images


def _read_class_names(path: pathlib.Path) -> list[str]:
    check_file(path)
    try:
        return [line.strip() for line in path.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise CommandLineError(f"{path} cannot be read as names of classes: {one_line(error)}") from error


def _output_index(model: keras.Model, text: str | None) -> int:
    try:
        return output_index(model, int(text) if text is not None and text.isdecimal() else text)
    except ValueError as error:
        raise CommandLineError(f"--output: {error}") from error


def _check_names(names: list[str], output: ModelOutput, path: str) -> None:
    if len(output.shape) != 1:
        raise CommandLineError(f"--classes is for outputs of one axis, and the model's has the shape {output.shape}")
    if output.n_classes is None and len(names) != 1:
        raise CommandLineError(f"{path} has {len(names)} names, and the model has 1 unit, which is no probability")
    if output.n_classes is not None and len(names) != output.n_classes:
        raise CommandLineError(f"{path} has {len(names)} names, and the model has {output.n_classes} classes")


def _target(text: str, output: ModelOutput, names: list[str] | None) -> int:
    """The unit to explain, from the number or the name of a class."""
    is_single_probability = output.n_units == 1 and output.n_classes == 2
    if names is not None and text in names:
        label = names.index(text)
        if is_single_probability and label == 0:
            raise CommandLineError(
                f"--target {text} has no map of its own: the model's only output is the probability of {names[1]}, and "
                f"the blue pixels of its map speak for {names[0]}. Leave --target out"
            )
        return output.unit(label)
    # the number 0 of a single probability is the unit, and 1 its class
    n_targets = 2 if is_single_probability else output.n_units
    if not text.isdecimal() or (n_targets is not None and int(text) >= n_targets):
        number = "a number" if n_targets is None else f"a number below {n_targets}"
        allowed = ("0" if n_targets == 1 else number) + (" or a name in --classes" if names else "")
        raise CommandLineError(f"--target must be {allowed}, and is {text}")
    return output.unit(int(text))


def _explained(explainer: LRP, x: np.ndarray, target: int | None, batch_size: int) -> list[Explanation]:
    with warnings.catch_warnings():
        # `_check` says it on the command line
        warnings.simplefilter("ignore", RuntimeWarning)
        return list(explainer.explain_batches(x, target, batch_size=batch_size))


def _joined(explanations: Sequence[Explanation]) -> dict[str, np.ndarray]:
    """What --arrays writes, of all images."""
    arrays = {
        "relevance": [explanation.input for explanation in explanations],
        "output": [explanation.output for explanation in explanations],
        "target": [explanation.target for explanation in explanations],
        "probability": [explanation.probability for explanation in explanations if explanation.probability is not None],
    }
    return {name: np.concatenate(parts) for name, parts in arrays.items() if parts}


def _check(explanations: Sequence[Explanation], explainer: LRP, paths: Sequence[pathlib.Path]) -> None:
    """Raises a `CommandLineError` if outputs or relevance are not finite; prints what else is wrong, each kind once."""
    faults: dict[str, str] = {}
    for explanation in reversed(explanations):
        faults.update(diagnosis(explanation, explainer.model, explainer.preset, _REMEDIES))
    bad = [
        not (np.isfinite(relevance).all() and np.isfinite(output).all())
        for explanation in explanations
        for relevance, output in zip(explanation.input, explanation.output)
    ]
    if any(bad):
        names = ", ".join(str(path) for path, is_bad in zip(paths, bad) if is_bad)
        raise CommandLineError(f"{names}: {faults.get('finite', 'the relevance is not finite')}")
    for fault in faults.values():
        print(f"keras_shapley: warning: {fault}", file=sys.stderr)


def _write(
    arrays: Mapping[str, np.ndarray], titles: Sequence[str], title: str, images: np.ndarray, args: argparse.Namespace
) -> None:
    """Writes a picture of each image, and its arrays if they are asked for."""
    for i, path in enumerate(_picture_paths(args)):
        figure = plot_heatmaps(
            arrays["relevance"][i : i + 1],
            images[i : i + 1],
            titles=titles[i : i + 1],
            title=title,
            percentile=99,
            patch_size=_patch_size(images),
        )
        write(path, png_content(figure))
        if args.arrays:
            write(path.with_suffix(".npz"), npz_content(**{name: values[i] for name, values in arrays.items()}))
        print(printable(f"{path}  {', '.join(titles[i].splitlines())}"))


def _patch_size(images: np.ndarray) -> int | None:
    """Size of the patches that are drawn beside the pixels; None for images so small that pixels can be seen."""
    side = min(height_and_width(images.shape))
    return side // _PATCHES if side >= _SMALL else None


def _picture_paths(args: argparse.Namespace) -> Iterator[pathlib.Path]:
    """A file for each image, by its name. A number sets it apart from the user's files and from other pictures."""
    used = {path.resolve() for path in (args.model, args.classes, *args.images) if path is not None}
    for image in args.images:
        path, number = args.out / f"{image.stem}.png", 1
        while any(_is_taken(file, used, args.overwrite) for file in (path, path.with_suffix(".npz"))):
            number += 1
            path = args.out / f"{image.stem}_{number}.png"
        used.add(path.resolve())
        yield path


def _is_taken(path: pathlib.Path, used: set[pathlib.Path], overwrite: bool) -> bool:
    return path.resolve() in used or (path.exists() and not overwrite)
