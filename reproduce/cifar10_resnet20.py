"""Fig. 5 of the paper: ResNet-20 v2 on CIFAR-10, with ReLU, SA and others.

The network is in resnet20.py; `--models` has other readings of what the paper leaves open. The protocol is that of the
old Keras example: Adam, 200 epochs, batches of 32, random shifts and flips. Chosen here, where the paper is silent:
initial values, order of the images, shifts and flips follow from the seed; as in the example, the 10,000 test images
are the validation set. (The example also reduces the rate on a plateau, but its schedule overwrites that.)
"""

import json
import sys
import time

import datasets
import environment
import experiment
import files
import grid
import keras
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from resnet20 import LAYOUTS, resnet20

import keras_shapley as ks

# Settings of the example, and so of the paper
EPOCHS = 200
BATCH_SIZE = 32
RATES = ((0, 1e-3), (81, 1e-4), (121, 1e-5), (161, 1e-6), (181, 5e-7))  # Adam's, from that epoch on, counted from 0
SHIFT = 0.1  # of the height and of the width, at most; half of the images are mirrored as well
PAPER_FINAL = 0.925

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
HEATMAPS = 8  # test images
EPSILON = 0.3  # of eq. (2); the paper has a small one, with which relevance grew to 1e20 on its way to the input here
MODELS = {"resnet20" if layout == "paper" else f"resnet20_{layout}": layout for layout in LAYOUTS}
CHECKPOINT, HISTORY, MODEL = "checkpoint.npz", "history.jsonl", "model.keras"

INTRODUCTION = f"""\
# Fig. 5: CIFAR-10 by ResNet-20

Made by `python reproduce/cifar10_resnet20.py`. Behind the last epoch; mean and standard deviation (number of runs). The
paper has 8 runs of 200 epochs with SA and with ReLU: validation about {PAPER_FINAL} with both, and a better accuracy in
training with SA. *Over ReLU*: mean difference between runs of the same network and seed, with its 95 % interval.
"""
EXAMPLES = """\
examples:
  python cifar10_resnet20.py --activations relu sa --seeds 1      200 epochs of each: minutes an epoch on a CPU
  python cifar10_resnet20.py --seeds 1 --epochs 5                 a first look
  python cifar10_resnet20.py --models resnet20_joint --activations sa --seeds 1
  python cifar10_resnet20.py --quick                              minutes

The directory --out gets figure5.jsonl, a line for each finished run, figure5.md and figure5.png; in its runs/ a
directory for each run with history.jsonl (a line for each epoch), model.keras, the checkpoint and, but for
resnet20_joint, heatmaps of the first test images after each epoch. What is killed goes on by the same command after its
last complete epoch, and ends with the weights of a run that was never stopped; a larger --epochs trains on.
Environment: KERAS_BACKEND, on a CPU tensorflow is the fastest; TFDS_DATA_DIR is where tfds.load looks for data.
"""


def learning_rate(epoch):
    """Adam's rate in an epoch counted from 0, as in the example: 81 epochs (0 to 80) at 1e-3, then 40 at 1e-4, ..."""
    return [rate for first, rate in RATES if first <= epoch][-1]


class Checkpoint(keras.callbacks.Callback):
    """After every epoch: all that a resumed run needs, in one file that is never half new, and a line of history.jsonl.

    Args:
        directory: where the files are.
        run: dict of what the run is, which a resumed run has to share.

    Raises:
        ValueError: if the directory holds another run.
    """

    def __init__(self, directory, run):
        super().__init__()
        self.directory, self.run, self.history = directory, run, []
        if not (directory / CHECKPOINT).exists():
            return
        with np.load(directory / CHECKPOINT) as file:
            record = json.loads(str(file["record"]))
        for name, value in run.items():
            then = record["run"].get(name)
            if then != value:
                raise ValueError(
                    f"{directory} holds a run with {name} = {then!r}, not {value!r}: "
                    "give another --out, or that run's settings to resume it."
                )
        self.history = record["history"]

    def restore(self, model):
        """Puts the values of the run so far, if any, into the compiled model and its optimizer."""
        if self.history:
            with np.load(self.directory / CHECKPOINT) as file:
                for index, variable in enumerate(_variables(model)):
                    variable.assign(file[f"variable_{index}"])

    def on_train_begin(self, logs=None):
        # written anew: a run can be killed between its checkpoint and its line
        files.write(self.directory / HISTORY, "".join(json.dumps(line) + "\n" for line in self.history))

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        line = {"epoch": epoch + 1, "learning_rate": learning_rate(epoch)}
        line |= {name: round(float(logs[name]), 6) for name in ("accuracy", "val_accuracy", "loss", "val_loss")}
        line["seconds"] = round(time.perf_counter() - self.start, 1)
        self.history.append(line)

        values = {f"variable_{i}": keras.ops.convert_to_numpy(v) for i, v in enumerate(_variables(self.model))}
        with files.replaced(self.directory / CHECKPOINT) as file:
            np.savez(file, record=json.dumps({"run": self.run, "history": self.history}), **values)
        with open(self.directory / HISTORY, "a") as file:
            file.write(json.dumps(line) + "\n")


def _variables(model):
    return [*model.variables, *model.optimizer.variables]


