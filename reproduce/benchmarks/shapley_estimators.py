"""Errors of estimates of Shapley values against evaluations of the network, beside shap, captum and shapiq.

Six networks are explained: their inputs' players are pixels, patches or features. Every estimator gets 2, 5, 10 and 50
evaluations for each player. The error is against an enumeration of all coalitions, or a regression on very many; the
truth's own error is in the table. An evaluation is one coalition's: over a background of 50 rows the network then sees
50 inputs. Peers play the same game, and are counted by the coalitions that they ask for.
"""

import argparse
import functools
import importlib.metadata
import json
import pathlib
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # where lab is

import numpy as np

import keras_shapley as ks
from lab import data, estimator_peers, files, measuring, rows, runs
from lab.analysis import shapley_estimators as analysis
from lab.analysis.shapley_estimators import NAME, OURS, TRUTH
from lab.arguments import add_results, add_table, at_least, command_line, measure_and_write, parsed
from lab.estimator_games import RECIPES, Game, Options, load
from lab.estimator_peers import PEERS
from lab.rows import Run
from lab.statistics import number

BUDGETS = (2, 5, 10, 50)
METHODS = (*OURS, *PEERS)
QUICK: dict[str, Any] = {"games": ["digits_conv"], "methods": ["auto", "orders", "shapiq.KernelSHAP"]}
QUICK |= {"budgets": [2, 5], "images": 2, "seeds": 1, "out": files.RUNS / NAME}
EXAMPLES = f"""\
examples:
  python reproduce/benchmarks/{NAME}.py                     hours; KERAS_BACKEND=torch for captum
  python reproduce/benchmarks/{NAME}.py --games digits_mlp  minutes
  python reproduce/benchmarks/{NAME}.py --quick             a first look
  python reproduce/benchmarks/{NAME}.py --table             table and picture again, from the results

The directory --out gets {NAME}.jsonl, with a line for each game, method, budget and seed, {NAME}.md (the
table) and {NAME}.png. Lines that are there are not made again: peers that need another Python are added by
the same command under that Python, with the same --networks.
"""


class Estimate(NamedTuple):
    """An estimate of an input's values.

    Attributes:
        values: of the active players.
        stderr: their standard errors; None if the estimator has none.
        evaluations: number of coalitions that were evaluated.
    """

    values: np.ndarray
    stderr: np.ndarray | None
    evaluations: float


def estimated(method: str, game: Game, index: int, budget: int | None, seed: int) -> Estimate:
    """The estimate of an input's values by a method, ours or a peer, within a budget of evaluations."""
    active = game.active(index)
    if method in PEERS:
        value = estimator_peers.Counted(game.value(index))
        return Estimate(PEERS[method](value, len(active), budget, seed), None, value.n)
    one = slice(index, index + 1)
    options = {"players": game.players, "baseline": game.background, "method": method, "seed": seed}
    found = ks.shapley_values(game.model, game.x[one], game.target[one], budget=budget, progress=False, **options)
    values, stderr = found.values[0, active], found.stderr
    return Estimate(values, None if stderr is None else stderr[0, active], found.n_evaluations / len(game.background))


def measured(game: Game, run: Run) -> dict[str, Any]:
    """The result of a run: for each input evaluations, seconds, errors, and the share of intervals that cover."""
    result: dict[str, Any] = {"evaluations": [], "seconds": [], "error": [], "correlation": [], "covered": []}
    for index in range(len(game.x)):
        active = game.active(index)
        budget = run["budget"] and run["budget"] * len(active)
        watch = measuring.Stopwatch()
        try:
            with warnings.catch_warnings():
                # on few samples the peers warn in many ways
                warnings.simplefilter("ignore")
                estimate = estimated(run["method"], game, index, budget, 1000 * run["seed"] + index)
        except ValueError as error:
            return {"refused": str(error)}
        seconds = watch.seconds
        of_input = analysis.errors(
            estimate.values, estimate.stderr, game.truth[index, active], game.stderr[index, active]
        )
        of_input |= {"evaluations": estimate.evaluations, "seconds": seconds}
        for name, value in of_input.items():
            result[name].append(None if value is None else number(value))
    return result


