"""What exact and sampled values share: a function, players and a baseline as a game."""

import functools

import keras
import numpy as np
import pytest
from reference.games import network
from reference.permutations import by_permutations

import keras_shapley as ks
from keras_shapley.utils import progress


@pytest.fixture
def x(rng):
    return rng.normal(size=(3, 5))


@pytest.mark.parametrize("antithetic", [True, False])
@pytest.mark.parametrize("baseline", [0.0, np.linspace(-1, 1, 5), np.random.default_rng(2).normal(size=(3, 5))])
def test_efficiency_is_exact(x, baseline, antithetic):
    """Values sum to the output less the baseline's, whatever the number of orders."""
    background = np.broadcast_to(baseline, (1, 5)) if np.ndim(baseline) < 2 else baseline
    without = network(np.asarray(background)).mean(axis=0)
    for result in (
        ks.exact_shapley_values(network, x, baseline=baseline),
        ks.sampled_shapley_values(network, x, baseline=baseline, n_paths=2, antithetic=antithetic),
    ):
        np.testing.assert_allclose(result.baseline_value, without, atol=1e-12)
        np.testing.assert_allclose(result.values.sum(axis=1), network(x) - without, atol=1e-12)


def test_a_background_is_averaged_over(x):
    background = np.random.default_rng(2).normal(size=(4, 5))
    result = ks.exact_shapley_values(network, x, baseline=background).values
    each = [ks.exact_shapley_values(network, x, baseline=other).values for other in background]
    np.testing.assert_allclose(result, np.mean(each, axis=0), atol=1e-12)
    sampled = ks.sampled_shapley_values(network, x, baseline=background, n_paths=6, seed=4).values
    each = [ks.sampled_shapley_values(network, x, baseline=other, n_paths=6, seed=4).values for other in background]
    np.testing.assert_allclose(sampled, np.mean(each, axis=0), atol=1e-12)


