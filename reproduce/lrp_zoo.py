"""Relevance propagation through every family of `keras.applications`: does eq. (2) stay finite, and what tames it?

Each network has random weights: kernels as Keras draws them; biases, gamma and beta random; the moving means and
variances are those of a batch of noise, so that activations keep their size as in a trained network, times and plus
noise. The softmax's Shapley values are carried back to the input of a few random images, by four ways:

    eq. (2)             the default; BatchNormalization passes relevance
    eq. (2), merged     the same with each BatchNormalization merged into the linear layer beside it
    epsilon_plus        z+ on convolutions, epsilon on dense layers
    epsilon_plus, merged

For each: how much relevance the input holds in absolute value, over what was dealt out (median over the images: 1 is
what no cancellation gives); the call that amplified most; the call that lost or made most, over what it had; or where
relevance left the range of float32.
"""

import collections
import json
import pathlib
import platform
import sys
import time
import warnings

import files
import keras
import numpy as np
from arguments import command_line
from keras import layers, ops

import keras_shapley as ks

# model, smallest input
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
    "eq. (2)": {},
    "eq. (2), merged": {"merge_batch_norm": True},
    "epsilon_plus": {"rules": "epsilon_plus"},
    "epsilon_plus, merged": {"rules": "epsilon_plus", "merge_batch_norm": True},
}
N_CLASSES = 10
N_CALIBRATION = 16
N_IMAGES = 4


def network(family, seed):
    """The network with its random weights, and a function `n -> images` of noise in its range."""
    keras.utils.set_random_seed(seed)
    size = FAMILIES[family]
    model = getattr(keras.applications, family)(weights=None, input_shape=(size, size, 3), classes=N_CLASSES)
    rng = np.random.default_rng(seed)
    scales_itself = any(isinstance(layer, (layers.Rescaling, layers.Normalization)) for layer in model.layers)
    low, high = (0, 255) if scales_itself else (-1, 1)

    def images(n):
        return rng.uniform(low, high, (n, *model.input_shape[1:])).astype("float32")

    for weight in model.trainable_weights:
        if weight.path.endswith("gamma"):
            size = 0.1 if "layer_scale" in weight.path else 1.0
            weight.assign(size * rng.uniform(0.7, 1.3, weight.shape))
        elif weight.path.endswith(("bias", "beta")):
            weight.assign(rng.normal(0, 0.1, weight.shape))

    norms = [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)]
    for layer in norms:
        layer.momentum, layer.kept = 0.0, layer.momentum
    model(images(N_CALIBRATION), training=True)
    for layer in norms:
        layer.momentum = layer.kept
        mean, variance = (ops.convert_to_numpy(v) for v in (layer.moving_mean, layer.moving_variance))
        layer.moving_mean.assign(mean + np.sqrt(variance) * rng.normal(0, 0.1, mean.shape))
        layer.moving_variance.assign(variance * rng.uniform(0.7, 1.4, variance.shape))
    return model, images


def measure(family, model, x):
    """One row: the family's figures for each way, and the rule of each type of layer or operation in it."""
    row = {"family": family, "input": FAMILIES[family], "parameters": model.count_params(), "ways": {}, "rules": {}}
    for way, options in WAYS.items():
        explainer = ks.LRP(model, **options)
        row["calls"] = len(explainer.rules)
        rules = collections.defaultdict(set)
        for op, rule in explainer.rules.values():
            rules[type(op).__name__].add(type(rule).__name__)
        row["rules"][way] = {name: sorted(found) for name, found in sorted(rules.items())}
        with warnings.catch_warnings():
            # a column of its own says so
            warnings.simplefilter("ignore", RuntimeWarning)
            row["ways"][way] = _figures(explainer.explain(x))
    return row


def _figures(found):
    if found.overflow is not None:
        return {"finite": False, "overflow": found.overflow}
    held = np.abs(found.input).reshape(len(found.input), -1).sum(axis=1)
    amplified = {name: float(ratio.max()) for name, ratio in found.amplification.items()}
    gaps = {name: float(gap.max()) for name, gap in found.conservation_gap.relative.items()}
    missing = found.head_total - found.input.reshape(len(held), -1).sum(axis=1)
    return {
        "finite": bool(np.isfinite(found.input).all()),
        "held": float(np.median(held / np.abs(found.head_total))),
        "most_amplified": max(amplified.items(), key=lambda item: item[1]),
        "worst_gap": max(gaps.items(), key=lambda item: item[1]),
        # how well the signed gaps account for what is missing, over what is there
        "unaccounted": float(np.max(np.abs(sum(found.conservation_gap.signed.values()) - missing) / held)),
    }


def tables(rows):
    """The rows as Markdown: figures by family and way, then the rule of each type."""
    lines = [
        "| family | parameters | way | held at the input | most amplified | worst local gap |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        for way, figures in row["ways"].items():
            first = way == next(iter(WAYS))
            start = f"| {row['family']} | {row['parameters']:,} " if first else "| | "
            if "overflow" in figures:
                lines.append(f"{start}| {way} | beyond float32 at `{figures['overflow']}` | | |")
                continue
            cells = [f"{value:.2g} (`{name}`)" for name, value in (figures["most_amplified"], figures["worst_gap"])]
            lines.append(f"{start}| {way} | {figures['held']:.3g} | {' | '.join(cells)} |")
    used = collections.defaultdict(lambda: collections.defaultdict(set))
    for row in rows:
        for way in ("eq. (2)", "epsilon_plus"):
            for name, rules in row["rules"][way].items():
                used[name][way].update(rules)
    lines += ["", "| layer or operation | eq. (2) | epsilon_plus |", "| --- | --- | --- |"]
    for name in sorted(used):
        lines.append(
            f"| {name} | {' | '.join(', '.join(sorted(used[name][w])) for w in ('eq. (2)', 'epsilon_plus'))} |"
        )
    return "\n".join(lines)


def main(argv=None):
    parser = command_line(__doc__)
    parser.add_argument("--family", nargs="+", choices=FAMILIES, default=list(FAMILIES), metavar="NAME")
    parser.add_argument("--seed", type=int, default=0, help="of weights and images (default: 0)")
    parser.add_argument("--out", type=pathlib.Path, default=files.RUNS / "lrp_zoo.json", metavar="FILE")
    args = parser.parse_args(argv)
    args.out.parent.mkdir(parents=True, exist_ok=True)

    done = json.loads(args.out.read_text()) if args.out.exists() else {}
    for family in args.family:
        if family.startswith("NASNet") and keras.backend.backend() == "torch":
            print(f"{family}: keras.applications has none for PyTorch, left out", file=sys.stderr)
            continue
        start = time.time()
        model, images = network(family, args.seed)
        row = measure(family, model, images(N_IMAGES))
        row["run"] = {
            "seed": args.seed,
            "backend": keras.backend.backend(),
            "keras": keras.__version__,
            "keras_shapley": ks.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        }
        done[family] = row
        # a family that is done stays done, whatever comes after it
        files.write(args.out, json.dumps(done, indent=1) + "\n")
        print(f"{family}: {time.time() - start:.0f} s", file=sys.stderr, flush=True)
        keras.backend.clear_session()
    print(tables([done[family] for family in FAMILIES if family in done]))


if __name__ == "__main__":
    main()
