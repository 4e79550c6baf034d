"""The presets of relevance propagation side by side, on test images that a trained ResNet-20 gets right.

    python reproduce/cifar10_resnet20.py --activations relu --seeds 1 --epochs 5 --out DIR
    python reproduce/lrp_presets.py --model DIR/runs/resnet20_relu_Adam_0.001_seed0/model.keras

Prints a table, one row a preset, medians over the images: how much absolute relevance the input holds over what was
dealt out (1 where nothing cancels), the share of it that each pixel's strongest tenth holds, and the call that
amplified most.
"""

import pathlib
import sys
import warnings

import datasets
import files
import keras
import numpy as np
from arguments import add_data, command_line, errors_in_one_line
from cifar10_resnet20 import CLASSES, EPSILON

import keras_shapley as ks

N_IMAGES = 8
N_CANDIDATES = 200  # test images among which the first right ones are taken


def ways(low, high):
    """Options of `ks.LRP` by the name of the column; `low` and `high` are the bounds of the input."""
    merged = {"merge_batch_norm": True}
    return {
        "eq. (2)": {},
        "merged": merged,
        f"epsilon {EPSILON}": {"rules": ks.presets.paper(EPSILON), **merged},
        "epsilon": {"rules": "epsilon", **merged},
        "plus": {"rules": "epsilon_plus", **merged},
        "plus, flat": {"rules": "epsilon_plus_flat", **merged},
        "gamma, box": {"rules": ks.presets.epsilon_gamma_box(low, high), **merged},
        "alpha 2, beta 1": {"rules": "epsilon_alpha2_beta1", **merged},
    }


def explain(model, x, low, high):
    """`Explanation`s of the predicted classes, by way."""
    found = {}
    for name, options in ways(low, high).items():
        with warnings.catch_warnings():
            # the table says so
            warnings.simplefilter("ignore", RuntimeWarning)
            found[name] = ks.LRP(model, **options).explain(x)
    return found


def table(found):
    lines = ["| column | held at the input | in the strongest tenth | most amplified |", "| --- | --- | --- | --- |"]
    for name, explanation in found.items():
        if explanation.overflow is not None:
            lines.append(f"| {name} | beyond float32 at `{explanation.overflow}` | | |")
            continue
        pixels = np.abs(explanation.input.sum(axis=-1)).reshape(len(explanation.input), -1)
        held = np.median(np.abs(explanation.input).sum(axis=(1, 2, 3)) / np.abs(explanation.head_total))
        strongest = np.sort(pixels, axis=1)[:, -pixels.shape[1] // 10 :].sum(axis=1) / pixels.sum(axis=1)
        call, ratio = max(((n, np.median(r)) for n, r in explanation.amplification.items()), key=lambda item: item[1])
        lines.append(f"| {name} | {held:.3g} | {np.median(strongest):.2f} | {ratio:.2g} (`{call}`) |")
    return "\n".join(lines)


def main(argv=None):
    parser = command_line(__doc__)
    parser.add_argument("--model", type=pathlib.Path, required=True, metavar="FILE", help="model.keras of a run")
    add_data(parser)
    parser.add_argument("--out", type=pathlib.Path, default=files.RUNS / "lrp_presets.png", metavar="FILE")
    args = parser.parse_args(argv)
    if not args.model.is_file():
        parser.error(f"--model: there is no file {args.model}")

    model = keras.models.load_model(args.model)
    with errors_in_one_line(parser):
        (x_train, _), (x_test, y_test) = datasets.load("cifar10", args.data)
    mean = datasets.pixel_mean(x_train)
    x = datasets.normalised(x_test[:N_CANDIDATES], mean)
    right = np.flatnonzero(model.predict(x, verbose=0).argmax(axis=1) == y_test[:N_CANDIDATES])[:N_IMAGES]

    found = explain(model, x[right], low=-mean, high=1 - mean)
    print(table(found))
    lost = [name for name, explanation in found.items() if not np.isfinite(explanation.input).all()]
    if lost:
        print(f"Left out of the picture, with relevance that is not finite: {', '.join(lost)}", file=sys.stderr)
    figure = ks.plot_heatmaps(
        {name: explanation.input for name, explanation in found.items() if name not in lost},
        x_test[right],
        titles=[CLASSES[y] for y in y_test[right]],
        title="ResNet-20 on CIFAR-10: the relevance of the predicted class, by preset",
        columns=1,
    )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.out)


if __name__ == "__main__":
    main()
