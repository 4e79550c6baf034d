"""Networks and inputs on which estimators of Shapley values are compared, and the values that they estimate.

A game is kept in two files, its network and its arrays, so that estimators that need another Python play the same one.
"""

import dataclasses
import functools
import math
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
from keras import layers

from lab import coalitions, data, environment, files, imagenet, rows
from lab.faithfulness import patches
from lab.networks import cifar10_conv_net, digits_conv_net, digits_mlp
from lab.statistics import relative_noise

SEED = 0  # of the training and of the truth
RATE = 2e-3  # of Adam
ENUMERABLE = 16  # players whose coalitions are all evaluated
BLOCK = 2**17  # coalitions that are drawn at once
BACKGROUND = 50  # rows
LITE0 = "efficientnet_lite0"
IMAGENET_ROWS = files.RESULTS / "imagenet.jsonl"
CROPS = ("cat, 65%", "coffee, 100%", "motorcycle, 65%", "camera, 100%", "temple, 100%", "astronaut, 65%")


@dataclasses.dataclass(frozen=True)
class Game:
    """A network, inputs, and the Shapley values of the inputs' players.

    Attributes:
        model: the network; what is explained is its output `target`.
        x: inputs, `(inputs, ...)`, float32.
        target: index of an output for each input, ints.
        background: values of absent players, `(rows, ...)`; a coalition's value is the mean over them.
        players: the player of each element, ints in the shape of an input.
        truth: Shapley values, `(inputs, players)`, zero for a player that equals the background.
        stderr: standard errors of the truth, same shape; zero for an enumeration.
        source: what the network was trained on.
    """

    model: keras.Model
    x: np.ndarray
    target: np.ndarray
    background: np.ndarray
    players: np.ndarray
    truth: np.ndarray
    stderr: np.ndarray
    source: str

    @property
    def n_players(self) -> int:
        return int(self.players.max()) + 1

    def active(self, number: int) -> np.ndarray:
        """The players of an input that differ from the background, ints."""
        return np.unique(self.players[(self.x[number] != self.background).any(axis=0)])

    def value(self, number: int) -> Callable[[np.ndarray], np.ndarray]:
        """The game of an input: function of bools `(coalitions, active players)` that returns `(coalitions,)`."""
        return functools.partial(self._values, number, self.active(number))

    def _values(self, number: int, active: np.ndarray, coalitions: np.ndarray) -> np.ndarray:
        present = np.zeros((len(coalitions), self.n_players), bool)
        present[:, active] = coalitions
        # small batches, so that the outputs of a layer stay in a processor's last cache
        size = max(1, max(16, 2**18 // self.x[0].size) // len(self.background))
        values = np.empty(len(present))
        for start in range(0, len(present), size):
            part = present[start : start + size, None][:, :, self.players]
            inputs = np.where(part, self.x[number], self.background).reshape(-1, *self.x.shape[1:])
            outputs = self.model.predict_on_batch(inputs)[:, self.target[number]]
            values[start : start + size] = np.reshape(outputs, (-1, len(self.background))).mean(axis=1, dtype="float64")
        return values

    def first(self, n: int) -> "Game":
        """The game of the first `n` inputs."""
        arrays = {name: getattr(self, name)[:n] for name in ("x", "target", "truth", "stderr")}
        return dataclasses.replace(self, **arrays)

    @property
    def noise(self) -> np.ndarray:
        """The truth's own relative error, for each input."""
        return relative_noise(self.stderr, self.truth)


class Untold(NamedTuple):
    """What a recipe makes: a game without its truth, and the truth if it is known from elsewhere."""

    model: keras.Model
    x: np.ndarray
    target: np.ndarray
    background: np.ndarray
    players: np.ndarray
    source: str
    truth: tuple[np.ndarray, np.ndarray] | None = None


class Options(NamedTuple):
    """How games are made.

    Attributes:
        images: at most so many inputs.
        epochs: of the training; None for the recipe's own.
        coalitions: of a truth by regression; None for the recipe's own.
        files: paths of .npz files, by the name of the data set, that are not read from tfds.
    """

    images: int = 10
    epochs: int | None = None
    coalitions: int | None = None
    files: dict[str, str | None] = {}


class Recipe(NamedTuple):
    """How a game is made.

    Attributes:
        make: function of `Options` that returns the game without its truth.
        images: number of inputs.
        coalitions: of the truth, for each input; all of them are evaluated if there are few players.
    """

    make: Callable[[Options], Untold]
    images: int
    coalitions: int


def load(name: str, directory: pathlib.Path, options: Options) -> Game:
    """A game, from its files in a directory; made, and kept there, if these lack it or have fewer inputs."""
    recipe = RECIPES[name]
    n = min(recipe.images, options.images)
    model_path, arrays_path = directory / f"{name}.keras", directory / f"{name}.npz"
    if arrays_path.exists():
        with np.load(arrays_path) as file:
            arrays = {key: file[key] for key in file.files}
        if len(arrays["x"]) >= n:
            source = str(arrays.pop("source"))
            return Game(keras.models.load_model(model_path), source=source, **arrays).first(n)
    game = _with_truth(recipe.make(options._replace(images=n)), options.coalitions or recipe.coalitions)
    directory.mkdir(parents=True, exist_ok=True)
    # whoever is killed between the two begins anew: arrays never stand beside another model than theirs
    arrays_path.unlink(missing_ok=True)
    game.model.save(model_path)
    with files.replaced(arrays_path) as file:
        names = ("x", "target", "background", "players", "truth", "stderr", "source")
        np.savez_compressed(file, **{key: getattr(game, key) for key in names})
    return game


def _with_truth(made: Untold, n_coalitions: int) -> Game:
    shape = len(made.x), int(made.players.max()) + 1
    *parts, known = made
    if known is not None:
        return Game(*parts[:5], *known, made.source)
    game = Game(*parts[:5], np.zeros(shape), np.zeros(shape), made.source)
    for number in range(len(game.x)):
        active, value = game.active(number), game.value(number)
        if len(active) <= ENUMERABLE:
            game.truth[number, active] = enumerated(value, len(active))
        else:
            rng = np.random.default_rng([SEED, number])
            values, stderr = regressed(value, len(active), n_coalitions, rng)
            game.truth[number, active], game.stderr[number, active] = values, stderr
    return game


def enumerated(value: Callable[[np.ndarray], np.ndarray], n: int) -> np.ndarray:
    """Shapley values from all coalitions of `n` players, eq. of Shapley (1953)."""
    every = (np.arange(2**n)[:, None] >> np.arange(n) & 1).astype(bool)
    values, sizes = value(every), every.sum(axis=1)
    weights = np.array([1 / (n * math.comb(n - 1, size)) for size in range(n)])
    shapley = np.empty(n)
    for player in range(n):
        absent = np.flatnonzero(~every[:, player])
        shapley[player] = weights[sizes[absent]] @ (values[absent + (1 << player)] - values[absent])
    return shapley


def regressed(
    value: Callable[[np.ndarray], np.ndarray], n: int, n_coalitions: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Shapley values and standard errors from regressions on independent blocks of paired coalitions."""
    none, every = value(np.array([[False] * n, [True] * n]))[:, None]
    estimates = []
    n_blocks = -(-n_coalitions // BLOCK)
    for _ in range(n_blocks):
        drawn = coalitions.paired(n, n_coalitions // n_blocks // 2, rng)
        estimates.append(coalitions.regression(drawn, value(drawn)[:, None], none, every))
    values, stderr = (np.stack(part)[:, 0] for part in zip(*estimates))
    return values.mean(axis=0), np.linalg.norm(stderr, axis=0) / n_blocks


def _trained(model: keras.Model, train: data.Split, epochs: int, batch_size: int, options: Options) -> keras.Model:
    model.compile(keras.optimizers.Adam(RATE), "sparse_categorical_crossentropy", jit_compile=environment.jit_compile())
    model.fit(*train, batch_size, options.epochs or epochs, verbose=0)
    return model


def _predicted(model: keras.Model, x: np.ndarray) -> np.ndarray:
    return model.predict_on_batch(x).argmax(axis=1)


def _one_of_each(labels: np.ndarray, n: int) -> np.ndarray:
    """Indices of the first image of each of the first `n` classes."""
    return np.array([int(np.argmax(labels == label)) for label in range(n)])


def _digits(options: Options, build: Callable, epochs: int, side: int, is_centred: bool) -> Untold:
    """scikit-learn's digits: players are squares, absent ones have the mean image, or zero."""
    train, (x, _), examples = data.digits(SEED)
    keras.utils.set_random_seed(SEED)
    model = _trained(build("relu"), train, epochs, 32, options)
    x = x[examples[: options.images]]
    background = train[0].mean(axis=0, keepdims=True) * is_centred
    return Untold(model, x, _predicted(model, x), background, patches(side, (8, 8)), data.digits_source(train[0]))


def _breast_cancer(options: Options) -> Untold:
    train, (x, _), source = data.breast_cancer()
    keras.utils.set_random_seed(SEED)
    hidden = [layers.Dense(64, "relu"), layers.Dense(64, "relu")]
    model = keras.Sequential([keras.Input((30,)), *hidden, layers.Dense(2, "softmax")])
    model = _trained(model, train, 30, 32, options)
    x = x[: options.images]
    return Untold(model, x, _predicted(model, x), train[0][:BACKGROUND], np.arange(30), source)


def _mnist(options: Options) -> Untold:
    """Four convolutions; players are 49 squares of 4 x 4 pixels, absent ones have the mean image."""
    (x_train, y_train), (x, y), source = data.load_scaled("mnist", options.files.get("mnist"))
    keras.utils.set_random_seed(SEED)
    model = keras.Sequential([keras.Input((28, 28)), layers.Reshape((28, 28, 1))])
    for filters, strides in ((8, 2), (16, 1), (16, 2), (32, 1)):
        model.add(layers.Conv2D(filters, 3, strides, padding="same", activation="relu"))
    for layer in (layers.GlobalAveragePooling2D(), layers.Dense(32, "relu"), layers.Dense(10, "softmax")):
        model.add(layer)
    x_train, y_train = x_train[:20000], y_train[:20000]
    model = _trained(model, (x_train, y_train), 12, 128, options)
    x = x[_one_of_each(y, options.images)]
    background = x_train.mean(axis=0, dtype="float64", keepdims=True).astype("float32")
    return Untold(model, x, _predicted(model, x), background, patches(4, (28, 28)), source)


def _cifar10(options: Options) -> Untold:
    """Five convolutions, trained shortly; players are 64 squares of 4 x 4 pixels, absent ones are grey."""
    (x_train, y_train), (x, y), source = data.load_scaled("cifar10", options.files.get("cifar10"))
    keras.utils.set_random_seed(SEED)
    train = x_train[:20000] - np.float32(0.5), y_train[:20000]
    model = _trained(cifar10_conv_net("relu"), train, 4, 128, options)
    x = x[_one_of_each(y, options.images)] - np.float32(0.5)
    return Untold(model, x, _predicted(model, x), np.zeros_like(x[:1]), patches(4, (32, 32, 3)), source)


def _lite0(options: Options) -> Untold:
    """The logit of the predicted class; players are 49 squares of 32 x 32 pixels, absent ones are grey.

    The truth is that of `studies/imagenet.py` if its results hold it.
    """
    network = imagenet.network(imagenet.LITE0)
    crops = [crop for name in CROPS[: options.images] for crop in imagenet.CROPS if crop.name == name]
    x = np.asarray(network.preprocess(np.stack([crop.pixels(network.side) for crop in crops])), "float32")
    target = _predicted(network.logits, x)
    made = Untold(
        *(network.logits, x, target, network.baseline[None], patches(32, x.shape[1:])),
        "photographs of scikit-learn and scikit-image",
    )
    settings = {"model": imagenet.LITE0, "method": "Shapley values", "side": 224, "random_weights": False}
    known = {
        row["run"]["crop"]: row["result"] for row in rows.read(IMAGENET_ROWS) if settings.items() <= row["run"].items()
    }
    results = [known[crop.name] for crop in crops if crop.name in known]
    if [result["target"] for result in results] != target.tolist():
        return made
    values, stderr = np.array([(result["logit"], result["stderr"]["logit"]) for result in results]).swapaxes(0, 1)
    return made._replace(truth=(values, stderr))


RECIPES = {
    "digits_mlp": Recipe(functools.partial(_digits, build=digits_mlp, epochs=30, side=1, is_centred=True), 10, 2**20),
    "digits_conv": Recipe(
        functools.partial(_digits, build=digits_conv_net, epochs=20, side=2, is_centred=False), 10, 0
    ),
    "breast_cancer": Recipe(_breast_cancer, 10, 2**18),
    "mnist": Recipe(_mnist, 4, 2**20),
    "cifar10": Recipe(_cifar10, 4, 2**17),
    LITE0: Recipe(_lite0, 6, 5000),
}
