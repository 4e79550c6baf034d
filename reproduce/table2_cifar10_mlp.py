"""Table 2 of the paper: CIFAR-10 by an MLP with 12 settings of the optimiser, ReLU against SA and others.

The network is the paper's: 3072-1024-512-512-10, dropout 0.2 behind each hidden layer, batches of 128, glorot_uniform
for kernels and biases. The paper does not say the number of epochs, how the images are scaled or SGD's momentum. Chosen
here: --epochs, images divided by 255, no momentum. Accuracy is on the 10,000 test images behind the last epoch.
"""

import argparse
import pathlib
import sys

import datasets
import environment
import files
import grid
import keras
import numpy as np
from arguments import at_least
from neurons import KINDS, neurons

MODEL = "mlp"
UNITS = (1024, 512, 512)
DROPOUT = 0.2
BATCH_SIZE = 128
# (optimiser, learning rate): validation accuracy of the paper, mean and standard deviation of 8 runs, with SA and ReLU
PAPER = {
    ("SGD", 0.1): ((0.5736, 0.0053), (0.5586, 0.0087)),
    ("SGD", 0.05): ((0.5703, 0.0047), (0.5619, 0.0045)),
    ("SGD", 0.01): ((0.5662, 0.0055), (0.5572, 0.0084)),
    ("SGD", 0.005): ((0.5451, 0.0067), (0.5460, 0.0109)),
    ("Adam", 0.002): ((0.5327, 0.0042), (0.4559, 0.0082)),
    ("Adam", 0.001): ((0.5578, 0.0055), (0.5102, 0.0040)),
    ("Adam", 0.0005): ((0.5761, 0.0026), (0.5389, 0.0069)),
    ("Adam", 0.0001): ((0.5857, 0.0046), (0.5692, 0.0030)),
    ("RMSprop", 0.001): ((0.5369, 0.0200), (0.4891, 0.0129)),
    ("RMSprop", 0.0005): ((0.5579, 0.0081), (0.5209, 0.0161)),
    ("RMSprop", 0.0001): ((0.5743, 0.0074), (0.5589, 0.0235)),
    ("RMSprop", 0.00005): ((0.5773, 0.0035), (0.5718, 0.0059)),
}
INTRODUCTION = """\
# Table 2: CIFAR-10 by an MLP

Made by `python reproduce/table2_cifar10_mlp.py`. Validation accuracy behind the last epoch, mean and standard deviation
(number of runs). The paper's are of 8 runs; it does not say of how many epochs.
"""
EXAMPLES = """\
examples:
  python table2_cifar10_mlp.py                                36 settings and seeds of ReLU, SA and SA pooled: hours
  python table2_cifar10_mlp.py --only '*/Adam_0.001/seed0'    a run of each
  python table2_cifar10_mlp.py --limit 1280 --epochs 1        a first look, without much to learn from

The directory --out gets table2.jsonl, a line for each finished run, and table2.md. What is killed goes on where it was
by the same command. Environment: KERAS_BACKEND; TFDS_DATA_DIR is where tfds.load looks for data.
"""
RESULTS = pathlib.Path(__file__).resolve().parent / "results"


def mlp(hidden):
    """The paper's MLP: images `(batch, 32, 32, 3)` to the probabilities of 10 classes.

    Args:
        hidden: makes a hidden layer, called as `Dense` is.
    """
    model = keras.Sequential([keras.Input((32, 32, 3), name="image"), keras.layers.Flatten(name="pixels")])
    for index, units in enumerate(UNITS, 1):
        model.add(hidden(units, bias_initializer="glorot_uniform", name=f"hidden{index}"))
        model.add(keras.layers.Dropout(DROPOUT, name=f"dropout{index}"))
    model.add(keras.layers.Dense(10, "softmax", bias_initializer="glorot_uniform", name="classes"))
    return model


def train(run, data):
    """What came out of a run: loss and accuracy, in training and validation, epoch by epoch."""
    (x_train, y_train), validation = data
    keras.utils.set_random_seed(run["seed"])
    model = mlp(neurons(run["activation"], "Dense"))
    model.compile(
        getattr(keras.optimizers, run["optimizer"])(run["learning_rate"]),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=environment.jit_compile(),
    )
    options = {"validation_data": validation, "validation_batch_size": 1000, "verbose": 0}
    history = model.fit(x_train, y_train, BATCH_SIZE, run["epochs"], **options).history
    keras.backend.clear_session()
    # not JSON: a loss that left float32
    return {
        key: [float(f"{value:.6g}") if np.isfinite(value) else None for value in values]
        for key, values in history.items()
    }


def final(row):
    """Validation accuracy behind the last epoch."""
    return row["result"]["val_accuracy"][-1]


