"""What of the paper was reproduced: writes every table and picture again from its results, and README.md beside this.

    python reproduce/report.py

Trains nothing. A verdict follows from the numbers, by the rules below: "better" is where a 95 % interval of the
difference between runs of the same settings and seed lies above zero.
"""

import argparse
import json
import pathlib
import sys
import typing

import cifar10_resnet20
import claims
import experiment
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
from claims import ABSENT, longest, verdict

README = pathlib.Path(__file__).resolve().parent / "README.md"
INTRODUCTION = """\
# The paper's figures and tables

Made by `python reproduce/report.py` from `results/`, and so are the tables and pictures there. Every script has
`--help`, and `--quick` for a first look in minutes; what is killed goes on where it was. Times are sums over runs on
two cores of a shared machine, a rough guide. Differences are means over pairs of runs that share settings and seed,
with a 95 % interval.

CIFAR-10 was a JPEG copy (PSNR 30.5 dB): its accuracies are not those of the original images. The numbers of epochs in
Table 2 and Fig. 4 are ours, the paper does not name its own.
"""
CONTROLS = """\
## Is it the Shapley gate, or would any leak do?

The same networks with other activations: accuracy in the first epoch of Fig. 3 with Adam, and validation of Table 2 in
the settings that the controls were run in, over ReLU and over SA.
"""
CONTROL = "gelu"  # run where all controls are
TABLES = (
    *("table1", "table2", "figure3", "figure5", "figure6", "shapley_gradient", "large_bias", "initialisation"),
    *("neuron_accuracy", "sampling_errors", "faithfulness", "faithfulness_cifar10"),
)
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
    return Row("Table 1", "table1_example.py", None, "-1/6, 4/3, -7/6", values, verdict({"the values": right}))


def figure1(results):
    signals = np.linspace(-figure1_attention.FAR, figure1_attention.FAR, 801)
    rest = figure1_attention.SUMS[0]
    gate, _ = figure1_attention.gates(signals, rest)
    paper = "the gate opens where one signal is very strong, of either sign"
    ours = f"others sum to {rest:g}: gate {gate[0]:.3f} at {signals[0]:g}, least {gate.min():.3f}, {gate[-1]:.3f} at "
    ours += f"{signals[-1]:g}"
    held = {"opens below": gate[0] > 2 * gate.min(), "opens above": gate[-1] > 2 * gate.min()}
    return Row("Fig. 1", "figure1_attention.py", None, paper, ours, verdict(held))


def figure2(results):
    s, y = figure2_scatter.samples(0)
    gates = y / s
    ours = f"1,000 samples, gates from {gates.min():.3f} to {gates.max():.3f}"
    held = {"open below 0": gates.min() > 0, "no function of s": np.ptp(gates[s > 0]) > 0.1}
    return Row("Fig. 2", "figure2_scatter.py", None, "a scatter like that of a leaky ReLU", ours, verdict(held))


def figure3(results):
    found = grid.rows(results / "figure3.jsonl")
    command = "figure3_mnist_mlp.py --together 10"
    paper = (
        "ShapLU and SA learn faster than ReLU with Adam and with large rates of SGD, alike with small ones; all end "
    )
    paper += f"at about {figure3_mnist_mlp.PAPER_FINAL} validation"
    words, verdicts, ends = [], {}, {}
    for setting in (("Adam", 0.001), ("SGD", 0.5), ("SGD", 0.01)):
        rows = figure3_mnist_mlp.of(found, setting)
        name = f"{setting[0]} {setting[1]:g}"
        for activation in ("shaplu", "sa"):
            pair = grid.paired(rows, activation, "relu", figure3_mnist_mlp.first_epoch)
            if pair is None:
                return absent("Fig. 3", command, paper)
            verdicts[activation, name] = grid.verdict(*pair[:2])
            words.append(f"{activation} with {name} {experiment.difference(pair)}")
            ends[activation, name] = grid.paired(rows, activation, "relu", figure3_mnist_mlp.final)[0]
    held = {f"{a} faster with {name}": verdicts[a, name] == "better" for a, name in verdicts if name != "SGD 0.01"}
    held |= {f"{a} alike with SGD 0.01": verdicts[a, "SGD 0.01"] == "no difference shown" for a in ("shaplu", "sa")}
    held |= {f"{a} alike in the end with Adam": abs(ends[a, "Adam 0.001"]) < 0.01 for a in ("shaplu", "sa")}
    final = np.mean([figure3_mnist_mlp.final(row) for row in figure3_mnist_mlp.of(found, ("Adam", 0.001))])
    ours = f"accuracy in the first epoch over ReLU's: {'; '.join(words)}. Validation with Adam {final:.2f}"
    return Row("Fig. 3", command, seconds(found), paper, ours, verdict(held))


