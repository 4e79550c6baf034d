"""Experiments that train: what a script declares, and its way from the settings to results and a table."""

import argparse
import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from lab import data, environment, rows, runs, training
from lab.activations import ACTIVATIONS
from lab.arguments import Parser, add_data, add_results, add_table, at_least, command_line, errors_in_one_line, parsed
from lab.files import RUNS
from lab.rows import Row, Run, Setting


def train_classifiers(
    experiment: "Experiment", file: str | None, out: pathlib.Path, runs: list[Run]
) -> list[dict[str, Any]]:
    """Trains the models of runs that differ in their seed alone, on images in [0, 1]; returns their histories."""
    images = data.load_scaled(experiment.dataset, file)
    limit = runs[0]["limit"]
    x, y = images.train
    return training.train(runs, experiment.build, ((x[:limit], y[:limit]), images.test), experiment.points)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """A figure, table or study that is made from training runs.

    Attributes:
        name: of the files that it writes, as in `table2.jsonl`.
        dataset: `"mnist"` or `"cifar10"`.
        limit: number of training images; None for all.
        models: the networks by name, functions of the activation.
        more_models: networks that run on request.
        activations: the activations that are compared, names in `ACTIVATIONS`.
        settings: pairs of an optimizer and its learning rate.
        batch_size: of all runs.
        epochs: of all runs, unless told otherwise.
        seeds: number of repetitions, unless told otherwise.
        points: parts of an epoch over which accuracy in training is averaged.
        planned: function of a run: whether it is one of the experiment's, which need not have every combination.
        together: whether several runs can train at once, on JAX.
        differ: the settings in which such runs may differ.
        perform: function of this experiment, the file of the data, the directory of results, and a list of runs that
            are alike but for `differ`; returns the result of each. It goes to other machines, so a module must hold it.
        write: function of the rows and the directory that writes table and pictures, and returns the table.
        quick: the defaults that `--quick` stands for.
        schedule: of learning rate, epochs and batches; None for the paper's.
        schedules: other schedules by name, each an experiment that differs from this one as the schedule needs.
    """

    name: str
    dataset: str
    limit: int | None = None
    models: Mapping[str, Callable[[str], keras.Model]]
    more_models: Mapping[str, Callable[[str], keras.Model]] = dataclasses.field(default_factory=dict)
    activations: Sequence[str]
    settings: Sequence[Setting]
    batch_size: int
    epochs: int
    seeds: int
    points: int = 1
    planned: Callable[[Run], bool] = lambda run: True
    together: bool = False
    differ: Sequence[str] = ("seed",)
    perform: Callable[["Experiment", str | None, pathlib.Path, list[Run]], list[dict[str, Any]]] = train_classifiers
    write: Callable[[list[Row], pathlib.Path], str]
    quick: dict[str, Any]
    schedule: str | None = None
    schedules: Mapping[str, "Experiment"] = dataclasses.field(default_factory=dict)

    def build(self, run: Run) -> keras.Model:
        """The model of a run."""
        return {**self.models, **self.more_models}[run["model"]](run["activation"])

    def runs(
        self, models: Sequence[str], activations: Sequence[str], seeds: int, epochs: int, limit: int | None
    ) -> list[Run]:
        """All runs that are planned, seed by seed."""
        schedule = {} if self.schedule is None else {"schedule": self.schedule}
        every = [
            {"model": model, "activation": activation, "optimizer": optimizer, "learning_rate": rate, "seed": seed}
            | {"epochs": epochs, "batch_size": self.batch_size, "limit": limit}
            | schedule
            for seed in range(seeds)
            for model in models
            for optimizer, rate in self.settings
            for activation in activations
        ]
        return [run for run in every if self.planned(run)]


