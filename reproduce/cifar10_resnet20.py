"""Fig. 5 of the paper: ResNet-20 v2 on CIFAR-10, with ReLU, SA or ShapLU.

The network is the one of the old Keras example that the paper names, cifar10_resnet.py with n = 2 and version = 2:
574,090 parameters. The example's order is BN-ReLU-convolution (`--order original`). The paper put batch normalisation
behind the activation, in every arm, and so does `--order paper`, the default: ReLU-BN wherever the example has BN-ReLU.

- 13 of the 19 activations then stand right behind a convolution. In the SA and ShapLU arms these 13 convolutions are
  `SAConv2D` and `ShapLUConv2D`, their activation built in.
- 6 stand behind the addition that ends a block, where no single linear layer is in front. They stay ReLU in every arm;
  the paper does not say what became of them.

All arms have the same weights, and start from the same values for the same seed.
"""

import argparse
import collections
import json
import os
import pathlib
import sys
import time

import datasets
import environment
import files
import keras
import numpy as np
from arguments import at_least

import keras_shapley as ks

# Settings of the example, and so of the paper
STAGES = ((16, 64, 1), (64, 128, 2), (128, 256, 2))  # filters within a block and out of it, stride of its first 1x1
BLOCKS = 2  # in a stage
WEIGHT_DECAY = 1e-4  # L2, of every convolution's kernel
EPOCHS = 200
BATCH_SIZE = 32
RATES = ((0, 1e-3), (81, 1e-4), (121, 1e-5), (161, 1e-6), (181, 5e-7))  # Adam's, from that epoch on, counted from 0
SHIFT = 0.1  # of the height and of the width, at most; half of the images are mirrored as well

PAPER = "The paper, Fig. 5, 8 runs each, after 200 epochs: validation accuracy around 0.925 with SA and with ReLU."

# Our choices, where the paper is silent: ReLU behind an addition; the initial values, the order of the images, shifts
# and flips follow from --seed. As in the example, the 10,000 test images are the validation set. (The example also
# reduces the rate on a plateau, but its schedule overwrites that.)

LAYERS = {"sa": ks.SAConv2D, "shaplu": ks.ShapLUConv2D}
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
HEATMAPS = 8  # test images
EPSILON = 0.3  # of eq. (2); the paper has a small one, with which relevance grew to 1e20 on its way to the input here
SETTINGS = ("activation", "second_moment", "order", "batch_size", "seed", "limit", "note")
COLUMNS = ("activation", "second moment", "order", "seed", "epoch", "training accuracy", "validation accuracy")
COLUMNS += ("training, s", "training, CPU s", "validation, s")
TIMES = ("train_seconds", "train_cpu_seconds", "validation_seconds")
SHOWN = {1, 2, 5, 10, 20, 50, 81, 121, 161, 181}  # epochs that have a row in the table, and so has the last
CHECKPOINT, HISTORY, RESULT, MODEL = "checkpoint.npz", "history.jsonl", "result.json", "model.keras"

EXAMPLES = """\
examples:
  python cifar10_resnet20.py --activation sa                  all 200 epochs; CIFAR-10 by tfds.load
  python cifar10_resnet20.py --activation sa --epochs 2       a first look; an epoch takes minutes on a CPU
  python cifar10_resnet20.py --data cifar10.npz --limit 3200  100 steps per epoch, without tensorflow-datasets
  python cifar10_resnet20.py --table runs/*/result.json       what finished runs measured, as a Markdown table

The same command again resumes after the last complete epoch and ends with the weights of a run that was never stopped;
a larger --epochs trains on. The directory --out holds history.jsonl (a line per epoch), result.json, model.keras and
the checkpoint. Environment: KERAS_BACKEND is tensorflow, jax or torch; TFDS_DATA_DIR is where tfds.load looks for data.
"""