def test_a_background_may_be_larger_than_a_batch(rng):
    """For a model, which compiled backends are given in batches of a few sizes."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, "softmax")])
    x, background = (rng.normal(size=(n, 3)).astype("float32") for n in (1, 11))
    result = ks.exact_shapley_values(model, x, baseline=background, batch_size=4)
    whole = ks.exact_shapley_values(model, x, baseline=background)
    np.testing.assert_allclose(result.values, whole.values, atol=1e-6)
    total = keras.ops.convert_to_numpy(model(x)) - result.baseline_value
    np.testing.assert_allclose(result.values.sum(axis=1), total, atol=1e-5)


def test_inputs_of_integers_need_a_baseline_of_integers():
    x = np.array([[1, 2, 3]], "uint8")
    result = ks.exact_shapley_values(lambda batch: batch.astype(float).sum(axis=1), x, baseline=1)
    np.testing.assert_allclose(result.values[0, :, 0], [0, 1, 2], atol=1e-12)
    between = ks.exact_shapley_values(lambda batch: batch.sum(axis=1), x, baseline=0.5)
    np.testing.assert_allclose(between.values[0, :, 0], [0.5, 1.5, 2.5], atol=1e-6)
    for baseline in ([300, 0, 0], [0, -1, 0]):
        with pytest.raises(ValueError, match="`baseline` must have values that inputs of uint8 can have"):
            ks.exact_shapley_values(lambda batch: batch.sum(axis=1), x, baseline=baseline)


def test_players_are_groups_of_elements(rng):
    """Four patches of a 4x4 image with two channels, as numbers and as masks; a group enters as a whole."""
    x = rng.normal(size=(2, 4, 4, 2))

    def fn(batch):
        return np.tanh(batch.sum(axis=3).reshape(len(batch), 16) @ weights)

    weights = rng.normal(size=(16, 3))
    patches = np.arange(4).reshape(2, 2).repeat(2, axis=0).repeat(2, axis=1)
    result = ks.exact_shapley_values(fn, x, players=patches)
    assert result.values.shape == (2, 4, 3)

    def coalition_value(output, present):
        return fn((x[0] * present[patches][..., None])[None])[0, output]

    for output in range(3):
        expected = by_permutations(functools.partial(coalition_value, output), 4)
        np.testing.assert_allclose(result.values[0, :, output], expected, atol=1e-12)

    masks = patches == np.arange(4)[:, None, None]
    for same in (
        masks,
        np.broadcast_to(masks[..., None], (4, 4, 4, 2)),
        np.broadcast_to(patches[..., None], x.shape[1:]),
    ):
        np.testing.assert_array_equal(ks.exact_shapley_values(fn, x, players=same).values, result.values)
    sampled = ks.sampled_shapley_values(fn, x, players=masks, n_paths=2000)
    assert (np.abs(sampled.values - result.values) <= 5 * sampled.stderr + 1e-9).all()


def test_a_single_player_receives_the_total(x):
    for result in (
        ks.exact_shapley_values(network, x, players=np.zeros(5, int)),
        ks.sampled_shapley_values(network, x, players=np.zeros(5, int), n_paths=4),
    ):
        np.testing.assert_allclose(result.values[:, 0], network(x) - network(np.zeros((1, 5))), atol=1e-12)


def test_models_are_explained_in_inference_mode_with_their_present_weights(rng):
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
        # from 2 to 40 players, so batches of many sizes
        image[2 + 7 * n :] = 0
    del traced[:]
    for n_paths in (4, 32):
        ks.sampled_shapley_values(model, x, n_paths=n_paths, batch_size=4096)
    # in each of two games TensorFlow compiles for a first size, a second one, and any; JAX for the powers of two
    assert 0 < len(traced) <= (6 if keras.backend.backend() == "tensorflow" else 20)


def test_memory_is_bounded_by_the_batch(x):
    sizes = []

    def fn(batch):
        sizes.append(len(batch))
        return network(batch)

    for baseline in (0.0, np.random.default_rng(2).normal(size=(20, 5))):
        ks.exact_shapley_values(fn, x, batch_size=6, baseline=baseline)
        ks.sampled_shapley_values(fn, x, n_paths=12, batch_size=6, baseline=baseline)
    assert max(sizes) == 6


def test_progress_is_shown_by_default_for_work_that_takes_long(x, capsys, monkeypatch):
    """No bar for two seconds; then to the end, also where an image stops before its last order."""
    explain = {
        "3/3": functools.partial(ks.exact_shapley_values, network, x),
        "300/300": functools.partial(ks.sampled_shapley_values, network, x, n_paths=200, tolerance=10.0),
        "30/30": functools.partial(ks.sampled_shapley_values, network, x, 1, n_paths=20),
    }
    for function in explain.values():
        function()
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(progress, "_DELAY", 0.0)
    for end, function in explain.items():
        function()
        assert capsys.readouterr().out.count(end) == 1
        function(progress=False)
        assert capsys.readouterr().out == ""


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


class TwoOutputs(keras.Model):
    def build(self, shape):
        self.built = True

    def call(self, x):
        return [x, 2 * x]


def test_a_model_of_code_with_several_outputs_asks_for_one():
    model = TwoOutputs(name="both")
    model(np.ones((1, 5)))
    with pytest.raises(ValueError, match="'both' has 2 outputs: give a function that returns one of them"):
        ks.exact_shapley_values(model, np.ones((2, 5)))
    values = ks.exact_shapley_values(lambda x: model(x)[1], np.ones((2, 5), "float32"), 3).values
    np.testing.assert_allclose(values, np.tile([0, 0, 0, 2, 0], (2, 1)), atol=1e-12)


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
def test_bad_numbers_and_several_outputs_are_named(arguments, message):
    arguments = {"fn": network, "x": np.ones((2, 5))} | arguments
    for values in (ks.exact_shapley_values, ks.sampled_shapley_values):
        with pytest.raises(ValueError, match=message):
            values(**arguments)


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (lambda x: network(x)[:1].repeat(2, axis=0), r"Received: \(2, 2\) for 1 inputs"),
        (lambda x: np.float64(network(x)[0, 0]), r"Received: \(\) for 1 inputs"),
        (lambda x: network(x) * np.nan, "finite outputs for `baseline`. Received: NaN"),
        (lambda x: np.where(x.any(axis=1, keepdims=True), np.nan, network(x)), "finite outputs. Received: NaN"),
    ],
)
def test_bad_outputs_are_named(fn, message, x):
    with pytest.raises(ValueError, match=message):
        ks.sampled_shapley_values(fn, x)


def test_an_unbuilt_model_is_named_and_left_as_it_is(x):
    model = keras.Sequential([keras.layers.Dense(3), keras.layers.Dense(2)])
    for values in (ks.exact_shapley_values, ks.sampled_shapley_values):
        with pytest.raises(ValueError, match="is not built"):
            values(model, x)
    assert not model.weights and model(x).shape == (len(x), 2)
