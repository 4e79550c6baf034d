"""The studies of faithfulness: how near explanations come to Shapley values, and at what cost."""

import pathlib
import textwrap
from collections.abc import Iterator

import numpy as np

from lab import files, pictures, rows, tables
from lab.activations import ACTIVATIONS
from lab.explanations import DEFAULT, GATES, SURROGATE
from lab.faithfulness import NEARNESS, PERTURBATION, kept_file
from lab.rows import Row
from lab.statistics import over_seeds_and_images

EQ2, EQ2_WITHOUT = "eq. (2)", "eq. (2) without b/n"
# in the table of activations, if they were measured
COMPARED = (EQ2, EQ2_WITHOUT, "epsilon plus flat", DEFAULT, GATES, "integrated gradients", "moments", SURROGATE)
# in the table of networks that were trained for fewer epochs
LESS_TRAINED = ("gradient x input", EQ2, EQ2_WITHOUT, "integrated gradients", "moments", "masks 32", "masks 64")
# in the picture of maps, if they were measured
SHOWN = (
    *("image", "Shapley values", "gradient", "gradient x input", EQ2, "epsilon plus flat", "integrated gradients"),
    *(DEFAULT, "moments", "masks 64", "moments of patches", SURROGATE),
)
SHOWN_IMAGES = 3
# by the name of the files
DATA = {"faithfulness": "MNIST", "faithfulness_cifar10": "CIFAR-10"}
MODELS = {"mlp": "MLP", "conv": "Conv net"}
INTRODUCTIONS = {
    "faithfulness": """\
# How near explanations come to Shapley values

Made by `python reproduce/studies/faithfulness.py`. *Correlation*, *rank correlation* and *relative RMSE* are measured
against Shapley values by random orders, over the pixels that are not black. They are means over training seeds,
geometric means for errors, with 95 % intervals over seeds (Student's t) and images (resampled). Deletion (lower is
better), insertion (higher is better) and infidelity (lower is better) are means over seeds. *Gradients* is the cost,
in gradients of the network, each as long as three passes. It leaves out the paths of LRP's softmax and elementwise
operations, so the times on small networks are others. The gradient of a network with ShapLU, plain or integrated, is
the one that it trains with.
""",
    "faithfulness_cifar10": """\
# How near explanations come to Shapley values, on CIFAR-10

Made by `python reproduce/studies/faithfulness_cifar10.py`. *Correlation*, *rank correlation* and *relative RMSE* are
measured against the Shapley values of 64 patches by random orders; attributions are summed over the patches. They are
means over training seeds, geometric means for errors, with 95 % intervals over seeds (Student's t) and images
(resampled). Deletion (lower is better), insertion (higher is better) and infidelity (lower is better) are of pixels,
means over seeds. *Gradients* is the cost, in gradients of the network, each as long as three passes. It leaves out
the paths of LRP's softmax and elementwise operations. The gradient of a network with ShapLU, plain or integrated, is
the one that it trains with. *Default* is `ks.LRP(model)`, which is Shapley propagation; the other rules of LRP
merge BatchNormalization into the layer behind it. Moments and masks estimate the gains of pixels that enter one by one;
*gates*, *moments of patches* and *surrogate* have whole patches as players, as the truth does.
""",
}


def write(name: str, results: list[Row], out: pathlib.Path) -> str:
    """Writes the table and the two pictures of a study; returns the table."""
    text = table(name, results)
    files.write(out / f"{name}.md", text)
    draw_costs(name, results, out / f"{name}.png")
    draw_maps(name, results, out)
    return text


def values(group: list[Row], method: str, measure: str) -> np.ndarray:
    """A measure of a method for each image, `(seeds, images)`; NaN for a constant map."""
    return np.array([row["result"]["methods"][method][measure] for row in group], "float64")


def methods(group: list[Row]) -> list[str]:
    """Names of the methods that all rows have."""
    return [name for name in group[0]["result"]["methods"] if all(name in row["result"]["methods"] for row in group)]


def by_network(results: list[Row]) -> Iterator[tuple[str, str, list[list[Row]]]]:
    """`(model, activation, groups)`, with the activations in the order of `ACTIVATIONS`.

    The groups differ in their epochs; the rows of a group are sorted by seed. Only the rows with the most images for
    the truth count.
    """
    models = list(dict.fromkeys(row["run"]["model"] for row in results))
    networks = {(row["run"]["model"], row["run"]["activation"]) for row in results}
    for model, activation in sorted(networks, key=lambda key: (models.index(key[0]), list(ACTIVATIONS).index(key[1]))):
        members = [row for row in results if (row["run"]["model"], row["run"]["activation"]) == (model, activation)]
        most = max(map(_images, members))
        groups = rows.comparable(row for row in members if _images(row) == most)
        yield model, activation, [sorted(group, key=_seed) for group in groups.values()]


