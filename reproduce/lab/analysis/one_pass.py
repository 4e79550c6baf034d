"""The study of methods that take one pass: how near each comes to Shapley values from the same baseline."""

import pathlib
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from lab import files, pictures, tables
from lab.faithfulness import NEARNESS
from lab.rows import Row
from lab.statistics import Interval, number, over_seeds_and_images

NAME = "one_pass"
DEFAULT, GATES, INTEGRATED = "default", "default, gates=8", "integrated gradients, {} steps"
EQ2 = "eq. (2)"
QUANTITIES = ("logit", "probability")
# of the networks, by their names in runs
TITLES = {
    "breast_cancer_mlp": "Breast cancer, MLP",
    "mnist_mlp": "MNIST, MLP",
    "mnist_conv": "MNIST, average-pooling net",
    "mnist_max_pool": "MNIST, max-pooling net",
    "mnist_mlp_black": "MNIST, MLP, black",
    "mnist_max_pool_black": "MNIST, max-pooling net, black",
    "cifar10_max_pool": "CIFAR-10, max-pooling net",
    "cifar10_conv": "CIFAR-10, five convolutions",
    "resnet20": "CIFAR-10, ResNet-20",
}
# how far the default may be from the best
MARGIN = 0.03
COLUMNS = ("correlation", "less the default's", "relative RMSE, median", "arrives, median")
INTRODUCTION = """\
# Methods of one pass beside Shapley values

Made by `python reproduce/studies/one_pass.py`. Is the default the nearest to Shapley values of the methods that take
one pass? The *default* is `ks.LRP(model)`. Each network is explained for the predicted class, once its logit
(`head="linear"`) and once its probability. The truth is Shapley values by random orders. Players are features, or
patches of 4 x 4 pixels, whose relevance is summed. The baseline is the mean of the training data, which is zero because
the data are centred; in networks whose name ends in "black", it is a black image. Players that equal the baseline do
not count. Presets without "from the baseline" are as published, with BatchNormalization merged. Without convolutions
`epsilon_plus`, `epsilon_gamma_box` and `epsilon_alpha2_beta1` are `epsilon`.

Correlations are means over seeds and images, with 95 % intervals over seeds (Student's t) and images (resampled); a map
that is constant or not finite counts as 0. *Arrives* is the sum of the relevance over `f(x) - f(baseline)`.
"""
SUMMARY = f"""\
The truth is itself an estimate: a perfect map would have the correlation in the column *ceiling*. Whether the default
is within {MARGIN} of the best is decided by the means.
"""


def measured(attributions: np.ndarray, values: np.ndarray, present: np.ndarray) -> dict[str, list[float | None]]:
    """Correlation, relative error and share that arrives, of each image.

    Args:
        attributions: by player, `(images, players)`.
        values: Shapley values, same shape.
        present: which players differ from the baseline, same shape.
    """
    measures: dict[str, list[float | None]] = {"correlation": [], "error": [], "arrives": []}
    for attribution, value, chosen in zip(attributions, values, present):
        is_finite = np.isfinite(attribution).all()
        for name in ("correlation", "error"):
            nearness = NEARNESS[name].of_images
            measures[name].append(
                number(nearness(attribution[None, chosen], value[None, chosen])[0]) if is_finite else None
            )
        measures["arrives"].append(number(attribution.sum() / value.sum()) if is_finite else None)
    return measures


def write(results: list[Row], out: pathlib.Path) -> str:
    """Writes the table and the picture; returns the table.

    Raises:
        ValueError: if there is no finished run.
    """
    if not results:
        raise ValueError(f"{out / NAME}.jsonl holds no finished run")
    networks = by_network(results)
    text = table(networks)
    files.write(out / f"{NAME}.md", text)
    draw(networks, out / f"{NAME}.png")
    return text


