"""How near explanations of networks come to Shapley values: what the studies of MNIST and of CIFAR-10 share.

Each network is trained; then every method in `explanations` explains the probability of the predicted class. The truth
is the Shapley values of the players, pixels or square patches of them, by random orders. Nearness to the truth is
measured on the first test images, over the players that are not absent; deletion, insertion and infidelity are measured
on more images.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np

import keras_shapley as ks
from lab import batches, data, files, training
from lab.experiment import Experiment
from lab.explanations import METHODS, methods_of_patches, peers
from lab.rows import Run
from lab.statistics import log_median, number, relative_noise

STEPS, COALITIONS = 28, 32
# the attributions of so many test images are kept, of the runs with seed 0
KEPT_IMAGES = 5


class Measure(NamedTuple):
    """A measure of attributions against the truth.

    Attributes:
        title: of its column.
        of_images: function of two arrays `(batch, players)` that returns a number for each image.
        statistic: function of `(values, axis)` that summarizes the images of a seed, on a scale of symmetric intervals.
        scale: function from that scale back to the measure's own.
    """

    title: str
    of_images: Callable[[np.ndarray, np.ndarray], np.ndarray]
    statistic: Callable = np.mean
    scale: Callable[[float], float] = float


NEARNESS = {
    "correlation": Measure("correlation", ks.metrics.correlation),
    "rank": Measure("rank correlation", ks.metrics.rank_correlation),
    # the median, because a single image whose denominators come near zero can have any error
    "error": Measure("relative RMSE, median", ks.metrics.relative_rmse, log_median, np.exp),
}
PERTURBATION = ("deletion", "insertion", "infidelity")


class Amounts(NamedTuple):
    """Sizes of a study.

    Attributes:
        images: number of test images for deletion, insertion and infidelity.
        truth: number of test images for the truth.
        orders: number of random orders of the truth.
    """

    images: int
    truth: int
    orders: int


def explain_runs(study: "Study", file: str | None, out: pathlib.Path, runs: list[Run]) -> list[dict[str, Any]]:
    """The results of runs, one after the other."""
    return [explain_run(study, file, out, run) for run in runs]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study(Experiment):
    """An experiment whose networks are trained and then explained.

    Attributes:
        amounts: of a whole run.
        few: amounts of a run with a limit.
        patch: side of the squares that are the players; 1 for pixels.
        absent: value of an absent pixel in [0, 1]; it is subtracted from all images.
        decay: whether the learning rate falls to zero, in equal steps from epoch to epoch.
    """

    amounts: Amounts
    few: Amounts
    patch: int = 1
    absent: float = 0.0
    decay: bool = False
    perform: Callable[..., list[dict[str, Any]]] = explain_runs


def explain_run(study: "Study", file: str | None, out: pathlib.Path, run: Run) -> dict[str, Any]:
    """Trains and explains the network of a run; returns its result, and keeps some attributions in a file."""
    images = data.load_scaled(study.dataset, file)
    (x, y), (x_test, y_test) = images.train, images.test
    absent = np.float32(study.absent)
    model = training.compiled(study.build, run)
    limited = slice(run["limit"])
    callbacks = [keras.callbacks.LearningRateScheduler(functools.partial(decayed, run))] if study.decay else []
    images_of_training = batches.of_arrays(x[limited] - absent, y[limited], run["batch_size"])
    model.fit(**images_of_training, epochs=run["epochs"], verbose=0, callbacks=callbacks)
    accuracy = model.evaluate(x_test - absent, y_test, verbose=0, return_dict=True)["accuracy"]

    amounts = study.amounts if run["limit"] is None else study.few
    x = x_test[: amounts.images] - absent
    x_truth = x[: amounts.truth]
    target = model.predict(x, verbose=0).argmax(axis=1)
    players = patches(study.patch, x.shape[1:])
    values, stderr = shapley_values(model, x_truth, target, players, amounts.orders)
    present = by_player(players, np.abs(x_truth)) > 0

    attributions, measured = {}, {}
    methods = METHODS | (methods_of_patches(players) if study.patch > 1 else {})
    for name, method in methods.items():
        attributions[name] = method.explain(model, x, target)
        measured[name] = {"gradients": method.gradients, **perturbation(model, x, attributions[name], target)}
    if study.patch == 1:
        for name, (attribution, gradients) in peers(model, x_truth, target[: amounts.truth]).items():
            attributions[name], measured[name] = attribution, {"gradients": float(f"{gradients:.3g}")}
    for name, attribution in attributions.items():
        measured[name] |= nearness(by_player(players, attribution[: amounts.truth]), values, present)

    if run["seed"] == 0:
        with files.replaced(out / kept_file(study.name, run)) as opened:
            maps = {name: np.float16(over_channels(part[:KEPT_IMAGES])) for name, part in attributions.items()}
            side = x.shape[1] // study.patch
            maps["Shapley values"] = values[:KEPT_IMAGES].reshape(-1, side, side)
            np.savez_compressed(opened, image=x[:KEPT_IMAGES] + absent, **maps)
    noise = [number(error) for error in relative_noise(stderr, values)]
    return {"accuracy": accuracy, "noise": noise, "methods": measured}


def decayed(run: Run, epoch: int) -> float:
    """Learning rate of an epoch counted from 0; it would be 0 after the last."""
    return run["learning_rate"] * (1 - epoch / run["epochs"])


def by_player(players: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Sums of `(n, ...)` over the elements of each player, `(n, players)`."""
    return np.stack([np.bincount(players.ravel(), image.ravel()) for image in values])


