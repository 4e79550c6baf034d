"""Figs. 6 and 7 of the paper: which pixels speak for and against each digit, by relevance and by sensitivity.

The network is that of Fig. 3, with ReLU, trained on all of MNIST. For each digit as target, eq. (2) is walked down from
the Shapley values of the softmax (1,000 paths) for the first 1,000 test images, whatever they show. Approve is the mean
over the images of max(r/x, 0), reject of -min(r/x, 0), with `r` the relevance of a pixel and `x` its grey between 0 and
1; a black pixel, where r/x has no value, counts as 0. Fig. 7 has the gradient of the probability in the place of r/x.

Who shares the probability, the inputs of the last layer or the logits, the paper does not say: both are drawn. Beside
the pictures, how near each map (approve less reject) comes to what a reader would draw, the mean image of the digit
less that of the others: their linear correlation over pixels. As r/x leaves black pixels out and the gradient does not,
that correlation is also given for the gradient without them.
"""

import json
import sys

import datasets
import environment
import experiment
import figure3_mnist_mlp
import files
import grid
import keras
import numpy as np
from arguments import add_data, add_results, at_least, command_line, errors_in_one_line, parsed
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from neurons import neurons
from sensitivity import sensitivities

import keras_shapley as ks

# Ours, where the paper has "fully trained"
EPOCHS, BATCH_SIZE, RATE = 20, 128, 0.001
IMAGES, PATHS, BLOCK = 1000, 1000, 250
DIGITS = range(10)
READINGS = {
    "features": "Fig. 6, the 50 inputs of the last layer share the probability",
    "logits": "Fig. 6, the ten logits share the probability",
    "sensitivity": "Fig. 7, sensitivity",
    "ink": "sensitivity where the image is not black",
}
MAPS = "figure6.npz"
QUICK = {"epochs": 1, "images": 50, "limit": 6000, "out": files.RUNS / "figure6"}
INTRODUCTION = """\
# Figs. 6 and 7: which pixels speak for and against each digit

Made by `python reproduce/figure6_interpretation.py`. Correlation over pixels between a map (approve less reject) and
the mean image of its digit less that of the others, for each digit and in the mean.
"""
EXAMPLES = """\
examples:
  python figure6_interpretation.py            minutes
  python figure6_interpretation.py --quick    a first look
  python figure6_interpretation.py --table    pictures and table again, from the maps

The directory --out gets figure6.npz (the maps), figure6.png, figure7.png and figure6.md. Environment: KERAS_BACKEND;
TFDS_DATA_DIR is where tfds.load looks for data.
"""


def trained(data, epochs, seed):
    """The network of Fig. 3 with ReLU."""
    keras.utils.set_random_seed(seed)
    model = figure3_mnist_mlp.mlp(neurons("relu", "Dense"))
    model.compile(
        keras.optimizers.Adam(RATE),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=environment.jit_compile(),
    )
    model.fit(*data, BATCH_SIZE, epochs, verbose=0)
    return model


def maps(model, x, seed):
    """Approve and reject of each digit, means over the images: for each reading an array `(2, 10, 28, 28)`."""
    explainers = {
        players: ks.LRP(model, head_players=players, head_method="sampled", n_paths=PATHS, seed=seed)
        for players in ("features", "logits")
    }
    slope, sums = sensitivities(model), dict.fromkeys(READINGS, 0.0)
    for start in range(0, len(x), BLOCK):
        block = x[start : start + BLOCK]
        values = {name: _per_grey(explainer, block) for name, explainer in explainers.items()}
        values["sensitivity"] = slopes(slope, block)
        values["ink"] = values["sensitivity"] * (block[:, None] > 0)
        for name, parts in values.items():
            above, below = np.maximum(parts, 0).sum(axis=0), -np.minimum(parts, 0).sum(axis=0)
            sums[name] = sums[name] + np.stack([above, below])
    return {name: (values / len(x)).astype("float32") for name, values in sums.items()}


def _per_grey(explainer, x):
    relevance = keras.ops.convert_to_numpy(explainer(x, [[*DIGITS]] * len(x)))
    x = np.broadcast_to(x[:, None], relevance.shape)
    return np.divide(relevance, x, out=np.zeros_like(relevance), where=x > 0)


def slopes(slope, x):
    return np.stack([slope(x, np.full(len(x), digit)) for digit in DIGITS], axis=1)


