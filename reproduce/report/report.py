"""Writes every table and picture again from the results, and README.md of this directory with what was reproduced.

    python reproduce/report/report.py

Trains nothing, and takes half a minute. Verdicts follow from the numbers. A difference between runs of the same
settings and seed counts as better if its 95 % interval over seeds lies above zero, as not shown if the interval holds
zero, and as alike if the whole interval is within 0.01.
"""

import functools
import pathlib
import sys
from collections.abc import Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # where lab is

from lab import data, files, rows
from lab.analysis import (
    faithfulness,
    figure1,
    figure2,
    figure3,
    figure5,
    figure6,
    imagenet,
    initialisation,
    large_bias,
    lrp_cost,
    neuron_accuracy,
    one_pass,
    sampling_errors,
    shapley_estimators,
    shapley_gradient,
    table1,
    table2,
    training_cost,
    where_sa_helps,
)
from lab.analysis.evaluation_rates import EVALUATION_RATES
from lab.analysis.explanation_times import EXPLANATION_TIMES
from lab.arguments import add_results, command_line, errors_in_one_line
from report import claims, controls, figures
from report.verdicts import details

README = files.REPRODUCE / "README.md"
INTRODUCTION = """\
# The paper's figures and tables

This page, and the tables and pictures that it shows, are written by `python reproduce/report/report.py` from
`results/`. The scripts of the paper's figures and tables stand here; `studies/` answers further questions,
`benchmarks/` measures costs, and `lab/` is what they share.

To make a figure again, run its command in the root of the repository, after `pip install '.[reproduce,jax]'`. Every
script explains itself with `--help`. Most have `--quick` for a first look in minutes. After a script was killed, the
same command goes on where it was. The images are looked for, and put, in `TFDS_DATA_DIR`.

Times are sums over the runs, a rough guide. Differences are between runs that share settings and seed, with a 95 %
interval over seeds in brackets. They count as better if the interval lies above zero, as not shown if it holds zero,
and as alike if it is within 0.01.
"""
# Each writes its table and its picture. Some compute their results,
COMPUTED = {"table1": table1.write, "figure1": figure1.write, "figure2": figure2.write, "large_bias": large_bias.write}
# others read the rows of runs, from a .jsonl file of this name,
TRAINED = {
    "table2": table2.write,
    "figure3": figure3.write,
    "figure5": figure5.write,
    "initialisation": initialisation.write,
    where_sa_helps.NAME: where_sa_helps.write,
    "faithfulness": functools.partial(faithfulness.write, "faithfulness"),
    "faithfulness_cifar10": functools.partial(faithfulness.write, "faithfulness_cifar10"),
    one_pass.NAME: one_pass.write,
}
# and others read measurements, from files that match the pattern.
MEASURED = {
    figure6.MAPS: figure6.write,
    shapley_gradient.RESULTS: shapley_gradient.write,
    neuron_accuracy.RESULTS: neuron_accuracy.write,
    sampling_errors.RESULTS: sampling_errors.write,
    imagenet.RESULTS: imagenet.write,
    f"{shapley_estimators.NAME}.jsonl": shapley_estimators.write,
    f"{EVALUATION_RATES.name}.json": EVALUATION_RATES.write,
    f"{EXPLANATION_TIMES.name}.json": EXPLANATION_TIMES.write,
    training_cost.file("*"): training_cost.write,
    lrp_cost.file("*"): lrp_cost.write,
}
# in the order in which the page lists them
TABLES = (
    *("table1", "table2", "figure3", "figure5", "figure6", "large_bias", "initialisation", where_sa_helps.NAME),
    *("shapley_gradient", "neuron_accuracy", "sampling_errors", shapley_estimators.NAME),
    *("evaluation_rates", "explanation_times"),
    *("faithfulness", "faithfulness_cifar10", one_pass.NAME, "imagenet", "training_cost", "lrp_cost"),
)
BY_HAND = ("lrp_zoo", "lrp_presets")  # pages with a table that a script prints
FIGURE_TABLES = {
    "Table 1": "table1",
    "Fig. 3": "figure3",
    "Fig. 4": "table2",
    "Table 2": "table2",
    "Fig. 5": "figure5",
    "Figs. 6, 7": "figure6",
}
DRAWN = ("imagenet", "imagenet_default")  # pictures for which a network is needed: their script draws them
FIGURE_PICTURES = {
    "Fig. 1": {
        "figure1": "A gate opens where one signal is unlike the others; what the pooled second moment leaves of it"
    },
    "Fig. 2": {"figure2": "SA against the sum that ReLU sees"},
    "Fig. 3": {"figure3": "MNIST by an MLP, 1,000 images"},
    "Fig. 4": {"figure4": "CIFAR-10 by an MLP"},
    "Fig. 5": {"figure5": "CIFAR-10 by ResNet-20"},
    "Figs. 6, 7": {
        "figure6": "Fig. 6: pixels for and against each digit, by relevance per unit grey",
        "figure7": "Fig. 7: the same by the gradient",
    },
}
# by the table of the study
STUDY_PICTURES = {
    where_sa_helps.NAME: {
        where_sa_helps.NAME: "Accuracy of SA over that of ReLU, a leaky ReLU and GELU where training is hard"
    },
    "shapley_gradient": {
        "shapley_gradient": "Gradients of ReLU, ShapLU and SA beside the Shapley gradient by random orders"
    },
    "large_bias": {"large_bias": "Relevance of a neuron with a large bias"},
    "neuron_accuracy": {
        "neuron_accuracy": "Errors of eq. (1), of its closed form, of a quadrature and of random orders for one neuron"
    },
    "sampling_errors": {
        "sampling_errors": "Errors of estimates of Shapley values against their cost, beside shap and captum"
    },
    shapley_estimators.NAME: {
        shapley_estimators.NAME: (
            "Errors of estimators of Shapley values on six networks, beside shap, captum and shapiq"
        )
    },
    "faithfulness": {
        "faithfulness": "How near explanations come to Shapley values, against their cost",
        "faithfulness_maps": (
            "Maps of networks with ReLU and with SA. Epsilon plus flat is constant for an MLP, by construction: in the "
            "first layer, Flat shares relevance equally among all inputs of a neuron"
        ),
    },
    "faithfulness_cifar10": {
        "faithfulness_cifar10": "How near explanations come to Shapley values on CIFAR-10, against their cost",
        "faithfulness_cifar10_maps": "Maps of networks for CIFAR-10 with ReLU and with SA",
    },
    one_pass.NAME: {
        one_pass.NAME: (
            "How near the default and other methods of one pass come to Shapley values from the same baseline"
        )
    },
    "imagenet": {
        "imagenet_default": "What a network of ImageNet sees, without options: pixels, and the sum of each patch",
        "imagenet": "Explanations of that network beside the Shapley values of its patches",
    },
}


