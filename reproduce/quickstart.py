"""A first look in a minute or two, with no download: ReLU, SA and ShapLU on scikit-learn's handwritten digits.

Trains a small MLP and a small convolutional network with each activation, prints a table, and draws, in --out:

    mlp_sa/epoch_0001.png, ...   relevance of ten test digits after each epoch of the training, for each network
    relevance.png                relevance by the trained SA network beside the plain gradient, for each digit
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
from lab import environment, files, pictures
from lab.arguments import add_seed, at_least, command_line
from lab.data import TEST_DIGITS, Split, digits
from lab.gradients import input_gradient
from lab.measuring import EpochTimer
from lab.networks import DIGITS

EPOCHS = 8
BATCH = 32
RATE = 2e-3  # Adam's
ACTIVATIONS = ("relu", "sa", "shaplu")


def train(
    network: str,
    activation: str,
    data: Sequence[Split],
    examples: list[int],
    out: pathlib.Path,
    epochs: int,
    seed: int,
) -> tuple[dict[str, Any], keras.Model]:
    """A row of the table, and the trained model.

    Args:
        network: a name in `DIGITS`.
        activation: of the hidden layers.
        data: the training and the test digits.
        examples: indices of the test digits to explain after each epoch.
        out: directory of the pictures.
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
    heatmaps = ks.LRPHeatmaps(x_test[examples], y_test[examples], directory=out / f"{network}_{activation}")
    timer = EpochTimer()
    print(f"\n{network}, {activation}")
    model.fit(x, y, batch_size=BATCH, epochs=epochs, verbose=1, callbacks=[timer, heatmaps])
    accuracy = np.mean(model.predict(x_test, verbose=0).argmax(axis=1) == y_test)
    row = {"network": network, "activation": activation, "parameters": model.count_params()}
    return row | {"accuracy": float(accuracy), "seconds_per_epoch": float(np.median(timer.seconds))}, model


def draw(model: keras.Model, x: np.ndarray, y: np.ndarray, path: pathlib.Path) -> None:
    """Draws relevance beside the plain gradient, for each digit."""
    explanation = ks.LRP(model, rules="paper").explain(x, y)
    maps = {"relevance": explanation.input, "plain gradient": input_gradient(model, x, y)}
    titles = [f"{digit} ({p[digit]:.0%})" for digit, p in zip(y, explanation.probability)]
    title = "Why is it this digit? Conv net with SA: relevance of the pixels, and gradient of the probability"
    pictures.save(ks.plot_heatmaps(maps, x, titles=titles, title=title, columns=2), path)


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as text; times are of a training epoch, and as ratios to ReLU in the same network."""
    head = f"{'network':8} {'activation':10} {'parameters':>10} {'test accuracy':>13} "
    head += f"{'s / epoch':>10} {'time / ReLU':>11}"
    lines = [head, "-" * len(head)]
    base = {row["network"]: row["seconds_per_epoch"] for row in rows if row["activation"] == "relu"}
    for row in rows:
        ratio = row["seconds_per_epoch"] / base[row["network"]]
        lines.append(
            f"{row['network']:8} {row['activation']:10} {row['parameters']:10,} {row['accuracy']:13.3f} "
            f"{row['seconds_per_epoch']:10.2f} {ratio:11.2f}"
        )
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
    rows = []
    for network in DIGITS:
        for activation in ACTIVATIONS:
            row, model = train(network, activation, data, examples, args.out, args.epochs, args.seed)
            rows.append(row)
            if (network, activation) == ("convnet", "sa"):
                x_test, y_test = data[1]
                draw(model, x_test[examples], y_test[examples], args.out / "relevance.png")

    record = {"seed": args.seed, "epochs": args.epochs, "backend": environment.BACKEND}
    files.write_json(args.out / "table.json", record | {"versions": environment.versions(), "rows": rows})
    print(f"\n{table(rows)}\n")
    error = max((row["accuracy"] * (1 - row["accuracy"]) / TEST_DIGITS) ** 0.5 for row in rows)
    print(f"The standard error is up to {error:.3f}, with {TEST_DIGITS} test digits and one seed: this is no ranking.")
    if args.epochs == 1:
        print("The time of a single epoch is mostly compilation.")
    print(f"Pictures: {args.out / 'relevance.png'}, and one for each epoch in the directories beside it.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