def figure4(results):
    found = longest(grid.rows(results / "table2.jsonl"))
    found = [row for row in found if (row["run"]["optimizer"], row["run"]["learning_rate"]) == ("Adam", 0.001)]
    paper = "SA: better accuracy in training, with a smaller deviation"
    last = cifar10_resnet20.final("accuracy")
    pair = grid.paired(found, "sa", "relu", last)
    if pair is None:
        return absent("Fig. 4", "table2_cifar10_mlp.py", paper)
    epochs, n = found[0]["run"]["epochs"], pair[2]
    ours = f"after {epochs} epochs, number of seeds {n}: {experiment.difference(pair)} over ReLU"
    if n < 2:
        return Row("Fig. 4", "as Table 2", None, paper, ours, "open: a first look")
    sa, relu = ([last(row) for row in found if row["run"]["activation"] == name] for name in ("sa", "relu"))
    deviations = [np.std(values, ddof=1) for values in (sa, relu)]
    ours += "; standard deviations {:.4f} and {:.4f}".format(*deviations)
    held = {"better": grid.verdict(*pair[:2]) == "better", "a smaller deviation": deviations[0] < deviations[1]}
    return Row("Fig. 4", "as Table 2", None, paper, ours, verdict(held))


def table2(results):
    found = longest(grid.rows(results / "table2.jsonl"))
    paper = "SA's validation accuracy is better in 11 of 12 settings"
    command = "table2_cifar10_mlp.py --together 3"
    pair = grid.paired(found, "sa", "relu", table2_cifar10_mlp.final)
    if pair is None:
        return absent("Table 2", command, paper)
    means = []
    for optimizer, rate in table2_cifar10_mlp.PAPER:
        rows = [row for row in found if (row["run"]["optimizer"], row["run"]["learning_rate"]) == (optimizer, rate)]
        means.append(grid.paired(rows, "sa", "relu", table2_cifar10_mlp.final))
    means = [mean for mean in means if mean]
    above = sum(mean > 0 for mean, *_ in means)
    counts = [n for *_, n in means]
    seeds = " to ".join(map(str, sorted({min(counts), max(counts)})))
    ours = f"{found[0]['run']['epochs']} epochs, number of seeds {seeds}: SA above ReLU in {above} of {len(means)} "
    ours += f"settings; mean over these {experiment.difference(pair)}"
    held = {"in 11 of 12 settings": above >= 11, "better on the whole": grid.verdict(*pair[:2]) == "better"}
    return Row("Table 2", command, seconds(found), paper, ours, verdict(held))


def figure5(results):
    found = [row for row in grid.rows(results / "figure5.jsonl") if row["run"]["model"] == "resnet20"]
    paper = f"200 epochs, 8 runs: validation about {cifar10_resnet20.PAPER_FINAL} with both, SA better in training"
    found, words, verdicts = longest(found), [], []
    for key, name in (("accuracy", "training"), ("val_accuracy", "validation")):
        pair = grid.paired(found, "sa", "relu", cifar10_resnet20.final(key))
        if pair is None:
            return absent("Fig. 5", "cifar10_resnet20.py", paper)
        verdicts.append(grid.verdict(*pair[:2]))
        words.append(f"{name} {experiment.difference(pair)}")
    epochs = found[0]["run"]["epochs"]
    ours = f"{epochs} epochs, number of seeds {pair[2]}, SA over ReLU: {', '.join(words)}"
    held = {"better in training": verdicts[0] == "better", "alike": verdicts[1] == "no difference shown"}
    whole = epochs == cifar10_resnet20.EPOCHS and pair[2] > 1
    command = f"cifar10_resnet20.py --seeds {pair[2]} --epochs {epochs}"
    return Row("Fig. 5", command, seconds(found), paper, ours, verdict(held) if whole else "open: a first look")


