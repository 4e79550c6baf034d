"""How near the gradients of ShapLU and SA come to the Shapley gradient, in the network of Fig. 3 while it trains.

The paper drops the last terms of the first two lines of eq. (4), "usually small in most practical situations", and says
that SA's gradient matches the rest. Eq. (4) approximates this truth: the Shapley values of a ReLU neuron are means over
orders of its inputs, so the derivative of the k-th value with respect to its own product `a_k = w_k x_k` is the share
of orders in which the neuron is open right after k has entered. Here the share is taken over random orders, each with
its reverse.

The network trains with ReLU and Adam. At some steps, the gradient of the loss over 16 test images is carried back
through both hidden layers by one rule, and compared with the gradient by the true shares: cosine, and ratio of norms,
for each hidden kernel. SA has its own forward values; all others have ReLU's. The gradient of the bias is left out,
because eq. (4) distributes the bias to the inputs, whose exact Shapley values do not contain it.
"""

import argparse
import pathlib
import sys
from collections.abc import Callable, Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # where lab is

import keras
import numpy as np
from scipy.special import ndtr

from lab import data, files, runs
from lab.analysis import shapley_gradient
from lab.analysis.shapley_gradient import IMAGES, STEPS
from lab.arguments import add_data, add_results, add_table, at_least, command_line, measure_and_write, parsed
from lab.networks import mnist_mlp

LIMIT, BATCH_SIZE, RATE = 1000, 10, 0.001  # as in Fig. 3
BLOCK = 20  # orders at once
QUICK = {"seeds": 1, "pairs": 20, "out": files.RUNS / "shapley_gradient"}
EXAMPLES = """\
examples:
  python reproduce/studies/shapley_gradient.py            minutes
  python reproduce/studies/shapley_gradient.py --quick    a first look
  python reproduce/studies/shapley_gradient.py --table    table and picture again, from the results

The directory --out gets shapley_gradient.json, .md (the table) and .png. Environment: KERAS_BACKEND chooses the
backend; tfds.load looks for the images, and puts them, in TFDS_DATA_DIR.
"""

