"""What the scripts that train a grid share: their arguments, and the way from the settings to results and a table."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable

import datasets
import environment
import grid
import numpy as np
import training
from arguments import add_data, add_results, at_least, command_line, errors_in_one_line, parsed
from files import RUNS
from neurons import KINDS


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A figure or table that a grid of runs makes.

    Attributes:
        name: of the files that it writes, as in `table2.jsonl`.
        dataset: `"mnist"` or `"cifar10"`.
        models: names of the networks.
        settings: pairs of an optimiser and its learning rate.
        activations: what is compared by default, names in `KINDS`.
        batch_size, epochs, seeds: of all runs; the last two by default.
        perform: function of the path of the data, the directory for results, and a list of runs that differ in their
            seed alone, that gives what came out of each; of a module, as it goes to other machines.
        write: function of the rows, the directory and the name that writes table and pictures, and returns the table.
        quick: arguments that `--quick` stands for.
        limit: train on the first images alone, by default; None for all.
        others: names of further networks, on request.
        together: whether `perform` can train several runs at once.
    """

    name: str
    dataset: str
    models: tuple
    settings: tuple
    activations: tuple
    batch_size: int
    epochs: int
    seeds: int
    perform: Callable
    write: Callable
    quick: dict
    limit: int | None = None
    others: tuple = ()
    together: bool = False

    def runs(self, models, activations, seeds, epochs, limit):
        """All runs, seed by seed."""
        return [
            {"model": model, "activation": activation, "optimizer": optimizer, "learning_rate": rate, "seed": seed}
            | {"epochs": epochs, "batch_size": self.batch_size, "limit": limit}
            for seed in range(seeds)
            for model in models
            for optimizer, rate in self.settings
            for activation in activations
        ]


def main(experiment, doc, examples, argv=None):
    """Runs a script; gives its exit code."""
    parser = command_line(doc, examples)
    add = parser.add_argument
    names = f"of the hidden layers (default: {' '.join(experiment.activations)})"
    add("--activations", nargs="+", choices=KINDS, default=experiment.activations, metavar="NAME", help=names)
    every = experiment.models + experiment.others
    models = f"the networks: {' '.join(every)} (default: {' '.join(experiment.models)})"
    add("--models", nargs="+", choices=every, default=experiment.models, metavar="NAME", help=models)
    seeds = f"runs of each setting, seeds 0 to N - 1 (default: {experiment.seeds})"
    add("--seeds", type=at_least(1), default=experiment.seeds, metavar="N", help=seeds)
    epochs = experiment.epochs
    add("--epochs", type=at_least(1), default=epochs, metavar="N", help=f"(default: {epochs})")
    add("--only", default="*", metavar="PATTERN", help="of runs, named as in mlp/sa/Adam_0.001/seed0 (default: '*')")
    limit = f"train on the first N images (default: {experiment.limit or 'all'})"
    add("--limit", type=at_least(1), default=experiment.limit, metavar="N", help=limit)
    add_data(parser)
    together = "runs of a setting that train at once, on JAX: for a GPU, all of them (default: 1)"
    add("--together", type=at_least(1), default=1, metavar="N", help=together)
    ray = "runs go to the machines of this Ray cluster; 'local' for this machine"
    add("--ray", metavar="ADDRESS", help=ray)
    add_results(parser)
    add("--table", action="store_true", help="write table and pictures from the results file, train nothing")
    args = parsed(parser, experiment.quick | {"out": RUNS / experiment.name}, argv)
    if args.together > 1 and not experiment.together:
        parser.error(f"--together {args.together}: these runs train one after the other")
    if args.together > 1 and environment.BACKEND != "jax":
        parser.error(f"--together {args.together} needs KERAS_BACKEND=jax, and the backend is {environment.BACKEND}")

    # runs may go to processes that are elsewhere
    out, data = args.out.resolve(), args.data and str(pathlib.Path(args.data).resolve())
    path = out / f"{experiment.name}.jsonl"
    with errors_in_one_line(parser):
        runs = experiment.runs(args.models, args.activations, args.seeds, args.epochs, args.limit)
        runs = [] if args.table else grid.only(runs, args.only)
        if runs:
            source = datasets.of_unit_range(experiment.dataset, data).source
            out.mkdir(parents=True, exist_ok=True)
            perform = functools.partial(_on_the_same_data, experiment.dataset, source, experiment.perform, data, out)
            grid.carry_out(runs, perform, path, grid.record(source), together=args.together, address=args.ray)
        found = grid.rows(path)
        if not found:
            raise ValueError(f"{path} holds no finished run")
        text = experiment.write(found, out)
    print(text)
    return 0


