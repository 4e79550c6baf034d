"""A first look in a minute or two, with no download: ReLU, SA and ShapLU on scikit-learn's handwritten digits.

Trains a small MLP and a small convolutional network with each activation, prints a table, and draws, in --out:

    mlp_sa/epoch_0001.png, ...   relevance of ten test digits, as it forms from epoch to epoch, for each network
    relevance.png                the trained SA network's relevance beside the plain gradient, for each digit
    table.json                   the table, with seed and versions

The digits are real and small: 8x8 pixels, 1,297 for training and 500 for testing. They show that things work; what SA
gains is measured on larger data by the other scripts here.
"""

import json
import pathlib
import sys
import time

import environment
import keras
import numpy as np
from arguments import command_line
from keras import layers
from neurons import neurons
from sensitivity import sensitivity
from sklearn.datasets import load_digits

import keras_shapley as ks

EPOCHS = 8
BATCH = 32
N_TEST = 500

ACTIVATIONS = ("relu", "sa", "shaplu")


def mlp(activation):
    dense = neurons(activation, "Dense")
    return [keras.Input((8, 8)), layers.Flatten(), dense(64), dense(32), layers.Dense(10, activation="softmax")]


def convnet(activation):
    dense, conv = (neurons(activation, parent) for parent in ("Dense", "Conv2D"))
    return [
        keras.Input((8, 8)),
        layers.Reshape((8, 8, 1)),
        conv(16, 3, padding="same"),
        layers.MaxPooling2D(2),
        conv(32, 3, padding="same"),
        layers.Flatten(),
        dense(32),
        layers.Dense(10, activation="softmax"),
    ]


NETWORKS = {"mlp": mlp, "convnet": convnet}


def digits(seed):
    """Training and test images in [0, 1], and the place of one test image of each digit."""
    data = load_digits()
    order = np.random.default_rng(seed).permutation(len(data.target))
    x, y = (data.images[order] / 16).astype("float32"), data.target[order]
    train, test = (x[N_TEST:], y[N_TEST:]), (x[:N_TEST], y[:N_TEST])
    return train, test, [int(np.argmax(test[1] == digit)) for digit in range(10)]


def train(name, activation, data, examples, out, epochs, seed):
    """A row of the table, and the trained model."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(NETWORKS[name](activation), name=f"{name}_{activation}")
    model.compile(
        keras.optimizers.Adam(2e-3),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        # on a CPU, XLA is slower than TensorFlow without it
        jit_compile="auto" if keras.backend.backend() != "tensorflow" else False,
    )
    (x, y), (x_test, y_test) = data
    heatmaps = ks.LRPHeatmaps(x_test[examples], y_test[examples], directory=out / model.name)
    timer = EpochTimer()
    print(f"\n{name}, {activation}")
    model.fit(x, y, batch_size=BATCH, epochs=epochs, verbose=1, callbacks=[timer, heatmaps])
    accuracy = np.mean(model.predict(x_test, verbose=0).argmax(axis=1) == y_test)
    row = {"network": name, "activation": activation, "parameters": model.count_params(), "accuracy": float(accuracy)}
    return row | {"seconds_per_epoch": float(np.median(timer.seconds))}, model


class EpochTimer(keras.callbacks.Callback):
    """Seconds of each epoch but the first, which compiles; it stands before the drawing, which is not counted."""

    def on_train_begin(self, logs=None):
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.perf_counter() - self.start)

    def on_train_end(self, logs=None):
        self.seconds = self.seconds[1:] or self.seconds


def picture(model, x, y, path):
    """Relevance beside the plain gradient, for each digit."""
    found = ks.LRP(model).explain(x, y)
    maps = {"relevance": found.input, "plain gradient": sensitivity(model, x, y)}
    titles = [f"{digit} ({p[digit]:.0%})" for digit, p in zip(y, found.probability)]
    title = "Why is it this digit? Conv net with SA: relevance of the pixels, and gradient of the probability"
    ks.plot_heatmaps(maps, x, titles=titles, title=title, columns=2).savefig(path)


def table(rows):
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


def main(argv=None):
    parser = command_line(__doc__)
    parser.add_argument("--out", type=pathlib.Path, default="quickstart", metavar="DIR", help="(default: quickstart)")
    parser.add_argument("--seed", type=int, default=0, help="of split, weights and batches (default: 0)")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help=f"(default: {EPOCHS})")
    args = parser.parse_args(argv)
    if args.epochs < 1:
        parser.error(f"--epochs must be 1 or more, and is {args.epochs}")
    if args.seed < 0:
        parser.error(f"--seed must be 0 or more, and is {args.seed}")

    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--out {args.out} cannot be made: {error.strerror}")
    *data, examples = digits(args.seed)
    rows = []
    for name in NETWORKS:
        for activation in ACTIVATIONS:
            row, model = train(name, activation, data, examples, args.out, args.epochs, args.seed)
            rows.append(row)
            if (name, activation) == ("convnet", "sa"):
                x_test, y_test = data[1]
                picture(model, x_test[examples], y_test[examples], args.out / "relevance.png")

    record = {
        "seed": args.seed,
        "epochs": args.epochs,
        "backend": environment.BACKEND,
        "versions": environment.versions(),
    }
    (args.out / "table.json").write_text(json.dumps(record | {"rows": rows}, indent=1) + "\n")
    print(f"\n{table(rows)}\n")
    error = max((row["accuracy"] * (1 - row["accuracy"]) / N_TEST) ** 0.5 for row in rows)
    print(f"{N_TEST} test digits, so a standard error of up to {error:.3f}, and one seed: no ranking.")
    if args.epochs == 1:
        print("Times of a single epoch are mostly compilation.")
    print(f"Pictures: {args.out / 'relevance.png'}, and one an epoch in each directory beside it.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
