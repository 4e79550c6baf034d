"""Shapley values of any function: enumeration against all orders, sampling against games whose values are known."""

import tracemalloc

import keras
import numpy as np
import pytest
from reference.games import error, network
from reference.permutations import by_permutations

import keras_shapley as ks


@pytest.fixture
def x(rng):
    return rng.normal(size=(3, 5))


def worths(image, present, baseline=0.0):
    return network(np.where(present, image, baseline)[None])[0]


def test_enumeration_is_the_mean_over_all_orders(x):
    found = ks.exact_shapley_values(network, x)
    assert found.values.shape == found.stderr.shape == (3, 5, 2) and not found.stderr.any()
    for image, values in zip(x, found.values):
        for output in range(2):
            expected = by_permutations(lambda present: worths(image, present)[output], 5)
            np.testing.assert_allclose(values[:, output], expected, atol=1e-12)
    # one without any player, all coalitions of each image
    assert found.n_evaluations == 1 + 3 * 2**5


@pytest.mark.parametrize("antithetic", [True, False])
@pytest.mark.parametrize("baseline", [0.0, np.linspace(-1, 1, 5), np.random.default_rng(2).normal(size=(3, 5))])
def test_efficiency_is_exact(x, baseline, antithetic):
    """Values sum to the output less the baseline's, whatever the number of orders."""
    background = np.broadcast_to(baseline, (1, 5)) if np.ndim(baseline) < 2 else baseline
    without = network(np.asarray(background)).mean(axis=0)
    for found in (
        ks.exact_shapley_values(network, x, baseline=baseline),
        ks.sampled_shapley_values(network, x, baseline=baseline, n_paths=2, antithetic=antithetic),
    ):
        np.testing.assert_allclose(found.baseline_value, without, atol=1e-12)
        np.testing.assert_allclose(found.values.sum(axis=1), network(x) - without, atol=1e-12)


def test_a_background_is_averaged_over(x):
    background = np.random.default_rng(2).normal(size=(4, 5))
    found = ks.exact_shapley_values(network, x, baseline=background).values
    each = [ks.exact_shapley_values(network, x, baseline=one).values for one in background]
    np.testing.assert_allclose(found, np.mean(each, axis=0), atol=1e-12)
    sampled = ks.sampled_shapley_values(network, x, baseline=background, n_paths=6, seed=4).values
    each = [ks.sampled_shapley_values(network, x, baseline=one, n_paths=6, seed=4).values for one in background]
    np.testing.assert_allclose(sampled, np.mean(each, axis=0), atol=1e-12)


@pytest.mark.parametrize("antithetic", [True, False])
def test_sampling_walks_the_orders_of_its_seed(x, antithetic):
    found = ks.sampled_shapley_values(network, x, n_paths=8, antithetic=antithetic, seed=3)
    rng = np.random.default_rng(3)
    samples = []
    for _ in range(4 if antithetic else 8):
        order = rng.permutation(5)
        walked = [order, order[::-1]] if antithetic else [order]
        samples.append(np.mean([along(x[1], one) for one in walked], axis=0))
    np.testing.assert_allclose(found.values[1], np.mean(samples, axis=0), atol=1e-12)
    stderr = np.std(samples, axis=0, ddof=1) / np.sqrt(len(samples))
    np.testing.assert_allclose(found.stderr[1], stderr, atol=1e-12)


