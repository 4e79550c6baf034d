"""Relevance where the bias is large, section 2.1 of the paper: "all inputs' relevance should be approximately equal".

Random neurons of 9 inputs, weights and inputs standard normal, and a bias of a multiple of the root mean square of
their products. What is drawn is how unequal the nine inputs' shares of the relevance are, n r_k / (sum of r), by their
standard deviation: 0 where all are equal, median over the neurons. Eq. (2) is as the paper says. That is a convention
on who gets the bias, and no property of Shapley values: with a large bias a neuron is linear, and the Shapley value of
an input is then its product, as eq. (2) without b/n has it. (Biases are above zero: below,
the values of a closed neuron sum to zero, and there are no shares.)
"""

import sys

import experiment
import files
import numpy as np
from arguments import add_results, at_least, command_line, errors_in_one_line
from keras import ops
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import keras_shapley as ks

NEURONS, N = 1000, 9
MULTIPLES = (0.1, 0.3, 1, 3, 10, 30, 100)
INTRODUCTION = f"""\
# Relevance where the bias is large

Made by `python reproduce/large_bias.py`. Standard deviation of n r_k / (sum of r) over the {N} inputs of a ReLU
neuron, 0 where all shares are equal; median over {NEURONS:,} random neurons. The bias is in units of the root mean
square of the products w_k x_k, and above zero.
"""


def spreads(multiple, seed):
    """How unequal the shares are, by eq. (2), without b/n, and by exact Shapley values: an array `(NEURONS,)` by name.

    Args:
        multiple: the bias over the root mean square of the products.
        seed: of the neurons.
    """
    rng = np.random.default_rng(seed)
    products = np.prod(rng.standard_normal((2, NEURONS, N)), axis=0).astype("float32")
    b = multiple * np.sqrt(np.mean(np.square(products), axis=1))
    exact = ks.neuron_shapley_values(np.ones((1, N), "float32"), products.T, b, method="exact")
    relevance = {
        "eq. (2)": products + b[:, None] / N,
        "eq. (2) without b/n": products,
        "exact Shapley values": ops.convert_to_numpy(exact)[0].T,
    }
    return {name: np.std(values, axis=1) / np.abs(np.mean(values, axis=1)) for name, values in relevance.items()}


def table(medians, seed):
    """Markdown of the medians, a list for each name."""
    lines = [INTRODUCTION, *experiment.markdown("bias", *map(str, MULTIPLES))]
    lines += [f"| {' | '.join([name, *(f'{value:.3f}' for value in values)])} |" for name, values in medians.items()]
    return "\n".join([*lines, "", f"- Seed {seed}."]) + "\n"


def picture(path, medians):
    """Draws the medians into a file."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for (name, values), style in zip(medians.items(), ("-o", "-s", "--x")):
        axes.plot(MULTIPLES, values, style, label=name)
    axes.set_xscale("log")
    axes.set(xlabel="bias over the products' root mean square", ylabel="standard deviation of the shares, times n")
    axes.set(title="How unequal the inputs' shares of the relevance are", ylim=(0, None))
    axes.legend()
    with files.replaced(path) as file:
        figure.savefig(file, dpi=120, format="png")


def main(argv=None):
    """Runs the script; gives its exit code."""
    parser = command_line(__doc__)
    add_results(parser)
    parser.add_argument("--seed", type=at_least(0), default=0, metavar="N", help="of the neurons (default: 0)")
    args = parser.parse_args(argv)
    found = [spreads(multiple, args.seed) for multiple in MULTIPLES]
    medians = {name: [float(np.median(values[name])) for values in found] for name in found[0]}
    text = table(medians, args.seed)
    with errors_in_one_line(parser):
        args.out.mkdir(parents=True, exist_ok=True)
        files.write(args.out / "large_bias.md", text)
        picture(args.out / "large_bias.png", medians)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
