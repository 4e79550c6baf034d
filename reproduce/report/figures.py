"""The paper's figures and tables, each held against the results: functions of the directory of results."""

import pathlib
from collections.abc import Callable

import numpy as np

from lab import pictures, rows, tables
from lab.analysis import figure1 as fig1
from lab.analysis import figure2 as fig2
from lab.analysis import figure3 as fig3
from lab.analysis import figure5 as fig5
from lab.analysis import figure6 as fig6
from lab.analysis import table1 as tab1
from lab.analysis import table2 as tab2
from lab.rows import Row
from lab.statistics import alike, better, paired, smaller_deviation
from report.verdicts import FIRST_LOOK, Figure, absent, python, seconds, verdict

ADAM = ("Adam", 0.001)
# The paper has large and small rates of SGD, and does not say which; those between get no verdict.
LARGE, BETWEEN, SMALL = (0.5, 0.2), (0.1,), (0.05, 0.01)


def table1(results: pathlib.Path) -> Figure:
    paper = "The values are -1/6, 4/3 and -7/6."
    exact = tab1.approximations()["exact"]
    right = np.allclose(exact, np.array(tab1.PAPER, float), atol=1e-6)
    ours = f"The values are {', '.join(f'{value:.4f}' for value in exact)}."
    command = "python reproduce/table1_example.py"
    return Figure("Table 1", command, None, paper, ours, verdict({"the values": right}))


def figure1(results: pathlib.Path) -> Figure:
    paper = "The gate opens where one signal is very strong, of either sign."
    rest = fig1.SUMS[0]
    signals, gate = fig1.curve(rest)
    ours = (
        f"The other signals sum to {rest:g}: gate {gate[0]:.3f} at {signals[0]:g}, {gate.min():.3f} at its lowest, and "
    )
    ours += f"{gate[-1]:.3f} at {signals[-1]:g}."
    statements = {"opens below": gate[0] > 2 * gate.min(), "opens above": gate[-1] > 2 * gate.min()}
    return Figure("Fig. 1", "python reproduce/figure1_attention.py", None, paper, ours, verdict(statements))


def figure2(results: pathlib.Path) -> Figure:
    paper = "SA scatters like a leaky ReLU."
    s, y = fig2.samples(0)
    gates = y / s
    ours = f"In {len(s):,} samples, the gates are from {gates.min():.3f} to {gates.max():.3f}."
    statements = {"open below 0": gates.min() > 0, "no function of s": np.ptp(gates[s > 0]) > 0.1}
    return Figure("Fig. 2", "python reproduce/figure2_scatter.py", None, paper, ours, verdict(statements))


def figure3(results: pathlib.Path) -> Figure:
    paper = (
        "ShapLU and SA learn faster than ReLU with Adam and with large rates of SGD, and alike with small ones. All "
    )
    paper += f"end at about {fig3.PAPER_FINAL} validation."
    group = rows.fullest(rows.read(results / "figure3.jsonl"))
    numbers, statements = tables.head("accuracy in the first epoch, over ReLU's", "shaplu", "sa"), {}
    for setting in (ADAM, *(("SGD", rate) for rate in (*LARGE, *BETWEEN, *SMALL))):
        members = rows.with_setting(group, setting)
        name, small = "{} {:g}".format(*setting), setting[1] in SMALL
        cells = [name]
        for activation in ("shaplu", "sa"):
            gain = paired(members, activation, "relu", fig3.first_epoch)
            if gain is None:
                return absent("Fig. 3", "figure3_mnist_mlp.py", paper)
            if setting[1] not in BETWEEN:
                speed = "as fast as" if small else "faster than"
                statement = f"{pictures.ACTIVATIONS[activation][0]} {speed} ReLU with {name}"
                statements[statement] = (alike if small else better)(gain)
            cells.append(tables.difference(gain))
        numbers.append(tables.line(cells))
    members = rows.with_setting(group, ADAM)
    ends = {name: mean(members, name, rows.validation) for name in ("relu", "shaplu", "sa")}
    for name in ("shaplu", "sa"):
        statements[f"{pictures.ACTIVATIONS[name][0]} level with ReLU in the end with Adam"] = alike(
            paired(members, name, "relu", rows.validation)
        )
    statements[f"all end at {fig3.PAPER_FINAL}"] = all(abs(end - fig3.PAPER_FINAL) < 0.01 for end in ends.values())
    listed = ", ".join(f"{name} {end:.3f}" for name, end in ends.items())
    ours = f"With Adam, validation ends at {listed}. The speed of learning is in the table."
    time = seconds(row for row in group if row["run"]["activation"] in ends)
    command = python("figure3_mnist_mlp.py --together 10", group[0]["backend"])
    return Figure("Fig. 3", command, time, paper, ours, verdict(statements), numbers)


