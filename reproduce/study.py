"""How near explanations of networks come to Shapley values: what the studies of MNIST and of CIFAR-10 share.

Each network is trained, then explained by every method in `explanations` for the predicted class's probability. The
truth is the Shapley values of the players, pixels or square patches of them, by random orders; nearness to it is
measured on the first test images, over the players that are not absent; deletion, insertion and infidelity are of more.
"""

import dataclasses
import functools

import datasets
import experiment
import files
import grid
import keras
import numpy as np
import training
from explanations import METHODS, moments_of_patches, peers
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from neurons import KINDS, neurons
from scipy import stats

import keras_shapley as ks

STEPS, COALITIONS = 28, 32
# pictures of these test images are kept, of the runs of seed 0
SHOWN = 5
DRAWS = 1000


def log_median(values, axis):
    """Of positive numbers."""
    return np.log(np.median(values, axis=axis))


@dataclasses.dataclass(frozen=True)
class Measure:
    """Of attributions against the truth.

    Attributes:
        title: of its column.
        of: function of two arrays `(batch, players)`.
        statistic: what is said of the images of a seed, a function of `(values, axis)`, on the scale of its interval.
        back: from that scale.
    """

    title: str
    of: object
    statistic: object = np.mean
    back: object = float


NEARNESS = {
    "correlation": Measure("correlation", ks.metrics.correlation),
    "rank": Measure("rank correlation", ks.metrics.rank_correlation),
    # an image whose denominators come near zero can have any error: it is one image
    "error": Measure("relative RMSE, median", ks.metrics.relative_rmse, log_median, np.exp),
}
CHEAP = ("deletion", "insertion", "infidelity")
EQ2, EQ2_WITHOUT = "eq. (2)", "eq. (2) without b/n"
# what is told of networks that were trained for less
OF_TRAINING = ("gradient x input", EQ2, EQ2_WITHOUT, "integrated gradients", "moments", "masks 32", "masks 64")


@dataclasses.dataclass(frozen=True)
class Study:
    """What is trained and explained.

    Attributes:
        title: of the table.
        name: of the files.
        dataset: `"mnist"` or `"cifar10"`.
        networks: by name a function of `(dense, convolution)`, which make hidden layers as `Dense` and `Conv2D` do,
            that gives a model.
        images: number of test images for the cheap measures; for the truth; and orders of the truth.
        few: the same three where a run has a limit.
        patch: side of the squares that are the players, 1 for pixels.
        absent: value of an absent pixel, of [0, 1]; it is subtracted from all images.
        decay: whether the learning rate falls to zero, in equal steps from epoch to epoch.
    """

    title: str
    name: str
    dataset: str
    networks: dict
    images: tuple
    few: tuple
    patch: int = 1
    absent: float = 0.0
    decay: bool = False

    def experiment(self, **options):
        """The grid of runs; options as those of `experiment.Experiment` that are left."""
        return experiment.Experiment(
            name=self.name,
            dataset=self.dataset,
            models=tuple(self.networks),
            perform=functools.partial(perform, self),
            write=functools.partial(write, self),
            **options,
        )


def perform(study, file, out, runs):
    """What came out of each of the runs, one after the other."""
    return [one(study, file, out, run) for run in runs]


def one(study, file, out, run):
    data = datasets.of_unit_range(study.dataset, file)
    (x, y), (x_test, y_test) = data.train, data.test
    absent = np.float32(study.absent)
    parts = (neurons(run["activation"], parent) for parent in ("Dense", "Conv2D"))
    model = training.compiled(lambda run: study.networks[run["model"]](*parts), run)
    images = slice(run["limit"])
    callbacks = [keras.callbacks.LearningRateScheduler(functools.partial(falling, run))] if study.decay else []
    model.fit(x[images] - absent, y[images], run["batch_size"], run["epochs"], verbose=0, callbacks=callbacks)
    accuracy = model.evaluate(x_test - absent, y_test, verbose=0, return_dict=True)["accuracy"]

    n_images, n_truth, n_paths = study.images if run["limit"] is None else study.few
    x = x_test[:n_images] - absent
    target = model.predict(x, verbose=0).argmax(axis=1)
    players = patches(study, x.shape[1:])
    values, stderr = truth(model, x[:n_truth], target, players, n_paths)
    present = by_player(players, np.abs(x[:n_truth])) > 0

    found, measured = {}, {}
    methods = METHODS.copy()
    if study.patch > 1:
        # each patch goes once through the first layer
        methods["moments of patches"] = 30, functools.partial(moments_of_patches, players=players)
    for name, (gradients, explain) in methods.items():
        found[name] = explain(model, x, target)
        measured[name] = {"gradients": gradients, **cheap(model, x, found[name], target)}
    if study.patch == 1:
        for name, (part, gradients) in peers(model, x[:n_truth], target[:n_truth]).items():
            found[name], measured[name] = part, {"gradients": float(f"{gradients:.3g}")}
    for name, part in found.items():
        measured[name] |= nearness(by_player(players, part[:n_truth]), values, present)

    if run["seed"] == 0:
        with files.replaced(out / _maps(study, run)) as opened:
            maps = {name: np.float16(_grey(part[:SHOWN])) for name, part in found.items()}
            side = x.shape[1] // study.patch
            maps["Shapley values"] = values[:SHOWN].reshape(-1, side, side)
            np.savez_compressed(opened, image=x[:SHOWN] + absent, **maps)
    # the part of the error that is the truth's own
    noise = np.sqrt(np.square(stderr).sum(axis=1) / np.square(values).sum(axis=1))
    return {"accuracy": accuracy, "noise": _rounded(noise), "methods": measured}


