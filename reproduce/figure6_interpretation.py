"""Figs. 6 and 7 of the paper: which pixels speak for and against each digit, by relevance and by sensitivity.

The network is that of Fig. 3 with ReLU, trained on all of MNIST. Each digit in turn is the target. Eq. (2) carries the
Shapley values of the softmax (1,000 paths) back to the pixels, for the first 1,000 test images, whatever they show.
Approve is the mean over the images of max(r/x, 0), and reject that of -min(r/x, 0), where `r` is the relevance of a
pixel and `x` its grey between 0 and 1. A black pixel, for which r/x is undefined, counts as 0. Fig. 7 has the gradient
of the probability in place of r/x.

The paper does not say whether the inputs of the last layer or the logits share the probability: both are drawn. The
table measures how near each map (approve minus reject) comes to what a reader would draw, the mean image of the digit
minus that of the others, by the linear correlation over pixels. Because r/x leaves black pixels out and the gradient
does not, the gradient without black pixels is measured as well.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence

import keras
import numpy as np

import keras_shapley as ks
from lab import data, environment, files, runs
from lab.analysis import figure6
from lab.analysis.figure6 import BATCH_SIZE, DIGITS, EPOCHS, IMAGES, PATHS, RATE, READINGS
from lab.arguments import add_data, add_results, add_seed, add_table, at_least, command_line, measure_and_write, parsed
from lab.gradients import input_gradients
from lab.networks import mnist_mlp

BLOCK = 250  # images that are explained at once
QUICK = {"epochs": 1, "images": 50, "limit": 6000, "out": files.RUNS / "figure6"}
EXAMPLES = """\
examples:
  python reproduce/figure6_interpretation.py            minutes
  python reproduce/figure6_interpretation.py --quick    a first look
  python reproduce/figure6_interpretation.py --table    pictures and table again, from the maps

The directory --out gets figure6.npz (the maps), figure6.png, figure7.png and figure6.md (the table). Environment:
KERAS_BACKEND chooses the backend; tfds.load looks for the images, and puts them, in TFDS_DATA_DIR.
"""


def trained(split: data.Split, epochs: int, seed: int) -> keras.Model:
    """The network of Fig. 3 with ReLU."""
    keras.utils.set_random_seed(seed)
    model = mnist_mlp("relu")
    model.compile(
        keras.optimizers.Adam(RATE),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=environment.jit_compile(),
    )
    model.fit(*split, BATCH_SIZE, epochs, verbose=0)
    return model


def maps(model: keras.Model, x: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Approve and reject of each digit, means over the images: an array `(2, 10, 28, 28)` for each reading."""
    explainers = {
        players: ks.LRP(model, rules="paper", head_players=players, head_method="sampled", n_paths=PATHS, seed=seed)
        for players in ("features", "logits")
    }
    gradient = input_gradients(model)
    sums = dict.fromkeys(READINGS, np.zeros(()))
    for start in range(0, len(x), BLOCK):
        block = x[start : start + BLOCK]
        values = {name: relevance_per_grey(explainer, block) for name, explainer in explainers.items()}
        values["sensitivity"] = sensitivity(gradient, block)
        values["ink"] = values["sensitivity"] * (block[:, None] > 0)
        for name, parts in values.items():
            approve, reject = np.maximum(parts, 0).sum(axis=0), -np.minimum(parts, 0).sum(axis=0)
            sums[name] = sums[name] + np.stack([approve, reject])
    return {name: (total / len(x)).astype("float32") for name, total in sums.items()}


def relevance_per_grey(explainer: ks.LRP, x: np.ndarray) -> np.ndarray:
    """`r/x` for each digit as target, `(batch, 10, 28, 28)`; 0 for black pixels."""
    relevance = keras.ops.convert_to_numpy(explainer(x, [[*DIGITS]] * len(x)))
    x = np.broadcast_to(x[:, None], relevance.shape)
    return np.divide(relevance, x, out=np.zeros_like(relevance), where=x > 0)


def sensitivity(gradient: Callable[[np.ndarray, np.ndarray], np.ndarray], x: np.ndarray) -> np.ndarray:
    """Gradient of each digit's probability, `(batch, 10, 28, 28)`."""
    return np.stack([gradient(x, np.full(len(x), digit)) for digit in DIGITS], axis=1)


def nearness(maps: dict[str, np.ndarray], x: np.ndarray, y: np.ndarray) -> dict[str, list[float]]:
    """Correlation over pixels of each map with the mean image of its digit minus that of the others, by reading."""
    expected = [x[y == digit].mean(axis=0) - x[y != digit].mean(axis=0) for digit in DIGITS]
    return {
        name: [
            float(np.corrcoef((approve - reject).ravel(), image.ravel())[0, 1])
            for approve, reject, image in zip(*pair, expected)
        ]
        for name, pair in maps.items()
    }


def measure(args: argparse.Namespace) -> None:
    """Trains the network, and writes the maps of all readings with their record."""
    mnist = data.load_scaled("mnist", args.data)
    (x_train, y_train), (x, y) = mnist.train, mnist.test
    model = trained((x_train[: args.limit], y_train[: args.limit]), args.epochs, args.seed)
    accuracy = model.evaluate(x, y, verbose=0, return_dict=True)["accuracy"]
    drawn = maps(model, x[: args.images], args.seed)
    run = {name: getattr(args, name) for name in ("epochs", "seed", "limit", "images")}
    record = {"run": run, "accuracy": accuracy, "nearness": nearness(drawn, x, y), **runs.record(mnist.source)}
    with files.replaced(args.out / figure6.MAPS) as file:
        np.savez_compressed(file, record=json.dumps(record), **drawn)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script; returns its exit code."""
    parser = command_line(__doc__, EXAMPLES)
    add = parser.add_argument
    add("--epochs", type=at_least(1), default=EPOCHS, metavar="N", help=f"(default: {EPOCHS})")
    add_seed(parser, "of weights, order and paths")
    add("--images", type=at_least(1), default=IMAGES, metavar="N", help=f"to explain (default: {IMAGES})")
    add("--limit", type=at_least(1), metavar="N", help="train on the first N images (default: all)")
    add_data(parser)
    add_results(parser)
    add_table(parser)
    return measure_and_write(parser, parsed(parser, QUICK, argv), measure, figure6.write)


if __name__ == "__main__":
    sys.exit(main())
