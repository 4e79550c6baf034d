"""What the paper says beside its figures, held against the results: functions of the directory of results."""

import functools
import pathlib

import numpy as np

from lab import files, rows, statistics, tables
from lab.analysis import faithfulness, figure5, shapley_gradient, training_cost
from lab.analysis import large_bias as bias
from lab.explanations import DEFAULT
from lab.faithfulness import NEARNESS
from lab.rows import Row
from lab.statistics import alike, better, paired
from report.verdicts import ABSENT, FIRST_LOOK, Claim, verdict


def accurate_approximation(results: pathlib.Path) -> Claim:
    paper = "Eq. (1) is an accurate approximation of the Shapley values of a neuron."
    path = results / "neuron_accuracy.json"
    if not path.exists():
        return Claim(paper, "", ABSENT)
    by_width = files.read_json(path)["errors"]["normal"]
    methods = ("eq. (1)", "quadrature")
    numbers = tables.head("inputs", *methods)
    numbers += [tables.line([n, *(f"{by_width[n][method][0]:.3f}" for method in methods)]) for n in ("4", "16", "1024")]
    ours = "The table has the relative error of eq. (1), and of a quadrature with the same sums, for normal inputs."
    few, many = (by_width[n]["eq. (1)"][0] < 0.1 for n in ("4", "1024"))
    return Claim(paper, ours, verdict({"for few inputs": few, "for many": many}), numbers)


def crude_approximation(results: pathlib.Path) -> Claim:
    paper = "LRP by eq. (2) is a crude approximation of the Shapley values of the network."
    titles = ("correlation", "median relative error", "correlation of the default", "of `fast_shapley_values`")
    numbers, head = [], tables.head("network", *titles)
    for name, dataset in (("faithfulness", "MNIST"), ("faithfulness_cifar10", "CIFAR-10")):
        for model, activation, group in faithfulness.longest(rows.read(results / f"{name}.jsonl")):
            correlation = faithfulness.values(group, faithfulness.EQ2, "correlation").mean()
            measure = NEARNESS["error"]
            errors = faithfulness.values(group, faithfulness.EQ2, "error")
            error = measure.scale(measure.statistic(errors, axis=1).mean())
            measured = faithfulness.methods(group)
            # the estimate that has the same players as the truth
            moments = "moments of patches" if "moments of patches" in measured else "moments"
            near = [
                f"{faithfulness.values(group, method, 'correlation').mean():.3f}" if method in measured else ""
                for method in (DEFAULT, moments)
            ]
            network = f"{faithfulness.named(model, activation)}, {dataset}"
            numbers.append(tables.line([network, f"{correlation:.3f}", f"{error:.2f}", *near]))
    if not numbers:
        return Claim(paper, "", ABSENT)
    ours = "The table compares eq. (2) with the Shapley values of the network; beside it `ks.LRP(model)` and the fast "
    ours += "estimate."
    return Claim(paper, ours, "Measured.", [*head, *numbers])


def dropped_terms(results: pathlib.Path) -> Claim:
    paper = "The terms of eq. (4) that ShapLU drops are small, and SA's gradient closely matches the Shapley gradient."
    path = results / shapley_gradient.RESULTS
    if not path.exists():
        return Claim(paper, "", ABSENT)
    measured = files.read_json(path)["rows"]
    least = {
        rule: min(
            shapley_gradient.over_seeds(measured, layer, step, "cosine", rule).mean
            for layer in shapley_gradient.LAYERS
            for step in shapley_gradient.STEPS
        )
        for rule in shapley_gradient.RULES
    }
    ours = "The least cosine with the Shapley gradient by random orders, over six steps of the training of Fig. 3's "
    ours += (
        f"network and its two hidden layers, is {', '.join(f'{value:.3f} ({rule})' for rule, value in least.items())}."
    )
    return Claim(paper, ours, verdict({"ShapLU": least["shaplu"] > 0.95, "SA": least["sa"] > 0.95}))


