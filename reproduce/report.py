"""What of the paper was reproduced: writes every table and picture again from its results, and README.md beside this.

    python reproduce/report.py

Trains nothing. A verdict follows from the numbers: "better" is where the 95 % interval over seeds, of the difference
between runs of the same settings and seed, lies above zero, "not shown" where it holds zero, and "alike" where all of
it is within 0.01.
"""

import json
import pathlib
import sys
import typing

import cifar10_resnet20
import claims
import datasets
import evaluation_rates
import experiment
import explanation_times
import faithfulness
import faithfulness_cifar10
import figure1_attention
import figure2_scatter
import figure3_mnist_mlp
import figure6_interpretation
import files
import grid
import initialisation
import large_bias
import neuron_accuracy
import numpy as np
import sampling_errors
import shapley_gradient
import table1_example
import table2_cifar10_mlp
from arguments import add_results, command_line, errors_in_one_line
from claims import ABSENT, FIRST_LOOK, alike, better, verdict
from neurons import KINDS
from scipy import stats

README = pathlib.Path(__file__).resolve().parent / "README.md"
INTRODUCTION = """\
# The paper's figures and tables

Made by `python reproduce/report.py` from `results/`, and so are most tables and pictures there. Every script has
`--help`, and `--quick` for a first look in minutes; what is killed goes on where it was. Commands are for the root of
the repository, after `pip install '.[reproduce,jax]'`; `TFDS_DATA_DIR` is where the data are looked for, or put. Times
are sums over the runs, a rough guide. Differences are between runs that share settings and seed, with a 95 % interval
over seeds: "better" is one whose interval lies above zero, "not shown" one whose interval holds it, "alike" one whose
interval is within 0.01.
"""
CONTROLS = """\
## Is it the Shapley gate, or would any leak do?

The same networks with other activations: accuracy in the first epoch of Fig. 3 with Adam, and validation behind its
last; validation of Table 2 in the mean of the settings that all of these were run in. `relu_he` has zero biases and
He's kernels; `leaky_relu_...` the slope below zero; `sa_pooled` and `sa_no_moment_gradient` are the cheaper forms of
SA, `shaplu_full` is all of eq. (4).
"""
CONTROL = "gelu"  # run where all controls are
# rates of SGD: the paper says large and small, and not which; those between have no verdict
LARGE, BETWEEN, SMALL = (0.5, 0.2), (0.1,), (0.05, 0.01)
# scripts that write their table from one file of measurements
MEASURED = shapley_gradient, neuron_accuracy, sampling_errors, evaluation_rates, explanation_times
TABLES = (
    *("table1", "table2", "figure3", "figure5", "figure6", "large_bias", "initialisation"),
    *(script.__name__ for script in MEASURED),
    *("faithfulness", "faithfulness_cifar10"),
)
OTHERS = "training_cost", "lrp_cost", "lrp_zoo", "lrp_presets"  # tables that are not written here
PICTURES = {
    "figure1": "Fig. 1: a gate opens where one signal is out of line; what the pooled second moment leaves of it",
    "figure2": "Fig. 2: SA against the sum that ReLU sees",
    "figure3": "Fig. 3: MNIST by an MLP, 1,000 images",
    "figure4": "Fig. 4: CIFAR-10 by an MLP",
    "figure5": "Fig. 5: CIFAR-10 by ResNet-20",
    "figure6": "Fig. 6: pixels for and against each digit, by relevance per unit grey",
    "figure7": "Fig. 7: the same by the gradient",
    "shapley_gradient": "Gradients of ReLU, ShapLU and SA beside the Shapley gradient by random orders",
    "large_bias": "Relevance where the bias is large",
    "neuron_accuracy": "Errors of eq. (1), of a quadrature and of random orders for one neuron",
    "sampling_errors": "Errors of estimates of Shapley values against their cost, beside shap and captum",
    "faithfulness": "How near explanations come to Shapley values, against their cost",
    "faithfulness_maps": "What they show, for a network with ReLU and one with SA",
    "faithfulness_cifar10": "How near explanations come to Shapley values on CIFAR-10, against their cost",
    "faithfulness_cifar10_maps": "What they show there",
}


