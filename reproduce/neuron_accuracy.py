"""How accurate the paper's "accurate analytical approximation", eq. (1), is for a single ReLU neuron.

Random neurons of 4 to 1,024 inputs, weights and biases standard normal, inputs of four laws. Against enumeration of all
coalitions up to 16 inputs, and against long sampling beyond: eq. (1), the quadrature that keeps the time t (both as
they are, and with what is missing of the exact sum spread over the inputs), and 100 antithetic random orders. The error
is the root of the sum of squared errors over that of squared values, over all neurons and inputs.
"""

import json
import sys

import environment
import experiment
import files
import numpy as np
from arguments import add_results, at_least, command_line, errors_in_one_line
from keras import ops
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import keras_shapley as ks

WIDTHS = (4, 6, 8, 10, 12, 14, 16, 64, 256, 1024)
NEURONS = 60
ENUMERATED = 16
# of the truth beyond that, and of the method beside the others
LONG, SHORT = 10000, 100
LAWS = {
    "normal": lambda rng, size: rng.standard_normal(size),
    "uniform in [0, 1]": lambda rng, size: rng.uniform(size=size),
    "half of them 0": lambda rng, size: rng.standard_normal(size) * (rng.uniform(size=size) < 0.5),
    "Student's t, 3 degrees": lambda rng, size: rng.standard_t(3, size=size),
}
METHODS = {
    "eq. (1)": {"method": "gaussian"},
    "eq. (1), normalized": {"method": "gaussian", "normalize": True},
    "quadrature": {"method": "quadrature"},
    "quadrature, normalized": {"method": "quadrature", "normalize": True},
}
SAMPLED = f"{SHORT} random orders"
DRAWS = 1000
INTRODUCTION = f"""\
# Accuracy of the Shapley values of one ReLU neuron

Made by `python reproduce/neuron_accuracy.py`. Relative error over {NEURONS} random neurons, with its 95 % interval from
resampled neurons; by the number of inputs. The truth is enumeration up to {ENUMERATED} inputs, and {LONG:,} antithetic
random orders beyond, whose own relative error is in the last row.
"""


def products(law, n, seed):
    """The products `w_k x_k` of random neurons, shape `(NEURONS, n)`, and their biases, `(NEURONS,)`."""
    rng = np.random.default_rng([seed, n])
    x = LAWS[law](rng, (NEURONS, n))
    return (x * rng.standard_normal((NEURONS, n))).astype("float32"), rng.standard_normal(NEURONS).astype("float32")


def approximated(a, b, **options):
    """By the package, with the products as weights of inputs 1: shape `(neurons, inputs)`."""
    values = ks.neuron_shapley_values(np.ones((1, a.shape[1]), "float32"), a.T, b, **options)
    return ops.convert_to_numpy(values)[0].T.astype("float64")


def sampled(a, b, n_paths, rng):
    """By random orders, each with its reverse, the same for all neurons: values and standard errors."""
    a, b = a.astype("float64"), b.astype("float64")
    total = squares = np.zeros_like(a)
    for _ in range(n_paths // 2):
        order, gains = rng.permutation(a.shape[1]), 0
        for walked in (order, order[::-1]):
            sums = b[:, None] + np.cumsum(a[:, walked], axis=1)
            added = np.diff(np.maximum(sums, 0), axis=1, prepend=np.maximum(b, 0)[:, None])
            gains = gains + added[:, np.argsort(walked)] / 2
        total, squares = total + gains, squares + np.square(gains)
    n = n_paths // 2
    return total / n, np.sqrt(np.maximum(squares / n - np.square(total / n), 0) / (n - 1))


def errors(law, n, seed):
    """`(error, low, high)` by method, and the truth's own error under `"truth"`."""
    a, b = products(law, n, seed)
    rng = np.random.default_rng([seed, n, 1])
    noise = np.zeros_like(a)
    truth, noise = (approximated(a, b, method="exact"), noise) if n <= ENUMERATED else sampled(a, b, LONG, rng)
    found = {name: approximated(a, b, **options) - truth for name, options in METHODS.items()}
    found[SAMPLED] = sampled(a, b, SHORT, rng)[0] - truth
    found["truth"] = noise
    sizes = np.square(truth).sum(axis=1)
    chosen = rng.integers(NEURONS, size=(DRAWS, NEURONS))
    return {name: _interval(np.square(error).sum(axis=1), sizes, chosen) for name, error in found.items()}


def _interval(squares, sizes, chosen):
    """Root of the ratio of sums over neurons, and the ends of its 95 % interval."""
    resampled = np.sqrt(squares[chosen].sum(axis=1) / sizes[chosen].sum(axis=1))
    return [float(np.sqrt(squares.sum() / sizes.sum())), *map(float, np.quantile(resampled, (0.025, 0.975)))]


def table(record):
    """Markdown of the errors."""
    lines = [INTRODUCTION]
    for law, by_width in record["errors"].items():
        lines += [f"## Inputs {law}", "", *experiment.markdown("", *map(str, by_width))]
        for name in next(iter(by_width.values())):
            cells = ["{:.3f} ({:.3f} to {:.3f})".format(*row[name]) for row in by_width.values()]
            lines.append(f"| {' | '.join([name, *cells])} |")
        lines.append("")
    versions = ", ".join(f"{package} {version}" for package, version in record["versions"].items())
    return "\n".join([*lines, f"- Seed {record['seed']}; {versions}; commit {record['commit']}."]) + "\n"


def picture(path, found):
    """Draws the errors, `found[law][n][method]`, with their intervals into a file, a panel for each law."""
    figure = Figure(figsize=(4.2 * len(found), 4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (law, by_width) in zip(figure.subplots(1, len(found), sharey=True, squeeze=False)[0], found.items()):
        widths = [int(n) for n in by_width]
        for name in (*METHODS, SAMPLED):
            middle, low, high = np.array([row[name] for row in by_width.values()]).T
            axes.errorbar(widths, middle, (middle - low, high - middle), marker="o", capsize=2, label=name)
        noise = [(n, row["truth"][0]) for n, row in zip(widths, by_width.values()) if n > ENUMERATED]
        if noise:
            axes.plot(*zip(*noise), ":k", label="the truth's own")
        axes.set(xscale="log", yscale="log", xlabel="inputs of the neuron", title=f"inputs {law}")
    axes.legend(fontsize="x-small")
    figure.supylabel("relative error")
    with files.replaced(path) as file:
        figure.savefig(file, dpi=100, format="png")


def main(argv=None):
    """Runs the script; gives its exit code."""
    parser = command_line(__doc__)
    add = parser.add_argument
    add_results(parser)
    add("--seed", type=at_least(0), default=0, metavar="N", help="of neurons and orders (default: 0)")
    widths = f"numbers of inputs (default: {' '.join(map(str, WIDTHS))})"
    add("--widths", type=at_least(2), nargs="+", default=WIDTHS, metavar="N", help=widths)
    add("--table", action="store_true", help="write table and picture from the results, compute nothing")
    args = parser.parse_args(argv)
    path = args.out / "neuron_accuracy.json"
    with errors_in_one_line(parser):
        if not args.table:
            args.out.mkdir(parents=True, exist_ok=True)
            found = {law: {n: errors(law, n, args.seed) for n in args.widths} for law in LAWS}
            where = {"versions": environment.versions(), "commit": environment.commit()}
            files.write(path, json.dumps({"seed": args.seed, **where, "errors": found}, indent=1) + "\n")
        record = files.read_json(path)
        text = table(record)
        files.write(args.out / "neuron_accuracy.md", text)
        picture(args.out / "neuron_accuracy.png", record["errors"])
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
