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
import grid
import keras
import numpy as np
import quickstart
import shap_peers
from arguments import add_results, at_least, command_line, errors_in_one_line, parsed
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from shap_peers import GRADIENT

import keras_shapley as ks

EPOCHS = 8
PATHS = (4, 16, 64, 256)
GRADIENTS = (16, 64, 256)
QUICK = {"networks": ["mlp"], "seeds": 2, "truth": 80, "out": files.RUNS / "sampling_errors"}
INTRODUCTION = """\
# Errors of Shapley values by cost

Made by `python reproduce/sampling_errors.py`: relative RMSE, mean over {seeds} seeds of the orders and {images} digits
with its 95 % interval over digits (Student's t); in front of it the evaluations of the network an image, of which a
gradient counts for {gradient}. Pixels that are black are no players; for captum they are one. The truth is {truth:,}
antithetic orders; its own error is in the last row.
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


def errors(name, args):
    """Errors and costs of every method on one network: by method a list of `{cost, error: of each image}`."""
    (x, y), (x_test, _), examples = quickstart.digits(args.seed)
    keras.utils.set_random_seed(args.seed)
    model = keras.Sequential(quickstart.NETWORKS[name]("relu"))
    model.compile("adam", "sparse_categorical_crossentropy", jit_compile=environment.jit_compile())
    model.fit(x, y, quickstart.BATCH, EPOCHS, verbose=0)
    x = x_test[examples]
    target = model.predict(x, verbose=0).argmax(axis=1)
    # orders of its own
    of_truth = args.seed + args.seeds
    truth = ks.sampled_shapley_values(model, x, n_paths=args.truth, seed=of_truth, batch_size=2048)
    values, stderr = (of_target(part, target) for part in (truth.values, truth.stderr))
    found = {}
    for method, (function, sizes) in (METHODS | peers()).items():
        found[method] = []
        for n in sizes:
            tries = [function(n, model, x, target, seed) for seed in range(args.seed, of_truth)]
            error = np.mean([_error(attribution, values) for attribution, _ in tries], axis=0)
            found[method].append({"cost": tries[0][1], "error": error.tolist()})
    noise = np.linalg.norm(stderr, axis=1) / np.linalg.norm(values, axis=1)
    return found | {"truth": [{"cost": truth.n_evaluations / len(x), "error": noise.tolist()}]}


def _error(attribution, values):
    """Relative root mean square of each image."""
    return np.linalg.norm(attribution.reshape(values.shape) - values, axis=1) / np.linalg.norm(values, axis=1)


def table(record):
    """Markdown of the errors."""
    lines = [INTRODUCTION.format(gradient=GRADIENT, **{name: record[name] for name in ("seeds", "images", "truth")})]
    for name, by_method in record["errors"].items():
        columns = max(map(len, by_method.values()))
        lines += [f"## {name}", "", *experiment.markdown("", *[""] * columns)]
        for method, row in by_method.items():
            intervals = [experiment.in_words(*grid.interval(point["error"])[:2]) for point in row]
            cells = [f"{point['cost']:,.0f}: {words}" for point, words in zip(row, intervals)]
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
            costs, points = [point["cost"] for point in row], [grid.interval(point["error"])[:2] for point in row]
            style = "--" if method in PEERS else "-"
            axes.errorbar(costs, *zip(*points), marker=marker, ls=style, capsize=2, label=method)
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
    networks = list(quickstart.NETWORKS)
    add("--networks", nargs="+", choices=networks, default=networks, metavar="NAME", help="(default: mlp convnet)")
    add("--seeds", type=at_least(2), default=10, metavar="N", help="of the orders (default: 10)")
    add("--truth", type=at_least(4), default=4000, metavar="N", help="orders of the truth, even (default: 4000)")
    add("--table", action="store_true", help="write table and picture from the results, compute nothing")
    args = parsed(parser, QUICK, argv)
    path = args.out / "sampling_errors.json"
    with errors_in_one_line(parser):
        if not args.table:
            args.out.mkdir(parents=True, exist_ok=True)
            found = {name: errors(name, args) for name in args.networks}
            versions = environment.versions()
            versions |= {name: importlib.metadata.version(name) for name in ("shap", "captum") if _met(name, found)}
            settings = {name: getattr(args, name) for name in ("seed", "seeds", "truth")}
            record = settings | {"images": len(found[args.networks[0]]["truth"][0]["error"]), "versions": versions}
            record |= {"commit": environment.commit(), "errors": found}
            files.write(path, json.dumps(record, indent=1) + "\n")
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