# Function of the products a `(inputs, units)` of one image and of the biases `(units,)`. It returns the outputs
# `(units,)`, and the derivative of each output with respect to each product, or what a rule has in its place,
# `(inputs, units)`.
Rule = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def relu(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ReLU and its derivative."""
    s = a.sum(axis=0) + b
    return np.maximum(s, 0), np.broadcast_to(s > 0, a.shape)


def shaplu(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ReLU, and eq. (4) without the last terms of its first two lines."""
    cdf, *_ = _gate_terms(a, b)
    return relu(a, b)[0], np.broadcast_to(cdf, a.shape)


def shaplu_full(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ReLU and eq. (4)."""
    cdf, pdf, slope = _gate_terms(a, b)
    return relu(a, b)[0], cdf + pdf * (a + b / len(a)) * slope


def sa(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eq. (5) and its derivative."""
    cdf, pdf, slope = _gate_terms(a, b)
    s = a.sum(axis=0) + b
    return cdf * s, cdf + pdf * s * slope


def _gate_terms(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`Phi(z)`, `phi(z)`, and the derivative of `z = (mu + b)/sigma` with respect to each product, eq. (1)."""
    mu = a.sum(axis=0) / 2
    sigma = np.sqrt(np.square(a).sum(axis=0) / 6 + mu**2 / 3 + 1e-18)
    z = (mu + b) / sigma
    pdf = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    return ndtr(z), pdf, 1 / (2 * sigma) - (mu + b) * (a + mu) / (6 * sigma**3)


# in the order of the table
RULES: dict[str, Rule] = {"relu": relu, "shaplu": shaplu, "shaplu_full": shaplu_full, "sa": sa}


def by_orders(pairs: int, rng: np.random.Generator) -> Rule:
    """The rule of the Shapley gradient, by `pairs` random orders and their reverses."""

    def rule(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        total, count = a.sum(axis=0), np.zeros(a.shape)
        for start in range(0, pairs, BLOCK):
            orders = np.argsort(rng.random((min(BLOCK, pairs - start), len(a))), axis=1)
            entering = a[orders]
            so_far = np.cumsum(entering, axis=1)
            # the reverse order begins with the inputs that come last here
            opened = (so_far + b > 0).astype("int8") + (total - so_far + entering + b > 0)
            count += np.take_along_axis(opened, np.argsort(orders, axis=1)[:, :, None], axis=1).sum(axis=0)
        return relu(a, b)[0], count / (2 * pairs)

    return rule


def gradients(weights: list[np.ndarray], x: np.ndarray, y: np.ndarray, rule: Rule) -> list[np.ndarray]:
    """Gradient of the mean cross-entropy with respect to the kernels of all layers but the last.

    Args:
        weights: kernels and biases in turn, of hidden layers and a softmax layer.
        x: images `(batch, pixels)`.
        y: labels `(batch,)`.
        rule: of the hidden layers.
    """
    kernels, biases = weights[::2], weights[1::2]
    sums = [np.zeros(kernel.shape) for kernel in kernels[:-1]]
    for values, label in zip(x, y):
        inputs, factors = [], []
        for kernel, bias in zip(kernels[:-1], biases[:-1]):
            inputs.append(values)
            values, factor = rule(values[:, None] * kernel, bias)
            factors.append(factor)
        logits = values @ kernels[-1] + biases[-1]
        probability = np.exp(logits - logits.max())
        cotangent = kernels[-1] @ (probability / probability.sum() - np.eye(len(logits))[label]) / len(x)
        for layer in reversed(range(len(sums))):
            sums[layer] += inputs[layer][:, None] * factors[layer] * cotangent
            cotangent = (kernels[layer] * factors[layer]) @ cotangent
    return sums


def compared(
    weights: list[np.ndarray], x: np.ndarray, y: np.ndarray, pairs: int, rng: np.random.Generator
) -> list[dict]:
    """For each hidden layer, cosine and norm ratio by rule, and `"orders"`, the cosine of two halves of the orders."""
    weights, x = [weight.astype("float64") for weight in weights], x.astype("float64")
    first, second = (gradients(weights, x, y, by_orders(pairs // 2, rng)) for _ in range(2))
    truths = [(a + b) / 2 for a, b in zip(first, second)]
    rows = [{"orders": cosine(a, b)} for a, b in zip(first, second)]
    for name, rule in RULES.items():
        for row, gradient, truth in zip(rows, gradients(weights, x, y, rule), truths):
            ratio = float(np.linalg.norm(gradient)) / float(np.linalg.norm(truth))
            row[name] = {"cosine": cosine(gradient, truth), "norm_ratio": ratio}
    return rows


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sum(a * b) / np.linalg.norm(a) / np.linalg.norm(b))


def trained_and_compared(seed: int, train: data.Split, test: data.Split, pairs: int) -> list[dict]:
    """Trains the network of Fig. 3, and returns `compared` at each of STEPS."""
    (x, y), (x_test, y_test) = train, test
    keras.utils.set_random_seed(seed)
    model = mnist_mlp("relu")
    model.compile(keras.optimizers.Adam(RATE), "sparse_categorical_crossentropy")
    rng, rows, order = np.random.default_rng(seed), [], np.empty(0, int)
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


def measure(args: argparse.Namespace) -> None:
    """Trains and compares for all seeds, and writes the results."""
    mnist = data.load_scaled("mnist", args.data)
    x, y = mnist.train
    rows = []
    for seed in range(args.seeds):
        rows += trained_and_compared(seed, (x[:LIMIT], y[:LIMIT]), mnist.test, args.pairs)
    record = {"seeds": args.seeds, "pairs": args.pairs, **runs.record(mnist.source), "rows": rows}
    files.write_json(args.out / shapley_gradient.RESULTS, record)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script; returns its exit code."""
    parser = command_line(__doc__, EXAMPLES)
    add = parser.add_argument
    add("--seeds", type=at_least(1), default=5, metavar="N", help="networks, with seeds 0 to N - 1 (default: 5)")
    add("--pairs", type=at_least(2), default=200, metavar="N", help="random orders, with reverses (default: 200)")
    add_data(parser)
    add_results(parser)
    add_table(parser)
    return measure_and_write(parser, parsed(parser, QUICK, argv), measure, shapley_gradient.write)


if __name__ == "__main__":
    sys.exit(main())