def patches(side: int, shape: tuple[int, ...]) -> np.ndarray:
    """The player of each element of an image, if the players are squares of pixels.

    Args:
        side: of a square.
        shape: `(height, width)` or `(height, width, channels)`.
    """
    rows, columns = (np.arange(size) // side for size in shape[:2])
    players = rows[:, None] * (columns[-1] + 1) + columns
    return np.broadcast_to(players.reshape(*shape[:2], *(1 for _ in shape[2:])), shape)


def shapley_values(
    model: keras.Model, x: np.ndarray, target: np.ndarray, players: np.ndarray, orders: int
) -> tuple[np.ndarray, np.ndarray]:
    """Shapley values of the target's probability and their standard errors, `(n, players)` each."""
    # small batches, so that the outputs of a layer stay in a processor's last cache
    options = {"n_paths": orders, "orders": "stratified", "batch_size": max(1, 2**18 // x[0].size)}
    estimate = ks.sampled_shapley_values(model, x, players=players, **options)
    values, stderr = (
        np.stack([part[:, k] for part, k in zip(parts, target)]) for parts in (estimate.values, estimate.stderr)
    )
    return values, stderr


def nearness(attributions: np.ndarray, values: np.ndarray, present: np.ndarray) -> dict[str, list[float | None]]:
    """Measures of each image against the truth, over the players that are present."""
    measured: dict[str, list[float | None]] = {name: [] for name in NEARNESS}
    for attribution, value, chosen in zip(attributions, values, present):
        for name, measure in NEARNESS.items():
            measured[name] += map(number, measure.of_images(attribution[None, chosen], value[None, chosen]))
    return measured


def perturbation(model: keras.Model, x: np.ndarray, attributions: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """Means over the images of the measures that need no truth, pixel by pixel."""
    attributions = over_channels(attributions)
    measures = (
        ks.metrics.deletion(model, x, attributions, target, steps=STEPS),
        ks.metrics.insertion(model, x, attributions, target, steps=STEPS),
        ks.metrics.infidelity(model, x, attributions, target, n=COALITIONS),
    )
    return {name: float(f"{values.mean():.4g}") for name, values in zip(PERTURBATION, measures)}


def over_channels(values: np.ndarray) -> np.ndarray:
    """Sums over the channels, if there are any."""
    return values.reshape(*values.shape[:3], -1).sum(axis=-1)


def kept_file(name: str, run: Run) -> str:
    """Name of the file that keeps attributions of a network of a study."""
    return f"{name}_{run['model']}_{run['activation']}_{run['epochs']}.npz"
