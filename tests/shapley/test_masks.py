"""Fast Shapley values by masks: against the definition in NumPy, games with known values and the exact values."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from reference.marks import MASKS_OF_FEW_PLAYERS, MAY_MISS_THE_TOTAL
from reference.networks import exact, network

import keras_shapley as ks

# totals of networks with random weights may be near zero
pytestmark = [MAY_MISS_THE_TOTAL, MASKS_OF_FEW_PLAYERS]


def test_sa_without_its_moment_gradient_is_explained_with_it(rng):
    models = []
    for moment_gradient in (True, False):
        hidden = ks.SADense(12, bias_initializer="normal", moment_gradient=moment_gradient)
        models.append(keras.Sequential([keras.Input((10,)), hidden, layers.Dense(3, "softmax")]))
    models[1].set_weights(models[0].get_weights())
    x = rng.normal(size=(3, 10)).astype("float32")
    expected, result = (ks.fast_shapley_values(model, x, method="masks").values for model in models)
    np.testing.assert_allclose(result, expected, atol=1e-6)


@pytest.mark.parametrize("n, pilots, mixed", [(8, 2, 0.4 / 8**0.25), (2000, 64, 0.1)])
def test_values_by_masks_are_a_weighted_mean_of_contributions(n, pilots, mixed, rng):
    """Difference times gradient at each mask, mixed with t, in NumPy; rare masks have larger weights."""
    model, x, baseline = network(rng, "tanh"), rng.normal(size=(2, 10)), rng.normal(size=10)
    result = ks.fast_shapley_values(model, x, 1, method="masks", n=n, seed=5, baseline=baseline)
    draws, step, blocks = np.random.default_rng(5), 1e-2, -(-(n - pilots) // pilots)

    def strata(n):
        return (np.arange(n) + draws.uniform(size=n)) / n

    def hypercube(n):
        ranks = draws.permuted(np.repeat(np.arange(n)[:, None], 10, axis=1), axis=0)
        return (ranks + draws.uniform(size=(n, 10))) / n

    def contributions(image, masks, t):
        at = (baseline + (masks + mixed * (t - masks)) * (image - baseline))[:, None]
        at = at + step * np.eye(10), at - step * np.eye(10)
        up, down = (ops.convert_to_numpy(model(a.reshape(-1, 10).astype("float32")))[:, 1] for a in at)
        return ((up - down) / (2 * step)).reshape(len(masks), 10) * (image - baseline)

    pilot_times = strata(pilots)
    numbers, quantiles = [hypercube(pilots)], strata(n - pilots)
    numbers += [hypercube(len(quantiles[i::blocks])) for i in range(blocks)]
    grid = (np.arange(200) + 0.5) / 200
    for values, image in zip(result.values, x):
        sizes = np.square(contributions(image, numbers[0] < pilot_times[:, None], pilot_times[:, None])).sum(axis=1)
        kernel = np.exp(-np.square((grid[:, None] - pilot_times) / max(0.08, 1 / pilots)) / 2)
        size = np.sqrt(kernel @ sizes / kernel.sum(axis=1))
        rest = np.maximum(n * (size / size.mean() + 0.2) / 1.2 - pilots, 0)
        rest /= rest.mean()
        inverse = np.interp(quantiles, np.append(0, rest.cumsum() / 200), np.arange(201) / 200)
        t = np.concatenate([pilot_times, *(inverse[i::blocks] for i in range(blocks))])[:, None]
        masks = np.concatenate(numbers) < t
        assert len(masks) == n
        density = (pilots + (n - pilots) * rest[(t * 200).astype(int)]) / n
        heaviest = max(2, np.sqrt(n) / 4)
        weights = np.minimum(0.5 / np.where(masks, t, 1 - t), heaviest) / density
        weights /= t * np.minimum(0.5 / t, heaviest) + (1 - t) * np.minimum(0.5 / (1 - t), heaviest)
        np.testing.assert_allclose(
            values, np.average(contributions(image, masks, t), axis=0, weights=weights), atol=2e-4
        )


def test_masks_of_a_quadratic_game_are_right_on_average(rng):
    """Gradients are exact for a quadratic game; the density that the pilots choose must not bias the values."""
    weights = np.triu(rng.normal(size=(6, 6)), 1) + np.diag(rng.normal(size=6))
    inputs = keras.Input((6,))
    square = layers.Lambda(lambda x: ops.sum(ops.matmul(x, weights.astype("float32")) * x, axis=1, keepdims=True))
    model, x = keras.Model(inputs, square(inputs)), rng.normal(size=(1, 6))
    terms = weights * np.outer(x[0], x[0])
    expected = (terms + terms.T).sum(axis=1) / 2
    with pytest.warns(RuntimeWarning, match="1 of 1 images miss more than a quarter"):
        results = [ks.fast_shapley_values(model, x, method="masks", n=128, seed=seed) for seed in range(60)]
    values = np.stack([result.values[0] for result in results])
    error = values.mean(axis=0) - expected
    assert np.all(np.abs(error) < 3.5 * values.std(axis=0, ddof=1) / np.sqrt(60) + 0.02 * np.abs(expected).max())
    # intervals cover the truth in 95 % of the cases, or more often
    inside = np.abs(values - expected) < 1.96 * np.stack([result.stderr[0] for result in results])
    assert inside.mean() > 0.93


def test_masks_concentrate_where_the_gradients_are(rng):
    """A network that is sure as soon as a few are present: smaller errors than by masks spread evenly over t."""
    inputs = keras.Input((30,))
    sure = layers.Lambda(lambda x: ops.sigmoid(3 * (ops.sum(x, axis=1, keepdims=True) - 3)))
    model, x = keras.Model(inputs, sure(inputs)), np.ones((1, 30))
    with pytest.warns(RuntimeWarning, match="1 of 1 images miss more than a quarter"):
        values = [ks.fast_shapley_values(model, x, method="masks", seed=seed).values[0] for seed in range(20)]
    evenly = []
    for _ in range(20):
        t = ((np.arange(64) + rng.uniform(size=64)) / 64)[:, None]
        present = rng.uniform(size=(64, 30)) < t
        p = 1 / (1 + np.exp(-3 * (present.sum(axis=1, keepdims=True) - 3)))
        weights = np.minimum(1 / (2 * np.where(present, t, 1 - t)), 2)
        evenly.append(np.average(np.broadcast_to(3 * p * (1 - p), present.shape), axis=0, weights=weights))
    # all players are alike, so the spread of their values is the error
    error, error_evenly = (np.std(part, axis=1).mean() / np.mean(part) for part in (values, evenly))
    assert error < 0.8 * error_evenly


def test_masks_are_right_where_a_few_players_are_enough(rng):
    """About ten of 300 players: the error of cutting large weights vanishes with many masks."""
    inputs = keras.Input((300,))
    sure = layers.Lambda(lambda x: ops.sigmoid(0.5 * (ops.sum(x, axis=1, keepdims=True) - 8)))
    model, x = keras.Model(inputs, sure(inputs)), np.ones((1, 300))
    # players that are alike have the same value
    exact = (1 / (1 + np.exp(-0.5 * 292)) - 1 / (1 + np.exp(4))) / 300
    for n, tolerance in ((64, 0.2), (2000, 0.1)):
        values = [ks.fast_shapley_values(model, x, method="masks", n=n, seed=seed).values for seed in range(4)]
        assert abs(np.mean(values) / exact - 1) < tolerance


def test_standard_errors_of_masks_are_the_spread_over_seeds(rng):
    model, x = network(rng, "tanh", (6,)), rng.normal(size=(1, 10))
    results = [ks.fast_shapley_values(model, x, 0, method="masks", n=40, seed=seed) for seed in range(25)]
    spread = np.std([result.values[0] for result in results], axis=0, ddof=1)
    stated = np.sqrt(np.mean([np.square(result.stderr[0]) for result in results], axis=0))
    # strata make the spread smaller than if masks were independent, never larger
    assert np.all(spread < 1.6 * stated) and 0.6 < np.median(spread / stated) < 1.1
    single, pair = (ks.fast_shapley_values(model, x, 0, method="masks", n=n) for n in (1, 2))
    assert np.isfinite(single.values).all() and np.isnan(single.stderr).all() and np.isfinite(pair.stderr).all()


def test_masks_see_behind_a_kink_at_the_baseline(rng):
    """Each player has a unit of its own, which a tiny bias closes at the baseline."""
    model = keras.Sequential([keras.Input((8,)), layers.Lambda(lambda x: ops.relu(x - 1e-3)), layers.Dense(1)])
    x = rng.uniform(0.5, 1, size=(3, 8))
    result = ks.fast_shapley_values(model, x, method="masks", n=16)
    expected = (x - 1e-3) * ops.convert_to_numpy(model.layers[-1].kernel)[:, 0]
    np.testing.assert_allclose(result.values, expected, rtol=3e-3)


def test_a_gradient_that_is_not_finite_spoils_its_own_element_alone(rng):
    """A root that is not a number between where the element is absent and where it is present."""
    root = layers.Lambda(lambda x: ops.sqrt(x[:, :1] * (x[:, :1] - 1)) + x[:, 1:])
    model = keras.Sequential([keras.Input((2,)), root])
    with np.errstate(invalid="ignore"), pytest.warns(RuntimeWarning, match="residual of nan"):
        result = ks.fast_shapley_values(model, [[1.0, 1.0]], method="masks")
    assert not np.isfinite(result.values[0, 0]) and np.isfinite(result.values[0, 1])


def test_values_without_any_gradient_are_zero(rng):
    model = keras.Sequential([keras.Input((3,)), layers.Lambda(lambda x: 0 * x)])
    result = ks.fast_shapley_values(model, rng.normal(size=(2, 3)), method="masks")
    np.testing.assert_array_equal(result.values, np.zeros((2, 3)))
    np.testing.assert_array_equal(result.stderr, np.zeros((2, 3)))


class OfItsOwn(keras.Model):
    """A model whose call is code of its own."""

    def __init__(self):
        super().__init__()
        self.hidden, self.out = layers.Dense(6, "tanh"), layers.Dense(2, "softmax")

    def call(self, x):
        return self.out(self.hidden(x))


def test_masks_take_any_model(rng):
    inputs = keras.Input((10,))
    model = keras.Model(inputs, OfItsOwn()(inputs))
    x = rng.normal(size=(3, 10))
    result = ks.fast_shapley_values(model, x, 1, method="masks", n=1000)
    expected = exact(model, x, result.target)
    assert np.corrcoef(result.values.ravel(), expected.ravel())[0, 1] > 0.97
    with pytest.raises(ValueError, match="OfItsOwn"):
        ks.fast_shapley_values(model, x, 1)


def test_masks_take_a_subclassed_model(rng):
    model, x = OfItsOwn(), rng.normal(size=(3, 10))
    model(x)
    plain = keras.Sequential([keras.Input((10,)), model.hidden, model.out])
    result, expected = (ks.fast_shapley_values(each, x, 1, method="masks").values for each in (model, plain))
    np.testing.assert_allclose(result, expected, atol=1e-6)
    with pytest.raises(ValueError, match="OfItsOwn"):
        ks.fast_shapley_values(model, x, 1)
    for nothing in (x[0], x[:0]):
        with pytest.raises(ValueError, match=r"`x` must be a batch of inputs, shape \(batch, ...\)"):
            ks.fast_shapley_values(model, nothing, 1, method="masks")


def test_layers_train_with_their_own_gradient_afterwards(rng, apply, gradients):
    """Masks see ShapLU with the derivative of ReLU; training goes on with eq. (4)."""
    layer = ks.ShapLUDense(3, gradient="full")
    model = keras.Sequential([keras.Input((5,)), layer, layers.Dense(2)])
    x, weights = rng.normal(size=(2, 5)).astype("float32"), layer.get_weights()

    def slopes():
        return gradients(lambda *weights: ops.sum(apply(layer, x, *weights)), *weights)

    before = slopes()
    ks.fast_shapley_values(model, x, 0, method="masks", n=4)
    for a, b in zip(slopes(), before, strict=True):
        np.testing.assert_array_equal(a, b)
