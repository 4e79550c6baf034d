"""The study of settings in which training is hard: where SA helps, and where it does not."""

import itertools
import pathlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from scipy import stats

from lab import files, pictures, rows, statistics, tables
from lab.rows import Row, Setting
from lab.statistics import Interval

NAME = "where_sa_helps"
# ladders of learning rates
SGD = tuple(("SGD", 0.02 * 2**power) for power in range(10))
ADAM = tuple(("Adam", 0.0005 * 4**power) for power in range(6))
USUAL = ADAM[:3]
ACTIVATIONS = {
    "relu_he": "ReLU",
    "leaky_relu_normal": "leaky ReLU",
    "gelu_normal": "GELU",
    "silu_normal": "SiLU",
    "sa_normal": "SA",
}
FROM_HE = {"gelu_he": "GELU", "silu_he": "SiLU"}
RELU, SA = "relu_he", "sa_normal"
# what SA is compared with, and its name among the pictures' activations
OTHERS = {RELU: "relu", "leaky_relu_normal": "leaky_relu", "gelu_normal": "gelu"}
SHOWN = (*OTHERS, SA)
# words of a setting, its name in runs, the learning rates to choose from
SETTINGS = (
    ("1,000 images, Adam", "rates", USUAL),
    ("1,000 images, SGD", "rates", SGD),
    ("200 images", "images200", USUAL),
    ("50 images", "images50", USUAL),
    ("10 layers", "depth10", USUAL),
    ("20 layers", "depth20", USUAL),
    ("40 layers", "depth40", USUAL),
    ("sparse inputs", "sparse", USUAL),
    ("spikes that disturb", "spikes", USUAL),
    ("an exception is the class", "exceptions", USUAL),
    ("20 % wrong labels", "noise20", USUAL),
    ("40 % wrong labels", "noise40", USUAL),
)
NORMS = {"": "no", "_norm": "yes"}  # by the end of a name in runs
CONVERTED = {"the same kind of images": "converted", "images on their side": "converted_turned"}
# where silent units are shown: as SETTINGS
UNITS = (
    ("1,000 images, Adam", "rates", ADAM),
    ("1,000 images, SGD", "rates", SGD),
    ("20 layers", "depth20", USUAL),
    ("40 layers", "depth40", USUAL),
)
FAILED = 0.2  # accuracy; chance is 0.1
INTRODUCTION = """\
# Where does SA help?

Made by `python reproduce/studies/where_sa_helps.py`, whose first lines describe the settings. MLPs for MNIST with 3
hidden layers of 32 neurons, unless told otherwise. Accuracy on 10,000 test images, after the last epoch, at the
learning rate that is best in the mean of the *other* seeds. *BN*: BatchNormalization behind each hidden layer.
Differences are between runs of the same seed, with their 95 % interval. *Best*: the activation with the best mean, and
those that the interval does not tell from it.
"""

BySeed = dict[int, float]


def write(results: list[Row], out: pathlib.Path) -> str:
    """Writes where_sa_helps.md and where_sa_helps.png; returns the tables."""
    groups = list(rows.comparable(results).values())
    text = "\n".join([INTRODUCTION, *(section(group) for group in groups)])
    files.write(out / f"{NAME}.md", text)
    draw(max(groups, key=len), out / f"{NAME}.png")
    return text


def section(group: list[Row]) -> str:
    """Markdown of comparable rows."""
    run = group[0]["run"]
    lines = [f"## {run['epochs']} epochs of {run['limit']:,} images, {group[0]['backend']}", ""]
    for part in (comparisons, kernels, ladder, units, conversions):
        found = part(group)
        lines += [*found, ""] if found else []
    return "\n".join([*lines, *tables.origins(group)]) + "\n"