def figures6and7(results):
    paper = "relevance shows the digits, the gradient does not"
    if not (results / figure6_interpretation.MAPS).exists():
        return absent("Figs. 6, 7", "figure6_interpretation.py", paper)
    with np.load(results / figure6_interpretation.MAPS) as file:
        near = json.loads(str(file["record"]))["nearness"]
    features, logits, gradient = (np.mean(near[name]) for name in ("features", "logits", "sensitivity"))
    ours = (
        f"correlation with the digit's mean image less the others': relevance {features:.2f} (shared by the inputs of "
    )
    ours += f"the last layer) and {logits:.2f} (by the logits), gradient {gradient:.2f}"
    held = {f"nearer by {name}": np.greater(near[name], near["sensitivity"]).all() for name in ("features", "logits")}
    return Row("Figs. 6, 7", "figure6_interpretation.py", None, paper, ours, verdict(held))


def controls(results):
    """Lines that compare other activations with ReLU and with SA."""
    mnist = figure3_mnist_mlp.of(grid.rows(results / "figure3.jsonl"), ("Adam", 0.001))
    cifar10 = longest(grid.rows(results / "table2.jsonl"))
    cifar10 = [row for row in cifar10 if grid.counterpart(cifar10, row, CONTROL)]
    heads = [f"{name} over {base}" for name in ("Fig. 3", "Table 2") for base in ("ReLU", "SA")]
    lines = [CONTROLS, *experiment.markdown("", *heads)]
    for activation in dict.fromkeys(row["run"]["activation"] for row in [*mnist, *cifar10]):
        cells = [
            experiment.difference(grid.paired(found, activation, base, value) if activation != base else None)
            for found, value in ((mnist, figure3_mnist_mlp.first_epoch), (cifar10, table2_cifar10_mlp.final))
            for base in ("relu", "sa")
        ]
        lines.append(f"| {' | '.join([activation, *cells])} |")
    return lines


def absent(name, command, paper):
    """The row of what was not run."""
    return Row(name, command, None, paper, "", ABSENT)


def seconds(found):
    """What the runs took, all of them."""
    return sum(row["seconds"] for row in found)


def report(results):
    """The text of README.md."""
    lines = [INTRODUCTION, *experiment.markdown("", "command", "time", "the paper", "here", "verdict")]
    for figure in (table1, figure1, figure2, figure3, figure4, table2, figure5, figures6and7):
        row = figure(results)
        time = "" if row.seconds is None else f"{row.seconds / 60:.0f} min"
        command = f"`{row.command}`" if ".py" in row.command else row.command
        lines.append(f"| {' | '.join([row.name, command, time, row.paper, row.ours, row.verdict])} |")
    tables = [f"[{name}](results/{name}.md)" for name in TABLES if (results / f"{name}.md").exists()]
    lines += ["", f"Tables: {', '.join(tables)}."]
    lines += ["", *claims.lines(results), "", *controls(results)]
    for name, words in PICTURES.items():
        if (results / f"{name}.png").exists():
            lines += ["", f"![{words}](results/{name}.png)", "", f"{words}."]
    return "\n".join(lines) + "\n"


def main(argv=None):
    """Runs the script; gives its exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--results", type=pathlib.Path, default=experiment.RESULTS, metavar="DIR", help="(default: results)")
    add("--out", type=pathlib.Path, default=README, metavar="FILE", help="(default: README.md, beside this script)")
    args = parser.parse_args(argv)
    try:
        for script in (table1_example, figure1_attention, figure2_scatter):
            script.main(["--out", str(args.results)])
        large_bias.main(["--out", str(args.results)])
        for script in (shapley_gradient, neuron_accuracy, sampling_errors):
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
    except (OSError, ValueError) as error:
        parser.exit(2, f"{parser.prog}: error: {error}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
