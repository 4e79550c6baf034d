"""Fig. 3 of the paper: how fast an MLP learns 1,000 images of MNIST with ReLU, ShapLU and SA.

784-100-50-10, batches of 10, 4 epochs, 10 repetitions with other initial weights and another order. The paper does not
say how images and weights begin, nor which rates of SGD it tried. Chosen here: images divided by 255, Keras's
glorot_uniform with biases at 0, and the rates below; between epochs the images are shuffled, where the paper reorders
whole batches. Accuracy in training is that of the batches before their step, averaged over 10 batches; validation is on
the 10,000 test images, where the paper ends at about 0.86.
"""

import sys

import experiment
import files
import grid
import keras
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from neurons import neurons

UNITS = (100, 50)
RATES = (0.5, 0.2, 0.1, 0.05, 0.01)
SETTINGS = (("Adam", 0.001), *(("SGD", rate) for rate in RATES))
PAPER_FINAL = 0.86
# batches over which accuracy is averaged
STEPS = 10
INTRODUCTION = f"""\
# Fig. 3: MNIST by an MLP, 1,000 images

Made by `python reproduce/figure3_mnist_mlp.py`. Mean and standard deviation (number of runs). *First epoch*: accuracy
in training over the first epoch, the speed of learning; *validation*: behind the last epoch, where the paper has about
{PAPER_FINAL} for all three. *Over ReLU*: mean difference between runs of the same seed, with its 95 % interval.
Accuracy in training of the kinds with dropout is with it.
"""
EXAMPLES = """\
examples:
  python figure3_mnist_mlp.py --together 10     (KERAS_BACKEND=jax) all repetitions of a setting at once
  python figure3_mnist_mlp.py --only '*/Adam*'  one panel
  python figure3_mnist_mlp.py --quick           a minute

The directory --out gets figure3.jsonl, a line for each finished run, figure3.md and figure3.png. What is killed goes on
where it was by the same command. Environment: KERAS_BACKEND; TFDS_DATA_DIR is where tfds.load looks for data.
"""


def mlp(hidden):
    """The paper's MLP for MNIST: images `(batch, 28, 28)` to the probabilities of 10 classes.

    Args:
        hidden: makes a hidden layer, called as `Dense` is.
    """
    model = keras.Sequential([keras.Input((28, 28), name="image"), keras.layers.Flatten(name="pixels")])
    for index, units in enumerate(UNITS, 1):
        model.add(hidden(units, name=f"hidden{index}"))
    model.add(keras.layers.Dense(10, "softmax", name="classes"))
    return model


def first_epoch(row):
    """Mean accuracy in training over the first epoch."""
    accuracy = row["result"]["accuracy"]
    return float(np.mean(accuracy[: len(accuracy) // row["run"]["epochs"]]))


def write(found, out):
    """Writes figure3.md and figure3.png; returns the text."""
    text = "\n".join([INTRODUCTION, *(section(*kind) for kind in experiment.by_kind(found).items())])
    files.write(out / "figure3.md", text)
    picture(experiment.fullest(found), out / "figure3.png")
    return text


def section(kind, found):
    lines = [f"## {kind}", ""]
    for setting in SETTINGS:
        rows = experiment.of_setting(found, setting)
        if not rows:
            continue
        lines += [f"### {setting[0]} {setting[1]:g}", ""]
        lines += experiment.markdown("", "first epoch", "over ReLU", "validation", "over ReLU")
        for activation in dict.fromkeys(row["run"]["activation"] for row in rows):
            cells = [activation]
            for value in (first_epoch, experiment.validation):
                cells.append(experiment.spread([value(row) for row in rows if row["run"]["activation"] == activation]))
                paired = grid.paired(rows, activation, "relu", value) if activation != "relu" else None
                cells.append(experiment.difference(paired))
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join([*lines, *experiment.origins(found)]) + "\n"


def picture(found, path):
    """Draws accuracy in training against the step into a file, a panel for each setting that was run."""
    found = [row for row in found if row["run"]["activation"] in FIGURE3.activations]
    settings = [setting for setting in SETTINGS if experiment.of_setting(found, setting)]
    if not settings:
        return
    columns = min(3, len(settings))
    rows = -(-len(settings) // columns)
    figure = Figure(figsize=(4.3 * columns, 3.7 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, setting in zip(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat, settings):
        axes.set(title=f"{setting[0]} {setting[1]:g}", ylim=(0, 1))
        for activation, curves in experiment.curves(experiment.of_setting(found, setting), "accuracy").items():
            experiment.shaded(axes, STEPS * (np.arange(curves.shape[1]) + 0.5), curves, activation)
        axes.legend(loc="lower right", fontsize="small")
    figure.supxlabel("step")
    figure.supylabel("accuracy in training")
    with files.replaced(path) as file:
        figure.savefig(file, dpi=100, format="png")


FIGURE3 = experiment.Experiment(
    name="figure3",
    dataset="mnist",
    models=("mnist_mlp",),
    settings=SETTINGS,
    activations=("relu", "shaplu", "sa"),
    batch_size=10,
    epochs=4,
    seeds=10,
    limit=1000,
    together=True,
    perform=experiment.classifiers("mnist", lambda run: mlp(neurons(run["activation"], "Dense")), points=10),
    write=write,
    quick={"seeds": 2, "epochs": 2, "only": "*/*0.1/*"},
)

if __name__ == "__main__":
    sys.exit(experiment.main(FIGURE3, __doc__, EXAMPLES))