def accuracies(group: list[Row], model: str, ladder: Sequence[Setting]) -> dict[str, BySeed]:
    """Accuracy of each seed by activation, at the rate that is best in the mean of the other seeds.

    A seed that lacks a rate does not count. A single seed chooses its own rate.

    Args:
        group: comparable rows.
        model: a name in runs.
        ladder: of learning rates to choose from.
    """
    members = [row for row in group if row["run"]["model"] == model]
    by_activation: dict[str, dict[Setting, BySeed]] = {}
    for setting in ladder:
        for row in rows.with_setting(members, setting):
            rates = by_activation.setdefault(row["run"]["activation"], {})
            rates.setdefault(setting, {})[row["run"]["seed"]] = rows.validation(row)
    present = {setting for rates in by_activation.values() for setting in rates}
    return {name: _chosen(rates) for name, rates in by_activation.items() if len(rates) == len(present)}


def _chosen(rates: Mapping[Setting, BySeed]) -> BySeed:
    seeds = sorted(set.intersection(*(set(values) for values in rates.values())))
    found = {}
    for seed in seeds:
        others = [other for other in seeds if other != seed] or [seed]
        best = max(rates.values(), key=lambda values: np.mean([values[other] for other in others]))
        found[seed] = best[seed]
    return found


def over(a: BySeed | None, b: BySeed | None) -> Interval | None:
    """Mean difference between the seeds that both have; None if there is none."""
    both = sorted(set(a or {}) & set(b or {}))
    return statistics.interval([a[seed] - b[seed] for seed in both]) if a and b and both else None


def compared(group: list[Row]) -> list[tuple[str, str, dict[str, BySeed]]]:
    """Words of a setting, whether there is BatchNormalization, and the accuracies by activation, of each setting."""
    found = []
    for (words, model, ladder), (end, norm) in itertools.product(SETTINGS, NORMS.items()):
        by_activation = accuracies(group, model + end, ladder)
        if SA in by_activation:
            found.append((words, norm, by_activation))
    return found


def comparisons(group: list[Row]) -> list[str]:
    """The table of all settings, and how many of its intervals leave out zero."""
    names = [ACTIVATIONS[name] for name in OTHERS]
    lines = tables.head("setting", "BN", "best", *names, "SA", *(f"SA over {name}" for name in names))
    differences = []
    found = compared(group)
    for words, norm, by_activation in found:
        gains = [over(by_activation[SA], by_activation.get(other)) for other in OTHERS]
        differences += [each for each in gains if each and each.n > 1]
        means = [_mean(by_activation.get(name)) for name in SHOWN]
        lines.append(tables.line([words, norm, best(by_activation), *means, *map(tables.difference, gains)]))
    for norm in NORMS.values():
        shallow = [each for words, has_norm, each in found if has_norm == norm and "layers" not in words]
        if shallow:
            means = {name: _mean_of_settings([each.get(name) for each in shallow]) for name in SHOWN}
            gains = [over(means[SA], means[other]) for other in OTHERS]
            cells = [*(_mean(means[name]) for name in SHOWN), *map(tables.difference, gains)]
            lines.append(tables.line(["mean of those with 3 layers", norm, "", *cells]))
    return [*lines, "", *chance(differences)] if found else []


def _mean_of_settings(settings: Sequence[BySeed | None]) -> BySeed:
    """Mean accuracy over settings of each seed that all of them have."""
    seeds = set.intersection(*(set(each or {}) for each in settings))
    return {seed: float(np.mean([each[seed] for each in settings if each])) for seed in sorted(seeds)}


def _mean(by_seed: BySeed | None) -> str:
    return f"{np.mean(list(by_seed.values())):.3f}" if by_seed else ""


def best(by_activation: Mapping[str, BySeed]) -> str:
    """The activation with the best mean, and those that its interval does not tell from it."""
    named = {ACTIVATIONS[name]: values for name, values in by_activation.items() if name in ACTIVATIONS and values}
    first = max(named, key=lambda name: np.mean(list(named[name].values())))
    level = []
    for name, values in named.items():
        difference = over(named[first], values)
        if name != first and difference and statistics.better(difference) is None:
            level.append(name)
    return f"{first} (level: {', '.join(level)})" if level else first