def resnet20(activation="relu", *, order="paper", second_moment="exact"):
    """ResNet-20 v2: images `(batch, 32, 32, 3)` to the probabilities of 10 classes.

    Args:
        activation: `"relu"`, `"sa"` or `"shaplu"`, for the 13 activations behind a convolution; the others are ReLU.
            Or what makes these 13 convolutions with their activation, called as `Conv2D` is.
        order: `"paper"` for convolution, activation, BN; `"original"` for convolution, BN, activation (ReLU alone).
        second_moment: as in `SAConv2D` and `ShapLUConv2D`.
    """
    if order == "original" and activation != "relu":
        raise ValueError("order='original' has BN between convolution and activation: it is for activation='relu'")

    def convolution(x, filters, size, strides=1, *, name, cls=keras.layers.Conv2D, **options):
        options |= {"kernel_initializer": "he_normal", "kernel_regularizer": keras.regularizers.L2(WEIGHT_DECAY)}
        return cls(filters, size, strides=strides, padding="same", name=name, **options)(x)

    def normalise(x, name):
        return keras.layers.BatchNormalization(momentum=0.99, epsilon=1e-3, name=f"{name}_bn")(x)

    def rectify(x, name):
        relu = keras.layers.ReLU(name=f"{name}_relu")
        return normalise(relu(x), name) if order == "paper" else relu(normalise(x, name))

    def neurons(x, filters, size, strides=1, *, name):
        if activation == "relu":
            return rectify(convolution(x, filters, size, strides, name=name), name)
        options = {"cls": activation}
        if activation in LAYERS:
            options = {"cls": LAYERS[activation], "second_moment": second_moment}
        return normalise(convolution(x, filters, size, strides, name=name, **options), name)

    inputs = keras.Input((32, 32, 3), name="image")
    x = neurons(inputs, 16, 3, name="stem")
    for stage, (inner, outer, stride) in enumerate(STAGES, 1):
        for block in range(1, BLOCKS + 1):
            name, strides = f"stage{stage}_block{block}", stride if block == 1 else 1
            # what enters the first block comes normalised and rectified from the stem
            y = x if stage == block == 1 else rectify(x, f"{name}_in")
            y = neurons(y, inner, 1, strides, name=f"{name}_conv1")
            y = neurons(y, inner, 3, name=f"{name}_conv2")
            y = convolution(y, outer, 1, name=f"{name}_conv3")
            if block == 1:
                x = convolution(x, outer, 1, strides, name=f"{name}_skip")
            x = keras.layers.Add(name=f"{name}_add")([x, y])
    x = rectify(x, "head")
    x = keras.layers.AveragePooling2D(8, name="head_pool")(x)
    x = keras.layers.Flatten(name="head_flatten")(x)
    x = keras.layers.Dense(10, activation="softmax", kernel_initializer="he_normal", name="head_classes")(x)
    return keras.Model(inputs, x, name=f"resnet20_{activation}" if isinstance(activation, str) else "resnet20")


def learning_rate(epoch):
    """Adam's rate in an epoch counted from 0, as in the example: 81 epochs (0 to 80) at 1e-3, then 40 at 1e-4, ..."""
    return [rate for first, rate in RATES if first <= epoch][-1]


class Checkpoint(keras.callbacks.Callback):
    """After every epoch: all that a resumed run needs, in one file that is never half new, and a line of history.jsonl.

    Args:
        directory: where the files are.
        run: dict of what the run is; `run["settings"]` is what a resumed run has to share.

    Raises:
        ValueError: if the directory holds a run with other settings.
    """

    def __init__(self, directory, run):
        super().__init__()
        self.directory, self.run, self.history = directory, run, []
        if not (directory / CHECKPOINT).exists():
            return
        with np.load(directory / CHECKPOINT) as file:
            record = json.loads(str(file["record"]))
        then, now = record["run"]["settings"], run["settings"]
        for name, value in now.items():
            if then.get(name) != value:
                raise ValueError(
                    f"{directory} holds a run with {name} = {then.get(name)!r}, not {value!r}: "
                    "give another --out, or that run's settings to resume it."
                )
        self.run, self.history = record["run"], record["history"]
        self.resumed = {"after_epoch": len(self.history), "versions": run["versions"]}

    def restore(self, model):
        """Puts the values of the run so far, if any, into the compiled model and its optimizer."""
        if self.history:
            with np.load(self.directory / CHECKPOINT) as file:
                for index, variable in enumerate(_variables(model)):
                    variable.assign(file[f"variable_{index}"])

    def on_train_begin(self, logs=None):
        if self.history:
            self.run["resumed"].append(self.resumed)
        # written anew: a run can be killed between its checkpoint and its line
        with files.replaced(self.directory / HISTORY) as file:
            for line in ({"run": self.run}, *self.history):
                file.write(json.dumps(line).encode() + b"\n")

    def on_epoch_begin(self, epoch, logs=None):
        self.times = [_clocks()]

    def on_test_begin(self, logs=None):
        self.times.append(_clocks())

    on_test_end = on_test_begin

    def on_epoch_end(self, epoch, logs=None):
        line = {"epoch": epoch + 1, "learning_rate": learning_rate(epoch)}
        line |= {name: round(float(logs[name]), 6) for name in ("accuracy", "val_accuracy", "loss", "val_loss")}
        (training, cpu), (validation, _) = np.diff(self.times, axis=0).round(1).tolist()
        line |= {"train_seconds": training, "train_cpu_seconds": cpu, "validation_seconds": validation}
        self.history.append(line)

        values = {f"variable_{i}": keras.ops.convert_to_numpy(v) for i, v in enumerate(_variables(self.model))}
        with files.replaced(self.directory / CHECKPOINT) as file:
            np.savez(file, record=json.dumps({"run": self.run, "history": self.history}), **values)
        with open(self.directory / HISTORY, "a") as file:
            file.write(json.dumps(line) + "\n")