def described(game: Game) -> dict[str, Any]:
    """The result of the run that describes the game: number of players, and the truth's own error."""
    players = [len(game.active(index)) for index in range(len(game.x))]
    return {"players": players, "noise": [number(error) for error in game.noise]}


def measure(args: argparse.Namespace) -> None:
    """Adds the rows that the results lack."""
    path = args.out / f"{NAME}.jsonl"
    left_out = {name: words for name in args.methods if name in PEERS and (words := estimator_peers.missing(name))}
    for name, words in left_out.items():
        print(f"{name} is left out: {words}", file=sys.stderr)
    methods = [name for name in args.methods if name not in left_out]
    options = Options(
        args.images, args.epochs, args.coalitions, {name: getattr(args, name) for name in data.IMAGE_SHAPES}
    )
    for name in args.games:
        game = load(name, args.networks, options)
        record = runs.record(game.source)
        add(path, {"game": name, "method": TRUTH, "images": len(game.x)}, lambda _, game=game: described(game), record)
        for seed in range(args.seeds):
            for budget in args.budgets:
                for method in methods:
                    run = {"game": name, "method": method, "budget": budget, "seed": seed, "images": len(game.x)}
                    if method in analysis.ONCE:
                        run |= {"budget": None, "seed": 0}
                    add(path, run, functools.partial(measured, game), record)


def add(path: pathlib.Path, run: Run, perform: Callable[[Run], dict[str, Any]], record: dict[str, Any]) -> None:
    """Performs a run, unless the file of results has it, and adds its row there."""
    if any(row["run"] == run for row in rows.read(path)):
        return
    watch = measuring.Stopwatch()
    row = {"run": run, "result": perform(run), **record}
    if run["method"] in PEERS:
        package = estimator_peers.package(run["method"])
        row["versions"] = {**row["versions"], package: importlib.metadata.version(package)}
    with files.locked(path):
        # with the rows that another process may have added meanwhile
        files.write(path, "".join(json.dumps(row) + "\n" for row in [*rows.read(path), row]))
    words = [run["game"], run["method"], *(f"{name} {run[name]}" for name in ("budget", "seed") if name in run)]
    print(f"{', '.join(words)}: {watch.seconds:.1f} s", file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script; returns its exit code."""
    parser = command_line(__doc__, EXAMPLES)
    add_argument, count = parser.add_argument, at_least(1)
    add_results(parser)
    add_table(parser)
    add_argument(
        "--games",
        nargs="+",
        choices=RECIPES,
        default=list(RECIPES),
        metavar="NAME",
        help=f"(default: {' '.join(RECIPES)})",
    )
    shown = f"(default: {' '.join(METHODS)}, of these what is installed)"
    add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="NAME", help=shown)
    shown = f"evaluations for each player (default: {' '.join(map(str, BUDGETS))})"
    add_argument("--budgets", nargs="+", type=at_least(2), default=BUDGETS, metavar="N", help=shown)
    add_argument("--seeds", type=count, default=3, metavar="N", help="of the estimates (default: 3)")
    add_argument("--images", type=count, default=10, metavar="N", help="inputs, at most (default: 10)")
    add_argument("--epochs", type=count, metavar="N", help="of the training (default: the game's own)")
    add_argument("--coalitions", type=count, metavar="N", help="of the truth (default: the game's own)")
    shown = f"directory that keeps networks and truths (default: {files.RUNS / NAME})"
    add_argument("--networks", type=pathlib.Path, default=files.RUNS / NAME, metavar="DIR", help=shown)
    for dataset in data.IMAGE_SHAPES:
        add_argument(f"--{dataset}", metavar="FILE", help=f"read {dataset} from this .npz file, not from tfds")
    return measure_and_write(parser, parsed(parser, QUICK, argv), measure, analysis.write)


if __name__ == "__main__":
    sys.exit(main())