def by_network(results: list[Row]) -> dict[str, list[Row]]:
    """The rows of each network by its name, sorted by seed: those that differ in their seed alone and are most."""
    groups: dict[str, dict[tuple, list[Row]]] = {}
    for row in results:
        settings = tuple(row["run"][name] for name in ("epochs", "limit", "images", "orders"))
        where = (*settings, row["backend"], row["data"])
        groups.setdefault(row["run"]["model"], {}).setdefault(where, []).append(row)
    return {
        model: sorted(max(of_model.values(), key=len), key=lambda row: row["run"]["seed"])
        for model, of_model in sorted(groups.items())
    }


def values(group: list[Row], quantity: str, method: str, measure: str) -> np.ndarray:
    """A measure for each image, `(seeds, images)`; that of a map without one is 0, and infinite for the error."""
    lists = [row["result"]["methods"][quantity][method][measure] for row in group]
    missing = np.inf if measure == "error" else 0.0
    return np.array([[missing if value is None else value for value in of_seed] for of_seed in lists])


def takes_one_pass(method: str) -> bool:
    """Whether a method takes one pass forward and back, and one more forward for the baseline."""
    return method != GATES and not method.startswith(INTEGRATED.partition(",")[0])


def methods(group: list[Row]) -> list[str]:
    """The names of the methods of a network; those that take more than one pass come last."""
    return sorted(group[0]["result"]["methods"][QUANTITIES[0]], key=lambda name: not takes_one_pass(name))


def best_of_one_pass(group: list[Row], quantity: str) -> str:
    """The method with one pass that has the highest mean correlation."""
    return max(
        filter(takes_one_pass, methods(group)), key=lambda name: values(group, quantity, name, "correlation").mean()
    )


def ceiling(group: list[Row], quantity: str) -> float:
    """Correlation of a perfect map with the truth, whose error is independent of it."""
    noise = np.array([row["result"]["noise"][quantity] for row in group], "float64")
    return float(np.sqrt(np.maximum(1 - np.square(noise), 0)).mean())


def correlation(group: list[Row], quantity: str, method: str, rng: np.random.Generator) -> Interval:
    """Mean correlation of a method."""
    return over_seeds_and_images(values(group, quantity, method, "correlation"), rng)


def gain(group: list[Row], quantity: str, a: str, b: str, rng: np.random.Generator) -> Interval:
    """Mean correlation of method `a` less that of `b`, on the same images."""
    correlations = (values(group, quantity, method, "correlation") for method in (a, b))
    return over_seeds_and_images(np.subtract(*correlations), rng)


def table(networks: dict[str, list[Row]]) -> str:
    """Markdown: the verdicts, and a section for each network."""
    rng = np.random.default_rng(0)
    lines = [INTRODUCTION, "## Verdicts", "", SUMMARY, *verdicts(networks, rng), ""]
    for model, group in networks.items():
        lines += [f"## {TITLES[model]}", "", *section(group, rng), ""]
    lines += tables.origins(row for group in networks.values() for row in group)
    return "\n".join(lines) + "\n"


def verdicts(networks: dict[str, list[Row]], rng: np.random.Generator) -> list[str]:
    """Lines of the table that compares the default with the best method of one pass, and with two of more passes."""
    more = [name for name in methods(next(iter(networks.values()))) if not takes_one_pass(name)]
    n_within = 0
    titles = "explained", "ceiling", "default", "best of one pass", "default less the best", f"within {MARGIN}"
    lines = tables.head("network", *titles, *more)
    for model, group in networks.items():
        for quantity in QUANTITIES:
            best = best_of_one_pass(group, quantity)
            difference = gain(group, quantity, DEFAULT, best, rng)
            is_within = difference.mean >= -MARGIN
            n_within += is_within
            lines.append(
                tables.line(
                    [
                        TITLES[model],
                        quantity,
                        f"{ceiling(group, quantity):.3f}",
                        tables.with_interval(correlation(group, quantity, DEFAULT, rng)),
                        f"{best} {correlation(group, quantity, best, rng).mean:.3f}",
                        "" if best == DEFAULT else tables.with_interval(difference, "+"),
                        f"{'yes' if is_within else 'no'}, best is {best}",
                        *(f"{correlation(group, quantity, name, rng).mean:.3f}" for name in more),
                    ]
                )
            )
    n_all = len(networks) * len(QUANTITIES)
    return [
        *lines,
        "",
        f"The default is the best, or within {MARGIN} of the best, in {n_within} of {n_all} comparisons.",
    ]


