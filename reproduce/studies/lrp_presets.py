"""The presets of relevance propagation side by side, on test images that a trained ResNet-20 classifies correctly.

Prints a table with a row for each preset, medians over the images: absolute relevance at the input over the relevance
of the head (1 if nothing cancels); the share of it in the strongest tenth of the pixels; the call that amplified most.
Draws the heatmaps into --out.
"""

import pathlib
import sys
import warnings
from collections.abc import Sequence
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # where lab is

import keras
import numpy as np

import keras_shapley as ks
from lab import data, files, pictures, tables
from lab.arguments import add_data, command_line, errors_in_one_line
from lab.batches import centred, pixel_mean
from lab.data import CIFAR10_CLASSES
from lab.resnet20 import EPSILON

N_IMAGES = 8
N_CANDIDATES = 200  # test images; the first N_IMAGES of them with a correct prediction are explained
EXAMPLES = """\
examples:
  python reproduce/cifar10_resnet20.py --activations relu --seeds 1 --epochs 5 --out DIR
  python reproduce/studies/lrp_presets.py --model DIR/runs/resnet20_relu_Adam_0.001_seed0/model.keras

tfds.load looks for the images, and puts them, in TFDS_DATA_DIR.
"""


def options(low: np.ndarray, high: np.ndarray) -> dict[str, dict[str, Any]]:
    """Options of `ks.LRP` by the name of the column.

    Args:
        low: smallest value of each element of the input.
        high: largest value.
    """
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


def explain(model: keras.Model, x: np.ndarray, low: np.ndarray, high: np.ndarray) -> dict[str, ks.Explanation]:
    """Explanations of the predicted classes, by column."""
    explanations = {}
    for name, arguments in options(low, high).items():
        with warnings.catch_warnings():
            # the table shows relevance beyond float32
            warnings.simplefilter("ignore", RuntimeWarning)
            explanations[name] = ks.LRP(model, **{"rules": "paper", **arguments}).explain(x)
    return explanations


def table(explanations: dict[str, ks.Explanation]) -> str:
    """Markdown of the explanations."""
    lines = tables.head("column", "held at the input", "in the strongest tenth", "most amplified")
    for name, explanation in explanations.items():
        if explanation.overflow is not None:
            lines.append(f"| {name} | beyond float32 at `{explanation.overflow}` | | |")
            continue
        pixels = np.abs(explanation.input.sum(axis=-1)).reshape(len(explanation.input), -1)
        held = np.median(np.abs(explanation.input).sum(axis=(1, 2, 3)) / np.abs(explanation.head_total))
        strongest = np.sort(pixels, axis=1)[:, -pixels.shape[1] // 10 :].sum(axis=1) / pixels.sum(axis=1)
        call, ratio = max(((n, np.median(r)) for n, r in explanation.amplification.items()), key=lambda item: item[1])
        lines.append(tables.line([name, f"{held:.3g}", f"{np.median(strongest):.2f}", f"{ratio:.2g} (`{call}`)"]))
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script; returns its exit code."""
    parser = command_line(__doc__, EXAMPLES)
    add = parser.add_argument
    add("--model", type=pathlib.Path, required=True, metavar="FILE", help="model.keras of a run of cifar10_resnet20.py")
    add_data(parser)
    default = files.RUNS / "lrp_presets.png"
    add("--out", type=pathlib.Path, default=default, metavar="FILE", help=f"the picture (default: {default})")
    args = parser.parse_args(argv)
    if not args.model.is_file():
        parser.error(f"--model: there is no file {args.model}")

    model = keras.models.load_model(args.model)
    with errors_in_one_line(parser):
        (x_train, _), (x_test, y_test) = data.load("cifar10", args.data)
    mean = pixel_mean(x_train)
    x = centred(x_test[:N_CANDIDATES], mean)
    correct = np.flatnonzero(model.predict(x, verbose=0).argmax(axis=1) == y_test[:N_CANDIDATES])[:N_IMAGES]

    explanations = explain(model, x[correct], low=-mean, high=1 - mean)
    print(table(explanations))
    lost = [name for name, explanation in explanations.items() if not np.isfinite(explanation.input).all()]
    if lost:
        print(f"Left out of the picture, because their relevance is not finite: {', '.join(lost)}", file=sys.stderr)
    figure = ks.plot_heatmaps(
        {name: explanation.input for name, explanation in explanations.items() if name not in lost},
        x_test[correct],
        titles=[CIFAR10_CLASSES[y] for y in y_test[correct]],
        title="ResNet-20 on CIFAR-10: the relevance of the predicted class, by preset",
        columns=1,
    )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    pictures.save(figure, args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