def figure4(results: pathlib.Path) -> Figure:
    paper = "SA has a better accuracy in training, with a smaller deviation."
    group = rows.with_setting(rows.fullest(rows.read(results / "table2.jsonl")), tab2.FIGURE4)
    last = rows.final("accuracy")
    gain = paired(group, "sa", "relu", last)
    if gain is None:
        return absent("Fig. 4", "table2_cifar10_mlp.py", paper)
    sa, relu = ([last(row) for row in rows.with_activation(group, name)] for name in ("sa", "relu"))
    ours = f"Accuracy in training after {group[0]['run']['epochs']} epochs: SA {tables.spread(sa)}, ReLU "
    ours += f"{tables.spread(relu)}; difference {tables.difference(gain)}."
    if gain.n < 2:
        return Figure("Fig. 4", "as Table 2", None, paper, ours, FIRST_LOOK)
    statements = {"SA is better": better(gain), "its deviation is smaller": smaller_deviation(sa, relu)}
    return Figure("Fig. 4", "as Table 2", None, paper, ours, verdict(statements))


def table2(results: pathlib.Path) -> Figure:
    paper_means = np.mean([[accuracy for accuracy, _ in both] for both in tab2.PAPER.values()], axis=0)
    paper = "SA's validation accuracy is better in 11 of 12 settings. "
    paper += "The mean over the settings is {:.3f} with SA and {:.3f} with ReLU.".format(*paper_means)
    group = rows.fullest(rows.read(results / "table2.jsonl"))
    gain = paired(group, "sa", "relu", rows.validation)
    if gain is None:
        return absent("Table 2", "table2_cifar10_mlp.py", paper)
    gains = [paired(rows.with_setting(group, setting), "sa", "relu", rows.validation) for setting in tab2.PAPER]
    gains = [each for each in gains if each]
    above = sum(each.mean > 0 for each in gains)
    shown = [better(each) for each in gains]
    epochs = group[0]["run"]["epochs"]
    means = [mean(group, name, rows.validation) for name in ("sa", "relu")]
    ours = f"With {epochs} epochs and {gain.n} seeds, SA is above ReLU in {above} of {len(gains)} settings, in "
    ours += f"{shown.count(True)} of them by more than the interval; it is below ReLU by more than the interval in "
    ours += f"{shown.count(False)}. The mean over the settings is " + "{:.3f} with SA and {:.3f} with ReLU".format(
        *means
    )
    ours += f", a difference of {tables.difference(gain)}."
    # Signs alone count only if the mean is above as well. Fewer than 11 may be chance until two are shown to be below.
    many = True if above >= 11 and better(gain) else None if shown.count(False) < 2 else False
    statements = {"SA is better in 11 of 12 settings": many, "SA is better on the whole": better(gain)}
    time = seconds(row for row in group if row["run"]["activation"] in tab2.ACTIVATIONS)
    command = python(f"table2_cifar10_mlp.py --seeds {gain.n} --epochs {epochs}", group[0]["backend"])
    whole = gain.n > 1 and len(gains) == len(tab2.PAPER)
    return Figure("Table 2", command, time, paper, ours, verdict(statements) if whole else FIRST_LOOK)


