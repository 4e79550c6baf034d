"""Settings in which training is hard: images, labels and first weights of the study `where_sa_helps`."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

import keras_shapley as ks
from keras_shapley.backend import compiled
from lab import data, training
from lab.data import Split
from lab.experiment import Experiment
from lab.networks import deep_mlp
from lab.rows import Run

# the only activation whose networks can be converted
TRAINED = "relu_he"
MONITORED = 500  # test images on which gates are measured
TRAINED_BEFORE = ("Adam", 0.001)  # how networks are trained before they are converted

SPARSE = 0.1  # share of the pixels that an image keeps
SPIKES, SPIKE = 0.01, 10.0  # share of the pixels that are far out of line, and their value
FEATURES, EXCEPTION = 40, 6.0  # standard normal features, and the size of the one that is out of line
CLASSES = 10
FIRST_SEED = 1000  # of the images of the training before

# images and labels of a kind, from those of MNIST and a generator of random numbers
Change = Callable[[np.ndarray, np.ndarray, np.random.Generator], Split]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """A setting of the study.

    Attributes:
        depth: number of hidden layers.
        width: their number of neurons.
        norm: whether there is BatchNormalization.
        change: of images and labels.
        clean_test: whether the test is as it was.
        different: how many images of an epoch differ; None for all. They come as often as fills the epoch.
        converted: whether networks begin as trained networks of ReLU.
        monitored: whether the gates are measured by `GateMonitor`.
    """

    depth: int = 3
    width: int = 32
    norm: bool = False
    change: Change | None = None
    clean_test: bool = False
    different: int | None = None
    converted: bool = False
    monitored: bool = False

    def network(self, activation: str) -> keras.Model:
        """The network of the setting, with its first weights."""
        return deep_mlp(activation, self.depth, self.width, self.norm)


def sparse(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> Split:
    """Images of which random pixels are kept, and the others are 0."""
    return x * (rng.random(x.shape) < SPARSE), y


def spikes(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> Split:
    """Images with random pixels that are ten times as bright as white, and say nothing."""
    return np.where(rng.random(x.shape) < SPIKES, SPIKE, x), y


def exceptions(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> Split:
    """Normal features in an image of zeros, one of them far out of line; which tenth it is from is the class."""
    new = np.zeros((len(x), x[0].size))
    new[:, :FEATURES] = rng.standard_normal((len(x), FEATURES))
    feature = rng.integers(FEATURES, size=len(x))
    new[np.arange(len(x)), feature] = EXCEPTION * rng.choice([-1, 1], len(x))
    return new.reshape(x.shape), feature // (FEATURES // CLASSES)


def turned(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> Split:
    """Images on their side."""
    return np.rot90(x, axes=(1, 2)), y


def wrong_labels(share: float, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> Split:
    """Images of which a share has a label of another class, any of them alike."""
    wrong = rng.random(len(y)) < share
    return x, np.where(wrong, (y + rng.integers(1, CLASSES, len(y))) % CLASSES, y)


def test_images(setting: Setting, test: Split) -> tuple[Split, float]:
    """Test images and labels of a setting, and the factor that gives its images a mean square of 1.

    The first weights of GELU and SiLU are made for inputs of that size; ReLU and SA do not depend on it.
    """
    x, y = test
    if setting.change:
        changed = setting.change(x, y, np.random.default_rng(0))
        factor = 1 / np.sqrt(np.mean(np.square(changed[0])))
        x, y = test if setting.clean_test else changed
    else:
        factor = 1 / np.sqrt(np.mean(np.square(x)))
    return ready(x, y, factor), float(factor)


def training_images(setting: Setting, train: Split, n: int, seed: int, factor: float) -> Split:
    """The `n` training images and labels of an epoch; the seed draws them."""
    x, y = train
    rng = np.random.default_rng([seed, 1])
    chosen = rng.permutation(len(x))[: min(n, setting.different or n)]
    x, y = x[chosen], y[chosen]
    if setting.change:
        x, y = setting.change(x, y, rng)
    again = np.arange(n) % len(x)
    return ready(x[again], y[again], factor)


def ready(x: np.ndarray, y: np.ndarray, factor: float) -> Split:
    """Scaled images and labels, as networks take them."""
    return (x * factor).astype("float32"), y.astype("int32")


def silent(model: keras.Model, x: Any) -> Any:
    """Whether the sum of a hidden unit, with its bias, is 0 or less for all images: where ReLU never fires.

    Args:
        model: a `deep_mlp`.
        x: images, a tensor.

    Returns:
        bool, shape `(units,)`, for all hidden layers one after the other.
    """
    signal, found = x, []
    for layer in model.layers[:-1]:
        if isinstance(layer, keras.layers.Dense):
            sums = ops.matmul(signal, layer.kernel) + layer.bias
            found.append(ops.all(sums <= 0, axis=0))
        signal = layer(signal)
    return ops.concatenate(found)


class Observer:
    """Watches the units of models, which all have the layers of the first.

    Args:
        images: in training, an array for each run.
        monitor: of gates; None where they are not monitored.
    """

    def __init__(self, images: list[np.ndarray], monitor: ks.GateMonitor | None) -> None:
        self.images, self.monitor = images, monitor
        self.silent: Callable | None = None

    def __call__(self, model: keras.Model, index: int) -> dict[str, Any]:
        """Which units of a run's model are silent, and the mean share of closed gates of its hidden layers."""
        if self.silent is None:
            self.silent = compiled(functools.partial(silent, model), model.variables)
            if self.monitor:
                self.monitor.set_model(model)
                self.monitor.on_train_begin()
        found = ops.convert_to_numpy(self.silent(ops.convert_to_tensor(self.images[index])))
        logs: dict[str, Any] = {}
        if self.monitor:
            self.monitor.on_epoch_end(0, logs)
        closed = [value for key, value in logs.items() if key.endswith("/closed")]
        # activations without gates have none
        return {"silent": found, "closed": float(np.mean(closed)) if closed else None}