def table(found):
    """Markdown of the finished runs, one section for each kind of run: epochs, limit, data, backend."""
    groups = {}
    for row in found:
        limit = row["run"].get("limit")
        images = f"the first {limit} images alone" if limit else "all images"
        groups.setdefault((row["run"]["epochs"], images, row["data"], row["backend"]), []).append(row)
    return "\n".join([INTRODUCTION, *(section(*key, group) for key, group in sorted(groups.items()))])


def section(epochs, images, data, backend, found):
    activations = list(dict.fromkeys(row["run"]["activation"] for row in found))
    lines = [
        f"## {epochs} epochs, {images}, {backend}",
        "",
        *markdown("optimizer", "paper: SA", "paper: ReLU", *activations),
    ]
    for (optimizer, rate), paper in PAPER.items():
        cells = [f"{optimizer} {rate:g}", *(f"{mean:.4f} ± {deviation:.4f}" for mean, deviation in paper)]
        for activation in activations:
            wanted = {"activation": activation, "optimizer": optimizer, "learning_rate": rate}
            values = [final(row) for row in found if wanted.items() <= row["run"].items()]
            cells.append(spread(values))
        lines.append(f"| {' | '.join(cells)} |")

    lines += ["", "Differences between runs of the same setting and seed; over several settings, of their means:", ""]
    lines += markdown("", "mean difference", "95 % interval", "values", "verdict")
    for base in ("relu", "sa"):
        for activation in activations:
            difference = grid.paired(found, activation, base, final) if activation != base else None
            if difference:
                mean, half, n = difference
                cells = [f"{activation} − {base}", f"{mean:+.4f}", f"{mean - half:+.4f} to {mean + half:+.4f}", str(n)]
                lines.append(f"| {' | '.join([*cells, grid.verdict(mean, half)])} |")

    runs = {}
    for row in found:
        versions = ", ".join(f"{package} {version}" for package, version in row["versions"].items())
        key = f"{row['device']}; {versions}; commit {row['commit']}"
        runs[key] = runs.get(key, 0) + 1
    notes = [f"- {n} runs: {key}." for key, n in runs.items()]
    return "\n".join([*lines, "", f"- Data: {data}.", *notes]) + "\n"


def markdown(*titles):
    """Head of a Markdown table."""
    return [f"| {' | '.join(titles)} |", "|" + " --- |" * len(titles)]


def spread(values):
    """Mean and standard deviation, as the paper has them."""
    if len(values) < 2:
        return "".join(f"{value:.4f}" for value in values)
    return f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f} ({len(values)})"


def main(argv=None):
    """Runs the script; gives its exit code."""
    parser = argparse.ArgumentParser(
        prog=pathlib.Path(__file__).name,
        description=__doc__.partition("\n")[0],
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    names = "of the hidden layers (default: relu sa sa_pooled)"
    add("--activations", nargs="+", choices=KINDS, default=["relu", "sa", "sa_pooled"], metavar="NAME", help=names)
    add("--seeds", type=at_least(1), default=3, metavar="N", help="runs of each setting, seeds 0 to N - 1 (default: 3)")
    add("--epochs", type=at_least(1), default=8, metavar="N", help="(default: 8)")
    add("--only", default="*", metavar="PATTERN", help="of runs, named as in sa/Adam_0.001/seed0 (default: '*')")
    add("--limit", type=at_least(1), metavar="N", help="train on the first N images alone, for a quick look")
    add("--data", metavar="FILE", help=".npz with x_train, y_train, x_test, y_test as in keras.datasets; no tfds then")
    add("--out", type=pathlib.Path, default=RESULTS, metavar="DIR", help="(default: results, beside this script)")
    add("--table", action="store_true", help="write table2.md from table2.jsonl, train nothing")
    args = parser.parse_args(argv)

    path = args.out / "table2.jsonl"
    runs = [
        {"model": MODEL, "activation": activation, "optimizer": optimizer, "learning_rate": rate, "seed": seed}
        | {"epochs": args.epochs, "batch_size": BATCH_SIZE, "limit": args.limit}
        for seed in range(args.seeds)
        for optimizer, rate in PAPER
        for activation in args.activations
    ]
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        runs = [] if args.table else grid.only(runs, args.only)
        if runs:
            (x_train, y_train), (x_test, y_test) = datasets.load("cifar10", args.data)
            record = grid.record(datasets.source("cifar10", args.data, x_train))
            x_train, y_train = x_train[: args.limit], y_train[: args.limit]
            data = [(x.astype("float32") / 255, y) for x, y in ((x_train, y_train), (x_test, y_test))]
            grid.carry_out(runs, lambda run: train(run, data), path, record)
        text = table(grid.rows(path))
    except (datasets.DataNotFound, OSError, ValueError) as error:
        parser.error(str(error))
    files.write(args.out / "table2.md", text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
