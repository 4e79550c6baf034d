"""Table 2 of the paper: CIFAR-10 by an MLP with 12 settings of the optimiser, ReLU against SA and others.

The network is the paper's: 3072-1024-512-512-10, dropout 0.2 behind each hidden layer, batches of 128, glorot_uniform
for kernels and biases. The paper does not say the number of epochs, how the images are scaled or SGD's momentum. Chosen
here: --epochs, images divided by 255, no momentum, and 0.9 as RMSprop's rho. Accuracy is on the 10,000 test images
behind the last epoch.
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

UNITS = (1024, 512, 512)
DROPOUT = 0.2
# (optimiser, learning rate): validation accuracy of the paper, mean and standard deviation of 8 runs, with SA and ReLU
PAPER = {
    ("SGD", 0.1): ((0.5736, 0.0053), (0.5586, 0.0087)),
    ("SGD", 0.05): ((0.5703, 0.0047), (0.5619, 0.0045)),
    ("SGD", 0.01): ((0.5662, 0.0055), (0.5572, 0.0084)),
    ("SGD", 0.005): ((0.5451, 0.0067), (0.5460, 0.0109)),
    ("Adam", 0.002): ((0.5327, 0.0042), (0.4559, 0.0082)),
    ("Adam", 0.001): ((0.5578, 0.0055), (0.5102, 0.0040)),
    ("Adam", 0.0005): ((0.5761, 0.0026), (0.5389, 0.0069)),
    ("Adam", 0.0001): ((0.5857, 0.0046), (0.5692, 0.0030)),
    ("RMSprop", 0.001): ((0.5369, 0.0200), (0.4891, 0.0129)),
    ("RMSprop", 0.0005): ((0.5579, 0.0081), (0.5209, 0.0161)),
    ("RMSprop", 0.0001): ((0.5743, 0.0074), (0.5589, 0.0235)),
    ("RMSprop", 0.00005): ((0.5773, 0.0035), (0.5718, 0.0059)),
}
INTRODUCTION = """\
# Table 2: CIFAR-10 by an MLP

Made by `python reproduce/table2_cifar10_mlp.py`. Validation accuracy behind the last epoch, mean and standard deviation
(number of runs). The paper's are of 8 runs; it does not say of how many epochs.
"""
DIFFERENCES = """\
Differences between runs of the same setting and seed, with 95 % intervals over seeds. In the row *mean* a seed's value
is its mean over the settings, as a seed gives all of them the same first weights and the same order of images.
"""
REACHED = """\
Epochs after which validation first is what ReLU's is at the end, by run; ReLU itself may have been there before.
"""
FIGURE4 = ("Adam", 0.001)
EXAMPLES = """\
examples:
  python table2_cifar10_mlp.py                                12 settings, 3 seeds, ReLU, SA and SA pooled: hours
  python table2_cifar10_mlp.py --only '*/Adam_0.001/seed0'    a run of each
  python table2_cifar10_mlp.py --quick                        a first look, without much to learn from

