"""Whether `SANormal`, which keeps the mean square of SA's inputs from layer to layer, helps deep networks to train.

MLPs of 10, 30 and 50 hidden layers of 64 neurons, without normalisation or skips; data and batches of Fig. 3. SA from
Keras's default kernels (glorot_uniform), from He's, which are made for ReLU, and from its own; ReLU from He's.
"""

import sys

import experiment
import files
import grid
import keras
from neurons import neurons

DEPTHS = {f"depth{n}": n for n in (10, 30, 50)}
WIDTH = 64
SETTINGS = (("SGD", 0.01), ("SGD", 0.1), ("Adam", 0.001))
BASE = "sa_he"
INTRODUCTION = f"""\
# Initial kernels of deep MLPs with SA

Made by `python reproduce/initialisation.py`. Hidden layers of {WIDTH} neurons, 1,000 images of MNIST. Validation
accuracy behind the last epoch: mean and standard deviation (number of runs); mean difference to `{BASE}` between runs
of the same seed, with its 95 % interval.
"""
EXAMPLES = """\
examples:
  python initialisation.py --together 10    (KERAS_BACKEND=jax) all repetitions of a setting at once
  python initialisation.py --quick          a minute

The directory --out gets initialisation.jsonl, a line for each finished run, and initialisation.md. Environment:
KERAS_BACKEND; TFDS_DATA_DIR is where tfds.load looks for data.
"""


def mlp(run):
    """Images `(batch, 28, 28)` to the probabilities of 10 classes, through as many hidden layers as the model says."""
    hidden = neurons(run["activation"], "Dense")
    model = keras.Sequential([keras.Input((28, 28)), keras.layers.Flatten()])
    for _ in range(DEPTHS[run["model"]]):
        model.add(hidden(WIDTH))
    model.add(keras.layers.Dense(10, "softmax"))
    return model


def write(found, out):
    """Writes initialisation.md; returns the text."""
    text = "\n".join([INTRODUCTION, *(section(*kind) for kind in experiment.by_kind(found).items())])
    files.write(out / "initialisation.md", text)
    return text


def section(kind, found):
    lines = [f"## {kind}", ""]
    lines += experiment.markdown("hidden layers", "optimizer", "", "validation", f"over {BASE}")
    for model, depth in DEPTHS.items():
        for optimizer, rate in SETTINGS:
            wanted = {"model": model, "optimizer": optimizer, "learning_rate": rate}
            rows = [row for row in found if wanted.items() <= row["run"].items()]
            for activation in dict.fromkeys(row["run"]["activation"] for row in rows):
                own = [experiment.validation(row) for row in rows if row["run"]["activation"] == activation]
                paired = grid.paired(rows, activation, BASE, experiment.validation) if activation != BASE else None
                cells = [str(depth), f"{optimizer} {rate:g}", activation]
                cells += [experiment.spread(own), experiment.difference(paired)]
                lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", *experiment.origins(found)]) + "\n"


INITIALISATION = experiment.Experiment(
    name="initialisation",
    dataset="mnist",
    models=tuple(DEPTHS),
    settings=SETTINGS,
    activations=("sa", BASE, "sa_normal", "relu_he"),
    batch_size=10,
    epochs=4,
    seeds=10,
    limit=1000,
    together=True,
    perform=experiment.classifiers("mnist", mlp),
    write=write,
    quick={"seeds": 2, "epochs": 1, "only": "depth10/*/SGD_0.01/*"},
)

if __name__ == "__main__":
    sys.exit(experiment.main(INITIALISATION, __doc__, EXAMPLES))
