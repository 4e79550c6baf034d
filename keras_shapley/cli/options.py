"""The options of the command line. Nothing here imports Keras."""

import argparse
import math
import pathlib
from collections.abc import Sequence

import keras_shapley
from keras_shapley.utils.command_lines import CommandLineError, Parser, check_file

DESCRIPTION = "Why did a Keras model predict this? Relevance propagation and Shapley values for Keras 3."
EXAMPLES = """\
examples:
  keras-shapley explain model.keras cat.jpg dog.png
  keras-shapley explain model.keras photos/ --classes names.txt --target cat --overlay --out heatmaps
  keras-shapley explain resnet50v2.keras cat.jpg --preprocess resnet_v2 --method shapley --players 7
  keras-shapley explain churn.keras customers.csv --baseline mean

Each image gets a picture in the folder --out: the image as the model receives it, beside what its pixels add to the
output. The title says what is explained, for example "cat (46 %)" or "output 0: 3.2": red pixels raise it, blue pixels
lower it. The rows of a .csv file get a table of values and a bar chart. Values are measured from a baseline, an input
of the value --baseline in each element, and sum to what the input adds to the output there.

--method relevance takes one pass. --method shapley takes many, and has standard errors. The last line says which rules
or method it was, how much of the relevance arrived, or the largest standard error, and the number of warnings.

The exit status is 0 if all was explained, 1 if files were skipped by --skip-broken, and 2 if nothing was explained.
"""
SHORT_HELP = f"""\
{DESCRIPTION}

usage:
  keras-shapley explain MODEL IMAGE_OR_FOLDER...    a picture of each image
  keras-shapley explain MODEL ROWS.csv              a table of values and a bar chart
  keras-shapley explain --help                      all options, with examples
  keras-shapley --version
"""
# those of `keras_shapley.lrp.presets`, which a test compares
RULES = ("auto", "epsilon", "epsilon_alpha2_beta1", "epsilon_plus", "epsilon_plus_flat", "paper")
METHODS = ("relevance", "shapley", "moments", "masks")
RESULTS = ("csv", "json", "npz")
MEAN = "mean"


def read(words: Sequence[str]) -> argparse.Namespace:
    """The options of a command line. Ends the program where they are wrong, and where help was asked for."""
    top = _parser()
    args, others = top.parse_known_args(words)
    unknown = [word for word in others if word.startswith("-")]
    if unknown:
        top.error(f"unrecognized arguments: {' '.join(unknown)}")
    # argparse takes those before the first option alone
    args.inputs += map(pathlib.Path, others)
    return args


