"""How near the gradients of ShapLU and SA come to the Shapley gradient, in the network of Fig. 3 while it trains.

The paper leaves the last terms of the first two lines of eq. (4) out, "usually small in most practical situations", and
has SA's gradient match the rest. The truth that eq. (4) approximates: a ReLU neuron's Shapley values are means over
orders of its inputs, so that the derivative of the k-th by its own product `a_k = w_k x_k` is the share of orders in
which the neuron is open right after k has entered. Here that share is taken over random orders, each with its reverse.

The network trains with ReLU and Adam. At some steps, the gradient of the loss over 16 test images by each hidden
kernel, carried back through both hidden layers by one rule, is compared with that by the true shares: cosine, and the
ratio of norms. SA has its own forward values, all others those of ReLU. The bias is left out: eq. (4) deals it out to
the inputs, whose exact Shapley values do not hold it.
"""

import json
import sys

import datasets
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
from scipy.special import ndtr

STEPS = (0, 10, 30, 100, 200, 400)
LIMIT, BATCH_SIZE, RATE = 1000, 10, 0.001  # as in Fig. 3
IMAGES, BLOCK = 16, 20
QUICK = {"seeds": 1, "pairs": 20, "out": files.RUNS / "shapley_gradient"}
INTRODUCTION = """\
# Gradients beside the Shapley gradient

Made by `python reproduce/shapley_gradient.py`. Gradient of the loss by the kernels of both hidden layers of Fig. 3's
network, at steps of its training with ReLU: cosine with the Shapley gradient by random orders, and norm over its norm;
mean over seeds with a 95 % interval. *Orders*: the cosine between two halves of the orders, what sampling leaves open.
"""
EXAMPLES = """\
examples:
  python shapley_gradient.py            minutes
  python shapley_gradient.py --quick    a first look
  python shapley_gradient.py --table    table and picture again, from the results

The directory --out gets shapley_gradient.json, .md and .png. Environment: KERAS_BACKEND; TFDS_DATA_DIR is where
tfds.load looks for data.
"""


# Each rule: function of the products a `(inputs, units)` of one image and of the biases `(units,)` that gives the
# outputs `(units,)`, and what stands in the place of the derivative of the output by each product, `(inputs, units)`.


def relu(a, b):
    s = a.sum(axis=0) + b
    return np.maximum(s, 0), np.broadcast_to(s > 0, a.shape)


def shaplu(a, b):
    """Eq. (4) without the last terms of its first two lines."""
    cdf, *_ = _terms(a, b)
    return relu(a, b)[0], np.broadcast_to(cdf, a.shape)


def shaplu_full(a, b):
    """Eq. (4)."""
    cdf, pdf, slope = _terms(a, b)
    return relu(a, b)[0], cdf + pdf * (a + b / len(a)) * slope


def sa(a, b):
    """Eq. (5) and its derivative."""
    cdf, pdf, slope = _terms(a, b)
    s = a.sum(axis=0) + b
    return cdf * s, cdf + pdf * s * slope


def _terms(a, b):
    """`Phi(z)`, `phi(z)` and the derivative of `z = (mu + b)/sigma` by each product, eq. (1)."""
    mu = a.sum(axis=0) / 2
    sigma = np.sqrt(np.square(a).sum(axis=0) / 6 + mu**2 / 3 + 1e-18)
    z = (mu + b) / sigma
    pdf = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    return ndtr(z), pdf, 1 / (2 * sigma) - (mu + b) * (a + mu) / (6 * sigma**3)


def by_orders(pairs, rng):
    """The rule of the Shapley gradient, by so many random orders and their reverses."""

    def rule(a, b):
        total, count = a.sum(axis=0), np.zeros(a.shape)
        for start in range(0, pairs, BLOCK):
            orders = np.argsort(rng.random((min(BLOCK, pairs - start), len(a))), axis=1)
            entering = a[orders]
            so_far = np.cumsum(entering, axis=1)
            # in the reverse, those come first that came last
            opened = (so_far + b > 0).astype("int8") + (total - so_far + entering + b > 0)
            count += np.take_along_axis(opened, np.argsort(orders, axis=1)[:, :, None], axis=1).sum(axis=0)
        return relu(a, b)[0], count / (2 * pairs)

    return rule


def gradients(weights, x, y, rule):
    """Gradient of the mean cross-entropy by the kernels of all layers but the last.

    Args:
        weights: kernels and biases in turn, of hidden layers and a softmax layer.
        x: images `(batch, pixels)`.
        y: labels `(batch,)`.
        rule: of the hidden layers.
    """
    kernels, biases = weights[::2], weights[1::2]
    found = [np.zeros(kernel.shape) for kernel in kernels[:-1]]
    for values, label in zip(x, y):
        inputs, factors = [], []
        for kernel, bias in zip(kernels[:-1], biases[:-1]):
            inputs.append(values)
            values, factor = rule(values[:, None] * kernel, bias)
            factors.append(factor)
        logits = values @ kernels[-1] + biases[-1]
        probability = np.exp(logits - logits.max())
        cotangent = kernels[-1] @ (probability / probability.sum() - np.eye(len(logits))[label]) / len(x)
        for layer in reversed(range(len(found))):
            found[layer] += inputs[layer][:, None] * factors[layer] * cotangent
            cotangent = (kernels[layer] * factors[layer]) @ cotangent
    return found


