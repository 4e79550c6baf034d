"""How near explanations of MNIST networks come to Shapley values, and whether networks with SA are explained better.

Each network is trained, then explained by every method in `explanations.METHODS` for the predicted class's probability,
absent pixels black. The truth is the Shapley values of the pixels by random orders; nearness to it is measured over the
pixels that are not black, on the first test images; deletion, insertion and infidelity are of more of these.
"""

import sys

import datasets
import environment
import experiment
import figure3_mnist_mlp
import files
import keras
import numpy as np
from explanations import METHODS
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from neurons import neurons

import keras_shapley as ks

# test images for the cheap measures, for the truth, and orders of it; the second triple where --limit is given
SIZES, FEW = (1000, 100, 400), (20, 3, 40)
STEPS, COALITIONS = 28, 32
# pictures of these test images are kept, of the runs of seed 0
SHOWN = 5
DRAWS, CONFIDENCE = 2000, 0.95
NEARNESS = {"correlation": "correlation", "rank": "rank correlation", "error": "relative RMSE"}
CHEAP = ("deletion", "insertion", "infidelity")
INTRODUCTION = """\
# How near explanations come to Shapley values

Made by `python reproduce/faithfulness.py`. *Correlation*, *rank correlation* and *relative RMSE* against Shapley values
by random orders, over the pixels that are not black, with 95 % intervals from resampled seeds and images; deletion
(lower is better), insertion (higher is better) and infidelity (lower is better): means over seeds. *Gradients*: the
cost, counted in passes through the network.
"""
EXAMPLES = """\
examples:
  python faithfulness.py                          24 networks: hours
  python faithfulness.py --only 'mlp/*/seed0'     a network of each kind
  python faithfulness.py --quick                  a first look, without much to learn from

The directory --out gets faithfulness.jsonl, a line for each network, faithfulness.md, faithfulness.png (nearness
against cost) and faithfulness_maps.png. What is killed goes on where it was by the same command. Environment:
KERAS_BACKEND; TFDS_DATA_DIR is where tfds.load looks for data.
"""


def conv_net(dense, convolution):
    """Three convolutions and average pooling: images `(batch, 28, 28)` to the probabilities of 10 classes.

    Args:
        dense, convolution: make hidden layers, called as `Dense` and `Conv2D` are; the first has no part here.
    """
    layers = [
        keras.Input((28, 28), name="image"),
        keras.layers.Reshape((28, 28, 1), name="channel"),
        convolution(8, 3, name="conv1"),
        keras.layers.AveragePooling2D(2, name="pool1"),
        convolution(16, 3, name="conv2"),
        keras.layers.AveragePooling2D(2, name="pool2"),
        convolution(16, 3, name="conv3"),
        keras.layers.Flatten(name="features"),
        keras.layers.Dense(10, "softmax", name="classes"),
    ]
    return keras.Sequential(layers)


NETWORKS = {"mlp": lambda dense, convolution: figure3_mnist_mlp.mlp(dense), "conv": conv_net}


def perform(file, out, runs):
    """What came out of each of the runs, one after the other."""
    return [one(file, out, run) for run in runs]


def one(file, out, run):
    data = datasets.of_unit_range("mnist", file)
    (x, y), (x_test, y_test) = data.train, data.test
    keras.utils.set_random_seed(run["seed"])
    model = NETWORKS[run["model"]](*(neurons(run["activation"], parent) for parent in ("Dense", "Conv2D")))
    model.compile(
        getattr(keras.optimizers, run["optimizer"])(run["learning_rate"]),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=environment.jit_compile(),
    )
    model.fit(x[: run["limit"]], y[: run["limit"]], run["batch_size"], run["epochs"], verbose=0)
    accuracy = model.evaluate(x_test, y_test, verbose=0, return_dict=True)["accuracy"]

    n_images, n_truth, n_paths = SIZES if run["limit"] is None else FEW
    x = x_test[:n_images].astype("float32")
    target = model.predict(x, verbose=0).argmax(axis=1)
    values, stderr = truth(model, x[:n_truth], target, n_paths)
    found = {name: explain(model, x, target) for name, (_, explain) in METHODS.items()}
    if run["seed"] == 0:
        shown = min(SHOWN, n_truth)
        maps = {name: part[:shown] for name, part in {**found, "Shapley values": values}.items()}
        with files.replaced(out / f"faithfulness_{run['model']}_{run['activation']}.npz") as opened:
            np.savez_compressed(opened, image=x[:shown], **{name: np.float16(part) for name, part in maps.items()})
    return {
        "accuracy": accuracy,
        # the part of the error that is the truth's own
        "noise": _rounded(np.sqrt(np.square(stderr).sum(axis=(1, 2)) / np.square(values).sum(axis=(1, 2)))),
        "methods": {name: nearness(part, values, x) | cheap(model, x, part, target) for name, part in found.items()},
    }