def main(experiment: Experiment, doc: str | None, examples: str, argv: Sequence[str] | None = None) -> int:
    """Runs the script of an experiment; returns its exit code."""
    parser = command_line(doc, examples)
    experiment = _scheduled(experiment, parser, argv)
    add = parser.add_argument
    chosen = " ".join(experiment.activations)
    activations = f"of the hidden layers (default: {chosen}); choices: {' '.join(ACTIVATIONS)}"
    add(
        "--activations",
        nargs="+",
        choices=ACTIVATIONS,
        default=experiment.activations,
        metavar="NAME",
        help=activations,
    )
    every = [*experiment.models, *experiment.more_models]
    models = f"the networks: {' '.join(every)} (default: {' '.join(experiment.models)})"
    add("--models", nargs="+", choices=every, default=list(experiment.models), metavar="NAME", help=models)
    seeds = f"repetitions of each setting, with seeds 0 to N - 1 (default: {experiment.seeds})"
    add("--seeds", type=at_least(1), default=experiment.seeds, metavar="N", help=seeds)
    epochs = experiment.epochs
    add("--epochs", type=at_least(1), default=epochs, metavar="N", help=f"(default: {epochs})")
    example = rows.name(experiment.runs(list(experiment.models), experiment.activations, 1, experiment.epochs, None)[0])
    pattern = f"only the runs whose names match, as in '{example}' (default: '*')"
    add("--only", default="*", metavar="PATTERN", help=pattern)
    limit = f"train on the first N images (default: {experiment.limit or 'all'})"
    add("--limit", type=at_least(1), default=experiment.limit, metavar="N", help=limit)
    add_data(parser)
    together = "runs of a setting that train at once, on JAX; on a GPU, take all of them (default: 1)"
    add("--together", type=at_least(1), default=1, metavar="N", help=together)
    ray = "let the machines of this Ray cluster do the runs; 'local' for processes of this machine"
    add("--ray", metavar="ADDRESS", help=ray)
    add_results(parser)
    add_table(parser)
    args = parsed(parser, experiment.quick | {"out": RUNS / experiment.name}, argv)
    if args.together > 1 and not experiment.together:
        parser.error(f"--together {args.together}: these runs train one after the other")
    if args.together > 1 and environment.BACKEND != "jax":
        parser.error(f"--together {args.together} needs KERAS_BACKEND=jax, and the backend is {environment.BACKEND}")

    # absolute, because other processes work in other directories
    out, file = args.out.resolve(), args.data and str(pathlib.Path(args.data).resolve())
    path = out / f"{experiment.name}.jsonl"
    with errors_in_one_line(parser):
        if not args.table:
            wanted = experiment.runs(args.models, args.activations, args.seeds, args.epochs, args.limit)
            wanted = runs.matching(wanted, args.only)
            source = data.load_scaled(experiment.dataset, file).source
            out.mkdir(parents=True, exist_ok=True)
            perform = functools.partial(on_the_same_data, experiment, source, file, out)
            options = {"together": args.together, "differ": experiment.differ, "address": args.ray}
            runs.carry_out(wanted, perform, path, runs.record(source), **options)
        finished = rows.read(path)
        if not finished:
            raise ValueError(f"{path} holds no finished run")
        text = experiment.write(finished, out)
    print(text)
    return 0


def _scheduled(experiment: Experiment, parser: Parser, argv: Sequence[str] | None) -> Experiment:
    """The experiment with the schedule that a command line names, whose defaults the other arguments take.

    Args:
        experiment: if it has schedules, the parser gets the argument that names one.
    """
    if not experiment.schedules:
        return experiment
    schedules = {"paper": experiment, **experiment.schedules}
    first = argparse.ArgumentParser(prog=parser.prog, add_help=False, allow_abbrev=False)
    shown = "of learning rate, epochs and batches (default: paper); give it with --help to see its defaults"
    for each in (first, parser):
        each.add_argument("--schedule", choices=schedules, default="paper", help=shown)
    return schedules[first.parse_known_args(argv)[0].schedule]


def on_the_same_data(
    experiment: Experiment, source: str, file: str | None, out: pathlib.Path, runs: list[Run]
) -> list[dict[str, Any]]:
    """The results of runs, on a machine that must have the data of the machine that keeps the results.

    Raises:
        ValueError: if its data have another source.
    """
    own = data.load_scaled(experiment.dataset, file).source
    if own != source:
        raise ValueError(f"the machine of these runs has other data: {own}, not {source}")
    return experiment.perform(experiment, file, out, runs)