class Row(typing.NamedTuple):
    """A figure or table in the report: words, but for `seconds`, the time of its runs, or None for a moment."""

    name: str
    command: str
    seconds: float | None
    paper: str
    ours: str
    verdict: str


def table1(results):
    found = table1_example.approximations()["exact"]
    right = np.allclose(found, np.array(table1_example.PAPER, float), atol=1e-6)
    values = ", ".join(f"{value:.4f}" for value in found)
    held = {"the values": right}
    return Row("Table 1", "python reproduce/table1_example.py", None, "-1/6, 4/3, -7/6", values, verdict(held))


def figure1(results):
    signals = np.linspace(-figure1_attention.FAR, figure1_attention.FAR, 801)
    rest = figure1_attention.SUMS[0]
    gate, _ = figure1_attention.gates(signals, rest)
    paper = "the gate opens where one signal is very strong, of either sign"
    ours = f"others sum to {rest:g}: gate {gate[0]:.3f} at {signals[0]:g}, least {gate.min():.3f}, {gate[-1]:.3f} at "
    ours += f"{signals[-1]:g}"
    held = {"opens below": gate[0] > 2 * gate.min(), "opens above": gate[-1] > 2 * gate.min()}
    return Row("Fig. 1", "python reproduce/figure1_attention.py", None, paper, ours, verdict(held))


def figure2(results):
    s, y = figure2_scatter.samples(0)
    gates = y / s
    ours = f"1,000 samples, gates from {gates.min():.3f} to {gates.max():.3f}"
    held = {"open below 0": gates.min() > 0, "no function of s": np.ptp(gates[s > 0]) > 0.1}
    paper = "a scatter like that of a leaky ReLU"
    return Row("Fig. 2", "python reproduce/figure2_scatter.py", None, paper, ours, verdict(held))


def figure3(results):
    found = experiment.fullest(grid.rows(results / "figure3.jsonl"))
    paper = "ShapLU and SA learn faster than ReLU with Adam and with large rates of SGD, alike with small ones; all "
    paper += f"end at about {figure3_mnist_mlp.PAPER_FINAL} validation"
    words, held = [], {}
    settings = [("Adam", 0.001), *(("SGD", rate) for rate in (*LARGE, *BETWEEN, *SMALL))]
    for setting in settings:
        rows = experiment.of_setting(found, setting)
        name, small = "{} {:g}".format(*setting), setting[1] in SMALL
        for activation in ("shaplu", "sa"):
            pair = grid.paired(rows, activation, "relu", figure3_mnist_mlp.first_epoch)
            if pair is None:
                return absent("Fig. 3", "figure3_mnist_mlp.py", paper)
            if setting[1] not in BETWEEN:
                held[f"{activation} {'alike' if small else 'faster'} with {name}"] = (alike if small else better)(pair)
            words.append(f"{activation} with {name} {experiment.difference(pair)}")
    rows = experiment.of_setting(found, settings[0])
    ends = {name: np.mean(list(map(experiment.validation, of(rows, name)))) for name in ("relu", "shaplu", "sa")}
    for name in ("shaplu", "sa"):
        held[f"{name} alike in the end with Adam"] = alike(grid.paired(rows, name, "relu", experiment.validation))
    held["an end at 0.86"] = all(abs(end - figure3_mnist_mlp.PAPER_FINAL) < 0.01 for end in ends.values())
    listed = ", ".join(f"{name} {end:.3f}" for name, end in ends.items())
    ours = f"accuracy in the first epoch over ReLU's: {'; '.join(words)}. Validation with Adam: {listed}"
    made = [row for row in found if row["run"]["activation"] in ends]
    command = python("figure3_mnist_mlp.py --together 10", found)
    return Row("Fig. 3", command, seconds(made), paper, ours, verdict(held))