def _parser() -> argparse.ArgumentParser:
    top = Parser(prog="keras-shapley", description=DESCRIPTION)
    top.add_argument("--version", action="version", version=f"keras-shapley {keras_shapley.__version__}")
    commands = top.add_subparsers(dest="command", required=True)
    command = commands.add_parser(
        "explain",
        help="explain the predictions of a saved model for images, or for the rows of a table",
        description="Explains the predictions of a saved Keras model for images, or for the rows of a table.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = command.add_argument
    path = pathlib.Path
    add("model", type=path, metavar="MODEL", help="the saved model, a .keras or .h5 file")
    add(
        "inputs",
        type=path,
        nargs="+",
        metavar="INPUT",
        help="image files, which are resized to the model's input, folders of images, or one .csv file of rows",
    )
    add(
        "--out",
        type=path,
        default=path("explanations"),
        metavar="DIR",
        help="folder for the results (default: explanations)",
    )
    _add_method(command)
    _add_subject(command)
    _add_images(command)
    _add_table(command)
    _add_results(command)
    return top


def _add_method(command: argparse.ArgumentParser) -> None:
    add = command.add_argument_group("how to explain").add_argument
    add(
        "--method",
        choices=METHODS,
        default="relevance",
        help="relevance: one pass (default); shapley: Shapley values with standard errors; moments, masks: fast "
        "Shapley values of every pixel",
    )
    add(
        "--rules",
        choices=RULES,
        default="auto",
        help="of --method relevance: auto, Shapley propagation from the baseline (default); paper, eq. (2); or another "
        "preset of LRP rules",
    )
    add(
        "--baseline",
        type=_baseline,
        metavar="VALUE",
        help="what an element is at the baseline, in the range that the model takes, or 'mean', that of the inputs "
        "given (default: 0, and no baseline for other rules than auto)",
    )
    add(
        "--players",
        metavar="N",
        help="of the other methods, for images: patches in a grid of N x N (default: 7 for shapley), or 'patches'; "
        "each column of a table is one",
    )
    add("--budget", type=int, metavar="N", help="of --method shapley: the largest number of coalitions for an input")
    add("--seed", type=int, default=0, metavar="N", help="of the other methods (default: 0)")
    add("--merge-batch-norm", action="store_true", help="merge each BatchNormalization into the layer beside it")
    add("--batch-size", type=int, default=8, metavar="N", help="number of inputs explained at a time (default: 8)")


def _add_subject(command: argparse.ArgumentParser) -> None:
    add = command.add_argument_group("what to explain").add_argument
    add("--output", metavar="NAME", help="name or number of the output to explain, for a model with several")
    add(
        "--target",
        metavar="CLASS",
        help="number of the class or unit to explain, or its name in --classes (default: the largest). A single unit "
        "is explained itself: if it is a probability, red speaks for class 1 and blue for class 0",
    )
    add(
        "--classes",
        type=pathlib.Path,
        metavar="FILE",
        help="text file with the name of one class in each line: two names for a single probability, else one for each "
        "unit",
    )


def _add_images(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("images")
    scaling = group.add_mutually_exclusive_group()
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
    add = group.add_argument
    add("--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="image size, if the model takes any size")
    add("--overlay", action="store_true", help="draw values over the image in grey")
    add(
        "--skip-broken",
        action="store_true",
        help="go on without files that are no images, or are not there: each is named, and the exit status is 1",
    )


def _add_table(command: argparse.ArgumentParser) -> None:
    add = command.add_argument_group("tables").add_argument
    names = {"action": "append", "metavar": "NAMES", "default": []}
    add("--columns", **names, help="columns of the .csv file that the model takes, in their order: age,income,debt")
    add("--ignore", **names, help="columns that it does not take, such as a label or an id: label,id")


def _add_results(command: argparse.ArgumentParser) -> None:
    add = command.add_argument_group("results").add_argument
    add(
        "--results",
        nargs="+",
        choices=RESULTS,
        default=[],
        metavar="KIND",
        help="files to write beside each picture: csv, the values of patches, players or columns; json, the same with "
        "what was explained; npz, the values of all pixels, outputs and targets",
    )
    add(
        "--overwrite",
        action="store_true",
        help="replace results of the same name. By default a new one has a number. An input is never replaced",
    )


def check(args: argparse.Namespace) -> None:
    """Raises a `CommandLineError` on options that are wrong whatever the model, and on files that are not there."""
    for name, least in (("batch_size", 1), ("budget", 1), ("seed", 0)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise CommandLineError(f"--{name.replace('_', '-')} must be {least} or more, and is {value}")
    if args.method == "relevance":
        for name in ("players", "budget"):
            if getattr(args, name) is not None:
                raise CommandLineError(f"--{name} is for --method shapley, and not for relevance")
    elif args.rules != "auto" or args.merge_batch_norm:
        raise CommandLineError(f"--rules and --merge-batch-norm are for --method relevance, and not for {args.method}")
    elif args.budget is not None and args.method != "shapley":
        raise CommandLineError(f"--budget is for --method shapley, and not for {args.method}")
    if args.players is not None and args.players != "patches" and not args.players.isdecimal():
        raise CommandLineError(f"--players must be a number or 'patches', and is {args.players}")
    check_file(args.model)
    for path in args.inputs:
        if not path.is_dir() and not args.skip_broken:
            check_file(path)


def _baseline(text: str) -> float | str:
    if text == MEAN:
        return text
    value = float(text)
    if not math.isfinite(value):
        raise ValueError
    return value


# argparse names it where a value is none
_baseline.__name__ = "number or 'mean', as a"