def named(model: str, activation: str) -> str:
    """A network in words."""
    return f"{MODELS[model]} with {pictures.ACTIVATIONS[activation][0]}"


def longest(results: list[Row]) -> list[tuple[str, str, list[Row]]]:
    """`(model, activation, rows)`: of each network the comparable rows with the most epochs."""
    return [(model, activation, groups[-1]) for model, activation, groups in by_network(results)]


def _images(row: Row) -> int:
    return len(row["result"]["noise"])


def _seed(row: Row) -> int:
    return row["run"]["seed"]


def _epochs(group: list[Row]) -> int:
    return group[0]["run"]["epochs"]


def _accuracy(group: list[Row]) -> str:
    return tables.spread([row["result"]["accuracy"] for row in group])


def table(name: str, results: list[Row]) -> str:
    """Markdown of a study: a table for each network, and the answers to its questions."""
    rng, lines = np.random.default_rng(0), [INTRODUCTIONS[name]]
    for model, activation, group in longest(results):
        lines += [f"## {named(model, activation)}", "", *_section(group, rng), ""]
    lines += [*questions(results, rng), *less_trained(results, rng), *tables.origins(results)]
    return "\n".join(lines) + "\n"


def _section(group: list[Row], rng: np.random.Generator) -> list[str]:
    noise = np.array([row["result"]["noise"] for row in group])
    ceiling = np.sqrt(np.maximum(1 - np.square(noise), 0)).mean()
    seeds = f"{len(group)} seeds" if len(group) > 1 else "1 seed, whose intervals are over images alone"
    lines = [
        f"{seeds}; {noise.shape[1]} images for the truth, whose own relative error is {noise.mean():.3f} (a perfect "
        f"map has a correlation of {ceiling:.3f} with it at most); test accuracy {_accuracy(group)}.",
        "",
        *tables.head("method", "gradients", *(measure.title for measure in NEARNESS.values()), *PERTURBATION),
    ]
    for method in methods(group):
        cells = [method, f"{np.mean(values(group, method, 'gradients')):.3g}"]
        for key, measure in NEARNESS.items():
            interval = over_seeds_and_images(values(group, method, key), rng, measure.statistic)
            cells.append(tables.with_interval(interval, scale=measure.scale))
        has_all = PERTURBATION[0] in group[0]["result"]["methods"][method]
        cells += [f"{np.mean(values(group, method, key)):.4g}" if has_all else "" for key in PERTURBATION]
        lines.append(tables.line(cells))
    return lines


def with_shared_seeds(*groups: list[Row]) -> list[list[Row]]:
    """The rows of each group whose seed is in all groups; empty lists if their images are not the same."""
    shared = set.intersection(*(set(map(_seed, group)) for group in groups))
    if len({_images(row) for group in groups for row in group}) > 1:
        shared = set()
    return [[row for row in group if _seed(row) in shared] for group in groups]


def questions(results: list[Row], rng: np.random.Generator) -> list[str]:
    """Lines on the effect of b/n, and on whether LRP explains networks with other activations better than ReLU's."""
    networks = {(model, activation): group for model, activation, group in longest(results)}
    lines = ["## Does b/n help?", ""]
    lines += ["Correlation of eq. (2) without b/n minus that of eq. (2), on the same images.", ""]
    lines += tables.head("network", "difference")
    by_model: dict[str, list[list[Row]]] = {}
    for (model, activation), group in networks.items():
        by_model.setdefault(model, []).append(group)
        lines.append(tables.line([named(model, activation), _gain(_gain_without(group), rng)]))
    for model, groups in by_model.items():
        # a seed gives networks with other activations the same first weights and images
        groups = with_shared_seeds(*groups)
        if len(groups) > 1 and groups[0]:
            mean = np.mean([_gain_without(group) for group in groups], axis=0)
            lines.append(tables.line([f"{MODELS[model]}, mean over activations", _gain(mean, rng)]))
    return [*lines, "", *_against_relu(networks, rng)]


def _against_relu(networks: dict[tuple[str, str], list[Row]], rng: np.random.Generator) -> list[str]:
    """Lines on whether networks with other activations are explained better than ReLU's; none if there are none."""
    measured = {name for group in networks.values() for name in methods(group)}
    compared = [name for name in COMPARED if name in measured]
    lines = []
    for (model, activation), group in networks.items():
        group, base = with_shared_seeds(group, networks.get((model, "relu"), []))
        if activation != "relu" and group:
            shared = {name for name in methods(group) if name in methods(base)}
            gains = (
                _gain(_correlations(group, name) - _correlations(base, name), rng) if name in shared else ""
                for name in compared
            )
            lines.append(tables.line([named(model, activation), *gains]))
    if not lines:
        return []
    words = "Correlation minus that of the network with ReLU, by the same method on the same images."
    title = "## Are networks with other activations explained better than with ReLU?"
    return [title, "", words, "", *tables.head("network", *compared), *lines, ""]


