"""Fig. 2 of the paper: SA against s, the sum that ReLU sees, for 1,000 random neurons.

Five signals `w_i x_i`, independent and uniform on [-1, 1], no bias. SA is no function of s. Without a bias the gate of
n signals lies on the side of 1/2 on which s lies of 0: at 1/2 where signals cancel, farthest out where all are equal.
There |z| = sqrt(3/(1 + 2/n)), and the gate is 0.072 or 0.928 for five, 0.042 or 0.958 for many. What lies between is
shaded.
"""

import sys

import files
import numpy as np
from arguments import add_results, command_line, errors_in_one_line
from keras import ops
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from keras_shapley.layers.activations import shapley_activation
from keras_shapley.layers.normal import normal_cdf

SAMPLES, N = 1000, 5


def samples(seed):
    """`s` and SA of random neurons, two arrays `(SAMPLES,)`."""
    signals = np.random.default_rng(seed).uniform(-1, 1, (SAMPLES, N)).astype("float32")
    u, q = signals.sum(axis=1), np.square(signals).sum(axis=1)
    return u, ops.convert_to_numpy(shapley_activation(u, q, np.float32(0)))


def reach(s):
    """SA at the gate 1/2 and at the gate farthest from it, for each sum of the signals."""
    far = ops.convert_to_numpy(normal_cdf(np.sign(s).astype("float32") * (3 / (1 + 2 / N)) ** 0.5))
    return s / 2, far * s


def picture(path, s, y):
    """Draws samples into a file."""
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    line = np.linspace(s.min(), s.max(), 101)
    axes.fill_between(line, *reach(line), color="0.85", label="reach of SA")
    axes.plot(line, np.maximum(line, 0), "k", linewidth=1, label="ReLU")
    axes.scatter(s, y, 6, label="SA, eq. (5)")
    axes.set(xlabel="s, the sum of the signals", ylabel="output", title=f"{N} signals, uniform on [-1, 1], b = 0")
    axes.legend()
    with files.replaced(path) as file:
        figure.savefig(file, dpi=120, format="png")


def main(argv=None):
    """Runs the script; gives its exit code."""
    parser = command_line(__doc__)
    add_results(parser)
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the signals (default: 0)")
    args = parser.parse_args(argv)
    s, y = samples(args.seed)
    with errors_in_one_line(parser):
        args.out.mkdir(parents=True, exist_ok=True)
        picture(args.out / "figure2.png", s, y)
    gates = y / s
    print(f"{SAMPLES} neurons, seed {args.seed}: gates from {gates.min():.3f} to {gates.max():.3f}")
    print(f"root mean square distance to ReLU {np.sqrt(np.mean((y - np.maximum(s, 0)) ** 2)):.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