def nearness(found, x, y):
    """Correlation over pixels of each map with its digit's mean image less that of the others: `(10,)` by reading."""
    expected = [x[y == digit].mean(axis=0) - x[y != digit].mean(axis=0) for digit in DIGITS]
    return {
        name: [float(np.corrcoef((a - r).ravel(), e.ravel())[0, 1]) for a, r, e in zip(*values, expected)]
        for name, values in found.items()
    }


def table(record):
    """Markdown of the correlations, and what they were made from."""
    lines = [INTRODUCTION, *experiment.markdown("", *map(str, DIGITS), "mean")]
    for name, values in record["nearness"].items():
        lines.append(f"| {' | '.join([READINGS[name], *(f'{value:.2f}' for value in (*values, np.mean(values)))])} |")
    run = record["run"]
    images = run["limit"] or "all"
    lines += [
        "",
        f"- Adam at {RATE:g}, batches of {BATCH_SIZE}, {run['epochs']} epochs, {images} training images, seed "
        f"{run['seed']}: test accuracy {record['accuracy']:.4f}; {run['images']} images, {PATHS} paths.",
        *experiment.origins([record]),
    ]
    return "\n".join(lines) + "\n"


def picture(path, found):
    """Draws the maps of some readings into a file, two rows each; the two share a scale."""
    figure = Figure(figsize=(12, 2.9 * len(found)), layout="constrained")
    FigureCanvasAgg(figure)
    for part, (name, pair) in zip(np.atleast_1d(figure.subfigures(len(found), 1)), found.items()):
        part.suptitle(READINGS[name])
        # a few pixels, grey in one image only, would darken all the others
        scale = np.quantile(pair, 0.999)
        for row, (label, images) in zip(part.subplots(2, 10), zip(("approve", "reject"), pair)):
            row[0].set_ylabel(label)
            for axes, digit, image in zip(row, DIGITS, images):
                axes.imshow(image, cmap="gray", vmin=0, vmax=scale)
                axes.set(xticks=[], yticks=[])
                axes.set_title(str(digit), fontsize="small")
    with files.replaced(path) as file:
        figure.savefig(file, dpi=100, format="png")


def write(out):
    """Writes both pictures and figure6.md from the maps in a directory; returns the text.

    Raises:
        OSError, ValueError: if there are none.
    """
    with np.load(out / MAPS) as file:
        record = json.loads(str(file["record"]))
        found = {name: file[name] for name in READINGS}
    picture(out / "figure6.png", {name: found[name] for name in ("features", "logits")})
    picture(out / "figure7.png", {"sensitivity": found["sensitivity"]})
    text = table(record)
    files.write(out / "figure6.md", text)
    return text


def measure(args):
    """Trains the network, and writes the maps of all readings with their record."""
    data = datasets.of_unit_range("mnist", args.data)
    (x_train, y_train), (x, y) = data.train, data.test
    model = trained((x_train[: args.limit], y_train[: args.limit]), args.epochs, args.seed)
    accuracy = model.evaluate(x, y, verbose=0, return_dict=True)["accuracy"]
    found = maps(model, x[: args.images], args.seed)
    run = {name: getattr(args, name) for name in ("epochs", "seed", "limit", "images")}
    record = {"run": run, "accuracy": accuracy, "nearness": nearness(found, x, y), **grid.record(data.source)}
    with files.replaced(args.out / MAPS) as file:
        np.savez_compressed(file, record=json.dumps(record), **found)


def main(argv=None):
    """Runs the script; gives its exit code."""
    parser = command_line(__doc__, EXAMPLES)
    add = parser.add_argument
    add("--epochs", type=at_least(1), default=EPOCHS, metavar="N", help=f"(default: {EPOCHS})")
    add("--seed", type=at_least(0), default=0, metavar="N", help="of weights, order and paths (default: 0)")
    add("--images", type=at_least(1), default=IMAGES, metavar="N", help=f"to explain (default: {IMAGES})")
    add("--limit", type=at_least(1), metavar="N", help="train on the first N images (default: all)")
    add_data(parser)
    add_results(parser)
    add("--table", action="store_true", help="write pictures and table from the maps, train nothing")
    args = parsed(parser, QUICK, argv)
    with errors_in_one_line(parser):
        args.out.mkdir(parents=True, exist_ok=True)
        if not args.table:
            measure(args)
        text = write(args.out)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