def _on_the_same_data(dataset, source, perform, file, out, runs):
    """What `perform` gives, on a machine that must have the data of the one where the results are kept."""
    found = datasets.of_unit_range(dataset, file).source
    if found != source:
        raise ValueError(f"the machine of these runs has other data: {found}, not {source}")
    return perform(file, out, runs)


def classifiers(dataset, build, points=1):
    """What an `Experiment` has as `perform`: trains as `training.train` does, on images in [0, 1].

    Args:
        dataset: as in `Experiment`.
        build: function of a run that gives its model.
        points: parts of an epoch in which loss and accuracy are recorded.
    """

    def perform(file, out, runs):
        data = datasets.of_unit_range(dataset, file)
        limit = runs[0]["limit"]
        x, y = data.train
        return training.train(runs, build, ((x[:limit], y[:limit]), data.test), points)

    return perform


def by_kind(found):
    """Rows that can be compared: a dict, by the words for epochs, images and backend, of rows that share these.

    Rows on other data are apart, too, and then named by them.
    """
    several = len({row["data"] for row in found}) > 1
    kinds = {}
    for row in sorted(found, key=lambda row: row["run"]["epochs"]):
        limit = row["run"].get("limit")
        words = f"{row['run']['epochs']} epochs, {f'the first {limit:,} images' if limit else 'all images'}"
        words += f", {row['backend']}" + several * f", {datasets.described(row['data'])}"
        kinds.setdefault(words, []).append(row)
    return kinds


def of_setting(found, setting):
    """The rows of an optimiser and its rate."""
    return [row for row in found if (row["run"]["optimizer"], row["run"]["learning_rate"]) == setting]


def fullest(found):
    """The kind of rows, as in `by_kind`, with the most pairs of SA and ReLU, of these the one with the most epochs."""

    def size(rows):
        return len(grid.pairs(rows, "sa", "relu")), rows[0]["run"]["epochs"]

    return max(by_kind(found).values(), key=size, default=[])


def final(key):
    """Function of a row that gives the last value of what it recorded under a key, as `"accuracy"`."""
    return lambda row: row["result"][key][-1]


validation = final("val_accuracy")


def curves(found, key):
    """What the runs recorded over time, an array `(seeds, points)` for each activation.

    Args:
        found: rows of one setting and of one kind.
        key: of the result, as `"accuracy"`.
    """
    by_activation = {}
    for row in found:
        by_activation.setdefault(row["run"]["activation"], []).append(row["result"][key])
    # not a number: a run that has left float32
    return {name: np.array(values, "float64") for name, values in by_activation.items()}


def shaded(axes, x, values, label):
    """Draws the mean over the first axis, and a standard deviation on each side."""
    mean, deviation = values.mean(axis=0), values.std(axis=0, ddof=min(1, len(values) - 1))
    (line,) = axes.plot(x, mean, label=label)
    axes.fill_between(x, mean - deviation, mean + deviation, color=line.get_color(), alpha=0.2, linewidth=0)


def markdown(*titles):
    """Head of a Markdown table."""
    return [f"| {' | '.join(titles)} |", "|" + " --- |" * len(titles)]


def spread(values):
    """Mean and standard deviation, as the paper has them."""
    if len(values) < 2:
        return "".join(f"{value:.4f}" for value in values)
    return f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f} ({len(values)})"


def in_words(mean, half, sign="", back=float):
    """A mean and half the width of its interval; "constant" for the correlation with a constant map, which is none.

    `back` is the inverse of the scale that both are of.
    """
    if np.isnan(mean):
        return "constant"
    middle, low, high = (f"{back(value):{sign}.3f}" for value in (mean, mean - half, mean + half))
    return f"{middle} ({low} to {high})"


def difference(paired):
    """What `grid.paired` gives, in words."""
    if paired is None:
        return ""
    mean, half, n = paired
    return f"{mean:+.4f}, {mean - half:+.4f} to {mean + half:+.4f}" if n > 1 else f"{mean:+.4f} (1 seed)"


def remark(found):
    """In brackets, what is known of the rows' data that a title should say; else nothing."""
    copies = dict.fromkeys(filter(None, (datasets.copy(row["data"]) for row in found)))
    return "".join(f" ({copy})" for copy in copies)


def origins(found):
    """Lines that say what the rows were made from and on."""
    runs = {}
    for row in found:
        versions = ", ".join(f"{package} {version}" for package, version in row["versions"].items())
        key = f"{datasets.described(row['data'])}; {row['device']}; {versions}; commit {row['commit']}"
        runs[key] = runs.get(key, 0) + 1
    return [f"- {n} {'run' if n == 1 else 'runs'}: {key}." for key, n in runs.items()]