def falling(run, epoch):
    """Learning rate of an epoch, counted from 0, that would be 0 behind the last."""
    return run["learning_rate"] * (1 - epoch / run["epochs"])


def by_player(players, values):
    """Sums of `(n, ...)` over the elements of each player, `(n, players)`."""
    return np.stack([np.bincount(players.ravel(), image.ravel()) for image in values])


def patches(study, shape):
    """The player of each element of an image of a shape, `(height, width)` or `(height, width, channels)`."""
    rows, columns = (np.arange(size) // study.patch for size in shape[:2])
    players = rows[:, None] * (columns[-1] + 1) + columns
    return np.broadcast_to(players.reshape(*shape[:2], *(1 for _ in shape[2:])), shape)


def truth(model, x, target, players, n_paths):
    """Shapley values of the target's probability and their standard errors, `(n, players)`."""
    # few at once, so that what a layer gives stays in a processor's last cache
    options = {"players": players, "n_paths": n_paths, "orders": "stratified", "batch_size": max(1, 2**18 // x[0].size)}
    found = ks.sampled_shapley_values(model, x, **options)
    return (np.stack([of[:, k] for of, k in zip(part, target)]) for part in (found.values, found.stderr))


def nearness(attributions, values, present):
    """Measures against the truth, image by image, over the players that are present."""
    found = {name: [] for name in NEARNESS}
    for attribution, value, chosen in zip(attributions, values, present):
        for name, measure in NEARNESS.items():
            found[name] += _rounded(measure.of(attribution[None, chosen], value[None, chosen]))
    return found


def cheap(model, x, attributions, target):
    """Means over the images of the measures that need no truth, pixel by pixel."""
    attributions = _grey(attributions)
    found = (
        ks.metrics.deletion(model, x, attributions, target, steps=STEPS),
        ks.metrics.insertion(model, x, attributions, target, steps=STEPS),
        ks.metrics.infidelity(model, x, attributions, target, n=COALITIONS),
    )
    return {name: float(f"{values.mean():.4g}") for name, values in zip(CHEAP, found)}


def _grey(values):
    """Sums over the channels, if there are any."""
    return values.reshape(*values.shape[:3], -1).sum(axis=-1)


def _maps(study, run):
    return f"{study.name}_{run['model']}_{run['activation']}_{run['epochs']}.npz"


def _rounded(values):
    """To four digits; None for the correlation of a constant map."""
    return [float(f"{value:.4g}") if np.isfinite(value) else None for value in values]


def of(rows, method, measure):
    """A measure of each image, an array `(seeds, images)`; not a number for a constant map."""
    return np.array([row["result"]["methods"][method][measure] for row in rows], "float64")


def interval(values, rng, statistic=np.mean):
    """Mean over seeds of a statistic of the images, and half the width of its 95 % interval.

    All seeds have the same images: these are resampled once for all of them. Seeds are too few for that, and their part
    takes Student's t; the two parts add up as variances do. A single seed's interval is over images alone.

    Args:
        values: shape `(seeds, images)`.
        rng: of the draws.
        statistic: function of `(values, axis)`.
    """
    seeds, images = values.shape
    of_seeds = statistic(values, axis=1)
    draws = values[:, rng.integers(images, size=(DRAWS, images))]
    over_images = stats.norm.ppf((1 + grid.CONFIDENCE) / 2) * statistic(draws, axis=-1).mean(axis=0).std()
    over_seeds = grid.interval(of_seeds)[1] if seeds > 1 else 0.0
    return float(of_seeds.mean()), float(np.hypot(over_images, over_seeds))


def write(study, found, out):
    """Writes the table and the pictures; returns the text."""
    rng, lines = np.random.default_rng(0), [study.title]
    for model, activation, rows in groups(found):
        accuracy = _accuracy(rows)
        noise = np.array([row["result"]["noise"] for row in rows])
        ceiling = np.sqrt(np.maximum(1 - np.square(noise), 0)).mean()
        lines += [f"## {model}, {activation}", ""]
        seeds = f"{len(rows)} seeds" if len(rows) > 1 else "1 seed, whose intervals are over images alone"
        lines += [f"{seeds}; {noise.shape[1]} images for the truth, whose own relative error is {noise.mean():.3f} (a"]
        lines[-1] += f" perfect map has a correlation of {ceiling:.3f} with it at most); test accuracy {accuracy}."
        lines += ["", *experiment.markdown("", "gradients", *(measure.title for measure in NEARNESS.values()), *CHEAP)]
        for name in methods_of(rows):
            cells = [name, f"{np.mean(of(rows, name, 'gradients')):.3g}"]
            for key, measure in NEARNESS.items():
                mean, half = interval(of(rows, name, key), rng, measure.statistic)
                cells.append(experiment.in_words(mean, half, back=measure.back))
            has_all = CHEAP[0] in rows[0]["result"]["methods"][name]
            cells += [f"{np.mean(of(rows, name, measure)):.4g}" if has_all else "" for measure in CHEAP]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    lines += [*questions(found, rng), "", *of_training(found, rng), *experiment.origins(found)]
    text = "\n".join(lines) + "\n"
    files.write(out / f"{study.name}.md", text)
    costs(study, found, out)
    maps(study, found, out)
    return text


def comparable(found):
    """`(model, activation, several)`, activations in the order of `KINDS`; several lists of rows by their epochs.

    Those of a list can be compared, and are by seed. Of all rows those with the most images for the truth count.
    """
    models = list(dict.fromkeys(row["run"]["model"] for row in found))
    keys = {(row["run"]["model"], row["run"]["activation"]) for row in found}
    for model, activation in sorted(keys, key=lambda key: (models.index(key[0]), list(KINDS).index(key[1]))):
        own = [row for row in found if (row["run"]["model"], row["run"]["activation"]) == (model, activation)]
        most = max(map(_images, own))
        by_kind = experiment.by_kind([row for row in own if _images(row) == most])
        yield model, activation, [sorted(rows, key=_seed) for rows in by_kind.values()]


def groups(found):
    """`(model, activation, rows)`, of what is comparable the rows with the most epochs."""
    return [(model, activation, several[-1]) for model, activation, several in comparable(found)]


def _images(row):
    return len(row["result"]["noise"])


def _seed(row):
    return row["run"]["seed"]


def _epochs(rows):
    """Of rows that can be compared."""
    return rows[0]["run"]["epochs"]


def _accuracy(rows):
    return experiment.spread([row["result"]["accuracy"] for row in rows])


def of_shared_seeds(*several):
    """Of each of several lists of rows those whose seed is in all lists; empty where their images are not the same."""
    shared = set.intersection(*(set(map(_seed, rows)) for rows in several))
    if len({_images(row) for rows in several for row in rows}) > 1:
        shared = set()
    return [[row for row in rows if _seed(row) in shared] for rows in several]


def methods_of(rows):
    """Names of the methods that all rows have."""
    return [name for name in rows[0]["result"]["methods"] if all(name in row["result"]["methods"] for row in rows)]


def questions(found, rng):
    """Lines on what b/n does, and on whether a network with SA is explained better than one with ReLU."""
    by_kind = {(model, activation): rows for model, activation, rows in groups(found)}
    lines = ["## Does b/n help?", ""]
    lines += ["Correlation of eq. (2) without b/n, less that of eq. (2), on the same images.", ""]
    by_model = {}
    for (model, activation), rows in by_kind.items():
        by_model.setdefault(model, []).append(rows)
        lines.append(f"- {model}, {activation}: {experiment.in_words(*interval(_gain_without(rows), rng), '+')}")
    for model, several in by_model.items():
        # a seed gives networks with other activations the same first weights and images
        several = of_shared_seeds(*several)
        if len(several) > 1 and several[0]:
            mean = np.mean([_gain_without(rows) for rows in several], axis=0)
            lines.append(f"- {model}, mean over these: {experiment.in_words(*interval(mean, rng), '+')}")
    lines += ["", "## Is a network better explained by LRP that was trained with another activation than ReLU?", ""]
    lines += ["Correlation of eq. (2), and of it without b/n, less that with ReLU.", ""]
    for (model, activation), rows in by_kind.items():
        rows, base = of_shared_seeds(rows, by_kind.get((model, "relu"), []))
        if activation != "relu" and rows:
            gains = [of(rows, name, "correlation") - of(base, name, "correlation") for name in (EQ2, EQ2_WITHOUT)]
            words = "; ".join(experiment.in_words(*interval(gain, rng), "+") for gain in gains)
            lines.append(f"- {model}, {activation}: {words}")
    return lines


def _gain_without(rows):
    return of(rows, EQ2_WITHOUT, "correlation") - of(rows, EQ2, "correlation")


def of_training(found, rng):
    """Lines of a table on networks that were trained for less, too; none where there are no such rows."""
    lines = []
    for model, activation, several in comparable(found):
        longest = several[-1]
        fewer = [rows for rows in several if _epochs(rows) < _epochs(longest)]
        for rows in [*fewer, longest] if fewer else []:
            means = (interval(of(rows, name, "correlation"), rng) for name in OF_TRAINING)
            cells = [model, activation, str(_epochs(rows)), _accuracy(rows), *(experiment.in_words(*m) for m in means)]
            lines.append(f"| {' | '.join(cells)} |")
    if not lines:
        return []
    head = experiment.markdown("", "", "epochs", "test accuracy", *OF_TRAINING)
    words = "Correlation of what was trained for fewer epochs, by `--epochs`, beside that of the tables above."
    return ["## What does training do?", "", words, "", *head, *lines, ""]


def costs(study, found, out):
    """Draws the correlation of each method against its cost, a panel for each network."""
    models = list(dict.fromkeys(model for model, _, _ in groups(found)))
    figure = Figure(figsize=(6.5 * len(models), 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, model in zip(figure.subplots(1, len(models), squeeze=False)[0], models):
        own = [(activation, rows) for of_model, activation, rows in groups(found) if of_model == model]
        for marker, (activation, rows) in zip("osv^" * len(own), own):
            points = {
                name: (np.mean(of(rows, name, "gradients")), 1 - of(rows, name, "correlation").mean())
                for name in methods_of(rows)
            }
            # neither one that costs nothing nor a constant map has a place on these axes
            points = {name: point for name, point in points.items() if point[0] and np.isfinite(point[1])}
            axes.plot(*zip(*points.values()), marker, label=activation, alpha=0.7)
        axes.set(xscale="log", yscale="log", xlabel="gradients", title=model)
        axes.margins(x=0.15)
        _annotate(axes, points)
        axes.set_ylabel("1 - correlation with Shapley values")
        axes.legend(fontsize="small")
    with files.replaced(out / f"{study.name}.png") as file:
        figure.savefig(file, dpi=110, format="png")


def _annotate(axes, points):
    """Names beside points, those of one cost above each other."""
    to_points = 72 / axes.figure.dpi
    lowest = {}
    for name, point in sorted(points.items(), key=lambda item: item[1]):
        height = axes.transData.transform(point)[1] * to_points
        above = max(height, lowest.get(point[0], height))
        lowest[point[0]] = above + 7
        axes.annotate(name, point, xytext=(6, above - height), textcoords="offset points", fontsize="xx-small")


def maps(study, found, out):
    """Draws some images with the attributions of every method, for the networks with ReLU and those with SA."""
    files_of = {
        f"{model}, {activation}": out / _maps(study, rows[0]["run"])
        for model, activation, rows in groups(found)
        if activation in ("relu", "sa")
    }
    paths = {kind: path for kind, path in files_of.items() if path.exists()}
    if not paths:
        return
    figure = Figure(figsize=(1.15 * len(METHODS) + 4.5, 6.0 * len(paths)), layout="constrained")
    FigureCanvasAgg(figure)
    for part, (kind, path) in zip(np.atleast_1d(figure.subfigures(len(paths), 1)), paths.items()):
        part.suptitle(kind)
        with np.load(path) as file:
            names = ["image", "Shapley values", *(name for name in file if name not in ("image", "Shapley values"))]
            places = part.subplots(len(file["image"]), len(names), squeeze=False)
            for column, name in zip(places.T, names):
                for axes, values in zip(column, np.float32(file[name])):
                    scale = np.abs(values).max()
                    colours = {"cmap": "gray"} if name == "image" else {"cmap": "bwr", "vmin": -scale, "vmax": scale}
                    axes.imshow(values, interpolation="nearest", **colours)
                    axes.set(xticks=[], yticks=[])
                column[0].set_title(name.replace(" ", "\n", 1), fontsize="x-small")
    with files.replaced(out / f"{study.name}_maps.png") as file:
        figure.savefig(file, dpi=80, format="png")