def chance(differences: Sequence[Interval]) -> list[str]:
    """Lines on how many intervals leave out zero, and how many would by chance."""
    n = len(differences)
    if not n:
        return []
    above, below = (sum(statistics.better(each) is wanted for each in differences) for wanted in (True, False))
    strict = [_widened(each, n) for each in differences]
    all_above, all_below = (sum(statistics.better(each) is wanted for each in strict) for wanted in (True, False))
    return [
        f"Of {n} intervals, {above} are above zero and {below} below. If no two activations differed, about "
        f"{(1 - statistics.CONFIDENCE) * n:.1f} would leave out zero. With intervals so wide that all {n} hold "
        f"together with 95 % (Bonferroni), {all_above} are above zero and {all_below} below."
    ]


def _widened(difference: Interval, n: int) -> Interval:
    """The interval that holds with the confidence that `n` of them need to hold together."""
    mean, half, values = difference
    tail = (1 - statistics.CONFIDENCE) / 2
    return Interval(mean, half * float(np.divide(*stats.t.isf([tail / n, tail], values - 1))), values)


def kernels(group: list[Row]) -> list[str]:
    """The table of GELU and SiLU from the kernels that their users take, in deep networks."""
    lines = tables.head("setting, no BN", "activation", "from", "accuracy", "SA over it")
    for words, model, rates in SETTINGS:
        by_activation = accuracies(group, model, rates)
        if SA not in by_activation or not set(FROM_HE) & set(by_activation):
            continue
        for name, start in (*FROM_HE.items(), *((key, ACTIVATIONS[key]) for key in ("gelu_normal", "silu_normal"))):
            values = by_activation.get(name)
            start_from = "`he_normal`" if name in FROM_HE else "its own"
            cells = [words, start, start_from, _mean(values), tables.difference(over(by_activation[SA], values))]
            lines.append(tables.line(cells))
    if len(lines) == 2:
        return []
    return ["### Deep networks: kernels", "", *lines]


def ladder(group: list[Row]) -> list[str]:
    """The table of learning rates: the mean accuracy at each, and from where on they fail."""
    lines = []
    for end, norm in NORMS.items():
        for ladder, optimizer in ((SGD, "SGD"), (ADAM, "Adam")):
            members = [row for row in group if row["run"]["model"] == f"rates{end}"]
            present = [setting for setting in ladder if rows.with_setting(members, setting)]
            if not present:
                continue
            titles = [f"{optimizer}, BN: {norm}", *(f"{rate:g}" for _, rate in present), "fails from"]
            lines += ["", *tables.head(*titles)]
            for name, words in ACTIVATIONS.items():
                of_name = rows.with_activation(members, name)
                values = [[rows.validation(row) for row in rows.with_setting(of_name, each)] for each in present]
                if all(values):
                    means = [f"{np.mean(each):.3f}" for each in values]
                    lines.append(tables.line([words, *means, _fails_from(present, values)]))
    if not lines:
        return []
    words = f"Mean accuracy. *Fails from*: there, and at all greater rates, most seeds end below {FAILED}."
    return ["### Learning rates", "", words, *lines]


def _failed(values: Sequence[float]) -> bool:
    return float(np.median(values)) < FAILED


def _fails_from(ladder: Sequence[Setting], values: Sequence[Sequence[float]]) -> str:
    failed = [_failed(each) for each in values]
    first = len(failed)
    while first and failed[first - 1]:
        first -= 1
    return f"{ladder[first][1]:g}" if first < len(failed) else "none"