@pytest.mark.parametrize("antithetic", [True, False])
def test_who_changes_nothing_takes_no_evaluation(x, antithetic):
    """The values are those of orders of the others; a background has to agree as a whole."""
    x[1, [0, 3]], x[2] = 0.5, 0.5
    found = ks.sampled_shapley_values(network, x, baseline=0.5, n_paths=8, antithetic=antithetic, seed=3)
    assert not found.values[1, [0, 3]].any() and not found.stderr[1, [0, 3]].any()
    assert not found.values[2].any()
    # the baseline, each image, and a step less than there are players left
    assert found.n_evaluations == 1 + 3 + 8 * (4 + 2)
    rng = np.random.default_rng(3)
    orders = [np.array([1, 2, 4])[rng.permutation(3)] for _ in range(4 if antithetic else 8)]
    orders = [walked for order in orders for walked in ([order, order[::-1]] if antithetic else [order])]
    expected = np.mean([along(x[1], order, 0.5) for order in orders], axis=0)
    np.testing.assert_allclose(found.values[1], expected, atol=1e-12)
    background = np.stack([np.full(5, 0.5), np.zeros(5)])
    found = ks.sampled_shapley_values(network, x, baseline=background, n_paths=8, antithetic=antithetic)
    assert found.values[1, [0, 3]].any()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"baseline": None}, "`baseline` must be numbers. Received: baseline=None"),
        ({"baseline": "mean"}, "`baseline` must be numbers. Received: baseline='mean'"),
        ({"x": np.ones((2, 5), "float16"), "baseline": 1e6}, "`baseline` must be finite"),
        ({"x": np.full((2, 5), np.nan)}, "`x` must be finite"),
        ({"fn": lambda x: [x, x]}, "`fn` must have one output. Received: 2"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_what_is_no_number_or_no_single_output_is_named(arguments, message):
    arguments = {"fn": network, "x": np.ones((2, 5))} | arguments
    for values in (ks.exact_shapley_values, ks.sampled_shapley_values):
        with pytest.raises(ValueError, match=message):
            values(**arguments)


def test_an_unbuilt_model_is_named_and_left_as_it_is(x):
    model = keras.Sequential([keras.layers.Dense(3), keras.layers.Dense(2)])
    for values in (ks.exact_shapley_values, ks.sampled_shapley_values):
        with pytest.raises(ValueError, match="is not built"):
            values(model, x)
    assert not model.weights and model(x).shape == (len(x), 2)


def along(image, order, baseline=0.0):
    gains, present = np.zeros((5, 2)), np.zeros(5, bool)
    for player in order:
        before = worths(image, present, baseline)
        present[player] = True
        gains[player] = worths(image, present, baseline) - before
    return gains


def test_batch_size_changes_nothing(x):
    whole = ks.sampled_shapley_values(network, x, n_paths=20, seed=5)
    for batch_size in (1, 3, 7, 1000):
        found = ks.sampled_shapley_values(network, x, n_paths=20, seed=5, batch_size=batch_size)
        np.testing.assert_allclose(found.values, whole.values, atol=1e-12)
        np.testing.assert_allclose(found.stderr, whole.stderr, atol=1e-12)
        assert found.n_evaluations == whole.n_evaluations
    alone = ks.sampled_shapley_values(network, x[2:], n_paths=20, seed=5)
    np.testing.assert_allclose(alone.values[0], whole.values[2], atol=1e-12)


def test_progress_is_shown_on_request_to_the_end(x, capsys):
    ks.exact_shapley_values(network, x)
    ks.sampled_shapley_values(network, x, n_paths=4)
    assert capsys.readouterr().out == ""
    ks.exact_shapley_values(network, x, progress=True)
    assert "3/3" in capsys.readouterr().out
    ks.sampled_shapley_values(network, x, n_paths=200, tolerance=10.0, progress=True)
    assert "300/300" in capsys.readouterr().out


def test_memory_is_bounded_by_the_batch(x):
    sizes = []

    def fn(batch):
        sizes.append(len(batch))
        return network(batch)

    for baseline in (0.0, np.random.default_rng(2).normal(size=(20, 5))):
        ks.exact_shapley_values(fn, x, batch_size=6, baseline=baseline)
        ks.sampled_shapley_values(fn, x, n_paths=12, batch_size=6, baseline=baseline)
    assert max(sizes) == 6


def test_memory_does_not_grow_with_the_square_of_the_players():
    """Of 3,000 players the coalitions along one order are 9 MB, as bool."""
    tracemalloc.start()
    x = np.random.default_rng(0).normal(size=(1, 3000))
    ks.sampled_shapley_values(lambda batch: batch.sum(axis=1), x, n_paths=2, batch_size=8)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4e6


def test_a_background_may_be_larger_than_a_batch(rng):
    """As a model, which compiled backends are given in a few sizes of batches."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, "softmax")])
    x, background = (rng.normal(size=(n, 3)).astype("float32") for n in (1, 11))
    found = ks.exact_shapley_values(model, x, baseline=background, batch_size=4)
    whole = ks.exact_shapley_values(model, x, baseline=background)
    np.testing.assert_allclose(found.values, whole.values, atol=1e-6)
    total = keras.ops.convert_to_numpy(model(x)) - found.baseline_value
    np.testing.assert_allclose(found.values.sum(axis=1), total, atol=1e-5)


def test_integers_play_with_baselines_of_integers_alone():
    x = np.array([[1, 2, 3]], "uint8")
    found = ks.exact_shapley_values(lambda batch: batch.astype(float).sum(axis=1), x, baseline=1)
    np.testing.assert_allclose(found.values[0, :, 0], [0, 1, 2], atol=1e-12)
    for baseline in (0.5, [300, 0, 0], [0, -1, 0]):
        with pytest.raises(ValueError, match="`baseline` must have values that inputs of uint8 can have"):
            ks.exact_shapley_values(lambda batch: batch.sum(axis=1), x, baseline=baseline)


@pytest.mark.parametrize("control", [False, True])
@pytest.mark.parametrize("orders, samples", [("random", 60), ("stratified", 240), ("orthogonal", 240)])
@pytest.mark.parametrize("antithetic", [True, False])
def test_standard_errors_cover_the_truth_as_often_as_they_should(antithetic, orders, samples, control):
    """A hundred repetitions of 60 samples, single orders or groups of them: 95 % intervals miss one value in twenty."""
    x = np.random.default_rng(3).normal(size=(1, 5))
    truth = ks.exact_shapley_values(network, x).values
    options = {"control": truth + 0.1} if control else {}
    missed = []
    for seed in range(100):
        found = ks.sampled_shapley_values(
            network,
            x,
            n_paths=samples * (1 + antithetic),
            antithetic=antithetic,
            orders=orders,
            seed=seed,
            batch_size=5000,
            **options,
        )
        missed.append(np.abs(found.values - truth) > 2.0 * found.stderr)
        np.testing.assert_allclose(found.values.sum(axis=1), truth.sum(axis=1), atol=1e-12)
    assert 0.02 < np.mean(missed) < 0.09


def test_orthogonal_orders_have_smaller_errors_than_random_ones():
    """Of a network with ReLU of twelve inputs; groups of eleven directions, the most that fit."""
    rng = np.random.default_rng(0)
    kernel, out = rng.normal(size=(12, 16)), rng.normal(size=16)
    x = np.ones((1, 12))

    def fn(batch):
        return np.maximum(batch @ kernel, 0) @ out

    truth = ks.exact_shapley_values(fn, x).values
    random, orthogonal = (error(truth, x, fn, n_paths=2 * 176, orders=kind) for kind in ("random", "orthogonal"))
    assert orthogonal < 0.95 * random


def test_antithetic_orders_have_the_smaller_errors_where_gains_grow_evenly():
    """Of the product of two sums, a quadratic game, pairs know the values exactly."""
    x = np.random.default_rng(3).normal(size=(2, 6))

    def fn(batch):
        return batch[:, :3].sum(axis=1, keepdims=True) * batch[:, 3:].sum(axis=1, keepdims=True)

    exact = ks.exact_shapley_values(fn, x)
    pairs = ks.sampled_shapley_values(fn, x, n_paths=4)
    np.testing.assert_allclose(pairs.values, exact.values, atol=1e-12)
    np.testing.assert_allclose(pairs.stderr, 0, atol=1e-7)
    singles = ks.sampled_shapley_values(fn, x, n_paths=4, antithetic=False)
    assert np.abs(singles.values - exact.values).max() > 0.01


def test_sampling_stops_image_by_image_at_the_wanted_standard_error(x):
    x = np.concatenate([x, np.zeros((1, 5))])
    found = ks.sampled_shapley_values(network, x, n_paths=100_000, tolerance=0.02, batch_size=64)
    assert 0.005 < found.stderr.max() <= 0.02
    assert not found.values[3].any()
    assert found.n_evaluations < 50_000
    again = ks.sampled_shapley_values(network, x, n_paths=100_000, tolerance=0.02, batch_size=500)
    np.testing.assert_allclose(again.values, found.values, atol=1e-12)
    # nothing is evaluated beyond the look at which it stops
    assert again.n_evaluations == found.n_evaluations


def test_players_are_groups_of_elements(rng):
    """Two by two patches of a 4x4 image with two channels, as numbers and as masks; a group enters whole."""
    x = rng.normal(size=(2, 4, 4, 2))

    def fn(batch):
        return np.tanh(batch.sum(axis=3).reshape(len(batch), 16) @ weights)

    weights = rng.normal(size=(16, 3))
    patches = np.arange(4).reshape(2, 2).repeat(2, axis=0).repeat(2, axis=1)
    found = ks.exact_shapley_values(fn, x, players=patches)
    assert found.values.shape == (2, 4, 3)
    for output in range(3):
        worth = lambda present: fn((x[0] * present[patches][..., None])[None])[0, output]  # noqa: E731
        np.testing.assert_allclose(found.values[0, :, output], by_permutations(worth, 4), atol=1e-12)

    masks = patches == np.arange(4)[:, None, None]
    for same in (
        masks,
        np.broadcast_to(masks[..., None], (4, 4, 4, 2)),
        np.broadcast_to(patches[..., None], x.shape[1:]),
    ):
        np.testing.assert_array_equal(ks.exact_shapley_values(fn, x, players=same).values, found.values)
    sampled = ks.sampled_shapley_values(fn, x, players=masks, n_paths=2000)
    assert (np.abs(sampled.values - found.values) <= 5 * sampled.stderr + 1e-9).all()


def test_a_single_player_gets_all(x):
    for found in (
        ks.exact_shapley_values(network, x, players=np.zeros(5, int)),
        ks.sampled_shapley_values(network, x, players=np.zeros(5, int), n_paths=4),
    ):
        np.testing.assert_allclose(found.values[:, 0], network(x) - network(np.zeros((1, 5))), atol=1e-12)


def test_table_1_is_a_game_of_three():
    found = ks.exact_shapley_values(lambda x: np.maximum(x @ np.array([[1.0], [2], [3]]) - 1, 0), [[-1.0, 2, -1]])
    np.testing.assert_allclose(found.values[0, :, 0], (-1 / 6, 4 / 3, -7 / 6), atol=1e-12)
    assert found.baseline_value == 0


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="nothing is compiled")
@pytest.mark.parametrize("kind", ["whole", "behind the first layer"])
def test_a_model_is_compiled_for_few_sizes_of_batches(kind, rng):
    traced = []

    class Counted(keras.layers.Layer):
        def call(self, x):
            traced.append(x.shape)
            return x

    front = [] if kind == "whole" else [keras.layers.Dense(4)]
    model = keras.Sequential([keras.Input((40,)), *front, Counted(), keras.layers.Dense(2, "tanh")])
    x = rng.normal(size=(6, 40)).astype("float32")
    for n, image in enumerate(x):
        # from 2 to 40 players, and so many sizes
        image[2 + 7 * n :] = 0
    del traced[:]
    for n_paths in (4, 32):
        ks.sampled_shapley_values(model, x, n_paths=n_paths, batch_size=4096)
    # in each of two games TensorFlow has a first size, a second one, and any; JAX has the powers of two
    assert 0 < len(traced) <= (6 if keras.backend.backend() == "tensorflow" else 20)


def test_models_are_explained_in_inference_as_they_are_now(rng):
    hidden = ks.SADense(6, name="hidden")
    model = keras.Sequential([keras.Input((4,)), hidden, keras.layers.Dropout(0.5), keras.layers.Dense(3, "softmax")])
    x = rng.normal(size=(2, 4)).astype("float32")

    def fn(batch):
        return model.predict(batch.astype("float32"), verbose=0)

    before = ks.exact_shapley_values(model, x)
    np.testing.assert_allclose(before.values, ks.exact_shapley_values(fn, x).values, atol=1e-5)
    hidden.set_weights([2 * weight + 0.1 for weight in hidden.get_weights()])
    after = ks.sampled_shapley_values(model, x, n_paths=4)
    np.testing.assert_allclose(after.values.sum(axis=1) + after.baseline_value, fn(x), atol=1e-5)
    assert np.abs(after.values - before.values).max() > 1e-3


@pytest.mark.parametrize("function", [ks.exact_shapley_values, ks.sampled_shapley_values])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"baseline": np.zeros(4)}, r"`baseline` must be a number, an array of shape \(5,\), or .* shape \(4,\)"),
        ({"baseline": np.nan}, "`baseline` must be finite"),
        ({"players": np.arange(4)}, r"`players` must be integers of shape \(5,\)"),
        ({"players": np.array([0, 1, 1, 3, 3])}, "numbered from 0 without a gap"),
        ({"players": np.eye(5, dtype=bool)[:4]}, "1 elements in none, 0 in several"),
        ({"players": np.ones((2, 5), bool)}, "0 elements in none, 5 in several"),
        ({"batch_size": 0}, "`batch_size` must be an int, 1 or more"),
    ],
)
def test_bad_arguments_are_named(function, options, message, x):
    with pytest.raises(ValueError, match=message):
        function(network, x, **options)


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (lambda x: network(x)[:1].repeat(2, axis=0), r"Received: \(2, 2\) for 1 inputs"),
        (lambda x: network(x)[..., None], r"Received: \(1, 2, 1\) for 1 inputs"),
        (lambda x: network(x) * np.nan, "finite outputs. Received: NaN"),
    ],
)
def test_bad_outputs_are_named(fn, message, x):
    with pytest.raises(ValueError, match=message):
        ks.sampled_shapley_values(fn, x)


def test_more_players_than_can_be_enumerated(rng):
    with pytest.raises(ValueError, match="up to 16 players. Received: 17.*sampled_shapley_values"):
        ks.exact_shapley_values(lambda x: x, rng.normal(size=(1, 17)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_paths": 0}, "`n_paths` must be an int, 1 or more"),
        ({"n_paths": 7}, "`n_paths` must be even.*n_paths=7"),
        ({"orders": "sobol"}, "`orders` must be one of 'random', 'stratified', 'orthogonal'. Received: orders='sobol'"),
        ({"control": np.ones(5)}, r"`control` must be .* \(3, 5\), \(3, 5, 2\). Received: shape \(5,\)"),
        ({"control": np.full((3, 5), np.inf)}, "`control` must be finite.*Received: NaN or infinity"),
        ({"tolerance": -1.0}, "`tolerance` must be a number, 0 or more"),
        ({"tolerance": "a"}, "`tolerance` must be a number, 0 or more"),
        ({"seed": -1}, "`seed` must be an int, 0 or more"),
        ({"tolerance": float("nan")}, "`tolerance` must be a number"),
    ],
)
def test_bad_sampling_is_named(options, message, x):
    with pytest.raises(ValueError, match=message):
        ks.sampled_shapley_values(network, x, **options)
    assert np.isnan(ks.sampled_shapley_values(network, x, n_paths=1, antithetic=False).stderr).all()
