"""Work that is killed and begun again, in a folder that keeps what it has."""

import pathlib
import shutil

import figure3_mnist_mlp
import keras
import numpy as np
from keras import layers

import keras_shapley as ks
from benchmarks import shapley_estimators
from keras_shapley.cli import main
from keras_shapley.utils.files import write
from lab import estimator_games, experiment

EPOCHS, IMAGES = 3, 4


class Backup(keras.callbacks.BackupAndRestore):
    """Keras's, which writes weights and epoch one after the other: a training that is killed there begins anew."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.mark = folder / "saving"
        if self.mark.exists():
            shutil.rmtree(folder / "backup", ignore_errors=True)
            self.mark.unlink()
        super().__init__(folder / "backup", delete_checkpoint=False)

    def _save_model(self) -> None:
        self.mark.touch()
        super()._save_model()
        self.mark.unlink()


def fit() -> None:
    """A training with both callbacks, pictures, arrays and an animation."""
    folder = pathlib.Path()
    rng = np.random.default_rng(0)
    x, y = rng.random((64, 8, 8, 1)).astype("float32"), np.arange(64) % 3
    keras.utils.set_random_seed(0)
    body = [layers.Conv2D(4, 3), layers.Flatten(), ks.SADense(16)]
    model = keras.Sequential([keras.Input((8, 8, 1)), *body, layers.Dense(3, "softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    heatmaps = ks.LRPHeatmaps(x[:3], y[:3], directory=folder / "maps", save_arrays=True, animation=True)
    logged = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: write(folder / "maps" / f"logs_{epoch}", repr(sorted(logs.items())).encode())
    )
    callbacks = [ks.GateMonitor(x, y), heatmaps, logged, Backup(folder)]
    model.fit(x, y, 8, epochs=EPOCHS, verbose=0, shuffle=False, callbacks=callbacks)
    write(folder / "weights", b"".join(weights.tobytes() for weights in model.get_weights()))


def command() -> int:
    """The command line, over several images."""
    images = [f"{number}.png" for number in range(IMAGES)]
    return main(["explain", "model.keras", *images, "--out", "out", "--results", "npz", "--overwrite"])


def grid() -> int:
    """Fig. 3 on made-up images: a grid of six short runs."""
    options = ["--data", "data.npz", "--limit", "50", "--epochs", "1", "--seeds", "2", "--only", "*_0.1/*"]
    return experiment.main(figure3_mnist_mlp.FIGURE3, None, "", [*options, "--out", "out"])


def game(options: estimator_games.Options) -> estimator_games.Untold:
    """A network of eight numbers, trained on noise."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(64, 8)).astype("float32"), np.arange(64) % 3
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8,)), layers.Dense(16, "relu"), layers.Dense(3, "softmax")])
    model = estimator_games._trained(model, (x, y), 2, 16, options)
    return estimator_games.Untold(model, x[:2], y[:2], np.zeros((1, 8), "float32"), np.arange(8), "noise")


def benchmark() -> int:
    """The benchmark of estimators, on that network."""
    # the name of one that the table knows
    estimator_games.RECIPES["digits_mlp"] = estimator_games.Recipe(game, 2, 256)
    options = ["--games", "digits_mlp", "--methods", "auto", "orders", "regression", "--budgets", "2", "5"]
    return shapley_estimators.main([*options, "--seeds", "3", "--networks", "networks", "--out", "out"])