def _gain_without(group: list[Row]) -> np.ndarray:
    return _correlations(group, EQ2_WITHOUT) - _correlations(group, EQ2)


def _correlations(group: list[Row], method: str) -> np.ndarray:
    return values(group, method, "correlation")


def _gain(gain: np.ndarray, rng: np.random.Generator) -> str:
    return tables.with_interval(over_seeds_and_images(gain, rng), "+")


def less_trained(results: list[Row], rng: np.random.Generator) -> list[str]:
    """Lines of a table on networks that were also trained for fewer epochs; none if there are no such rows."""
    lines = []
    for model, activation, groups in by_network(results):
        fewer = [group for group in groups if _epochs(group) < _epochs(groups[-1])]
        for group in [*fewer, groups[-1]] if fewer else []:
            correlations = (_correlations(group, method) for method in LESS_TRAINED)
            means = (tables.with_interval(over_seeds_and_images(numbers, rng)) for numbers in correlations)
            lines.append(tables.line([named(model, activation), str(_epochs(group)), _accuracy(group), *means]))
    if not lines:
        return []
    head = tables.head("network", "epochs", "test accuracy", *LESS_TRAINED)
    words = (
        "Correlation for networks that were trained for fewer epochs, by `--epochs`, beside that of the tables above."
    )
    return ["## What does training do?", "", words, "", *head, *lines, ""]


def draw_costs(name: str, results: list[Row], path: pathlib.Path) -> None:
    """Draws the correlation of each method, by cost, with a panel for each network."""
    networks = longest(results)
    models = list(dict.fromkeys(model for model, _, _ in networks))
    costs = {
        method: np.mean(values(group, method, "gradients")) for _, _, group in networks for method in methods(group)
    }
    names = sorted(costs, key=lambda method: costs[method])
    with pictures.picture(path, 8, 0.24 * len(names) + 1.3) as figure:
        panels = figure.subplots(1, len(models), sharey=True, squeeze=False)[0]
        for axes, model in zip(panels, models):
            for activation, group in [(activation, group) for each, activation, group in networks if each == model]:
                near = {method: _correlations(group, method).mean() for method in methods(group)}
                label, colour, marker = pictures.ACTIVATIONS[activation]
                heights = [names.index(method) for method in near]
                axes.plot(list(near.values()), heights, marker, color=colour, label=label, alpha=0.8, ms=5)
            axes.set(
                title=f"{MODELS[model]}, {DATA[name]}", xlim=(None, 1.02), xlabel="correlation with Shapley values"
            )
            axes.grid(lw=0.3)
        panels[0].set_yticks(
            range(len(names)), [f"{method}  ({costs[method]:.3g})" for method in names], fontsize="small"
        )
        panels[0].invert_yaxis()
        figure.suptitle("How near do explanations come to Shapley values? In brackets: cost in gradients")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize="small")


def draw_maps(name: str, results: list[Row], out: pathlib.Path) -> None:
    """Draws some images with the attributions of some methods, for the networks with ReLU and with SA."""
    kept = {
        named(model, activation): out / kept_file(name, group[0]["run"])
        for model, activation, group in longest(results)
        if activation in ("relu", "sa")
    }
    kept = {network: path for network, path in kept.items() if path.exists()}
    if not kept:
        return
    with pictures.picture(out / f"{name}_maps.png", 8, 3.2 * len(kept) + 0.3) as figure:
        title = "What do explanations show? Red speaks for the class, blue against it; each map has its own scale"
        figure.suptitle(title, fontsize="medium")
        for part, (network, path) in zip(np.atleast_1d(figure.subfigures(len(kept), 1)), kept.items()):
            part.suptitle(network, fontsize="small")
            with np.load(path) as file:
                names = [method for method in SHOWN if method in file]
                panels = part.subplots(min(SHOWN_IMAGES, len(file["image"])), len(names), squeeze=False)
                for column, title in zip(panels.T, names):
                    for axes, array in zip(column, np.float32(file[title])):
                        scale = np.abs(array).max()
                        colours = (
                            {"cmap": "gray"} if title == "image" else {"cmap": "bwr", "vmin": -scale, "vmax": scale}
                        )
                        axes.imshow(array, interpolation="nearest", **colours)
                        axes.set(xticks=[], yticks=[])
                    column[0].set_title(textwrap.fill(title, 10), fontsize=7)