def figure5(results: pathlib.Path) -> Figure:
    paper = (
        f"After {fig5.PAPER_EPOCHS} epochs, in 8 runs, validation is about {fig5.PAPER_FINAL} with both; SA is better "
    )
    paper += "in training."
    finished = rows.read(results / "figure5.jsonl")
    # the paper's schedule if it was run to the end, else ours
    groups = [group for group in (fig5.longest(finished), fig5.short(finished)) if group]
    whole = [group for group in groups if _several_whole_runs(group)]
    group = next(iter(whole or groups), [])
    gains = [paired(group, "sa", "relu", rows.final(quantity)) for quantity in fig5.QUANTITIES]
    if None in gains:
        return absent("Fig. 5", "cifar10_resnet20.py", paper)
    training, validation = gains
    epochs, n = group[0]["run"]["epochs"], training.n
    ours = f"The table has the accuracies after {epochs} epochs; number of seeds: {n}."
    options, schedule = "", ""
    if fig5.is_short(group[0]):
        ours += f" The schedule is ours, and not the paper's: {fig5.described(group)}."
        options, schedule = " --schedule short", "With our short schedule: "
    statements = {"SA is better in training": better(training), "SA is level in validation": alike(validation)}
    result = schedule + verdict(statements) if whole else FIRST_LOOK
    command = python(f"cifar10_resnet20.py{options} --seeds {n} --epochs {epochs}", group[0]["backend"])
    # from the epochs, because the time of a run that was killed is that of its last part
    time = sum(sum(row["result"]["seconds"]) for row in group)
    return Figure("Fig. 5", command, time, paper, ours, result, fig5.numbers(group))


def _several_whole_runs(group: list[Row]) -> bool:
    """Whether rows of Fig. 5 have ReLU and SA for several seeds, by all epochs of their schedule."""
    return fig5.seeds(group) > 1 and (fig5.is_short(group[0]) or group[0]["run"]["epochs"] == fig5.PAPER_EPOCHS)


def figures6and7(results: pathlib.Path) -> Figure:
    paper = "Relevance shows the digits, and the gradient does not."
    if not (results / fig6.MAPS).exists():
        return absent("Figs. 6, 7", "figure6_interpretation.py", paper)
    record, _ = fig6.read(results)
    near = record["nearness"]
    readings = {
        "features": "relevance, shared by the inputs of the last layer",
        "logits": "relevance, shared by the logits",
        "sensitivity": "gradient",
        "ink": "gradient where an image is not black, as relevance is",
    }
    numbers = tables.head("map, of one network", "mean correlation")
    numbers += [tables.line([words, f"{np.mean(near[name]):.2f}"]) for name, words in readings.items()]
    ours = (
        "The table has the correlation between the map of a digit and the digit's mean image minus that of the others."
    )
    statements = {
        f"relevance shared by the {players} is nearer to every digit than the gradient{where}": np.greater(
            near[name], near[other]
        ).all()
        for other, where in (("sensitivity", ""), ("ink", " where an image is not black"))
        for name, players in (("features", "inputs of the last layer"), ("logits", "logits"))
    }
    command = python("figure6_interpretation.py", record["backend"])
    return Figure("Figs. 6, 7", command, None, paper, ours, verdict(statements), numbers)


FIGURES = (table1, figure1, figure2, figure3, figure4, table2, figure5, figures6and7)


def mean(group: list[Row], activation: str, value: Callable[[Row], float]) -> float:
    """Mean of a value over the rows of an activation."""
    return float(np.mean([value(row) for row in rows.with_activation(group, activation)]))


def summary(figures: list[Figure]) -> list[str]:
    """Lines of a table of all figures: verdict, command and time."""
    lines = tables.head("figure or table", "verdict", "command", "time")
    for figure in figures:
        command = f"`{figure.command}`" if ".py" in figure.command else figure.command
        time = "" if figure.seconds is None else f"{figure.seconds / 60:.0f} min"
        lines.append(tables.line([figure.name, figure.verdict, command, time]))
    return lines