def figure4(results):
    found = experiment.fullest(grid.rows(results / "table2.jsonl"))
    found = experiment.of_setting(found, table2_cifar10_mlp.FIGURE4)
    paper = "SA: better accuracy in training, with a smaller deviation"
    last = experiment.final("accuracy")
    pair = grid.paired(found, "sa", "relu", last)
    if pair is None:
        return absent("Fig. 4", "table2_cifar10_mlp.py", paper)
    sa, relu = ([last(row) for row in of(found, name)] for name in ("sa", "relu"))
    ours = f"after {found[0]['run']['epochs']} epochs: SA {experiment.spread(sa)}, ReLU {experiment.spread(relu)}; "
    ours += f"difference {experiment.difference(pair)}"
    if pair[2] < 2:
        return Row("Fig. 4", "as Table 2", None, paper, ours, FIRST_LOOK)
    held = {"better": better(pair), "a smaller deviation": smaller_deviation(sa, relu)}
    return Row("Fig. 4", "as Table 2", None, paper, ours, verdict(held))


def smaller_deviation(a, b):
    """Whether the standard deviation of `a` is below that of `b`; None where the 95 % interval of the ratio holds 1."""
    ratio = np.var(a, ddof=1) / np.var(b, ddof=1)
    low, high = ratio / stats.f.ppf((0.975, 0.025), len(a) - 1, len(b) - 1)
    return None if low <= 1 <= high else high < 1


def table2(results):
    found = experiment.fullest(grid.rows(results / "table2.jsonl"))
    paper = "SA's validation accuracy is better in 11 of 12 settings"
    validation = experiment.validation
    pair = grid.paired(found, "sa", "relu", validation)
    if pair is None:
        return absent("Table 2", "table2_cifar10_mlp.py", paper)
    of_settings = [experiment.of_setting(found, setting) for setting in table2_cifar10_mlp.PAPER]
    pairs = [grid.paired(rows, "sa", "relu", validation) for rows in of_settings]
    pairs = [each for each in pairs if each]
    above = sum(mean > 0 for mean, *_ in pairs)
    shown = [better(each) for each in pairs]
    epochs, n = found[0]["run"]["epochs"], pair[2]
    means = [np.mean([validation(row) for row in of(found, name)]) for name in ("sa", "relu")]
    papers = np.mean([[mean for mean, _ in both] for both in table2_cifar10_mlp.PAPER.values()], axis=0)
    paper += "; mean over these with SA {:.3f}, with ReLU {:.3f}".format(*papers)
    ours = f"{epochs} epochs, number of seeds {n}: SA above ReLU in {above} of {len(pairs)} settings, in "
    ours += f"{shown.count(True)} of them beyond the interval, and below it in {shown.count(False)}; mean over these "
    ours += "with SA {:.3f}, with ReLU {:.3f}".format(*means) + f", difference {experiment.difference(pair)}"
    # by their signs alone only where the mean is above, too; fewer may be chance until two are shown to be below
    many = True if above >= 11 and better(pair) else None if shown.count(False) < 2 else False
    held = {"in 11 of 12 settings": many, "better on the whole": better(pair)}
    made = [row for row in found if row["run"]["activation"] in table2_cifar10_mlp.TABLE2.activations]
    command = python(f"table2_cifar10_mlp.py --seeds {n} --epochs {epochs}", found)
    whole = n > 1 and len(pairs) == len(table2_cifar10_mlp.PAPER)
    return Row("Table 2", command, seconds(made), paper, ours, verdict(held) if whole else FIRST_LOOK)