def truth(model, x, target, n_paths):
    """Shapley values of the target's probability and their standard errors, in the shape of `x`."""
    found = ks.sampled_shapley_values(model, x, n_paths=n_paths, batch_size=2048)
    return (
        np.stack([of[:, k] for of, k in zip(part, target)]).reshape(x.shape) for part in (found.values, found.stderr)
    )


def nearness(attributions, values, x):
    """Measures against the truth, of as many images as it has, over the pixels of each that are not black."""
    found = {name: [] for name in NEARNESS}
    for attribution, value, image in zip(attributions, values, x):
        a, b = (part[image > 0][None] for part in (attribution, value))
        for name, measure in zip(
            NEARNESS, (ks.metrics.correlation, ks.metrics.rank_correlation, ks.metrics.relative_rmse)
        ):
            found[name] += _rounded(measure(a, b))
    return found


def cheap(model, x, attributions, target):
    """Means over the images of the measures that need no truth."""
    found = (
        ks.metrics.deletion(model, x, attributions, target, steps=STEPS),
        ks.metrics.insertion(model, x, attributions, target, steps=STEPS),
        ks.metrics.infidelity(model, x, attributions, target, n=COALITIONS),
    )
    return {name: float(f"{values.mean():.4g}") for name, values in zip(CHEAP, found)}


def _rounded(values):
    """To four digits; None for the correlation of a constant map."""
    return [float(f"{value:.4g}") if np.isfinite(value) else None for value in values]


def of(rows, method, measure):
    """A measure of each image, an array `(seeds, images)`; not a number for a constant map."""
    return np.array([row["result"]["methods"][method][measure] for row in rows], "float64")


