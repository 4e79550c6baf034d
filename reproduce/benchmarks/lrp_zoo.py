"""Relevance propagation through every family of keras.applications: does relevance stay finite, and how large is it?

Each network has random weights: kernels as Keras draws them; biases, gamma and beta random. The moving means and
variances are those of a batch of noise, so that activations keep their size as in a trained network, with some noise
added. The Shapley values of the softmax are carried back to the input of a few random images, in five ways:

    default                Shapley propagation from a baseline of zeros
    eq. (2)                the paper's rule; BatchNormalization passes relevance
    eq. (2), merged        the same, with each BatchNormalization merged into the linear layer beside it
    epsilon_plus           z+ on convolutions, epsilon on dense layers
    epsilon_plus, merged

The table shows for each way: the absolute relevance at the input over that of the head (median over the images); the
call that amplified most; the call that lost or created most, relative to what it received; or the call at which
relevance left the range of float32.

Takes half an hour; --family VGG16 takes a minute. NASNet needs KERAS_BACKEND=tensorflow. The file --out gets a row for
each family, and keeps the rows of other families that it holds.
"""

import collections
import pathlib
import platform
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # where lab is

import keras
import numpy as np
from keras import layers, ops

import keras_shapley as ks
from lab import environment, files, tables
from lab.arguments import add_seed, command_line
from lab.measuring import Stopwatch

# name: smallest size of the input
FAMILIES = {
    "VGG16": 32,
    "ResNet50": 32,
    "ResNet50V2": 32,
    "DenseNet121": 32,
    "InceptionV3": 75,
    "InceptionResNetV2": 75,
    "Xception": 71,
    "MobileNet": 32,
    "MobileNetV2": 32,
    "MobileNetV3Small": 32,
    "EfficientNetB0": 32,
    "EfficientNetV2B0": 32,
    "NASNetMobile": 32,
    "ConvNeXtTiny": 32,
}
WAYS = {
    "default": {"rules": "auto", "head_method": "auto"},
    "eq. (2)": {},
    "eq. (2), merged": {"merge_batch_norm": True},
    "epsilon_plus": {"rules": "epsilon_plus"},
    "epsilon_plus, merged": {"rules": "epsilon_plus", "merge_batch_norm": True},
}
N_CLASSES = 10
N_CALIBRATION = 16
N_IMAGES = 4


def network(family: str, seed: int) -> tuple[keras.Model, Callable[[int], np.ndarray]]:
    """The network with its random weights, and a function `n -> images` of noise in its range."""
    keras.utils.set_random_seed(seed)
    size = FAMILIES[family]
    model = getattr(keras.applications, family)(weights=None, input_shape=(size, size, 3), classes=N_CLASSES)
    rng = np.random.default_rng(seed)
    scales_itself = any(isinstance(layer, (layers.Rescaling, layers.Normalization)) for layer in model.layers)
    low, high = (0, 255) if scales_itself else (-1, 1)

    def images(n: int) -> np.ndarray:
        return rng.uniform(low, high, (n, *model.input_shape[1:])).astype("float32")

    for weight in model.trainable_weights:
        if weight.path.endswith("gamma"):
            size = 0.1 if "layer_scale" in weight.path else 1.0
            weight.assign(size * rng.uniform(0.7, 1.3, weight.shape))
        elif weight.path.endswith(("bias", "beta")):
            weight.assign(rng.normal(0, 0.1, weight.shape))

    normalizations = [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)]
    momenta = [layer.momentum for layer in normalizations]
    for layer in normalizations:
        layer.momentum = 0.0
    model(images(N_CALIBRATION), training=True)
    for layer, momentum in zip(normalizations, momenta):
        layer.momentum = momentum
        mean, variance = (ops.convert_to_numpy(v) for v in (layer.moving_mean, layer.moving_variance))
        layer.moving_mean.assign(mean + np.sqrt(variance) * rng.normal(0, 0.1, mean.shape))
        layer.moving_variance.assign(variance * rng.uniform(0.7, 1.4, variance.shape))
    return model, images