def compared(weights, x, y, pairs, rng):
    """For each hidden layer a dict: cosine and norm ratio by rule, and `"orders"`, the cosine between two halves."""
    weights, x = [weight.astype("float64") for weight in weights], x.astype("float64")
    halves = [gradients(weights, x, y, by_orders(pairs // 2, rng)) for _ in range(2)]
    true = [(one + other) / 2 for one, other in zip(*halves)]
    rows = [{"orders": cosine(one, other)} for one, other in zip(*halves)]
    for rule in RULES:
        for row, own, truth in zip(rows, gradients(weights, x, y, rule), true):
            norms = [float(np.linalg.norm(gradient)) for gradient in (own, truth)]
            row[rule.__name__] = {"cosine": cosine(own, truth), "norm_ratio": norms[0] / norms[1]}
    return rows


RULES = (relu, shaplu, shaplu_full, sa)


def cosine(a, b):
    return float(np.sum(a * b) / np.linalg.norm(a) / np.linalg.norm(b))


def followed(seed, data, pairs):
    """Trains the network of Fig. 3, and gives `compared` at each of STEPS."""
    (x, y), (x_test, y_test) = data
    keras.utils.set_random_seed(seed)
    model = figure3_mnist_mlp.mlp(neurons("relu", "Dense"))
    model.compile(keras.optimizers.Adam(RATE), "sparse_categorical_crossentropy")
    rng, rows, order = np.random.default_rng(seed), [], []
    for step in range(STEPS[-1] + 1):
        if step in STEPS:
            images = x_test[:IMAGES].reshape(IMAGES, -1)
            layers = compared(model.get_weights(), images, y_test[:IMAGES], pairs, rng)
            rows += [{"seed": seed, "step": step, "layer": n, **row} for n, row in enumerate(layers, 1)]
        if len(order) < BATCH_SIZE:
            order = rng.permutation(len(x))
        chosen, order = order[:BATCH_SIZE], order[BATCH_SIZE:]
        model.train_on_batch(x[chosen], y[chosen])
    return rows


def statistics(rows, layer, step, key):
    """Mean over the seeds and half its interval: of `"orders"`, or of a rule's number, `(rule, name)`."""
    found = [row for row in rows if (row["layer"], row["step"]) == (layer, step)]
    values = [row[key] if isinstance(key, str) else row[key[0]][key[1]] for row in found]
    return grid.interval(values)


def table(record):
    """Markdown of the results."""
    lines = [INTRODUCTION]
    for layer in (1, 2):
        names = [rule.__name__ for rule in RULES]
        heads = [f"{name}, {number}" for name in names for number in ("cosine", "norm")]
        lines += [f"## Hidden layer {layer}", "", *experiment.markdown("step", "orders", *heads)]
        for step in STEPS:
            cells = [str(step), f"{statistics(record['rows'], layer, step, 'orders')[0]:.4f}"]
            for key in ((name, number) for name in names for number in ("cosine", "norm_ratio")):
                mean, half, n = statistics(record["rows"], layer, step, key)
                cells.append(f"{mean:.3f} ± {half:.3f}" if n > 1 else f"{mean:.3f}")
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    lines += [
        f"- Seeds 0 to {record['seeds'] - 1}; {record['pairs']} random orders and their reverses, {IMAGES} images."
    ]
    return "\n".join([*lines, *experiment.origins([record])]) + "\n"


def picture(path, rows):
    """Draws cosine and norm ratio against the step into a file, a column for each hidden layer."""
    figure = Figure(figsize=(10, 6.5), layout="constrained")
    FigureCanvasAgg(figure)
    titles = {"cosine": "cosine with the Shapley gradient", "norm_ratio": "norm over that of the Shapley gradient"}
    for line, (number, title) in zip(figure.subplots(2, 2, sharex=True, sharey="row"), titles.items()):
        line[0].set_ylabel(title)
        for layer, axes in enumerate(line, 1):
            for rule in RULES:
                found = [statistics(rows, layer, step, (rule.__name__, number)) for step in STEPS]
                means, halves, _ = zip(*found)
                axes.errorbar(range(len(STEPS)), means, halves, label=rule.__name__, capsize=3)
            axes.set_xticks(range(len(STEPS)), STEPS)
            if number == "cosine":
                axes.set_title(f"hidden layer {layer}")
                axes.legend(fontsize="small")
            else:
                axes.set_xlabel("step")
                axes.axhline(1, color="0.8", zorder=0)
    with files.replaced(path) as file:
        figure.savefig(file, dpi=110, format="png")


def main(argv=None):
    """Runs the script; gives its exit code."""
    parser = command_line(__doc__, EXAMPLES)
    add = parser.add_argument
    add("--seeds", type=at_least(1), default=5, metavar="N", help="networks, seeds 0 to N - 1 (default: 5)")
    add("--pairs", type=at_least(2), default=200, metavar="N", help="random orders, with reverses (default: 200)")
    add_data(parser)
    add_results(parser)
    add("--table", action="store_true", help="write table and picture from the results, train nothing")
    args = parsed(parser, QUICK, argv)
    path = args.out / "shapley_gradient.json"
    with errors_in_one_line(parser):
        if not args.table:
            data = datasets.of_unit_range("mnist", args.data)
            args.out.mkdir(parents=True, exist_ok=True)
            train = [values[:LIMIT] for values in data.train]
            rows = sum((followed(seed, (train, data.test), args.pairs) for seed in range(args.seeds)), [])
            record = {"seeds": args.seeds, "pairs": args.pairs, **grid.record(data.source), "rows": rows}
            files.write(path, json.dumps(record, indent=1) + "\n")
        record = files.read_json(path)
        text = table(record)
        files.write(args.out / "shapley_gradient.md", text)
        picture(args.out / "shapley_gradient.png", record["rows"])
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
