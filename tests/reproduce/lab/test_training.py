"""`lab/training.py`: one run, and many seeds at once."""

import keras
import numpy as np
import pytest

from lab import training
from lab.activations import hidden_layer

jax_only = pytest.mark.skipif(keras.backend.backend() != "jax", reason="many seeds at once need jax.vmap")
SEEDS = 2


def build(run):
    hidden = hidden_layer(run["activation"], "Dense")
    regularizer = keras.regularizers.L2(1e-2)
    layers = [keras.Input((5,)), hidden(8, kernel_regularizer=regularizer), keras.layers.Dropout(0.3)]
    return keras.Sequential([*layers, keras.layers.BatchNormalization(), keras.layers.Dense(3, "softmax")])


def runs(optimizer="Adam", activation="sa", epochs=3, batch_size=4):
    settings = {"activation": activation, "optimizer": optimizer, "learning_rate": 0.05}
    return [{**settings, "epochs": epochs, "batch_size": batch_size, "seed": seed} for seed in range(SEEDS)]


@pytest.fixture
def data(rng):
    def images(n):
        return rng.standard_normal((n, 5)).astype("float32"), rng.integers(0, 3, n)

    return images(22), images(7)


@jax_only
@pytest.mark.parametrize(
    ("optimizer", "activation", "points", "batch_size"),
    [("Adam", "sa", 1, 4), ("SGD", "shaplu_full", 22, 1), ("RMSprop", "relu", 3, 4), ("SGD", "gelu", 1, 30)],
)
def test_a_member_follows_its_twin_that_runs_alone(optimizer, activation, points, batch_size, data):
    """With a batch of one, and a point for each, that is step by step; the last batch has what is left."""
    together = training.train(runs(optimizer, activation, 3, batch_size), build, data, points)
    for run, member in zip(runs(optimizer, activation, 3, batch_size), together, strict=True):
        (alone,) = training.train([run], build, data, points)
        assert member.keys() == alone.keys()
        for key in alone:
            np.testing.assert_allclose(member[key], alone[key], rtol=2e-3, atol=2e-5, err_msg=key)
    assert together[0]["loss"] != together[1]["loss"]


@jax_only
def test_members_may_have_learning_rates_images_and_observers_of_their_own(data):
    """Each follows its twin that runs alone on its images; observations are those of the twin's weights."""
    (x, y), test = data
    members = [{**run, "learning_rate": rate} for rate in (0.05, 0.01) for run in runs()[:2]]
    images = [(x[start : start + 5], y[start : start + 5]) for start in (0, 5, 10, 15)]

    def observe(model, index):
        return index, np.asarray(model.trainable_variables[0])

    options = {"apart": True, "after": [2], "observe": observe}
    joined = np.concatenate([x for x, _ in images]), np.concatenate([y for _, y in images])
    together = training.train(members, build, (joined, test), **options)
    for index, (run, own, member) in enumerate(zip(members, images, together, strict=True)):
        (alone,) = training.train([run], build, (own, test), **options)
        ((place, kernel),), ((_, expected),) = member.pop("observed"), alone.pop("observed")
        assert place == index and len(member["loss"]) == 3 and len(member["val_loss"]) == 1
        np.testing.assert_allclose(kernel, expected, rtol=2e-3, atol=2e-5)
        for key in alone:
            np.testing.assert_allclose(member[key], alone[key], rtol=2e-3, atol=2e-5, err_msg=key)


def test_a_run_is_the_same_again_and_another_seed_is_another_run(data):
    first, second, other = (training.train([runs()[seed]], build, data) for seed in (0, 0, 1))
    assert first == second != other


def test_points_are_means_over_parts_of_an_epoch(data):
    """Six batches of an epoch in two points: three batches each, the last batch smaller; with a rate of zero, fixed."""
    still = {**runs(epochs=2)[0], "learning_rate": 0.0}
    (whole,), (parts,) = (training.train([still], linear, data, points) for points in (1, 2))
    assert [len(parts[key]) for key in ("loss", "accuracy", "val_loss", "val_accuracy")] == [4, 4, 2, 2]
    for epoch in range(2):
        first, second = parts["loss"][2 * epoch :][:2]
        assert whole["loss"][epoch] == pytest.approx((12 * first + 10 * second) / 22, rel=1e-4)
    # nothing was learnt, all images were seen
    assert whole["loss"][0] == pytest.approx(whole["loss"][1], rel=1e-5)


def linear(run):
    return keras.Sequential([keras.Input((5,)), keras.layers.Dense(3, "softmax")])


def test_a_run_that_diverges_is_recorded(data):
    wild = {**runs("SGD")[0], "learning_rate": 1e30}
    (history,) = training.train([wild], build, data)
    # JSON knows no NaN
    assert history["loss"][-1] is None and history["val_loss"][-1] is None
    assert len(history["val_accuracy"]) == 3