def measure(family: str, model: keras.Model, x: np.ndarray) -> dict[str, Any]:
    """The row of a family: figures for each way, and the rules of each type of layer or operation."""
    row = {"family": family, "input": FAMILIES[family], "parameters": model.count_params(), "ways": {}, "rules": {}}
    for way, options in WAYS.items():
        explainer = ks.LRP(model, **{"rules": "paper", "head_method": "sampled", **options})
        row["calls"] = len(explainer.rules)
        rules = collections.defaultdict(set)
        for op, rule in explainer.rules.values():
            rules[type(op).__name__].add(type(rule).__name__)
        row["rules"][way] = {name: sorted(names) for name, names in sorted(rules.items())}
        with warnings.catch_warnings():
            # the table shows relevance beyond float32
            warnings.simplefilter("ignore", RuntimeWarning)
            row["ways"][way] = figures(explainer.explain(x))
    return row


def figures(explanation: ks.Explanation) -> dict[str, Any]:
    """What an explanation holds, amplified and lost."""
    if explanation.overflow is not None:
        return {"finite": False, "overflow": explanation.overflow}
    held = np.abs(explanation.input).reshape(len(explanation.input), -1).sum(axis=1)
    amplified = {name: float(ratio.max()) for name, ratio in explanation.amplification.items()}
    gaps = {name: float(gap.max()) for name, gap in explanation.conservation_gap.relative.items()}
    missing = explanation.head_total - explanation.input.reshape(len(held), -1).sum(axis=1)
    signed_gaps = sum(explanation.conservation_gap.signed.values())
    return {
        "finite": bool(np.isfinite(explanation.input).all()),
        "held": float(np.median(explanation.amplified)),
        "most_amplified": max(amplified.items(), key=lambda item: item[1]),
        "worst_gap": max(gaps.items(), key=lambda item: item[1]),
        # the part of the missing relevance that the signed gaps do not explain, relative to the relevance held
        "unaccounted": float(np.max(np.abs(signed_gaps - missing) / held)),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown of the rows: figures by family and way, then the rules of each type."""
    lines = tables.head("family", "parameters", "way", "held at the input", "most amplified", "worst local gap")
    for row in rows:
        for way, numbers in row["ways"].items():
            first = way == next(iter(WAYS))
            start = f"| {row['family']} | {row['parameters']:,} " if first else "| | "
            if "overflow" in numbers:
                lines.append(f"{start}| {way} | beyond float32 at `{numbers['overflow']}` | | |")
                continue
            cells = [f"{value:.2g} (`{name}`)" for name, value in (numbers["most_amplified"], numbers["worst_gap"])]
            lines.append(f"{start}| {way} | {numbers['held']:.3g} | {' | '.join(cells)} |")
    ways = ("eq. (2)", "epsilon_plus")
    used = collections.defaultdict(lambda: collections.defaultdict(set))
    for row in rows:
        for way in ways:
            for name, rules in row["rules"][way].items():
                used[name][way].update(rules)
    lines += ["", *tables.head("layer or operation", *ways)]
    lines += [tables.line([name, *(", ".join(sorted(used[name][way])) for way in ways)]) for name in sorted(used)]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script; returns its exit code."""
    parser = command_line(__doc__)
    names = f"(default: all) {' '.join(FAMILIES)}"
    parser.add_argument("--family", nargs="+", choices=FAMILIES, default=list(FAMILIES), metavar="NAME", help=names)
    add_seed(parser, "of weights and images")
    default = files.RUNS / "lrp_zoo.json"
    parser.add_argument("--out", type=pathlib.Path, default=default, metavar="FILE", help=f"(default: {default})")
    args = parser.parse_args(argv)
    args.out.parent.mkdir(parents=True, exist_ok=True)

    done = files.read_json(args.out) if args.out.exists() else {}
    for family in args.family:
        if family.startswith("NASNet") and environment.BACKEND == "torch":
            print(f"{family}: keras.applications has none for PyTorch, left out", file=sys.stderr)
            continue
        watch = Stopwatch()
        model, images = network(family, args.seed)
        row = measure(family, model, images(N_IMAGES))
        row["run"] = {
            "seed": args.seed,
            "backend": environment.BACKEND,
            "keras": keras.__version__,
            "keras_shapley": ks.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        }
        done[family] = row
        # a finished family is kept, whatever comes after it
        files.write_json(args.out, done)
        print(f"{family}: {watch.seconds:.0f} s", file=sys.stderr, flush=True)
        keras.backend.clear_session()
    print(table([done[family] for family in FAMILIES if family in done]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
