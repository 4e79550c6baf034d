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
import study
import table1_example
import table2_cifar10_mlp

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
CLAIMS = """\
## What the paper says beside them
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
ABSENT = "not run"


class Row(typing.NamedTuple):
    """A figure or table in the report: words, but for `seconds`, the time of its runs, or None for a moment."""

    name: str
    command: str
    seconds: float | None
    paper: str
    ours: str
    verdict: str


def verdict(claims):
    """In words, from what the paper says and whether it came out."""
    failed = [words for words, held in claims.items() if not held]
    if failed:
        return f"partly; not: {', '.join(failed)}" if len(failed) < len(claims) else "not reproduced"
    return "reproduced"


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
    claims = {"opens below": gate[0] > 2 * gate.min(), "opens above": gate[-1] > 2 * gate.min()}
    return Row("Fig. 1", "figure1_attention.py", None, paper, ours, verdict(claims))


def figure2(results):
    s, y = figure2_scatter.samples(0)
    gates = y / s
    ours = f"1,000 samples, gates from {gates.min():.3f} to {gates.max():.3f}"
    claims = {"open below 0": gates.min() > 0, "no function of s": np.ptp(gates[s > 0]) > 0.1}
    return Row("Fig. 2", "figure2_scatter.py", None, "a scatter like that of a leaky ReLU", ours, verdict(claims))


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
    claims = {f"{a} faster with {name}": verdicts[a, name] == "better" for a, name in verdicts if name != "SGD 0.01"}
    claims |= {f"{a} alike with SGD 0.01": verdicts[a, "SGD 0.01"] == "no difference shown" for a in ("shaplu", "sa")}
    claims |= {f"{a} alike in the end with Adam": abs(ends[a, "Adam 0.001"]) < 0.01 for a in ("shaplu", "sa")}
    final = np.mean([figure3_mnist_mlp.final(row) for row in figure3_mnist_mlp.of(found, ("Adam", 0.001))])
    ours = f"accuracy in the first epoch over ReLU's: {'; '.join(words)}. Validation with Adam {final:.2f}"
    return Row("Fig. 3", command, seconds(found), paper, ours, verdict(claims))


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
    claims = {"better": grid.verdict(*pair[:2]) == "better", "a smaller deviation": deviations[0] < deviations[1]}
    return Row("Fig. 4", "as Table 2", None, paper, ours, verdict(claims))


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
    seeds = " to ".join(map(str, sorted({n for *_, n in means})))
    ours = f"{found[0]['run']['epochs']} epochs, number of seeds {seeds}: SA above ReLU in {above} of {len(means)} "
    ours += f"settings; mean over these {experiment.difference(pair)}"
    claims = {"in 11 of 12 settings": above >= 11, "better on the whole": grid.verdict(*pair[:2]) == "better"}
    return Row("Table 2", command, seconds(found), paper, ours, verdict(claims))


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
    claims = {"better in training": verdicts[0] == "better", "alike": verdicts[1] == "no difference shown"}
    whole = epochs == cifar10_resnet20.EPOCHS and pair[2] > 1
    command = f"cifar10_resnet20.py --seeds {pair[2]} --epochs {epochs}"
    return Row("Fig. 5", command, seconds(found), paper, ours, verdict(claims) if whole else "open: a first look")


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
    claims = {f"nearer by {name}": np.greater(near[name], near["sensitivity"]).all() for name in ("features", "logits")}
    return Row("Figs. 6, 7", "figure6_interpretation.py", None, paper, ours, verdict(claims))


def claims(results):
    """Lines on what the paper says beside its figures."""
    lines = [CLAIMS, *experiment.markdown("the paper", "here", "verdict")]
    for claim in (
        accurate_approximation,
        crude_approximation,
        dropped_terms,
        permutation_dropout,
        fewer_epochs,
        large_biases,
        six_relus,
    ):
        lines.append(f"| {' | '.join(claim(results))} |")
    return lines


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
    found = [row for row in longest(grid.rows(results / "figure5.jsonl")) if row["run"]["activation"] == "sa"]
    finals = {row["run"]["model"]: cifar10_resnet20.final("val_accuracy")(row) for row in found}
    if len(finals) < 2:
        return words, "", ABSENT
    listed = ", ".join(f"{name} {value:.4f}" for name, value in finals.items())
    return words, f"SA, {found[0]['run']['epochs']} epochs, a seed each, validation: {listed}", "open: a first look"


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


def longest(found):
    """The rows with the most epochs that ReLU was run for."""
    epochs = max((row["run"]["epochs"] for row in found if row["run"]["activation"] == "relu"), default=None)
    return [row for row in found if row["run"]["epochs"] == epochs]


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
    lines += ["", *claims(results), "", *controls(results)]
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