def figure5(results):
    paper = f"200 epochs, 8 runs: validation about {cifar10_resnet20.PAPER_FINAL} with both, SA better in training"
    found = cifar10_resnet20.longest(grid.rows(results / "figure5.jsonl"))
    pairs, words = {}, []
    for key, name in (("accuracy", "training"), ("val_accuracy", "validation")):
        last = experiment.final(key)
        pairs[name] = grid.paired(found, "sa", "relu", last)
        if pairs[name] is None:
            return absent("Fig. 5", "cifar10_resnet20.py", paper)
        ends = (f"{arm} {np.mean(list(map(last, of(found, arm)))):.4f}" for arm in ("relu", "sa", "sa_pooled"))
        words.append(f"{name} {', '.join(ends)}, SA over ReLU {experiment.difference(pairs[name])}")
    epochs, n = found[0]["run"]["epochs"], pairs["training"][2]
    ours = f"{epochs} epochs, number of seeds {n}: {'; '.join(words)}"
    held = {"better in training": better(pairs["training"]), "alike in validation": alike(pairs["validation"])}
    command = python(f"cifar10_resnet20.py --seeds {n} --epochs {epochs}", found)
    # a run that was killed and went on has the times of all its epochs
    time = sum(sum(row["result"]["seconds"]) for row in found)
    whole = epochs == cifar10_resnet20.EPOCHS and n > 1
    return Row("Fig. 5", command, time, paper, ours, verdict(held) if whole else FIRST_LOOK)


def figures6and7(results):
    paper = "relevance shows the digits, the gradient does not"
    if not (results / figure6_interpretation.MAPS).exists():
        return absent("Figs. 6, 7", "figure6_interpretation.py", paper)
    with np.load(results / figure6_interpretation.MAPS) as file:
        record = json.loads(str(file["record"]))
    near = record["nearness"]
    means = [np.mean(near[name]) for name in ("features", "logits", "sensitivity", "ink")]
    ours = "one network; correlation with the digit's mean image less the others': relevance {:.2f} (shared by the "
    ours += "inputs of the last layer) and {:.2f} (by the logits), gradient {:.2f}, gradient where an image is not "
    ours += "black, as relevance is, {:.2f}"
    held = {
        f"by the {players}, nearer than the gradient{where}, for every digit": np.greater(near[name], near[other]).all()
        for other, where in (("sensitivity", ""), ("ink", " where an image is not black"))
        for name, players in (("features", "inputs of the last layer"), ("logits", "logits"))
    }
    command = python("figure6_interpretation.py", [record])
    return Row("Figs. 6, 7", command, None, paper, ours.format(*means), verdict(held))


def controls(results):
    """Lines that compare other activations with ReLU and with SA."""
    # what has dropout is in training another task
    leaks = [name for name in KINDS if not name.endswith("dropout")]
    mnist, cifar10 = (experiment.fullest(grid.rows(results / f"{name}.jsonl")) for name in ("figure3", "table2"))
    mnist = experiment.of_setting(mnist, ("Adam", 0.001))
    cifar10 = [row for row in cifar10 if grid.counterpart(cifar10, row, CONTROL)]
    columns = {
        "Fig. 3, first epoch": (mnist, figure3_mnist_mlp.first_epoch),
        "Fig. 3, validation": (mnist, experiment.validation),
        "Table 2": (cifar10, experiment.validation),
    }
    heads = [f"{name}, over {base}" for name in columns for base in ("ReLU", "SA")]
    lines = [CONTROLS, *experiment.markdown("", *heads)]
    present = dict.fromkeys(row["run"]["activation"] for row in [*mnist, *cifar10])
    present = [name for name in present if name in leaks]
    for activation in present:
        cells = [
            experiment.difference(grid.paired(found, activation, base, value) if activation != base else None)
            for found, value in columns.values()
            for base in ("relu", "sa")
        ]
        lines.append(f"| {' | '.join([activation, *cells])} |")
    settings = dict.fromkeys((row["run"]["optimizer"], row["run"]["learning_rate"]) for row in cifar10)
    commands = [python(f"figure3_mnist_mlp.py --together 10 --activations {' '.join(present)}", mnist)] if mnist else []
    for optimizer, rate in settings:
        names = [name for name in present if any(row["run"]["activation"] == name for row in cifar10)]
        seeds, epochs = len({row["run"]["seed"] for row in cifar10}), cifar10[0]["run"]["epochs"]
        command = f"table2_cifar10_mlp.py --seeds {seeds} --epochs {epochs} --only '*/{optimizer}_{rate:g}/*' "
        commands.append(python(command + f"--activations {' '.join(names)}", cifar10))
    return [*lines, "", "```bash", *commands, "```"]