def _clocks():
    # the second one, the time that all cores worked, says more where the machine is shared
    return time.perf_counter(), time.process_time()


def _variables(model):
    return [*model.variables, *model.optimizer.variables]


def train(model, data, checkpoint, *, epochs, heatmaps=False):
    """Trains a model until it has had `epochs` epochs, onwards from its checkpoint if there is one.

    Args:
        model: a `resnet20`.
        data: `(x_train, y_train), (x_test, y_test)`.
        checkpoint: a `Checkpoint`.
        heatmaps: whether to draw the relevance of the first test images after every epoch.

    Returns:
        What `result.json` holds.
    """
    (x_train, y_train), (x_test, y_test) = data
    mean = datasets.pixel_mean(x_train)
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate(0)),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=checkpoint.run["jit_compile"],
    )
    model.optimizer.build(model.trainable_variables)
    checkpoint.restore(model)

    # the checkpoint comes last: an epoch that it holds has had all the others
    callbacks = [keras.callbacks.LearningRateScheduler(learning_rate), checkpoint]
    if heatmaps:
        x, y, images = datasets.normalised(x_test[:HEATMAPS], mean), y_test[:HEATMAPS], x_test[:HEATMAPS]
        explainer = ks.LRP(model, rules=ks.presets.paper(EPSILON))
        options = {"class_names": CLASSES, "directory": checkpoint.directory / "heatmaps", "explainer": explainer}
        callbacks.insert(1, ks.LRPHeatmaps(x, y, images=images, **options))

    done = len(checkpoint.history)
    if done < epochs:
        batch_size, seed = (checkpoint.run["settings"][name] for name in ("batch_size", "seed"))
        batches = datasets.Batches(x_train, y_train, mean, batch_size, seed, shift=SHIFT, first_epoch=done)
        model.fit(
            batches.endless(),
            steps_per_epoch=batches.steps,
            initial_epoch=done,
            epochs=epochs,
            validation_data=(datasets.normalised(x_test, mean), y_test),
            validation_batch_size=250,
            shuffle=False,
            callbacks=callbacks,
            verbose=1 if sys.stdout.isatty() else 2,
        )
    return {"run": checkpoint.run, "history": checkpoint.history}


def describe(model, settings):
    """What a run is, for its record."""
    return {
        "settings": settings,
        "parameters": model.count_params(),
        "layers": dict(collections.Counter(type(layer).__name__ for layer in model.layers)),
        "versions": environment.versions(),
        "device": environment.device(),
        "cores": os.cpu_count(),
        "jit_compile": environment.jit_compile(),
        "resumed": [],
    }