def units(group: list[Row]) -> list[str]:
    """The table of silent units, at the rates at which no activation fails."""
    lines = []
    for (words, model, ladder), (end, norm) in itertools.product(UNITS, NORMS.items()):
        members = [
            row for row in group if row["run"]["model"] == model + end and row["run"]["activation"] in ACTIVATIONS
        ]
        members = [row for setting in ladder for row in _unless_one_fails(rows.with_setting(members, setting))]
        rates = [row["run"]["learning_rate"] for row in members]
        for name, activation in ACTIVATIONS.items():
            found = rows.with_activation(members, name)
            if not found:
                continue
            results = [row["result"] for row in found]
            first, last = (np.mean([result["silent"][at] for result in results]) for at in (0, -1))
            revived = [result["revived"] for result in results if result["revived"] is not None]
            closed = [result["closed"][-1] for result in results if "closed" in result]
            more = statistics.paired(members, name, RELU, _silent) if name != RELU else None
            cells = [words, f"{min(rates):g} to {max(rates):g}", norm, activation, f"{first:.3f}", f"{last:.3f}"]
            cells += [tables.difference(more), *(f"{np.mean(each):.2f}" if each else "" for each in (revived, closed))]
            lines.append(tables.line(cells))
    if not lines:
        return []
    silence = ("silent, first epoch", "last", "over ReLU", "of the first, revived")
    words = (
        "At the rates at which no activation fails. *Silent*: share of the hidden units whose sum is 0 or less for all "
        "training images, after the first and the last epoch. *Revived*: share of those silent after the first epoch "
        "that are not after the last. *Closed*: share of gates below 0.01 after the last epoch, by `GateMonitor`, over "
        "500 test images."
    )
    return [
        "### Silent units",
        "",
        words,
        "",
        *tables.head("setting", "rates", "BN", "activation", *silence, "closed"),
        *lines,
    ]


def _unless_one_fails(members: list[Row]) -> list[Row]:
    """Rows of a rate, or none if an activation fails there."""
    every = (rows.with_activation(members, name) for name in rows.activations(members))
    return [] if any(_failed([rows.validation(row) for row in each]) for each in every) else members


def _silent(row: Row) -> float:
    return row["result"]["silent"][-1]


def conversions(group: list[Row]) -> list[str]:
    """The table of converted networks."""
    lines = []
    for words, model in CONVERTED.items():
        by_activation = accuracies(group, model, USUAL)
        for name, activation in (("relu_he", "ReLU, as it was"), ("shaplu", "ShapLU"), ("sa", "SA")):
            if by_activation.get(name):
                gain = over(by_activation[name], by_activation.get(RELU)) if name != RELU else None
                cells = [words, activation, _mean(by_activation[name]), tables.difference(gain)]
                lines.append(tables.line(cells))
    if not lines:
        return []
    words = "A trained network of ReLU is trained as long again, on other images, by `to_shapley` or as it was."
    return [
        "### Converted networks",
        "",
        words,
        "",
        *tables.head("images", "activation", "accuracy", "over ReLU"),
        *lines,
    ]


def draw(group: list[Row], path: pathlib.Path) -> None:
    """Draws SA's differences to others in each setting, without and with BatchNormalization."""
    found = compared(group)
    if not found:
        return
    labels = [words for words, _, _ in SETTINGS if any(words == other for other, _, _ in found)]
    with pictures.picture(path, 10, 1.5 + 0.42 * len(labels)) as figure:
        panels: Iterable = figure.subplots(1, 2, sharey=True)
        for axes, norm in zip(panels, NORMS.values()):
            for number, (other, activation) in enumerate(OTHERS.items()):
                label, colour, marker = pictures.ACTIVATIONS[activation]
                for words, has_norm, by_activation in found:
                    difference = over(by_activation[SA], by_activation.get(other))
                    if has_norm != norm or difference is None:
                        continue
                    half = difference.half if difference.n > 1 else 0
                    place = labels.index(words) + 0.22 * (number - 1)
                    axes.errorbar(100 * difference.mean, place, xerr=100 * half, fmt=marker, color=colour, capsize=2)
                axes.plot([], [], marker, color=colour, label=f"over {label}")
            axes.axvline(0, color="grey", linewidth=0.8)
            axes.set(title=f"{'with' if norm == 'yes' else 'without'} BatchNormalization")
            axes.set(yticks=range(len(labels)), yticklabels=labels)
            axes.legend(fontsize="small")
        axes.invert_yaxis()
        figure.suptitle("Where is SA better than ReLU, a leaky ReLU and GELU?")
        figure.supxlabel("accuracy of SA over that of another activation, percentage points, with 95 % interval")