def permutation_dropout(results: pathlib.Path) -> Claim:
    paper = "Training with random permutations of the inputs, as a dropout, is similar to ShapLU."
    group = rows.with_setting(rows.fullest(rows.read(results / "figure3.jsonl")), ("Adam", 0.001))
    gain = paired(group, "relu_permutation_dropout", "shaplu", rows.validation)
    if gain is None:
        return Claim(paper, "", ABSENT)
    ours = f"In Fig. 3 with Adam, the difference to ShapLU's validation is {tables.difference(gain)}. The paper does "
    ours += (
        "not say how; here all neurons of a layer share one mask of the inputs, and inputs are doubled as in dropout."
    )
    return Claim(paper, ours, verdict({"similar": alike(gain)}))


def fewer_epochs(results: pathlib.Path) -> Claim:
    paper = "SA needs fewer epochs to the same accuracy in training (said of ResNet-20)."
    resnet20 = figure5.short(rows.read(results / "figure5.jsonl"))
    groups = {
        "MLP of Table 2": rows.fullest(rows.read(results / "table2.jsonl")),
        "ResNet-20 of Fig. 5": resnet20 if figure5.seeds(resnet20) > 1 else [],
    }
    groups = {words: group for words, group in groups.items() if paired(group, "sa", "relu", rows.validation)}
    if not groups:
        return Claim(paper, "", ABSENT)
    titles = ("difference, if never counts as one epoch more", "if never counts as three times the epochs", "never")
    statements, numbers = {}, tables.head("network", "epochs", "accuracy", *titles)
    for words, group in groups.items():
        couples = rows.pairs(group, "sa", "relu")
        epochs = group[0]["run"]["epochs"]
        # an accuracy that is never reached takes one epoch more than there were, at least; it may take many
        nevers = (epochs + 1, 3 * epochs)
        schedule = ", short schedule" if figure5.is_short(group[0]) else ""
        for quantity, name in figure5.QUANTITIES.items():
            delays = [statistics.over_seeds(couples, functools.partial(_delay, quantity, never)) for never in nevers]
            fewer = {better(delay._replace(mean=-delay.mean)) for delay in delays}
            statements[f"fewer epochs in {name} of the {words}"] = fewer.pop() if len(fewer) == 1 else None
            missed = sum(np.isinf(rows.first_epoch_at(row, relu, quantity)) for row, relu in couples)
            cells = [words + schedule, str(epochs), name, *map(tables.difference, delays)]
            numbers.append(tables.line([*cells, f"{missed} of {len(couples)} runs"]))
    ours = "The table has the number of epochs until SA first has ReLU's final accuracy, minus that of ReLU itself. A "
    ours += "run that never has it counts in two ways: as one epoch more than there were, or as three times as many."
    if "ResNet-20 of Fig. 5" in groups:
        ours += " On ResNet-20 accuracy still rises in the last epoch, so that a lead of less than an epoch does not "
        ours += "show; [Fig. 5](results/figure5.md) has the accuracy in the first epoch."
    return Claim(paper, ours, verdict(statements), numbers)


def _delay(quantity: str, never: int, row: Row, relu: Row) -> float:
    """By how many epochs a curve reaches ReLU's final value later than ReLU; `never` is the epoch if it does not."""
    own, other = (min(rows.first_epoch_at(run, relu, quantity), never) for run in (row, relu))
    return own - other