def trained_before(setting: Setting, run: Run, x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
    """The weights of a network of ReLU after the training from which the runs of a seed go on."""
    optimizer, rate = TRAINED_BEFORE
    model = training.compiled(
        lambda run: setting.network(TRAINED), {**run, "optimizer": optimizer, "learning_rate": rate}
    )
    model.fit(x, y, run["batch_size"], run["epochs"], verbose=0)
    return model.get_weights()


def build(setting: Setting, weights: dict[int, list[np.ndarray]], run: Run) -> keras.Model:
    """The network of a run.

    Args:
        setting: of the run.
        weights: from which converted networks begin, by seed.
        run: see `lab.rows`.
    """
    if not setting.converted:
        return setting.network(run["activation"])
    model = setting.network(TRAINED)
    model.set_weights(weights[run["seed"]])
    return model if run["activation"] == TRAINED else ks.to_shapley(model, run["activation"])[0]


def train_settings(
    settings: dict[str, Setting], experiment: Experiment, file: str | None, out: pathlib.Path, runs: list[Run]
) -> list[dict[str, Any]]:
    """Trains the models of runs that differ in their seed and learning rate alone.

    Args:
        settings: by the names of models in runs.
        experiment: of the runs.
        file: of the images.
        out: the directory of results.
        runs: see `lab.rows`.

    Returns:
        A dict for each run: loss and accuracy in training after each epoch; val_loss, val_accuracy, silent (the share
        of units that are) and, where gates are monitored, closed, after the first and the last epoch; and revived, the
        share of the units that were silent after the first epoch and are not after the last, None if none was.
    """
    setting, epochs = settings[runs[0]["model"]], runs[0]["epochs"]
    mnist = data.load_scaled(experiment.dataset, file)
    test, factor = test_images(setting, mnist.test)
    n = min(runs[0]["limit"] or len(mnist.train[0]), len(mnist.train[0]))
    train = [training_images(setting, mnist.train, n, run["seed"], factor) for run in runs]
    weights = {}
    for run in runs if setting.converted else []:
        if run["seed"] not in weights:
            # upright images; others than those that follow, but for chance
            x, y = training_images(Setting(), mnist.train, n, FIRST_SEED + run["seed"], factor)
            weights[run["seed"]] = trained_before(setting, run, x, y)
    monitor = ks.GateMonitor(test[0][:MONITORED], test[1][:MONITORED]) if setting.monitored else None
    histories = training.train(
        runs,
        functools.partial(build, setting, weights),
        ((np.concatenate([x for x, _ in train]), np.concatenate([y for _, y in train])), test),
        apart=True,
        after=sorted({1, epochs}),
        observe=Observer([x for x, _ in train], monitor),
    )
    return [summary(history) for history in histories]


def summary(history: training.History) -> dict[str, Any]:
    """The result of a run, from its history."""
    result = dict(history)
    seen = result.pop("observed")
    first, last = seen[0]["silent"], seen[-1]["silent"]
    result["silent"] = [round(float(each["silent"].mean()), 6) for each in seen]
    result["revived"] = round(float(np.mean(~last[first])), 6) if first.any() else None
    if any(each["closed"] is not None for each in seen):
        result["closed"] = [round(each["closed"], 6) for each in seen]
    return result