def section(group: list[Row], rng: np.random.Generator) -> list[str]:
    """Lines on one network."""
    run, accuracies = group[0]["run"], [row["result"]["accuracy"] for row in group]
    noise = ", ".join(
        f"{np.mean([row['result']['noise'][quantity] for row in group]):.3f} ({quantity})" for quantity in QUANTITIES
    )
    seeds = f"{len(group)} seeds" if len(group) > 1 else "1 seed, whose intervals are over images alone"
    lines = [
        f"{seeds}; {run['epochs']} epochs; test accuracy {tables.spread(accuracies)}; {run['images']} images; "
        f"{run['orders']} orders, whose relative error is {noise}.",
        "",
        *tables.head("method", *(f"{quantity}: {column}" for quantity in QUANTITIES for column in COLUMNS)),
    ]
    for method in methods(group):
        cells = [method]
        for quantity in QUANTITIES:
            difference = gain(group, quantity, method, DEFAULT, rng)
            error, arrives = (np.median(values(group, quantity, method, name)) for name in ("error", "arrives"))
            cells += [
                tables.with_interval(correlation(group, quantity, method, rng)),
                "" if method == DEFAULT else tables.with_interval(difference, "+"),
                f"{error:.3g}",
                f"{arrives:.3g}",
            ]
        lines.append(tables.line(cells))
    return lines


def draw(networks: dict[str, list[Row]], path: pathlib.Path) -> None:
    """Draws the correlation of every method, with a row for each network."""
    rng = np.random.default_rng(0)
    with pictures.picture(path, 8, 0.42 * len(networks) + 1.6) as figure:
        for axes, quantity in zip(figure.subplots(1, len(QUANTITIES), sharex=True, sharey=True), QUANTITIES):
            for height, group in enumerate(networks.values()):
                _draw_network(axes, group, quantity, height, rng)
            axes.set_title(f"{quantity} of the predicted class", fontsize="medium")
            axes.set(xlabel="correlation with Shapley values", xlim=(-0.05, 1.02), ylim=(len(networks) - 0.5, -0.5))
            axes.set_yticks(range(len(networks)), [TITLES[name] for name in networks], fontsize="small")
            axes.grid(axis="x", lw=0.3)
        found = {label: handle for axes in figure.axes for handle, label in zip(*axes.get_legend_handles_labels())}
        figure.legend(found.values(), found, loc="outside lower center", ncols=3, fontsize="small")
        figure.suptitle("Is the default the nearest to Shapley values of the methods of one pass?")


def _draw_network(axes: Axes, group: list[Row], quantity: str, height: int, rng: np.random.Generator) -> None:
    """Draws a point for each method; the default above the others, with its interval."""
    for method in methods(group):
        if method == DEFAULT:
            continue
        x = values(group, quantity, method, "correlation").mean()
        label, style = _style(method)
        axes.plot(x, height + 0.15, label=label, ls="", **style)
    own = correlation(group, quantity, DEFAULT, rng)
    style = {"fmt": "o", "color": "#b2182b", "ms": 6, "lw": 1.2, "zorder": 4}
    axes.errorbar(own.mean, height - 0.15, xerr=own.half, label=DEFAULT, **style)


def _style(method: str) -> tuple[str, dict[str, Any]]:
    """The label and the marker of a method other than the default."""
    if method == GATES:
        return f"{method} (more passes)", {"marker": "D", "color": "#2166ac", "ms": 4}
    if not takes_one_pass(method):
        return f"{method.partition(',')[0]} (more passes)", {"marker": "s", "color": "#1b7837", "ms": 4}
    if method == EQ2:
        return method, {"marker": "x", "color": "black", "ms": 5, "zorder": 3}
    return "other methods of one pass", {"marker": "|", "color": "0.5", "ms": 9}
