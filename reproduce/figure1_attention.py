"""Fig. 1 of the paper: how far a neuron's gate opens when one of its signals is out of line ("attention to exception").

One signal `w_k x_k` varies and the others stay. The curve is the gate of eq. (1), `Phi((mu + b)/sigma)`, which scales
the gradient that flows through the neuron. The paper does not say how many signals there are, nor how strong. Chosen
here: ten, no bias, nine of them equal; in the left panel their sum is -4 (the neuron is off), -1 or 4.

The right panel asks what is left of it with `second_moment="pooled"`, which knows the mean square of the inputs and the
sum of the squared weights, not which belongs to which. The input `x_k` varies, its weight is a third of the others, as
large, or three times as large; the others sum to -4. Far out the exact gate tends to 0.159 and 0.841 whatever the
weight; the pooled gate tends there only where the weight is an average one.
"""

import sys

import files
import numpy as np
from arguments import add_results, command_line, errors_in_one_line
from keras import ops
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from keras_shapley.layers.activations import gate

N = 10  # signals
SUMS = (-4.0, -1.0, 4.0)  # of the signals that stay
WEIGHTS = (1 / 3, 1.0, 3.0)  # of the one that varies, over the others'
FAR = 40.0  # its largest and smallest value


def gates(signals, rest, weight=1.0):
    """The gate with the exact and with the pooled second moment.

    Args:
        signals: values of `w_k x_k`, an array.
        rest: sum of the other signals, equal ones with weight 1.
        weight: `w_k`.

    Returns:
        Two arrays of the shape of `signals`.
    """
    x, w = np.full((len(signals), N), rest / (N - 1)), np.ones(N)
    x[:, 0], w[0] = signals / weight, weight
    u, exact, pooled = x @ w, x**2 @ w**2, np.mean(x**2, axis=1) * np.sum(w**2)
    tensors = [ops.convert_to_tensor(moment, "float32") for moment in (u, exact, pooled)]
    return [ops.convert_to_numpy(gate(tensors[0], q, 0.0)) for q in tensors[1:]]


def picture(path):
    """Draws both panels into a file."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    signals = np.linspace(-FAR, FAR, 801)
    for rest in SUMS:
        left.plot(signals, gates(signals, rest)[0], label=f"others sum to {rest:g}")
    right.plot(signals, gates(signals, SUMS[0])[0], "k", label="exact, any $w_k$")
    for weight in WEIGHTS:
        right.plot(signals, gates(signals, SUMS[0], weight)[1], "--", label=f"pooled, $w_k$ = {weight:.2g}")
    left.set(title="Exact second moment", ylabel="gate, eq. (1)")
    right.set(title="Exact and pooled, others sum to -4")
    for axes in (left, right):
        axes.set(xlabel="signal $w_k x_k$", ylim=(0, 1))
        axes.axhline(0.5, color="0.8", zorder=0)
        axes.legend(fontsize="small")
    with files.replaced(path) as file:
        figure.savefig(file, dpi=120, format="png")


def main(argv=None):
    """Runs the script; gives its exit code."""
    parser = command_line(__doc__)
    add_results(parser)
    args = parser.parse_args(argv)
    with errors_in_one_line(parser):
        args.out.mkdir(parents=True, exist_ok=True)
        picture(args.out / "figure1.png")

    print("gate where the others sum to -4 and the signal is")
    print(f"{'w_k':>6} {'':8}" + "".join(f"{signal:>8g}" for signal in (-FAR, -4, 0, 4, FAR)))
    for weight in WEIGHTS:
        for name, values in zip(("exact", "pooled"), gates(np.array([-FAR, -4, 0, 4, FAR]), SUMS[0], weight)):
            print(f"{weight:6.2f} {name:8}" + "".join(f"{value:8.3f}" for value in values))
    return 0


if __name__ == "__main__":
    sys.exit(main())
