"""Errors of estimates of Shapley values against what they cost, beside those of shap and captum.

A small MLP and a conv net, trained on scikit-learn's digits; the players are the 64 pixels, absent ones black, and the
Shapley values of the predicted class's probability are wanted. The error is the relative root mean square over the
pixels of an image against 4,000 antithetic random orders; the cost counts evaluations of the network for one image, a
gradient for three. shap and captum are optional, and compared on PyTorch, where captum runs.
"""

import functools
import importlib.metadata
import importlib.util
import json
import sys

import environment
import experiment
import files
import keras
import numpy as np
import quickstart
import shap_peers
from arguments import add_results, at_least, command_line, errors_in_one_line
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from shap_peers import GRADIENT

import keras_shapley as ks

EPOCHS, TRUTH = 8, 4000
PATHS = (4, 16, 64, 256)
GRADIENTS = (16, 64, 256)
SEEDS = 10  # of the orders
DRAWS = 1000  # of images, for an interval
INTRODUCTION = f"""\
# Errors of Shapley values by cost

Made by `python reproduce/sampling_errors.py`: relative RMSE, mean over {SEEDS} seeds of the orders and ten digits with
its 95 % interval from resampled images; in front of it the evaluations of the network an image, of which a gradient
counts for {GRADIENT}. Pixels that are black are no players; for captum they are one. The truth is {TRUTH:,} antithetic
orders; its own error is in the last row.
"""


def sampled(n, model, x, target, seed, **options):
    """`(values, evaluations an image)` by random orders."""
    found = ks.sampled_shapley_values(model, x, n_paths=n, seed=seed, batch_size=2048, **options)
    return of_target(found.values, target).reshape(x.shape), found.n_evaluations / len(x)


def controlled(n, model, x, target, seed):
    """With the moments' values as control variate, whose four gradients and samples cost as well."""
    control, cost = moments(n, model, x, target, seed)
    values, evaluations = sampled(n, model, x, target, seed, orders="stratified", control=control)
    return values, evaluations + cost


def moments(n, model, x, target, seed):
    """Four nodes: two maps a layer in place of one, forward and back, and sixteen samples forward."""
    return ks.fast_shapley_values(model, x, target, seed=seed).values, 4 * (2 * GRADIENT + 16)


def masks(n, model, x, target, seed):
    return ks.fast_shapley_values(model, x, target, method="masks", n=n, seed=seed).values, GRADIENT * n


def of_target(values, target):
    """Of `(batch, players, outputs)`, each image's own output: `(batch, players)`."""
    return np.take_along_axis(values, target[:, None, None], axis=2)[..., 0]


def captum_sampling(n, model, x, target, seed):
    import captum.attr
    import torch

    torch.manual_seed(seed)
    method = captum.attr.ShapleyValueSampling(lambda batch: model(batch, training=False))
    values, evaluations = [], 0
    for image, k in zip(x, target):
        # all black pixels are one player
        present = image != 0
        players = torch.tensor(np.where(present, np.cumsum(present).reshape(image.shape), 0))[None]
        with torch.no_grad():
            found = method.attribute(
                torch.tensor(image[None]), target=int(k), feature_mask=players, n_samples=n, perturbations_per_eval=64
            )
        values.append(found[0].cpu().numpy() * present)
        evaluations += n * (1 + present.sum()) + 1
    return np.stack(values), float(evaluations / len(x))


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
    "shap, PermutationExplainer": (shap_peers.permutations, PATHS),
    "shap, GradientExplainer": (shap_peers.gradients, GRADIENTS),
    "captum, ShapleyValueSampling": (captum_sampling, PATHS[:3]),
}


def peers():
    """Those of the peers that can be compared here."""
    if keras.backend.backend() != "torch":
        return {}
    return {name: row for name, row in PEERS.items() if importlib.util.find_spec(name.partition(",")[0])}


