"""`python -m keras_shapley explain MODEL IMAGE...`: heatmaps of a saved model, from the command line."""

import argparse
import importlib
import io
import pathlib
import sys
import warnings

import keras
import numpy as np

import keras_shapley as ks
from keras_shapley.models.tracing import trace
from keras_shapley.utils.files import check_writable, write

EXAMPLES = """\
examples:
  python -m keras_shapley explain model.keras cat.jpg dog.png
  python -m keras_shapley explain model.keras photos/*.jpg --classes names.txt --target cat --out heatmaps
  python -m keras_shapley explain resnet50v2.keras cat.jpg --preprocess resnet_v2 --rules epsilon_plus

Each image gets a picture in --out: the image as the model sees it, beside the relevance of its pixels, red for the
class and blue against it. In deep networks the paper's rule, the default, grows without bound; --rules epsilon_plus
does not.
"""


class Problem(Exception):
    """What the user has to know, in one line."""


def parser():
    top = argparse.ArgumentParser(prog="keras_shapley", description=ks.__doc__, allow_abbrev=False)
    commands = top.add_subparsers(dest="command", required=True)
    explain = commands.add_parser(
        "explain",
        help="draw LRP heatmaps of images for a saved model",
        description="Draws LRP heatmaps of images for a saved Keras model.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = explain.add_argument
    add("model", type=pathlib.Path, metavar="MODEL", help="a .keras or .h5 file")
    add("images", type=pathlib.Path, nargs="+", metavar="IMAGE", help="image files, resized to the model's input")
    out = pathlib.Path("explanations")
    add("--out", type=pathlib.Path, default=out, metavar="DIR", help="for the pictures (default: explanations)")
    add("--rules", choices=tuple(ks.presets.PRESETS), default="paper", help="preset of LRP rules (default: paper)")
    add("--merge-batch-norm", action="store_true", help="merge BatchNormalization into the layers beside it")
    add("--target", metavar="CLASS", help="number or name of the class to explain (default: the predicted one)")
    add("--classes", type=pathlib.Path, metavar="FILE", help="text file with the name of a class in each line")
    scaling = explain.add_mutually_exclusive_group()
    words = "what pixels are scaled to (default: 0 255 for a model with a Rescaling or Normalization layer, else 0 1)"
    scaling.add_argument("--range", type=float, nargs=2, metavar=("LOW", "HIGH"), help=words)
    words = "module of keras.applications whose preprocess_input the model wants, as resnet_v2"
    scaling.add_argument("--preprocess", metavar="NAME", help=words)
    add("--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="for a model that takes images of any size")
    add("--batch-size", type=int, default=8, metavar="N", help="images at once (default: 8)")
    add("--arrays", action="store_true", help="write the relevance as .npz beside each picture")
    return top


def explain(args):
    """Draws what was asked for; nothing is written before every image has been read and explained."""
    if args.batch_size < 1:
        raise Problem(f"--batch-size must be 1 or more, and is {args.batch_size}")
    names = None if args.classes is None else _class_names(args.classes)
    model = _model(args.model)
    shape = _image_shape(model, args.size)
    pictures = np.stack([_image(path, shape) for path in args.images])
    explainer = ks.LRP(model, rules=args.rules, merge_batch_norm=args.merge_batch_norm)
    if names is not None and len(names) != explainer.n_classes:
        raise Problem(f"{args.classes} has {len(names)} names, and the model has {explainer.n_classes} classes")
    target = None if args.target is None else _target(args.target, names, explainer.n_classes)

    x = _scaled(pictures, model, args)
    if keras.config.image_data_format() == "channels_first" and x.ndim == 4:
        x = np.moveaxis(x, -1, 1)
    check_writable("--out", args.out)
    with warnings.catch_warnings():
        # said below, for the image that it is true of
        warnings.simplefilter("ignore", RuntimeWarning)
        found = list(explainer.explain_batches(x, target, batch_size=args.batch_size))
    relevance, probability, target = (
        np.concatenate([getattr(part, name) for part in found]) for name in ("input", "probability", "target")
    )
    lost = ~np.isfinite(relevance.reshape(len(x), -1)).all(axis=1)
    if lost.any():
        where = ", ".join(str(path) for path, bad in zip(args.images, lost) if bad)
        raise Problem(f"the relevance left the range of float32 for {where}: try --rules epsilon_plus")
    if probability.shape[1] == 1:
        probability = np.concatenate([1 - probability, probability], axis=1)
    shown = np.moveaxis(pictures, -1, 1) if x.shape != pictures.shape else pictures
    for i, path in enumerate(_paths(args)):
        words = _in_words(probability[i], int(target[i]), names)
        figure = ks.plot_heatmaps(relevance[i : i + 1], shown[i : i + 1], titles=["\n".join(words)], percentile=99)
        content = io.BytesIO()
        figure.savefig(content, format="png")
        write(path, content.getvalue())
        if args.arrays:
            content = io.BytesIO()
            np.savez_compressed(content, relevance=relevance[i], probability=probability[i], target=target[i])
            write(path.with_suffix(".npz"), content.getvalue())
        print(f"{path}  {', '.join(words)}")


def _model(path):
    if not path.exists():
        raise Problem(f"no such file: {path}")
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:
        # whatever a file may hold that is no model, or one of layers that are not known here
        raise Problem(f"{path} cannot be loaded as a Keras model: {_one_line(error)}") from error


def _image_shape(model, size):
    """Height, width and channels (None for an input without an axis of channels) of the images that a model takes."""
    shapes = [tuple(tensor.shape[1:]) for tensor in getattr(model, "inputs", None) or []]
    if len(shapes) != 1 or len(shapes[0]) not in (2, 3):
        raise Problem(f"the model must take one batch of images, and takes inputs of shape {shapes}")
    (shape,) = shapes
    if len(shape) == 3 and keras.config.image_data_format() == "channels_first":
        shape = (*shape[1:], shape[0])
    channels = shape[2] if len(shape) == 3 else None
    if channels not in (None, 1, 3):
        raise Problem(f"the model must take images of 1 or 3 channels, and takes {channels}")
    if size is not None and (min(size) < 1 or any(a not in (None, b) for a, b in zip(shape, size))):
        raise Problem(f"--size must fit the model's input of shape {shape}, and is {tuple(size)}")
    height, width = size or shape[:2]
    if height is None or width is None:
        raise Problem("the model takes images of any size: say which by --size HEIGHT WIDTH")
    return height, width, channels


def _image(path, shape):
    """The pixels of a file, uint8, in the shape that the model takes."""
    # a part of Matplotlib
    from PIL import Image

    if not path.exists():
        raise Problem(f"no such file: {path}")
    height, width, channels = shape
    try:
        with Image.open(path) as image:
            image = image.convert("RGB" if channels == 3 else "L").resize((width, height), Image.Resampling.BILINEAR)
            pixels = np.asarray(image, "uint8")
    except (OSError, ValueError) as error:
        raise Problem(f"{path} cannot be read as an image: {_one_line(error)}") from error
    return pixels[..., None] if channels == 1 else pixels


def _scaled(pictures, model, args):
    """Pixels as numbers in the range that the model was trained with."""
    x = pictures.astype("float32")
    if args.preprocess is not None:
        known = sorted(name for name in dir(keras.applications) if name.islower() and not name.startswith("_"))
        if args.preprocess not in known:
            raise Problem(f"--preprocess must be one of {', '.join(known)}, and is {args.preprocess}")
        module = importlib.import_module(f"keras.applications.{args.preprocess}")
        return np.asarray(module.preprocess_input(x, data_format="channels_last"))
    within = (keras.layers.Rescaling, keras.layers.Normalization)
    scales = any(isinstance(call.op, within) for call in trace(model).calls)
    low, high = args.range or ((0.0, 255.0) if scales else (0.0, 1.0))
    print(f"pixels are scaled to {low:g} ... {high:g}")
    return low + x / 255 * (high - low)


def _class_names(path):
    try:
        return [line.strip() for line in path.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise Problem(f"{path} cannot be read as names of classes: {_one_line(error)}") from error


def _target(text, names, n_classes):
    if names is not None and text in names:
        return names.index(text)
    if not text.isdigit() or int(text) >= n_classes:
        allowed = f"a number below {n_classes}" + (" or a name in --classes" if names else "")
        raise Problem(f"--target must be {allowed}, and is {text}")
    return int(text)


def _paths(args):
    """A file for each image, by its name; those of one name are numbered."""
    used = set()
    for path in args.images:
        name, number = path.stem, 1
        while name in used:
            number += 1
            name = f"{path.stem}_{number}"
        used.add(name)
        yield args.out / f"{name}.png"


def _in_words(probability, target, names):
    """The predicted class, and the explained one where it is another."""
    predicted = int(probability.argmax())
    of = {"predicted": predicted} | ({"explained": target} if target != predicted else {})
    return [f"{word}: {names[k] if names else k} ({probability[k]:.0%})" for word, k in of.items()]


def _one_line(error):
    return " ".join(str(error).split()) or type(error).__name__


def main(argv=None):
    """Runs the command; gives its exit code."""
    args = parser().parse_args(argv)
    try:
        explain(args)
    except (Problem, OSError, ValueError) as error:
        print(f"keras_shapley: error: {_one_line(error)}", file=sys.stderr)
        return 2
    return 0
