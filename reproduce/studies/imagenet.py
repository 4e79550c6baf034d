"""How near explanations of a network of ImageNet come to Shapley values, on photographs.

The network is EfficientNet-Lite0 with its weights (extra `imagenet`), or a classifier of `keras.applications`. The
photographs come with scikit-learn and scikit-image; of each there are two crops. The players are 49 patches, absent
ones are grey, and what is explained is the logit, and the probability, of the predicted class. The truth is a
regression over coalitions of patches, with standard errors. Every method's attribution is summed over each patch.

A row is kept for each crop and method. A run that was killed goes on where it was.
"""

import argparse
import functools
import json
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # where lab is

import numpy as np

import keras_shapley as ks
from keras_shapley.models.outputs import percent
from lab import coalitions, files, imagenet, measuring, pictures, rows, runs
from lab.analysis import imagenet as analysis
from lab.arguments import (
    add_results,
    add_seed,
    add_table,
    add_threads,
    at_least,
    command_line,
    measure_and_write,
    parsed,
)
from lab.faithfulness import by_player
from lab.image_methods import METHODS, PATCHES, Method, in_blocks, patches
from lab.imagenet import CROPS, Network
from lab.statistics import number

N_PLAYERS = PATCHES**2
PHOTOGRAPHS = "photographs of scikit-learn and scikit-image"
# images and turns of the clock
TIMED, TURNS = 2, 3
# methods of the picture, by their labels there; photographs of the picture of the default
SHOWN = {
    "Shapley values": analysis.TRUTH,
    "default": "Shapley propagation",
    "gates=32": "Shapley propagation, gates from 32 passes",
    "epsilon plus": "epsilon_plus",
    "gamma, box": "epsilon_gamma_box",
    "eq. (2)": "eq. (2)",
    "Grad-CAM": "Grad-CAM",
    "integrated gradients": "integrated gradients, 16 steps",
    "moments": "moments of patches",
}
FEW = 4
QUICK = {
    **{"crops": 3, "side": 64, "coalitions": 128, "random_weights": True, "out": files.RUNS / "imagenet"},
    "methods": ["Shapley propagation", "eq. (2)", "Grad-CAM"],
}
EXAMPLES = """\
examples:
  python reproduce/studies/imagenet.py                      an hour or two
  python reproduce/studies/imagenet.py --quick              random weights and small images: whether it runs
  python reproduce/studies/imagenet.py --model ResNet50     another network, whose weights Keras downloads
  python reproduce/studies/imagenet.py --table              table and pictures again, from the results

The directory --out gets imagenet.jsonl and .md (the table), imagenet.png and imagenet_default.png. Environment:
KERAS_BACKEND chooses the backend.
"""


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """What all rows of a run share."""
    return {name: getattr(args, name) for name in ("model", "side", "coalitions", "seed", "random_weights")}


