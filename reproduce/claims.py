"""What the paper says beside its figures, held against the results: functions of their directory.

Each gives the paper's words, ours, and a verdict; `report` puts them into its table.
"""

import cifar10_resnet20
import experiment
import figure3_mnist_mlp
import files
import grid
import large_bias
import numpy as np
import shapley_gradient
import study
import table2_cifar10_mlp

CLAIMS = """\
## What the paper says beside them
"""
ABSENT = "not run"


def verdict(held):
    """In words, from what the paper says and whether it came out, by words a bool."""
    failed = [words for words, came_out in held.items() if not came_out]
    if failed:
        return f"partly; not: {', '.join(failed)}" if len(failed) < len(held) else "not reproduced"
    return "reproduced"


def longest(found):
    """The rows with the most epochs that ReLU was run for."""
    epochs = max((row["run"]["epochs"] for row in found if row["run"]["activation"] == "relu"), default=None)
    return [row for row in found if row["run"]["epochs"] == epochs]


def lines(results):
    """Lines on what the paper says beside its figures."""
    found = [CLAIMS, *experiment.markdown("the paper", "here", "verdict")]
    for claim in (
        accurate_approximation,
        crude_approximation,
        dropped_terms,
        permutation_dropout,
        fewer_epochs,
        large_biases,
        six_relus,
    ):
        found.append(f"| {' | '.join(claim(results))} |")
    return found


def accurate_approximation(results):
    words = "eq. (1) is an accurate approximation of the Shapley values of a neuron"
    path = results / "neuron_accuracy.json"
    if not path.exists():
        return words, "", ABSENT
    by_width = files.read_json(path)["errors"]["normal"]
    listed = "; ".join(
        f"{n} inputs {by_width[n]['eq. (1)'][0]:.3f}, {by_width[n]['quadrature'][0]:.3f}" for n in ("4", "16", "1024")
    )
    ours = f"relative error of eq. (1), and of a quadrature with the same sums: {listed}"
    few, many = (by_width[n]["eq. (1)"][0] < 0.1 for n in ("4", "1024"))
    return words, ours, verdict({"for few inputs": few, "for many": many})


def crude_approximation(results):
    words = "LRP by eq. (2) is a crude approximation of the Shapley values of the network"
    found = grid.rows(results / "faithfulness.jsonl")
    if not found:
        return words, "", ABSENT
    means = {
        f"{model} with {activation}": [study.of(rows, name, "correlation").mean() for name in ("eq. (2)", "moments")]
        for model, activation, rows in study.groups(found)
    }
    listed = "; ".join("{}: {:.3f}, {:.3f}".format(name, *pair) for name, pair in means.items())
    ours = f"MNIST, correlation with them of eq. (2), and of `fast_shapley_values`: {listed}"
    return words, ours, verdict({"crude": all(lrp < fast for lrp, fast in means.values())})


def dropped_terms(results):
    words = "the terms of eq. (4) that ShapLU drops are small, and SA's gradient closely matches the Shapley gradient"
    path = results / "shapley_gradient.json"
    if not path.exists():
        return words, "", ABSENT
    rows = files.read_json(path)["rows"]
    least = {
        name: min(
            shapley_gradient.statistics(rows, n, step, (name, "cosine"))[0]
            for n in (1, 2)
            for step in shapley_gradient.STEPS
        )
        for name in ("relu", "shaplu", "shaplu_full", "sa")
    }
    ours = (
        "cosine with the Shapley gradient by random orders, least over six steps of the training of Fig. 3's network "
    )
    ours += "and its two hidden layers: " + ", ".join(f"{name} {value:.3f}" for name, value in least.items())
    return words, ours, verdict({"ShapLU": least["shaplu"] > 0.95, "SA": least["sa"] > 0.95})


def permutation_dropout(results):
    words = "training with random permutations of the inputs, as a dropout, is similar to ShapLU"
    rows = figure3_mnist_mlp.of(grid.rows(results / "figure3.jsonl"), ("Adam", 0.001))
    pair = grid.paired(rows, "relu_permutation_dropout", "shaplu", figure3_mnist_mlp.final)
    if pair is None:
        return words, "", ABSENT
    ours = f"Fig. 3 with Adam: validation {experiment.difference(pair)} over ShapLU's"
    return words, ours, verdict({"similar": abs(pair[0]) < 0.01})


def fewer_epochs(results):
    words = "SA needs fewer epochs"
    found = longest(grid.rows(results / "table2.jsonl"))
    counts = table2_cifar10_mlp.epochs_to_reach(found, "sa")
    if not counts:
        return words, "", ABSENT
    epochs = found[0]["run"]["epochs"]
    ours = f"Table 2: until ReLU's final validation, median {np.median(counts):g} epochs of {epochs}; not reached in "
    ours += f"{np.isinf(counts).sum()} of {len(counts)} runs"
    return words, ours, verdict({"fewer": np.median(counts) < epochs})


def large_biases(results):
    words = "where b is much larger than the products, eq. (2) deals relevance out equally, which is more sensible"
    median = {name: np.median(values) for name, values in large_bias.spreads(100, seed=0).items()}
    ours = "b a hundred times the products' root mean square, standard deviation of shares in units of their mean: "
    ours += ", ".join(f"{name} {value:.2f}" for name, value in median.items())
    ours += "; the Shapley values of such a neuron are its products, not equal"
    return (
        words,
        ours,
        verdict({"equal": median["eq. (2)"] < 0.1, "as Shapley values": median["exact Shapley values"] < 0.1}),
    )


def six_relus(results):
    words = "(what becomes of the six ReLUs of ResNet-20 behind an addition is not said)"
    found = [row for row in grid.rows(results / "figure5.jsonl") if row["run"]["activation"] == "sa"]
    most = {}
    for row in found:
        model, epochs = row["run"]["model"], row["run"]["epochs"]
        most[model] = max(epochs, most.get(model, 0))
    if len(most) < 2:
        return words, "", ABSENT
    epochs = min(most.values())
    found = cifar10_resnet20.until(found, epochs)
    listed = []
    for model in most:
        rows = [row for row in found if row["run"]["model"] == model]
        means = (np.mean([cifar10_resnet20.final(key)(row) for row in rows]) for key in ("accuracy", "val_accuracy"))
        listed.append(f"{model} ({len(rows)}) " + ", ".join(f"{mean:.4f}" for mean in means))
    ours = f"SA, {epochs} epochs (number of seeds), training and validation: {'; '.join(listed)}"
    return words, ours, "open: a first look"