def table(paths):
    """Markdown of the runs whose result.json files are `paths`: accuracies, times, and what they ran on."""
    lines, notes = [f"| {' | '.join(COLUMNS)} |", "|" + " --- |" * len(COLUMNS)], [PAPER]
    for path in paths:
        result = json.loads(pathlib.Path(path).read_text())
        run, history = result["run"], result["history"]
        settings, layers = run["settings"], run["layers"]
        for line in history:
            if line["epoch"] in SHOWN or line is history[-1]:
                cells = [settings["activation"], settings["second_moment"] or "", settings["order"], settings["seed"]]
                cells += [line["epoch"], f"{line['accuracy']:.4f}", f"{line['val_accuracy']:.4f}"]
                cells += [f"{line[name]:.0f}" if name in line else "" for name in TIMES]
                lines.append(f"| {' | '.join(map(str, cells))} |")
        counts = ", ".join(f"{layers[name]} {name}" for name in ("SAConv2D", "ShapLUConv2D", "ReLU") if name in layers)
        versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
        notes += [
            f"{settings['activation']}: {run['parameters']:,} parameters, {counts}.",
            f"Batches of {settings['batch_size']}, {settings['limit'] or 'all'} training images.",
            f"Data: {settings['source']}. {settings['note']}".strip(),
            f"{versions}; {run['device']}, {run['cores']} cores.",
        ]
    return "\n".join([*lines, "", *(f"- {note}" for note in dict.fromkeys(notes))]) + "\n"


def main(argv=None):
    """Runs the script; gives its exit code."""
    parser = argparse.ArgumentParser(
        prog=pathlib.Path(__file__).name,
        description="Trains ResNet-20 v2 on CIFAR-10 as in Fig. 5 of the paper, with ReLU, SA or ShapLU behind 13 "
        "convolutions.\nThe 6 activations behind an addition have no single linear layer in front: always ReLU.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--activation", choices=("relu", *LAYERS), default="relu", help="behind the convolutions (default: relu)")
    add("--second-moment", choices=("exact", "pooled"), help="for sa and shaplu (default: exact, as in the paper)")
    order = "paper: activation, then BN (default); original: BN, then activation, as the Keras example, for relu alone"
    add("--order", choices=("paper", "original"), default="paper", help=order)
    add("--epochs", type=at_least(1), default=EPOCHS, metavar="N", help=f"in all (default: {EPOCHS})")
    add("--batch-size", type=at_least(1), default=BATCH_SIZE, metavar="N", help=f"(default: {BATCH_SIZE})")
    add("--seed", type=at_least(0), default=0, metavar="N", help="of all that is random (default: 0)")
    add("--limit", type=at_least(1), metavar="N", help="train on the first N images alone, for a quick look")
    add("--data", metavar="FILE", help=".npz with x_train, y_train, x_test, y_test as in keras.datasets; no tfds then")
    add("--out", type=pathlib.Path, metavar="DIR", help="(default: runs/cifar10_resnet20_ACTIVATION_seedN)")
    add(
        "--heatmaps",
        action="store_true",
        help=f"draw the relevance of {HEATMAPS} test images, eq. (2) with epsilon {EPSILON}",
    )
    add("--note", default="", metavar="TEXT", help="for the record: what is special about the data, say")
    add("--table", nargs="+", metavar="FILE", help="print a Markdown table of these result.json files, train nothing")
    args = parser.parse_args(argv)

    def refuse(error):
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2

    if args.table:
        try:
            print(table(args.table), end="")
        except (OSError, ValueError, KeyError) as error:
            return refuse(f"--table takes result.json files of runs ({type(error).__name__}: {error})")
        return 0
    if args.activation == "relu" and args.second_moment:
        parser.error("--second-moment is for --activation sa and shaplu")
    if args.activation != "relu" and args.order == "original":
        parser.error("--order original has BN between convolution and activation: it is for --activation relu")
    args.second_moment = None if args.activation == "relu" else args.second_moment or "exact"

    out = args.out or pathlib.Path("runs", f"cifar10_resnet20_{args.activation}_seed{args.seed}")
    try:
        (x_train, y_train), test = datasets.load("cifar10", args.data)
        settings = {name: getattr(args, name) for name in SETTINGS}
        settings["backend"] = keras.backend.backend()
        settings["source"] = datasets.source("cifar10", args.data, x_train)
        environment.make_deterministic()
        keras.utils.set_random_seed(args.seed)
        model = resnet20(args.activation, order=args.order, second_moment=args.second_moment)
        checkpoint = Checkpoint(out, describe(model, settings))
    except (datasets.DataNotFound, ValueError) as error:
        return refuse(error)

    out.mkdir(parents=True, exist_ok=True)
    data = (x_train[: args.limit], y_train[: args.limit]), test
    result = train(model, data, checkpoint, epochs=args.epochs, heatmaps=args.heatmaps)
    with files.replaced(out / RESULT) as file:
        file.write(json.dumps(result, indent=1).encode() + b"\n")
    model.save(out / MODEL)
    print(table([out / RESULT]), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