def training_time(results: pathlib.Path) -> Claim:
    paper = "Training takes 20 % more time with SA than with ReLU (CIFAR-10)."
    measurements = training_cost.read(results)
    if not measurements:
        return Claim(paper, "", ABSENT)
    statements, listed = {}, []
    for moment in ("exact", "pooled"):
        measured = [row for each in measurements for row in each["rows"] if row["name"] == f"SA, {moment}"]
        ratios, (lows, highs) = [row["ratio"] for row in measured], zip(*(row["interval"] for row in measured))
        fast = True if max(highs) <= 1.2 else False if max(lows) > 1.2 else None
        statements[f"with the {moment} second moment"] = fast
        listed.append(f"with the {moment} second moment {min(ratios):.2f} to {max(ratios):.2f}")
    keys = "model", "backend", "device"
    models, backends, devices = (", ".join(dict.fromkeys(each["run"][key] for each in measurements)) for key in keys)
    ours = f"Time of a training step over ReLU's, for the networks {models} on {backends}, {devices} (the paper names "
    ours += f"no machine): {'; '.join(listed)}."
    return Claim(paper, ours, verdict(statements))


def large_biases(results: pathlib.Path) -> Claim:
    paper = "If b is much larger than the products, eq. (2) distributes relevance equally, which is more sensible."
    median = {name: np.median(values) for name, values in bias.spreads(100, seed=0).items()}
    ours = "With b a hundred times the products' root mean square, the standard deviation of the shares, in units of "
    ours += (
        f"their mean, is {', '.join(f'{value:.2f} ({name})' for name, value in median.items())}. The Shapley values "
    )
    ours += "of such a neuron are its products, and not equal."
    statements = {"equal": median["eq. (2)"] < 0.1, "as Shapley values": median["exact Shapley values"] < 0.1}
    return Claim(paper, ours, verdict(statements))


def six_relus(results: pathlib.Path) -> Claim:
    paper = "It does not say what becomes of the six ReLUs of ResNet-20 behind an addition."
    groups = figure5.by_epochs(rows.with_activation(rows.read(results / "figure5.jsonl"), "sa"))
    words, group = max(groups.items(), key=lambda item: len(_with_base(item[1])), default=("", []))
    couples = _with_base(group)
    if not couples:
        return Claim(paper, "", ABSENT)
    quantities = figure5.QUANTITIES.values()
    numbers = tables.head("network", *(title for name in quantities for title in (name, f"over {figure5.NETWORK}")))
    in_validation = []
    for model in dict.fromkeys(row["run"]["model"] for row in group):
        members = [row for row in group if row["run"]["model"] == model]
        own = [(row, base) for row, base in couples if row["run"]["model"] == model]
        cells = [model]
        for last in map(rows.final, figure5.QUANTITIES):
            difference = tables.difference(statistics.mean_difference(own, last))
            cells += [tables.spread([last(row) for row in members]), difference]
        numbers.append(tables.line(cells))
        in_validation += [statistics.mean_difference(own, rows.validation)] if own else []
    ours = f"The table has SA's accuracy ({words}). [Fig. 5](results/figure5.md) describes the networks."
    if min(gain.n for gain in in_validation) < 2:
        return Claim(paper, ours, FIRST_LOOK, numbers)
    differs = any(better(gain) is not None for gain in in_validation)
    return Claim(paper, ours, f"{'A' if differs else 'No'} difference in validation is shown.", numbers)


def _with_base(group: list[Row]) -> list[tuple[Row, Row]]:
    """Rows of the other layouts, each with the row of the paper's layout that shares all other settings."""
    others = (row for row in group if row["run"]["model"] != figure5.NETWORK)
    both = ((row, rows.counterpart(group, row, model=figure5.NETWORK)) for row in others)
    return [(row, base) for row, base in both if base]


# by their titles
CLAIMS = {
    "Accuracy of eq. (1) for one neuron": accurate_approximation,
    "Accuracy of eq. (2) for a network": crude_approximation,
    "The terms that ShapLU drops": dropped_terms,
    "Random permutations as a dropout": permutation_dropout,
    "Epochs to ReLU's accuracy": fewer_epochs,
    "Time of a training step": training_time,
    "Equal relevance for large biases": large_biases,
    "The ReLUs behind ResNet-20's additions": six_relus,
}