The directory --out gets table2.jsonl, a line for each finished run, table2.md and figure4.png. What is killed goes on
where it was by the same command. Environment: KERAS_BACKEND; TFDS_DATA_DIR is where tfds.load looks for data.
"""


def mlp(hidden):
    """The paper's MLP: images `(batch, 32, 32, 3)` to the probabilities of 10 classes.

    Args:
        hidden: makes a hidden layer, called as `Dense` is.
    """
    model = keras.Sequential([keras.Input((32, 32, 3), name="image"), keras.layers.Flatten(name="pixels")])
    for index, units in enumerate(UNITS, 1):
        model.add(hidden(units, bias_initializer="glorot_uniform", name=f"hidden{index}"))
        model.add(keras.layers.Dropout(DROPOUT, name=f"dropout{index}"))
    model.add(keras.layers.Dense(10, "softmax", bias_initializer="glorot_uniform", name="classes"))
    return model


def table(found):
    """Markdown of the finished runs, one section for each kind of them."""
    return "\n".join([INTRODUCTION, *(section(*kind) for kind in experiment.by_kind(found).items())])


def section(kind, found):
    activations = list(dict.fromkeys(row["run"]["activation"] for row in found))
    lines = [f"## {kind}", "", *experiment.markdown("optimizer", "paper: SA", "paper: ReLU", *activations)]
    for setting, paper in PAPER.items():
        rows = experiment.of_setting(found, setting)
        cells = [in_words(setting), *(f"{mean:.4f} ± {deviation:.4f}" for mean, deviation in paper)]
        for activation in activations:
            values = [experiment.validation(row) for row in rows if row["run"]["activation"] == activation]
            cells.append(experiment.spread(values))
        lines.append(f"| {' | '.join(cells)} |")

    compared = [(a, b) for a, b in (("sa", "relu"), ("sa_pooled", "relu"), ("sa_pooled", "sa")) if a in activations]
    compared += [(a, "sa") for a in activations if a not in ("relu", "sa", "sa_pooled")]
    compared = {f"{a} − {b}": (a, b) for a, b in compared if grid.pairs(found, a, b)}
    if compared:
        lines += ["", DIFFERENCES, *experiment.markdown("", *compared)]
        by_setting = {setting: experiment.of_setting(found, setting) for setting in PAPER}
        for setting, rows in by_setting.items():
            cells = [in_words(setting)]
            for pair in compared.values():
                cells.append(experiment.difference(grid.paired(rows, *pair, experiment.validation)))
            if any(cells[1:]):
                lines.append(f"| {' | '.join(cells)} |")
        means = [grid.paired(found, *pair, experiment.validation) for pair in compared.values()]
        lines.append(f"| {' | '.join(['mean', *map(experiment.difference, means)])} |")
        words = [f"{grid.verdict(*mean[:2])}, {mean[2]} seeds" if mean and mean[2] > 1 else "" for mean in means]
        lines.append(f"| {' | '.join(['', *words])} |")
        settings = [sum(bool(grid.pairs(rows, *pair)) for rows in by_setting.values()) for pair in compared.values()]
        lines.append(f"| {' | '.join(['settings', *map(str, settings)])} |")

    reached = {name: epochs_to_reach(found, name) for name in activations if name != "relu"}
    if any(reached.values()):
        lines += ["", REACHED, *experiment.markdown("", "median", "ReLU's median", "runs", "of these, never")]
    for name, counts in reached.items():
        if counts:
            own, relu = np.transpose(counts)
            cells = [name, f"{np.median(own):g}", f"{np.median(relu):g}", str(len(own)), str(np.isinf(own).sum())]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", *experiment.origins(found)]) + "\n"


def in_words(setting):
    return "{} {:g}".format(*setting)


def epochs_to_reach(found, activation):
    """For each run with ReLU's beside it, after which epochs its validation, and ReLU's, first is ReLU's final one."""
    both = grid.pairs(found, activation, "relu")
    return [tuple(first_epoch(run, relu, "val_accuracy") for run in (row, relu)) for row, relu in both]


def first_epoch(row, relu, key):
    """Epoch after which a curve first is as high as ReLU's is in the end; infinity where it never is."""
    reached = np.flatnonzero(np.array(row["result"][key]) >= experiment.final(key)(relu))
    return reached[0] + 1 if len(reached) else np.inf


def figure4(found, path):
    """Draws accuracy in training by epoch with Adam at 0.001 into a file; nothing where that was not run."""
    found = experiment.of_setting(experiment.fullest(found), FIGURE4)
    if not found:
        return
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for label, curves in experiment.curves(found, "accuracy").items():
        experiment.shaded(axes, np.arange(1, curves.shape[1] + 1), curves, label)
    title = f"MLP, Adam at 0.001, CIFAR-10{experiment.remark(found)}"
    axes.set(xlabel="epoch", ylabel="accuracy in training", title=title)
    axes.legend(fontsize="small")
    with files.replaced(path) as file:
        figure.savefig(file, dpi=120, format="png")


def write(found, out):
    """Writes table2.md and figure4.png; returns the table."""
    text = table(found)
    files.write(out / "table2.md", text)
    figure4(found, out / "figure4.png")
    return text


TABLE2 = experiment.Experiment(
    name="table2",
    dataset="cifar10",
    models=("mlp",),
    settings=tuple(PAPER),
    activations=("relu", "sa", "sa_pooled"),
    batch_size=128,
    epochs=8,
    seeds=3,
    together=True,
    perform=experiment.classifiers("cifar10", lambda run: mlp(neurons(run["activation"], "Dense"))),
    write=write,
    quick={"epochs": 1, "seeds": 1, "limit": 1280, "only": "*/Adam_0.00?/*"},
)

if __name__ == "__main__":
    sys.exit(experiment.main(TABLE2, __doc__, EXAMPLES))