def train(model, data, checkpoint, epochs, heatmaps):
    """Trains a model until it has had `epochs` epochs, onwards from its checkpoint if there is one.

    Args:
        model: a `resnet20`.
        data: `(x_train, y_train), (x_test, y_test)`.
        checkpoint: a `Checkpoint`.
        heatmaps: whether to draw the relevance of the first test images after every epoch.

    Returns:
        A list of one number an epoch for each name in history.jsonl.
    """
    (x_train, y_train), (x_test, y_test) = data
    mean = datasets.pixel_mean(x_train)
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate(0)),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=environment.jit_compile(),
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
        run = checkpoint.run
        batches = datasets.Batches(
            x_train, y_train, mean, run["batch_size"], run["seed"], shift=SHIFT, first_epoch=done
        )
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
    history = checkpoint.history[:epochs]
    return {name: [line[name] for line in history] for name in history[0]}


def perform(file, out, runs):
    """Trains each run in a directory of its own; gives what came out of each."""
    environment.make_deterministic()
    (x_train, y_train), test = datasets.load("cifar10", file)
    source = datasets.source("cifar10", file, x_train)
    results = []
    for run in runs:
        keras.utils.set_random_seed(run["seed"])
        model = resnet20(run["activation"], layout=MODELS[run["model"]])
        settings = {name: value for name, value in run.items() if name != "epochs"}
        settings |= {"backend": environment.BACKEND, "data": source}
        directory = out / "runs" / grid.name(run).replace("/", "_")
        checkpoint = Checkpoint(directory, settings)
        directory.mkdir(parents=True, exist_ok=True)
        data = (x_train[: run["limit"]], y_train[: run["limit"]]), test
        # a neuron that is a convolution and an addition has no rule
        heatmaps = MODELS[run["model"]] != "joint"
        results.append(train(model, data, checkpoint, run["epochs"], heatmaps))
        model.save(directory / MODEL)
        keras.backend.clear_session()
    return results


def until(found, epochs):
    """The first `epochs` epochs of all runs that had them: a run's rates do not depend on how many follow."""
    runs = {}
    for row in sorted(found, key=lambda row: row["run"]["epochs"]):
        if row["run"]["epochs"] >= epochs:
            run = row["run"] | {"epochs": epochs}
            result = {name: values[:epochs] for name, values in row["result"].items()}
            runs.setdefault(grid.key(run, row), row | {"run": run, "result": result})
    return list(runs.values())


def longest(found):
    """The first epochs of the paper's network, as many as the longest pair of ReLU and SA had, a list of rows."""
    found = [row for row in found if row["run"]["model"] == FIGURE5.models[0]]
    for epochs in sorted({row["run"]["epochs"] for row in found}, reverse=True):
        rows = experiment.fullest(until(found, epochs))
        if grid.pairs(rows, "sa", "relu"):
            return rows
    return experiment.fullest(found)


def table(found):
    """Markdown of the runs, sections for each number of epochs after which one of them ended."""
    lines = [INTRODUCTION]
    kinds = {}
    for epochs in sorted({row["run"]["epochs"] for row in found}):
        kinds |= experiment.by_kind(until(found, epochs))
    for kind, rows in kinds.items():
        lines += [f"## {kind}", ""]
        lines += experiment.markdown("network", "", "training", "over ReLU", "validation", "over ReLU")
        for model, activation in dict.fromkeys((row["run"]["model"], row["run"]["activation"]) for row in rows):
            of_model = [row for row in rows if row["run"]["model"] == model]
            arm = [row for row in of_model if row["run"]["activation"] == activation]
            cells = [model, activation]
            for key in ("accuracy", "val_accuracy"):
                last = experiment.final(key)
                paired = grid.paired(of_model, activation, "relu", last) if activation != "relu" else None
                cells += [experiment.spread([last(row) for row in arm]), experiment.difference(paired)]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join([*lines, *experiment.origins(found)]) + "\n"


def picture(found, path):
    """Draws accuracy by epoch into a file, in training and in validation; nothing where nothing was run."""
    found = longest(found)
    if not found:
        return
    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (key, title) in zip(figure.subplots(1, 2), (("accuracy", "training"), ("val_accuracy", "validation"))):
        for label, curves in experiment.curves(found, key).items():
            experiment.shaded(axes, np.arange(1, curves.shape[1] + 1), curves, label)
        axes.set(xlabel="epoch", ylabel="accuracy", title=f"ResNet-20: {title}")
        axes.legend(fontsize="small")
    figure.suptitle(f"CIFAR-10{experiment.remark(found)}")
    with files.replaced(path) as file:
        figure.savefig(file, dpi=120, format="png")


def write(found, out):
    """Writes figure5.md and figure5.png; returns the table."""
    text = table(found)
    files.write(out / "figure5.md", text)
    picture(found, out / "figure5.png")
    return text


FIGURE5 = experiment.Experiment(
    name="figure5",
    dataset="cifar10",
    models=("resnet20",),
    others=tuple(MODELS)[1:],
    settings=(("Adam", learning_rate(0)),),
    activations=("relu", "sa", "sa_pooled"),
    batch_size=BATCH_SIZE,
    epochs=EPOCHS,
    seeds=8,
    perform=perform,
    write=write,
    quick={"epochs": 1, "seeds": 1, "limit": 640},
)

if __name__ == "__main__":
    sys.exit(experiment.main(FIGURE5, __doc__, EXAMPLES))