def errors(name, seed, quick):
    """Errors and costs of every method on one network: by method a list of `{cost, error: (mean, low, high)}`."""
    (x, y), (x_test, _), examples = quickstart.digits(seed)
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(quickstart.NETWORKS[name]("relu"))
    model.compile("adam", "sparse_categorical_crossentropy", jit_compile=environment.jit_compile())
    model.fit(x, y, quickstart.BATCH, EPOCHS, verbose=0)
    x = x_test[examples]
    target = model.predict(x, verbose=0).argmax(axis=1)
    # orders of its own
    n_paths, of_truth = TRUTH // 50 if quick else TRUTH, seed + SEEDS
    truth = ks.sampled_shapley_values(model, x, n_paths=n_paths, seed=of_truth, batch_size=2048)
    values, stderr = (of_target(part, target) for part in (truth.values, truth.stderr))
    found = {}
    for method, (function, sizes) in (METHODS | peers()).items():
        found[method] = []
        for n in sizes[: 2 if quick else None]:
            tries = [function(n, model, x, target, each) for each in range(seed, seed + (2 if quick else SEEDS))]
            error = np.mean([_error(attribution, values) for attribution, _ in tries], axis=0)
            found[method].append({"cost": tries[0][1], "error": _interval(error, seed)})
    noise = np.linalg.norm(stderr, axis=1) / np.linalg.norm(values, axis=1)
    return found | {"truth": [{"cost": truth.n_evaluations / len(x), "error": _interval(noise, seed)}]}


def _error(attribution, values):
    """Relative root mean square of each image."""
    return np.linalg.norm(attribution.reshape(values.shape) - values, axis=1) / np.linalg.norm(values, axis=1)


def _interval(values, seed):
    means = values[np.random.default_rng(seed).integers(len(values), size=(DRAWS, len(values)))].mean(axis=1)
    return [float(values.mean()), *map(float, np.quantile(means, (0.025, 0.975)))]


def table(record):
    """Markdown of the errors."""
    lines = [INTRODUCTION]
    for name, by_method in record["errors"].items():
        columns = max(map(len, by_method.values()))
        lines += [f"## {name}", "", *experiment.markdown("", *[""] * columns)]
        for method, row in by_method.items():
            cells = ["{:,.0f}: {:.3f} ({:.3f} to {:.3f})".format(point["cost"], *point["error"]) for point in row]
            lines.append(f"| {' | '.join([method, *cells, *[''] * (columns - len(cells))])} |")
        lines.append("")
    versions = ", ".join(f"{package} {version}" for package, version in record["versions"].items())
    return "\n".join([*lines, f"- Seed {record['seed']}; {versions}; commit {record['commit']}."]) + "\n"


def picture(path, found):
    """Draws error against cost into a file, a panel for each network."""
    figure = Figure(figsize=(6.5 * len(found), 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (name, by_method) in zip(figure.subplots(1, len(found), sharey=True, squeeze=False)[0], found.items()):
        for marker, (method, row) in zip(
            "ov^<>sDPX*", ((key, row) for key, row in by_method.items() if key != "truth")
        ):
            costs, points = [point["cost"] for point in row], np.array([point["error"] for point in row])
            spread = (points[:, 0] - points[:, 1], points[:, 2] - points[:, 0])
            style = "--" if method in PEERS else "-"
            axes.errorbar(costs, points[:, 0], spread, marker=marker, ls=style, capsize=2, label=method)
        axes.set(xscale="log", yscale="log", xlabel="evaluations of the network an image", title=name)
    axes.legend(fontsize="x-small")
    figure.supylabel("relative RMSE against Shapley values")
    with files.replaced(path) as file:
        figure.savefig(file, dpi=100, format="png")


def main(argv=None):
    """Runs the script; gives its exit code."""
    parser = command_line(__doc__)
    add = parser.add_argument
    add_results(parser)
    add("--seed", type=at_least(0), default=0, metavar="N", help="of training and orders (default: 0)")
    add("--quick", action="store_true", help="the MLP alone, with a rough truth and few points")
    add("--table", action="store_true", help="write table and picture from the results, compute nothing")
    args = parser.parse_args(argv)
    path = args.out / "sampling_errors.json"
    with errors_in_one_line(parser):
        if not args.table:
            args.out.mkdir(parents=True, exist_ok=True)
            networks = ("mlp",) if args.quick else tuple(quickstart.NETWORKS)
            found = {name: errors(name, args.seed, args.quick) for name in networks}
            versions = environment.versions()
            versions |= {name: importlib.metadata.version(name) for name in ("shap", "captum") if _met(name, found)}
            where = {"versions": versions, "commit": environment.commit()}
            files.write(path, json.dumps({"seed": args.seed, **where, "errors": found}, indent=1) + "\n")
        record = files.read_json(path)
        text = table(record)
        files.write(args.out / "sampling_errors.md", text)
        picture(args.out / "sampling_errors.png", record["errors"])
    print(text)
    return 0


def _met(peer, found):
    return any(method.startswith(peer) for by_method in found.values() for method in by_method)


if __name__ == "__main__":
    sys.exit(main())