def bootstrap(values, rng):
    """Mean, and the ends of its interval from resampled seeds and, within each, resampled images."""
    seeds, images = values.shape
    means = []
    for _ in range(DRAWS):
        chosen = rng.integers(seeds, size=(seeds, 1))
        means.append(values[chosen, rng.integers(images, size=(seeds, images))].mean())
    ends = np.quantile(means, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return float(values.mean()), *map(float, ends)


def in_words(mean, low, high, sign=""):
    if np.isnan(mean):
        return "constant"
    return f"{mean:{sign}.3f} ({low:{sign}.3f} to {high:{sign}.3f})"


def write(found, out):
    """Writes faithfulness.md and the pictures; returns the text."""
    rng, lines = np.random.default_rng(0), [INTRODUCTION]
    for model, activation, rows in groups(found):
        accuracy = [row["result"]["accuracy"] for row in rows]
        noise = np.mean([row["result"]["noise"] for row in rows])
        lines += [
            f"## {model}, {activation}",
            "",
            f"{len(rows)} seeds, {len(rows[0]['result']['noise'])} images for the",
        ]
        lines[-1] += f" truth, whose own relative error is {noise:.3f}; test accuracy {experiment.spread(accuracy)}."
        lines += ["", *experiment.markdown("", "gradients", *NEARNESS.values(), *CHEAP)]
        for name in rows[0]["result"]["methods"]:
            near = [in_words(*bootstrap(of(rows, name, measure), rng)) for measure in NEARNESS]
            rest = [f"{np.mean([row['result']['methods'][name][measure] for row in rows]):.4g}" for measure in CHEAP]
            lines.append(f"| {' | '.join([name, f'{METHODS[name][0]:.3g}', *near, *rest])} |")
        lines.append("")
    text = "\n".join([*lines, *questions(found, rng), "", *experiment.origins(found)]) + "\n"
    files.write(out / "faithfulness.md", text)
    costs(found, out / "faithfulness.png")
    maps(out)
    return text


def groups(found):
    """`(model, activation, rows)`, of each the rows with the most images."""
    keys = dict.fromkeys((row["run"]["model"], row["run"]["activation"]) for row in found)
    for model, activation in keys:
        rows = [row for row in found if (row["run"]["model"], row["run"]["activation"]) == (model, activation)]
        most = max(len(row["result"]["noise"]) for row in rows)
        yield model, activation, [row for row in rows if len(row["result"]["noise"]) == most]


def questions(found, rng):
    """Lines on what b/n does, and on whether a network with SA is explained better than one with ReLU."""
    by_kind = {(model, activation): rows for model, activation, rows in groups(found)}
    lines = [
        "## Does b/n help?",
        "",
        "Correlation of eq. (2) without b/n, less that of eq. (2), on the same images.",
        "",
    ]
    for (model, activation), rows in by_kind.items():
        gain = of(rows, "eq. (2) without b/n", "correlation") - of(rows, "eq. (2)", "correlation")
        lines.append(f"- {model}, {activation}: {in_words(*bootstrap(gain, rng), '+')}")
    lines += ["", "## Is a network better explained by LRP that was trained with another activation than ReLU?", ""]
    lines += ["Correlation of eq. (2), and of it without b/n, less that with ReLU.", ""]
    for (model, activation), rows in by_kind.items():
        base = by_kind.get((model, "relu"), [])
        if activation != "relu" and len(base) == len(rows):
            gains = [
                of(rows, name, "correlation") - of(base, name, "correlation")
                for name in ("eq. (2)", "eq. (2) without b/n")
            ]
            words = "; ".join(in_words(*bootstrap(gain, rng), "+") for gain in gains)
            lines.append(f"- {model}, {activation}: {words}")
    return lines


def costs(found, path):
    """Draws the correlation of each method against its cost, a panel for each network."""
    models = list(dict.fromkeys(model for model, _, _ in groups(found)))
    figure = Figure(figsize=(6.5 * len(models), 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, model in zip(figure.subplots(1, len(models), squeeze=False)[0], models):
        own = [(activation, rows) for of_model, activation, rows in groups(found) if of_model == model]
        for marker, (activation, rows) in zip("osv^" * len(own), own):
            # one that costs nothing has no place on this axis
            names = [name for name in rows[0]["result"]["methods"] if METHODS[name][0]]
            points = {name: (METHODS[name][0], 1 - of(rows, name, "correlation").mean()) for name in names}
            axes.plot(*zip(*points.values()), marker, label=activation, alpha=0.7)
        for name, point in points.items():
            axes.annotate(name, point, xytext=(5, 0), textcoords="offset points", fontsize="xx-small")
        axes.set(xscale="log", yscale="log", xlabel="gradients", title=model)
        axes.set_ylabel("1 - correlation with Shapley values")
        axes.legend(fontsize="small")
    with files.replaced(path) as file:
        figure.savefig(file, dpi=110, format="png")


def maps(out):
    """Draws some images with the attributions of every method, for the network with ReLU and that with SA."""
    paths = [path for path in sorted(out.glob("faithfulness_*.npz")) if path.stem.endswith(("_relu", "_sa"))]
    if not paths:
        return
    figure = Figure(figsize=(1.15 * len(METHODS) + 2.5, 6.0 * len(paths)), layout="constrained")
    FigureCanvasAgg(figure)
    for part, path in zip(np.atleast_1d(figure.subfigures(len(paths), 1)), paths):
        part.suptitle(path.stem.removeprefix("faithfulness_").replace("_", ", "))
        with np.load(path) as file:
            names = ["image", "Shapley values", *(name for name in METHODS if name in file)]
            grid = part.subplots(len(file["image"]), len(names), squeeze=False)
            for column, name in zip(grid.T, names):
                for axes, values in zip(column, np.float32(file[name])):
                    scale = np.abs(values).max()
                    colours = {"cmap": "gray"} if name == "image" else {"cmap": "bwr", "vmin": -scale, "vmax": scale}
                    axes.imshow(values, **colours)
                    axes.set(xticks=[], yticks=[])
                column[0].set_title(name.replace(" ", "\n", 1), fontsize="x-small")
    with files.replaced(out / "faithfulness_maps.png") as file:
        figure.savefig(file, dpi=80, format="png")


FAITHFULNESS = experiment.Experiment(
    name="faithfulness",
    dataset="mnist",
    models=("mlp", "conv"),
    settings=(("Adam", 0.001),),
    activations=("relu", "gelu", "sa", "shaplu"),
    batch_size=128,
    epochs=5,
    seeds=3,
    perform=perform,
    write=write,
    quick={"seeds": 1, "epochs": 1, "limit": 6000, "only": "mlp/*"},
)

if __name__ == "__main__":
    sys.exit(experiment.main(FAITHFULNESS, __doc__, EXAMPLES))