def measure(args: argparse.Namespace) -> None:
    """Adds the rows that are missing to the results."""
    crops = CROPS[: args.crops]
    network, x, probability = subject(args, crops)
    target = probability.argmax(axis=1)
    path, record = args.out / analysis.RESULTS, runs.record(PHOTOGRAPHS)

    def add(name: str, explain: Callable[[np.ndarray, np.ndarray], list[dict[str, Any]]], block: int) -> None:
        """Explains the crops that have no row of this method, and keeps a row of each."""
        finished = rows.read(path)
        done = {row["run"]["crop"] for row in finished if row["run"] == {**run(name), "crop": row["run"]["crop"]}}
        missing = [n for n, crop in enumerate(crops) if crop.name not in done]
        for start in range(0, len(missing), block):
            chosen = missing[start : start + block]
            watch = measuring.Stopwatch()
            for n, result in zip(chosen, explain(x[chosen], target[chosen])):
                finished.append({"run": {**run(name), "crop": crops[n].name}, "result": result, **record})
            files.write(path, "".join(json.dumps(row) + "\n" for row in finished))
            print(f"{name}: {len(chosen)} crops, {watch.seconds:.0f} s", file=sys.stderr, flush=True)

    def run(method: str) -> dict[str, Any]:
        return {**settings(args), "method": method}

    drawn = coalitions.paired(N_PLAYERS, args.coalitions // 2, np.random.default_rng(args.seed))
    add(analysis.TRUTH, lambda x, target: [truth(network, x[0], target[0], drawn)], 1)
    for name in args.methods:
        add(name, functools.partial(explained, network, METHODS[name]), len(crops))


def subject(args: argparse.Namespace, crops: Sequence[imagenet.Crop]) -> tuple[Network, np.ndarray, np.ndarray]:
    """The network, crops as it takes them, and the probabilities that it gives."""
    network = imagenet.network(args.model, trained=not args.random_weights, side=args.side)
    x = np.asarray(network.preprocess(np.stack([crop.pixels(network.side) for crop in crops])))
    return network, x, network.probabilities.predict(x, verbose=0)


def truth(network: Network, x: np.ndarray, target: int, drawn: np.ndarray) -> dict[str, Any]:
    """Shapley values of an image's patches, with standard errors, for both outputs of the target."""

    def function(batch: np.ndarray) -> np.ndarray:
        logits = network.logits.predict_on_batch(batch).astype("float64")
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.stack([logits[:, target], odds[:, target] / odds.sum(axis=1)], axis=1)

    players = np.broadcast_to(patches(network.side)[..., None], x.shape)
    values, stderr, totals = coalitions.shapley_values(function, x, network.baseline, players, drawn)
    result: dict[str, Any] = {"target": int(target), "stderr": {}, "total": {}}
    for output, own, errors, total in zip(analysis.OUTPUTS, values, stderr, totals):
        result[output], result["stderr"][output], result["total"][output] = rounded(own), rounded(errors), float(total)
    return result | perturbed(network, x[None], values[1:], np.array([target]))[0]


def explained(network: Network, method: Method, x: np.ndarray, target: np.ndarray) -> list[dict[str, Any]]:
    """Attributions of the patches, for both outputs, and what they do to the probability."""
    sums = {}
    for output in analysis.OUTPUTS:
        maps = in_blocks(method(network, output), x, target).astype("float64").sum(axis=-1)
        sums[output] = by_player(patches(network.side), maps)
    results = [{output: rounded(sums[output][n]) for output in analysis.OUTPUTS} for n in range(len(x))]
    if np.isfinite(sums["probability"]).all():
        for result, areas in zip(results, perturbed(network, x, sums["probability"], target)):
            result |= areas
    return results


def perturbed(network: Network, x: np.ndarray, values: np.ndarray, target: np.ndarray) -> list[dict[str, float | None]]:
    """Areas under the probability while patches are removed, and inserted, the most relevant first."""
    maps = values[:, patches(network.side)]
    options = {"baseline": network.baseline, "steps": N_PLAYERS, "batch_size": 16, "progress": False}
    areas = {
        name: measure(network.probabilities, x, maps, target, **options)
        for name, measure in (("deletion", ks.metrics.deletion), ("insertion", ks.metrics.insertion))
    }
    return [{name: number(values[n]) for name, values in areas.items()} for n in range(len(x))]


def rounded(values: np.ndarray) -> list[float | None]:
    return [number(value, 5) for value in values]


def clock(args: argparse.Namespace) -> None:
    """Keeps the seconds of each method for some images, and those of as many forward passes, turn by turn."""
    measuring.fix_threads(args.threads)
    network, x, probability = subject(args, CROPS[:TIMED])
    target = probability.argmax(axis=1)
    calls = {analysis.FORWARD: lambda: network.logits.predict_on_batch(x)}
    for name in args.methods:
        for output in analysis.OUTPUTS:
            explain = METHODS[name](network, output)
            calls[analysis.timed(name, output)] = functools.partial(in_blocks, explain, x, target)
    for call in calls.values():
        call()  # compiles
    seconds = measuring.in_turns(calls, TURNS, np.random.default_rng(args.seed))
    record = {"model": args.model, "images": TIMED, "threads": args.threads, **runs.record(PHOTOGRAPHS)}
    record["seconds"] = {name: values.tolist() for name, values in seconds.items()}
    files.write_json(args.out / analysis.SECONDS, record)


def write(args: argparse.Namespace, out: pathlib.Path) -> str:
    """Writes the table, and the pictures unless the clock was read; returns the table."""
    text = analysis.write(out)
    if not args.clock:
        draw(args, out)
    return text


def draw(args: argparse.Namespace, out: pathlib.Path) -> None:
    """Draws the patches of some methods for a crop of each photograph, and the pixels of the default for four."""
    crops = [crop for crop in CROPS[: args.crops] if crop.share == 1]
    network, x, probability = subject(args, crops)
    target = probability.argmax(axis=1)
    names = [imagenet.CLASSES.get(k, f"class {k}") for k in target]
    shares = [percent(part) for part in probability.max(axis=1)]
    titles = [f"{name} ({share})" for name, share in zip(names, shares)]
    photographs = np.stack([crop.pixels(args.side) for crop in crops]).astype("uint8")

    results = analysis.networks(rows.read(out / analysis.RESULTS))[analysis.words(settings(args))]
    by_crop = {crop.name: {analysis.TRUTH: crop.truth, **crop.results} for crop in results}
    shown = {label: method for label, method in SHOWN.items() if all(method in by_crop[crop.name] for crop in crops)}
    maps = {
        label: np.array([by_crop[crop.name][method]["logit"] for crop in crops], "float64")[:, patches(args.side)]
        for label, method in shown.items()
    }
    finite = {label: values for label, values in maps.items() if np.isfinite(values).all()}
    labels = [f"{name}\n{share}" for name, share in zip(names, shares)]
    analysis.draw(out / "imagenet.png", photographs, labels, finite)

    few = slice(FEW)
    explanation = ks.LRP(network.probabilities, baseline=network.baseline).explain(x[few], target[few])
    figure = ks.plot_heatmaps(
        explanation, photographs[few], titles=titles[few], patch_size=-(-args.side // PATCHES), columns=2
    )
    pictures.save(figure, out / "imagenet_default.png")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script; returns its exit code."""
    parser = command_line(__doc__, EXAMPLES)
    add = parser.add_argument
    add("--model", default=imagenet.LITE0, metavar="NAME", help=f"the network (default: {imagenet.LITE0})")
    add("--crops", type=at_least(2), default=len(CROPS), metavar="N", help=f"(default: {len(CROPS)})")
    shown = f"the explanations (default: all): {', '.join(METHODS)}"
    add("--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="NAME", help=shown)
    add("--coalitions", type=at_least(100), default=5000, metavar="N", help="of the truth (default: 5000)")
    add("--side", type=at_least(56), default=224, metavar="N", help="of the images, in pixels (default: 224)")
    add("--random-weights", action="store_true", help="for a test")
    add_seed(parser, "of the coalitions")
    add_results(parser)
    add_table(parser)
    add("--clock", action="store_true", help="only measure what each method costs, on a machine without other work")
    add_threads(parser)
    args = parsed(parser, QUICK, argv)
    return measure_and_write(parser, args, clock if args.clock else measure, functools.partial(write, args))


if __name__ == "__main__":
    sys.exit(main())
