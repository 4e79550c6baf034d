"""A thousand calls of each public function, 3,000 training steps, 300 epochs with callbacks: memory stays flat.

`pytest -m slow tests/endurance -s` prints the growth of memory and the time of a call, in the first half and in the
second.
"""

import gc
import pathlib
import time

import keras
import numpy as np
import pytest
from keras import layers
from reference.calls import BIAS

import keras_shapley as ks

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

CALLS, STEPS, EPOCHS = 1000, 3000, 300
# megabytes by which the second half may grow: fragments of the allocator, 10 kB a call
BOUND = 10.0
STATM = pathlib.Path("/proc/self/statm")


def resident():
    """Megabytes of this process, without what can be collected."""
    gc.collect()
    return int(STATM.read_text().split()[1]) * 4096 / 2**20


def run_flat(name, call, n, traced):
    """Calls `call(number)` n times; a test of memory and of what is compiled in the second half."""
    if not STATM.exists():
        pytest.skip("memory is read from /proc")
    halves = []
    for half in (range(n // 2), range(n // 2, n)):
        megabytes, n_traced, start = resident(), len(traced), time.perf_counter()
        for number in half:
            call(number)
        seconds = time.perf_counter() - start
        halves.append((resident() - megabytes, len(traced) - n_traced, 1e3 * seconds / len(half)))
    (grown, first, slow), (more, again, fast) = halves
    print(
        f"\n{keras.backend.backend()} | {name} | {n} | {grown:.1f} + {more:.1f} MB | {resident():.0f} MB | "
        f"compiled {first} + {again} | {slow:.1f}, {fast:.1f} ms"
    )
    assert more < BOUND
    assert again == 0


def conv_net(conv):
    return keras.Sequential([keras.Input((6, 6, 1)), conv, layers.Flatten(), layers.Dense(3, "softmax")])


def mlp():
    dense = layers.Dense(6, "relu", bias_initializer=BIAS)
    return keras.Sequential([keras.Input((5,)), dense, layers.Dense(3, "softmax", bias_initializer=BIAS)])


class Setting:
    """Two models and their inputs, batches of 1 to 20."""

    def __init__(self, rng):
        self.conv, self.mlp = conv_net(layers.Conv2D(3, 3, activation="relu", bias_initializer=BIAS)), mlp()
        self._images = rng.normal(size=(20, 6, 6, 1)).astype("float32")
        self._rows = rng.normal(size=(20, 5)).astype("float32")
        self.explainer = ks.LRP(self.conv)

    def images(self, number):
        return self._images[: 1 + number % 20]

    def rows(self, number):
        return self._rows[: 1 + number % 20]


def table():
    return [(layers.Dense, "epsilon"), (layers.Conv2D, ks.rules.Gamma(0.5))]


FUNCTIONS = {
    "LRP(...)(x)": lambda s, k: ks.LRP(s.conv)(s.images(k), k % 3),
    "LRP(rules=table)(x)": lambda s, k: ks.LRP(s.conv, rules=table())(s.images(k)),
    "explainer(x, target)": lambda s, k: s.explainer(s.images(k), k % 3),
    "explainer(x, targets)": lambda s, k: s.explainer(s.images(k), [[0, k % 3]]),
    "explain(x, weights)": lambda s, k: s.explainer.explain(s.images(k), np.array([1.0, -0.5, k % 3])),
    "explain_batches": lambda s, k: list(s.explainer.explain_batches(s.images(k), 1, batch_size=8, progress=False)),
    "gates": lambda s, k: ks.LRP(s.conv, gates=2)(s.images(k), 1),
    "fast_shapley_values": lambda s, k: ks.fast_shapley_values(s.conv, s.images(k), k % 3, n_samples=4),
    "fast_shapley_values, masks": lambda s, k: ks.fast_shapley_values(s.conv, s.images(k), 1, method="masks", n=8),
    "shapley_values": lambda s, k: ks.shapley_values(s.mlp, s.rows(k % 3), k % 3),
    "shapley_values, surrogate": lambda s, k: ks.shapley_values(s.conv, s.images(0), 1, players=4, budget=60, seed=k),
    "shapley_values, function": lambda s, k: ks.shapley_values(lambda x: x @ np.ones((5, 2)), s.rows(k % 3), 1),
    "exact_shapley_values": lambda s, k: ks.exact_shapley_values(s.mlp, s.rows(k), k % 3),
    "sampled_shapley_values": lambda s, k: ks.sampled_shapley_values(s.conv, s.images(k % 2), 1, players=3, n_paths=4),
    "neuron_shapley_values": lambda s, k: ks.neuron_shapley_values(s.rows(k), np.ones((5, 2)), np.zeros(2)),
    "shapley_interactions": lambda s, k: ks.shapley_interactions(s.mlp, s.rows(k % 3), k % 3),
    "deletion": lambda s, k: ks.metrics.deletion(s.mlp, s.rows(k % 3), s.rows(k % 3), 1),
    "infidelity": lambda s, k: ks.metrics.infidelity(s.mlp, s.rows(k % 3), s.rows(k % 3), 1, n=8),
    "sensitivity_max": lambda s, k: ks.metrics.sensitivity_max(lambda x: s.explainer(x, 1), s.images(k), n=1),
    "randomization": lambda s, k: ks.metrics.randomization(s.conv, lambda x: s.explainer(x, 1), s.images(k)),
    "plot_heatmaps": lambda s, k: ks.plot_heatmaps(s.images(0), s.images(0)),
    "to_shapley": lambda s, k: ks.to_shapley(s.mlp),
    "to_relu": lambda s, k: ks.to_relu(s.mlp),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_thousand_calls(name, rng, traced):
    setting = Setting(rng)
    # batches of all sizes
    for number in range(20):
        FUNCTIONS[name](setting, number)
    run_flat(name, lambda number: FUNCTIONS[name](setting, number), CALLS, traced)


def test_a_hundred_models(rng):
    """Each is explained and dies; what is compiled for it dies with it."""
    x = rng.normal(size=(2, 5)).astype("float32")

    def explain(number):
        model = mlp()
        ks.LRP(model, rules="epsilon", head="linear")(x, 1)
        ks.fast_shapley_values(model, x, 1, method="masks", n=4)
        # models are cycles: many dead ones would make the heap grow
        del model
        gc.collect()

    explain(0)
    run_flat("new models", explain, 100, [])


def test_3000_training_steps(rng, traced):
    model = conv_net(ks.SAConv2D(3, 3, bias_initializer=BIAS, second_moment="pooled"))
    model.compile("adam", "sparse_categorical_crossentropy", jit_compile=False)
    x, y = rng.normal(size=(8, 6, 6, 1)).astype("float32"), rng.integers(3, size=8)
    model.train_on_batch(x, y)
    run_flat("train_on_batch, SA", lambda number: model.train_on_batch(x, y), STEPS, traced)


def test_300_epochs_with_callbacks(rng, traced, tmp_path):
    from matplotlib import pyplot

    model = conv_net(ks.SAConv2D(3, 3, bias_initializer=BIAS))
    model.compile("adam", "sparse_categorical_crossentropy", jit_compile=False)
    x, y = rng.normal(size=(16, 6, 6, 1)).astype("float32"), rng.integers(3, size=16)
    heatmaps = ks.LRPHeatmaps(x[:2], y[:2], directory=tmp_path, save_arrays=True)

    class Measure(keras.callbacks.Callback):
        """Memory after each epoch."""

        def __init__(self):
            super().__init__()
            self.megabytes, self.n_traced = [], []

        def on_epoch_end(self, epoch, logs=None):
            self.megabytes.append(resident())
            self.n_traced.append(len(traced))

    measure = Measure()
    model.fit(x, y, epochs=EPOCHS, verbose=0, callbacks=[ks.GateMonitor(x, y), heatmaps, measure])
    start, middle, end = measure.megabytes[0], measure.megabytes[EPOCHS // 2], measure.megabytes[-1]
    print(
        f"\n{keras.backend.backend()} | {EPOCHS} epochs | {middle - start:.1f} + {end - middle:.1f} MB | {end:.0f} MB"
    )
    assert end - middle < BOUND
    assert measure.n_traced[-1] == measure.n_traced[0]
    assert not pyplot.get_fignums()
    assert len(list(tmp_path.glob("epoch_*.png"))) == EPOCHS == len(list(tmp_path.glob("epoch_*.npz")))
