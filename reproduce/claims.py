"""What the paper says beside its figures, held against the results: functions of their directory.

Each gives the paper's words, ours, and a verdict; `report` puts them into its table.
"""

import cifar10_resnet20
import experiment
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
ABSENT, FIRST_LOOK = "not run", "open: a first look"
ALIKE = 0.01  # largest difference of accuracies that are alike


def verdict(held):
    """In words, from what the paper says and whether it came out: by words a bool, or None for what is not shown."""
    came_out, failed, not_shown = (
        [words for words, value in held.items() if (None if value is None else bool(value)) is wanted]
        for wanted in (True, False, None)
    )
    if not failed and not not_shown:
        return "reproduced"
    parts = ["partly"] * bool(came_out)
    if failed:
        parts.append(f"not: {', '.join(failed)}" if came_out or not_shown else "not reproduced")
    if not_shown:
        parts.append(f"not shown: {', '.join(not_shown)}")
    return "; ".join(parts)


def better(pair):
    """Whether a difference, as `grid.paired` gives it, is above zero; None where its interval holds zero."""
    mean, half, n = pair
    return None if n < 2 or abs(mean) <= half else mean > 0


def alike(pair):
    """Whether a difference is smaller than `ALIKE` in its whole interval; None where a part of it is."""
    mean, half, n = pair
    if n < 2 or abs(mean) - half <= ALIKE < abs(mean) + half:
        return None
    return abs(mean) + half <= ALIKE


def lines(results):
    """Lines on what the paper says beside its figures."""
    found = [CLAIMS, *experiment.markdown("the paper", "here", "verdict")]
    for claim in (
        accurate_approximation,
        crude_approximation,
        dropped_terms,
        permutation_dropout,
        fewer_epochs,
        training_time,
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
    ours = f"relative error of eq. (1), and of a quadrature with the same sums, normal inputs: {listed}"
    few, many = (by_width[n]["eq. (1)"][0] < 0.1 for n in ("4", "1024"))
    return words, ours, verdict({"for few inputs": few, "for many": many})


def crude_approximation(results):
    words = "LRP by eq. (2) is a crude approximation of the Shapley values of the network"
    listed = []
    for name, dataset in (("faithfulness", "MNIST"), ("faithfulness_cifar10", "CIFAR-10")):
        for model, activation, rows in study.groups(grid.rows(results / f"{name}.jsonl")):
            correlation = study.of(rows, study.EQ2, "correlation").mean()
            measure = study.NEARNESS["error"]
            error = measure.back(measure.statistic(study.of(rows, study.EQ2, "error"), axis=1).mean())
            # of the same players as the truth
            of_players = "moments of patches" if "moments of patches" in study.methods_of(rows) else "moments"
            fast = study.of(rows, of_players, "correlation").mean()
            listed.append(f"{dataset}, {model} with {activation} {correlation:.3f}, {error:.2f} ({fast:.3f})")
    if not listed:
        return words, "", ABSENT
    ours = "correlation with them and median relative error of eq. (2) (in brackets the correlation of "
    ours += f"`fast_shapley_values`): {'; '.join(listed)}"
    return words, ours, "measured"


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
    rows = experiment.of_setting(experiment.fullest(grid.rows(results / "figure3.jsonl")), ("Adam", 0.001))
    pair = grid.paired(rows, "relu_permutation_dropout", "shaplu", experiment.validation)
    if pair is None:
        return words, "", ABSENT
    ours = f"Fig. 3 with Adam: validation {experiment.difference(pair)} over ShapLU's. The paper does not say how: "
    ours += "here one mask of the inputs for all neurons of a layer, and doubling as in dropout"
    return words, ours, verdict({"similar": alike(pair)})


def fewer_epochs(results):
    words = "SA needs fewer epochs to the same accuracy in training (said of ResNet-20)"
    found = experiment.fullest(grid.rows(results / "table2.jsonl"))
    couples, epochs = grid.pairs(found, "sa", "relu"), found[0]["run"]["epochs"] if found else 0
    held, listed, nevers = {}, [], (epochs + 1, 3 * epochs)
    for key, name in (("accuracy", "training"), ("val_accuracy", "validation")):
        # what is never reached takes one epoch more than there were, at least; it may take many
        pairs = [grid.over_seeds(couples, lambda row, relu: _longer(row, relu, key, never)) for never in nevers]
        if pairs[0] is None:
            return words, "", ABSENT
        fewer = {better((-mean, half, n)) for mean, half, n in pairs}
        held[f"in {name}"] = fewer.pop() if len(fewer) == 1 else None
        missed = sum(np.isinf(table2_cifar10_mlp.first_epoch(row, relu, key)) for row, relu in couples)
        differences = ", or ".join(map(experiment.difference, pairs if missed else pairs[:1]))
        listed.append(f"{name} {differences}, never in {missed} of {len(couples)} runs")
    ours = f"MLP of Table 2, {epochs} epochs: until ReLU's final accuracy, less what ReLU itself took until it first "
    ours += "had that, number of epochs, where never counts as {} or {}: ".format(*nevers) + "; ".join(listed)
    return words, ours, verdict(held)


def _longer(row, relu, key, never):
    """How many epochs later than ReLU's a curve is first where ReLU's ends; one that never is, in the epoch `never`."""
    own, other = (min(table2_cifar10_mlp.first_epoch(run, relu, key), never) for run in (row, relu))
    return own - other


def training_time(results):
    words = "switching from ReLU to SA takes 20 % more time in training (CIFAR-10)"
    found = [files.read_json(path) for path in sorted(results.glob("training_cost_*.json"))]
    found = [measured for record in found for measured in record.values()]
    if not found:
        return words, "", ABSENT
    held, listed = {}, []
    for moment in ("exact", "pooled"):
        rows = [row for measured in found for row in measured["rows"] if row["name"] == f"SA, {moment}"]
        ratios, (lows, highs) = [row["ratio"] for row in rows], zip(*(row["interval"] for row in rows))
        held[f"with the {moment} second moment"] = True if max(highs) <= 1.2 else False if max(lows) > 1.2 else None
        listed.append(f"with the {moment} second moment {min(ratios):.2f} to {max(ratios):.2f}")
    keys = "model", "backend", "device"
    models, backends, devices = (", ".join(dict.fromkeys(m["run"][key] for m in found)) for key in keys)
    ours = f"time of a training step over ReLU's, the networks {models} on {backends}, {devices} "
    ours += f"(the paper names no machine): {'; '.join(listed)}"
    return words, ours, verdict(held)


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
        means = (np.mean([experiment.final(key)(row) for row in rows]) for key in ("accuracy", "val_accuracy"))
        listed.append(f"{model} ({len(rows)}) " + ", ".join(f"{mean:.4f}" for mean in means))
    ours = f"SA, {epochs} epochs (number of seeds), training and validation: {'; '.join(listed)}"
    return words, ours, FIRST_LOOK if len(found) < 2 * len(most) else ""