def of(found, activation):
    """The rows of an activation."""
    return [row for row in found if row["run"]["activation"] == activation]


def python(command, found):
    """A script and its arguments as a newcomer can type it, on the backend of rows."""
    return f"KERAS_BACKEND={found[0]['backend']} python reproduce/{command}"


def absent(name, command, paper):
    """The row of what was not run."""
    return Row(name, command, None, paper, "", ABSENT)


def seconds(found):
    """What the runs took, all of them."""
    return sum(row["seconds"] for row in found)


def sources(results):
    """A line on what the runs were made from, and on what."""
    scripts = figure3_mnist_mlp.FIGURE3, table2_cifar10_mlp.TABLE2, cifar10_resnet20.FIGURE5
    found = [row for script in scripts for row in grid.rows(results / f"{script.name}.jsonl")]
    copies = dict.fromkeys(datasets.described(row["data"]) for row in found if datasets.copy(row["data"]))
    words = [f"Devices: {', '.join(dict.fromkeys(row['device'] for row in found))}."] if found else []
    words += [f"Data: {data}; its accuracies are not those of the original images." for data in copies]
    words.append("The numbers of epochs in Table 2 and Fig. 4 are ours: the paper does not name its own.")
    return " ".join(words)


def report(results):
    """The text of README.md."""
    lines = [INTRODUCTION, sources(results), ""]
    lines += experiment.markdown("", "command", "time", "the paper", "here", "verdict")
    for figure in (table1, figure1, figure2, figure3, figure4, table2, figure5, figures6and7):
        row = figure(results)
        time = "" if row.seconds is None else f"{row.seconds / 60:.0f} min"
        command = f"`{row.command}`" if ".py" in row.command else row.command
        lines.append(f"| {' | '.join([row.name, command, time, row.paper, row.ours, row.verdict])} |")
    for words, names in (("Tables", TABLES), ("Tables that their own scripts write", OTHERS)):
        tables = [f"[{name}](results/{name}.md)" for name in names if (results / f"{name}.md").exists()]
        lines += ["", f"{words}: {', '.join(tables)}."] if tables else []
    lines += ["", *claims.lines(results), "", *controls(results)]
    for name, words in PICTURES.items():
        if (results / f"{name}.png").exists():
            lines += ["", f"![{words}](results/{name}.png)", "", f"{words}."]
    return "\n".join(lines) + "\n"


def main(argv=None):
    """Runs the script; gives its exit code."""
    parser = command_line(__doc__)
    add = parser.add_argument
    add_results(parser, "--results")
    add("--out", type=pathlib.Path, default=README, metavar="FILE", help="(default: README.md, beside this script)")
    args = parser.parse_args(argv)
    with errors_in_one_line(parser):
        for script in (table1_example, figure1_attention, figure2_scatter):
            script.main(["--out", str(args.results)])
        large_bias.main(["--out", str(args.results)])
        for script in MEASURED:
            if (args.results / f"{script.__name__}.json").exists():
                script.main(["--table", "--out", str(args.results)])
        studies = faithfulness.FAITHFULNESS, faithfulness_cifar10.FAITHFULNESS_CIFAR10
        experiments = figure3_mnist_mlp.FIGURE3, table2_cifar10_mlp.TABLE2, cifar10_resnet20.FIGURE5
        for drawn in (*experiments, initialisation.INITIALISATION, *studies):
            found = grid.rows(args.results / f"{drawn.name}.jsonl")
            if found:
                drawn.write(found, args.results)
        if (args.results / figure6_interpretation.MAPS).exists():
            figure6_interpretation.write(args.results)
        files.write(args.out, report(args.results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