def write_results(results: pathlib.Path) -> None:
    """Writes all tables and pictures whose results are in a directory."""
    for write in COMPUTED.values():
        write(results)
    for name, write in TRAINED.items():
        finished = rows.read(results / f"{name}.jsonl")
        if finished:
            write(finished, results)
    for pattern, write in MEASURED.items():
        if any(results.glob(pattern)):
            write(results)


def origin(results: pathlib.Path) -> str:
    """A line on the devices and the data of the paper's experiments."""
    finished = [row for name in ("figure3", "table2", "figure5") for row in rows.read(results / f"{name}.jsonl")]
    copies = dict.fromkeys(data.described(row["data"]) for row in finished if data.known_copy(row["data"]))
    words = [f"Devices: {', '.join(dict.fromkeys(row['device'] for row in finished))}."] if finished else []
    words += [f"Data: {copy}; its accuracies are not those of the original images." for copy in copies]
    words.append("The numbers of epochs in Table 2 and Fig. 4 are ours, because the paper does not name its own.")
    return " ".join(words)


def readme(results: pathlib.Path) -> str:
    """The text of README.md."""
    made = [figure(results) for figure in figures.FIGURES]
    lines = [INTRODUCTION, origin(results), "", *figures.summary(made)]
    titles = {name: title(results, name) for name in (*TABLES, *BY_HAND) if (results / f"{name}.md").exists()}
    links = {name: f"[{words}](results/{name}.md)" for name, words in titles.items()}
    for figure in made:
        lines += ["", f"## {figure.name}", "", *details(figure)]
        lines += pictures(results, FIGURE_PICTURES.get(figure.name, {}))
        table = FIGURE_TABLES.get(figure.name)
        lines += ["", f"Table: {links[table]}."] if table in links else []
    lines += ["", "## Claims in the paper's text"]
    for words, claim in claims.CLAIMS.items():
        lines += ["", f"### {words}", "", *details(claim(results))]
    lines += ["", *controls.lines(results), "", "## Further studies"]
    for name, captions in STUDY_PICTURES.items():
        if name in links:
            lines += ["", f"### {titles[name]}", *pictures(results, captions), "", f"Table: {links[name]}."]
    lines += ["", "## All tables", "", *(f"- {link}" for link in links.values())]
    return "\n".join(lines) + "\n"


def title(results: pathlib.Path, name: str) -> str:
    """The title of a table's page."""
    return (results / f"{name}.md").read_text().partition("\n")[0].removeprefix("# ")


def pictures(results: pathlib.Path, captions: dict[str, str]) -> list[str]:
    """Lines that show the pictures that there are, with their captions."""
    lines = []
    for name, words in captions.items():
        if (results / f"{name}.png").exists():
            lines += ["", f"![{words}](results/{name}.png)", "", f"{words}."]
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script; returns its exit code."""
    parser = command_line(__doc__)
    add_results(parser, "--results")
    default = "(default: reproduce/README.md)"
    parser.add_argument("--out", type=pathlib.Path, default=README, metavar="FILE", help=default)
    args = parser.parse_args(argv)
    with errors_in_one_line(parser):
        write_results(args.results)
        files.write(args.out, readme(args.results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
