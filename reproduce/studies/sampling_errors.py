"""Errors of estimates of Shapley values against their cost, beside those of shap and captum.

A small MLP and a small convolutional network are trained on scikit-learn's digits. The estimates are of the predicted
class's probability; the players are the 64 pixels, and absent pixels are black. The error is the relative root mean
square over the pixels of an image against 4,000 antithetic random orders. The cost counts evaluations of the network
for one image; a gradient counts as three. shap and captum are optional, and compared on PyTorch, where captum runs.
"""

import argparse
import functools
import importlib.metadata
import importlib.util
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # where lab is

import keras
import numpy as np

import keras_shapley as ks
from lab import environment, files
from lab.analysis import sampling_errors
from lab.analysis.sampling_errors import TRUTH
from lab.arguments import add_results, add_seed, add_table, at_least, command_line, measure_and_write, parsed
from lab.data import digits
from lab.explanations import fast
from lab.networks import DIGITS
from lab.peers import shapley_values
from lab.peers.shapley_values import GRADIENT, Estimate
from lab.statistics import relative_noise

EPOCHS, BATCH = 8, 32
PATHS = (4, 16, 64, 256)
GRADIENTS = (16, 64, 256)
QUICK = {"networks": ["mlp"], "seeds": 2, "truth": 80, "out": files.RUNS / "sampling_errors"}
EXAMPLES = """\
examples:
  python reproduce/studies/sampling_errors.py            an hour; KERAS_BACKEND=torch for shap and captum
  python reproduce/studies/sampling_errors.py --quick    a first look in minutes
  python reproduce/studies/sampling_errors.py --table    table and picture again, from the results

The directory --out gets sampling_errors.json, .md (the table) and .png.
"""


def sampled(n: int, model: keras.Model, x: np.ndarray, target: np.ndarray, seed: int, **options: Any) -> Estimate:
    """Values by `n` random orders, and their cost: evaluations for an image."""
    estimate = ks.sampled_shapley_values(model, x, n_paths=n, seed=seed, batch_size=2048, **options)
    return of_target(estimate.values, target).reshape(x.shape), estimate.n_evaluations / len(x)


def controlled(n: int, model: keras.Model, x: np.ndarray, target: np.ndarray, seed: int) -> Estimate:
    """Random orders with the values of `moments` as control variate, whose cost is added."""
    control, cost = moments(n, model, x, target, seed)
    values, evaluations = sampled(n, model, x, target, seed, orders="stratified", control=control)
    return values, evaluations + cost


def moments(n: int, model: keras.Model, x: np.ndarray, target: np.ndarray, seed: int) -> Estimate:
    """Moments at four nodes. Each costs two maps a layer, forward and back, and sixteen samples forward."""
    return fast(model, x, target, seed=seed), 4 * (2 * GRADIENT + 16)


def masks(n: int, model: keras.Model, x: np.ndarray, target: np.ndarray, seed: int) -> Estimate:
    """`n` random masks, with a gradient each."""
    return fast(model, x, target, method="masks", n=n, seed=seed), GRADIENT * n


def of_target(values: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The values `(batch, players)` of each image's target, from `(batch, players, outputs)`."""
    return np.take_along_axis(values, target[:, None, None], axis=2)[..., 0]


# name: (function, sizes)
METHODS = {
    "random orders": (functools.partial(sampled, antithetic=False), PATHS),
    "antithetic orders": (sampled, PATHS),
    "antithetic, stratified": (functools.partial(sampled, orders="stratified"), PATHS),
    "antithetic, orthogonal": (functools.partial(sampled, orders="orthogonal"), PATHS),
    "antithetic, stratified, controlled": (controlled, PATHS),
    "moments": (moments, (4,)),
    "masks": (masks, GRADIENTS),
}
PEERS = {
    "shap, PermutationExplainer": (shapley_values.shap_permutations, PATHS),
    "shap, GradientExplainer": (shapley_values.shap_gradients, GRADIENTS),
    "captum, ShapleyValueSampling": (shapley_values.captum_sampling, PATHS[:3]),
}


def peers() -> dict[str, tuple]:
    """The peers that can be compared on this backend with what is installed."""
    if environment.BACKEND != "torch":
        return {}
    return {name: row for name, row in PEERS.items() if importlib.util.find_spec(name.partition(",")[0])}


def errors(network: str, seed: int, seeds: int, orders: int) -> dict[str, list[dict[str, Any]]]:
    """Costs and errors of every method on one network: by method a list of `{cost, error}`, with an error an image.

    Args:
        network: a name in `DIGITS`.
        seed: of the training, and the first seed of the estimates.
        seeds: number of seeds of the estimates.
        orders: number of orders of the truth.
    """
    (x, y), (x_test, _), examples = digits(seed)
    keras.utils.set_random_seed(seed)
    model = DIGITS[network]("relu")
    model.compile("adam", "sparse_categorical_crossentropy", jit_compile=environment.jit_compile())
    model.fit(x, y, BATCH, EPOCHS, verbose=0)
    x = x_test[examples]
    target = model.predict(x, verbose=0).argmax(axis=1)
    # its seed, and so its orders, are those of no estimate
    truth = ks.sampled_shapley_values(model, x, n_paths=orders, seed=seed + seeds, batch_size=2048)
    values, stderr = (of_target(part, target) for part in (truth.values, truth.stderr))
    points: dict[str, list[dict[str, Any]]] = {}
    for method, (function, sizes) in (METHODS | peers()).items():
        points[method] = []
        for n in sizes:
            estimates = [function(n, model, x, target, number) for number in range(seed, seed + seeds)]
            error = np.mean([relative_error(attribution, values) for attribution, _ in estimates], axis=0)
            points[method].append({"cost": estimates[0][1], "error": error.tolist()})
    noise = relative_noise(stderr, values)
    return points | {TRUTH: [{"cost": truth.n_evaluations / len(x), "error": noise.tolist()}]}


def relative_error(attribution: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Relative root mean square error of each image."""
    return np.linalg.norm(attribution.reshape(values.shape) - values, axis=1) / np.linalg.norm(values, axis=1)


def measure(args: argparse.Namespace) -> None:
    """Computes the errors on all networks, and writes them."""
    networks = {name: errors(name, args.seed, args.seeds, args.truth) for name in args.networks}
    methods = {method for by_method in networks.values() for method in by_method}
    versions = environment.versions()
    for peer in sampling_errors.PEERS:
        if any(method.startswith(peer) for method in methods):
            versions[peer] = importlib.metadata.version(peer)
    settings = {name: getattr(args, name) for name in ("seed", "seeds", "truth")}
    images = len(networks[args.networks[0]][TRUTH][0]["error"])
    record = settings | {"images": images, "versions": versions, "commit": environment.commit(), "errors": networks}
    files.write_json(args.out / sampling_errors.RESULTS, record)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script; returns its exit code."""
    parser = command_line(__doc__, EXAMPLES)
    add = parser.add_argument
    add_results(parser)
    add_seed(parser, "of training and orders")
    names = list(DIGITS)
    add("--networks", nargs="+", choices=names, default=names, metavar="NAME", help=f"(default: {' '.join(names)})")
    add("--seeds", type=at_least(2), default=10, metavar="N", help="seeds of the orders (default: 10)")
    add("--truth", type=at_least(4), default=4000, metavar="N", help="orders of the truth, even (default: 4000)")
    add_table(parser)
    return measure_and_write(parser, parsed(parser, QUICK, argv), measure, sampling_errors.write)


if __name__ == "__main__":
    sys.exit(main())
