"""The front door: right where values are known, honest about its error, within its budget, clear about bad input."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from reference.marks import MASKS_OF_FEW_PLAYERS, MAY_MISS_THE_TOTAL

import keras_shapley as ks
from keras_shapley.models.last_layers import last_layers
from keras_shapley.shapley.game import Game
from keras_shapley.shapley.surrogate import places_of

pytestmark = [MAY_MISS_THE_TOTAL, MASKS_OF_FEW_PLAYERS]

N = 12


def mlp(rng, end="softmax", units=3):
    model = keras.Sequential(
        [keras.Input((N,)), *(layers.Dense(n, "relu") for n in (24, 16)), layers.Dense(units, end)]
    )
    return with_weights(model, rng, 1.5)


def conv_net(rng, *head):
    model = keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(6, 3, padding="same", activation="relu"), *head])
    return with_weights(model, rng, 1.5)


def with_weights(model, rng, gain):
    """Weights of a size that lets a network be far from linear."""
    for variable in model.trainable_variables:
        fan_in = np.prod(variable.shape[:-1]) if len(variable.shape) > 1 else 4
        variable.assign(rng.normal(size=variable.shape, scale=gain / np.sqrt(fan_in)))
    return model


def relative_errors(found, truth):
    return np.linalg.norm(found.values - truth.values, axis=1) / np.linalg.norm(truth.values, axis=1)


def function(x):
    return np.tanh(x @ np.linspace(-1, 1, N)) + x[:, 0] * x[:, 1]


def test_few_players_are_enumerated(rng):
    x = rng.normal(size=(3, 5))
    found = ks.shapley_values(lambda x: function(np.pad(x, ((0, 0), (0, N - 5)))), x, 0)
    truth = ks.exact_shapley_values(lambda x: function(np.pad(x, ((0, 0), (0, N - 5)))), x, 0)
    np.testing.assert_allclose(found.values, truth.values, atol=1e-12)
    assert found.method == "exact" and not found.stderr.any()
    # the baseline, each image, one of them twice, and the coalitions between
    assert found.n_evaluations == 1 + 3 + 1 + 3 * (2**5 - 2)


@pytest.mark.parametrize("method", ["surrogate", "regression"])
def test_a_budget_for_all_coalitions_is_exact(method, rng):
    model, x = mlp(rng), rng.normal(size=(2, N)).astype("float32")
    found = ks.shapley_values(model, x, 1, method=method, budget=2**N)
    assert found.method == "exact" and not found.stderr.any()
    np.testing.assert_allclose(found.values, ks.exact_shapley_values(model, x, 1).values, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "per_player", "most"),
    [
        ("hidden", 5, 0.2),
        ("hidden", 20, 0.08),
        ("one sigmoid", 5, 0.2),
        ("hidden, flat map", 5, 0.2),
        ("logits, pooled", 10, 0.12),
        ("logits, softmax", 5, 0.2),
    ],
)
def test_the_surrogate_is_right_and_honest(kind, per_player, most, rng):
    """Against an enumeration; the regression on as many coalitions is worse."""
    flat = layers.Flatten
    models = {
        "hidden": lambda: mlp(rng),
        "one sigmoid": lambda: mlp(rng, "sigmoid", 1),
        "hidden, flat map": lambda: conv_net(
            rng, layers.Flatten(), layers.Dense(12, "relu"), layers.Dense(3, "softmax")
        ),
        "logits, pooled": lambda: conv_net(rng, layers.GlobalAveragePooling2D(), layers.Dense(3)),
        "logits, softmax": lambda: conv_net(rng, layers.MaxPooling2D(2), flat(), layers.Dense(3, "softmax")),
    }
    errors, plain, inside = [], [], []
    for seed in range(2):
        model = models[kind]()
        x = rng.normal(size=(4, *model.input_shape[1:])).astype("float32")
        options = {} if x.ndim == 2 else {"players": np.arange(16).reshape(4, 4).repeat(2, 0).repeat(2, 1) % 12}
        truth = ks.exact_shapley_values(model, x, 0, **options)
        budget = per_player * N
        found = ks.shapley_values(model, x, 0, budget=budget, seed=seed, **options)
        assert found.method == "surrogate"
        assert found.n_evaluations <= 4 * budget + 2
        np.testing.assert_allclose(found.residual, 0, atol=1e-9)
        errors.append(relative_errors(found, truth))
        regressed = ks.shapley_values(model, x, 0, budget=budget, seed=seed, method="regression", **options)
        assert regressed.method == "regression"
        plain.append(relative_errors(regressed, truth))
        inside.append(np.abs(found.values - truth.values) < 1.96 * found.stderr + 1e-6)
    assert np.mean(errors) < most
    assert np.mean(errors) < 0.95 * np.mean(plain)
    assert np.mean(inside) > 0.9


def test_a_surrogate_over_a_background(rng):
    model, x, background = mlp(rng), rng.normal(size=(2, N)), rng.normal(size=(7, N))
    truth = ks.exact_shapley_values(model, x, baseline=background, target=1)
    found = ks.shapley_values(model, x, 1, baseline=background, budget=10 * N)
    assert found.method == "surrogate"
    assert found.n_evaluations <= 7 * (1 + 2 * 10 * N) + 2 + 7
    assert relative_errors(found, truth).max() < 0.15


def test_several_targets_share_coalitions(rng):
    model, x = mlp(rng), rng.normal(size=(3, N)).astype("float32")
    both = ks.shapley_values(model, x, [[0, 2]], budget=8 * N)
    every = ks.shapley_values(model, x, "all", budget=8 * N)
    weights = ks.shapley_values(model, x, np.array([1.0, 0.0, 0.0]), budget=8 * N)
    assert both.values.shape == (3, N, 2) and every.values.shape == (3, N, 3)
    assert both.n_evaluations == every.n_evaluations == weights.n_evaluations
    truth = ks.exact_shapley_values(model, x).values
    for values in (both.values, every.values[:, :, [0, 2]]):
        assert np.abs(values - truth[:, :, [0, 2]]).max() < 0.1 * np.abs(truth).max()
    np.testing.assert_allclose(weights.values, truth[:, :, 0], atol=0.1 * np.abs(truth).max())


def test_inputs_of_several_kinds(rng):
    """A dict of an image and a table: players across them, and a result in their structure."""
    image, table = keras.Input((6, 6, 1), name="image"), keras.Input((5,), name="table")
    seen = layers.Flatten()(layers.Conv2D(3, 3, activation="relu")(image))
    hidden = layers.Dense(10, "relu")(layers.Concatenate()([seen, table]))
    model = keras.Model({"image": image, "table": table}, layers.Dense(2, "softmax")(hidden))
    with_weights(model, rng, 1.5)
    x = {"table": rng.normal(size=(2, 5)), "image": rng.normal(size=(2, 6, 6, 1))}
    players = {"image": 3, "table": None}
    found = ks.shapley_values(model, x, 1, players=players, budget=200)
    assert found.method == "surrogate" and set(found.heatmap) == {"table", "image"}
    truth = ks.exact_shapley_values(model, x, 1, players=players)
    assert relative_errors(found, truth).max() < 0.15


def test_null_players_and_single_ones(rng):
    model = mlp(rng)
    x = rng.normal(size=(3, N)).astype("float32")
    x[0, 3:7] = 0
    x[1] = 0
    x[2, 1:] = 0
    found = ks.shapley_values(model, x, 1, budget=60, method="surrogate")
    assert not found.values[0, 3:7].any() and not found.stderr[0, 3:7].any()
    assert not found.values[1].any() and not found.values[2, 1:].any()
    np.testing.assert_allclose(found.values[2, 0], found.total[2])


def test_a_function_by_regression(rng):
    x = rng.normal(size=(4, N))
    truth = ks.exact_shapley_values(function, x, 0)
    found = ks.shapley_values(function, x, 0, budget=20 * N)
    assert found.method == "regression"
    assert relative_errors(found, truth).mean() < 0.15
    helped = ks.shapley_values(function, x, 0, budget=N, prior=truth)
    alone = ks.shapley_values(function, x, 0, budget=N)
    assert relative_errors(helped, truth).mean() < 0.6 * relative_errors(alone, truth).mean()


def test_without_a_budget_it_stops_at_five_percent(rng):
    model = mlp(rng)
    x = rng.normal(size=(3, N)).astype("float32")
    found = ks.shapley_values(model, x, 0)
    most = 32 * N
    assert found.n_evaluations <= 3 * most + 5
    assert relative_errors(found, ks.exact_shapley_values(model, x, 0)).max() < 0.1
    for image in x:
        alone = ks.shapley_values(model, image[None], 0)
        is_enough = np.sqrt(np.mean(alone.stderr**2)) <= 0.05 * np.sqrt(np.mean(alone.values**2))
        assert is_enough or alone.n_evaluations >= most
    # an additive function needs no more than the first coalitions
    simple = ks.shapley_values(lambda x: x @ np.linspace(-1, 1, N), x, 0)
    assert simple.n_evaluations <= 3 * 8 * N + 5


def test_a_tolerance_ends_early(rng):
    model, x = mlp(rng), rng.normal(size=(3, N)).astype("float32")
    whole = ks.shapley_values(model, x, 0, budget=60 * N)
    early = ks.shapley_values(model, x, 0, budget=60 * N, tolerance=0.03)
    assert early.n_evaluations < whole.n_evaluations
    assert early.stderr.max() <= 0.03


@pytest.mark.parametrize("method", ["exact", "orders", "moments", "masks"])
def test_other_methods_are_called(method, rng):
    model, x = mlp(rng), rng.normal(size=(2, N)).astype("float32")
    found = ks.shapley_values(model, x, 1, method=method)
    assert found.method == method and found.values.shape == (2, N)
    expected = {
        "exact": lambda: ks.exact_shapley_values(model, x, 1),
        "orders": lambda: ks.sampled_shapley_values(model, x, 1, n_paths=32 * N // (N - 1) // 2 * 2),
        "moments": lambda: ks.fast_shapley_values(model, x, 1),
        "masks": lambda: ks.fast_shapley_values(model, x, 1, method="masks"),
    }[method]()
    np.testing.assert_allclose(found.values, expected.values, atol=1e-6)


def test_the_same_twice_and_for_a_batch_as_alone(rng):
    model, x = mlp(rng), rng.normal(size=(3, N)).astype("float32")
    one = ks.shapley_values(model, x, 0, budget=80)
    np.testing.assert_array_equal(ks.shapley_values(model, x, 0, budget=80).values, one.values)
    alone = ks.shapley_values(model, x[1:2], 0, budget=80)
    np.testing.assert_allclose(alone.values[0], one.values[1], atol=1e-4)
    other = ks.shapley_values(model, x, 0, budget=80, seed=1)
    assert np.abs(other.values - one.values).max() > 0


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_distances_of_places(data_format, monkeypatch):
    if (keras.backend.backend(), data_format) == ("tensorflow", "channels_first"):
        pytest.skip("no convolution of channels_first on a CPU")
    monkeypatch.setattr(keras.config, "image_data_format", lambda: data_format)
    shape, options = ((8, 8, 2) if data_format == "channels_last" else (2, 8, 8)), {"data_format": data_format}
    model = keras.Sequential(
        [
            keras.Input(shape),
            layers.Conv2D(6, 3, padding="same", activation="relu", **options),
            layers.MaxPooling2D(2, **options),
            layers.GlobalAveragePooling2D(**options),
            layers.Dense(3),
        ]
    )
    game = Game(model, np.ones((1, *shape)), 0.0, 4)
    distances = places_of(game, last_layers(model)).distances
    assert distances.shape == (16, 16)
    # the map has the places of the patches
    np.testing.assert_allclose(np.diag(distances), 0, atol=1e-9)
    assert np.isclose(distances[0, 1], 0.25) and np.isclose(distances[0, 5], np.sqrt(2) / 4)
    assert np.isclose(distances[0, 15], 0.75 * np.sqrt(2))


def test_names_reach_the_result(rng):
    names = [f"column {k}" for k in range(N)]
    found = ks.shapley_values(function, rng.normal(size=(2, N)), 0, budget=40, feature_names=names)
    assert found.feature_names == names


def test_a_function_that_is_random_warns(rng):
    noise = np.random.default_rng(0)
    with pytest.warns(UserWarning, match="`fn` gave .* for the same input"):
        ks.shapley_values(lambda x: function(x) + noise.normal(size=len(x)), rng.normal(size=(2, N)), 0, budget=40)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"method": "kernel"}, "`method` must be one of 'auto', 'exact'"),
        ({"budget": 3}, "`budget` must be None or an int, 4 or more for method='auto'.*3"),
        ({"budget": 10.5}, "`budget` must be None or an int"),
        ({"budget": 25, "method": "surrogate"}, "26 or more for method='surrogate'"),
        ({"budget": 100, "method": "moments"}, "`budget` must be None for method='moments'"),
        ({"budget": 100, "method": "exact"}, r"at least 2\*\*12 for method='exact'"),
        ({"budget": 20, "method": "orders"}, "at least 24 for method='orders' and 12 players"),
        ({"budget": 5, "method": "masks"}, "6 or more for method='masks'"),
        ({"tolerance": -1.0}, "`tolerance` must be None or a number"),
        ({"tolerance": 0.1, "method": "moments"}, "`tolerance` must be None for method='moments'"),
        ({"prior": np.ones((2, 5))}, r"`prior` must be finite, of one of the shapes \(2, 12\)"),
        ({"prior": np.ones((2, N)), "method": "surrogate"}, "`prior` must be None for method='surrogate'"),
        ({"feature_names": ["one"]}, "`feature_names` must be a name for each of 12 players. Received: 1"),
        ({"players": np.stack([np.arange(N) < 7, np.arange(N) > 5])}, "1 elements in none|1 in several"),
        ({"seed": -1}, "`seed` must be an int"),
    ],
)
def test_bad_input(options, match, rng):
    with pytest.raises(ValueError, match=match):
        ks.shapley_values(mlp(rng), rng.normal(size=(2, N)).astype("float32"), 0, **options)


def test_a_surrogate_of_a_function_is_refused(rng):
    with pytest.raises(ValueError, match="method='surrogate' needs a Sequential or Functional model.*regression"):
        ks.shapley_values(function, rng.normal(size=(2, N)), 0, method="surrogate")


def masked_average(rng):
    """Tokens, of which 0 is padding that the average leaves out, which the graph does not show."""
    layers_ = [layers.Embedding(9, 6, mask_zero=True), layers.GlobalAveragePooling1D(), layers.Dense(3, "softmax")]
    return with_weights(keras.Sequential([keras.Input((N,), dtype="int32"), *layers_]), rng, 3.0)


def test_a_model_whose_graph_does_not_show_all_is_a_regression(rng):
    model, x = masked_average(rng), rng.integers(1, 9, size=(2, N))
    found = ks.shapley_values(model, x, 0, players="tokens", baseline=[1, *[0] * (N - 1)], budget=200)
    truth = ks.exact_shapley_values(model, x, 0, players="tokens", baseline=[1, *[0] * (N - 1)])
    assert found.method == "regression"
    assert np.mean(np.abs(found.values - truth.values) < 3 * found.stderr + 1e-6) > 0.9


def test_inputs_are_cast_as_a_model_casts_them(rng):
    """Bytes that a layer multiplies, and images without the axis of channels."""
    inputs = keras.Input((N,))
    model = keras.Model(inputs, layers.Dense(3, "softmax")(layers.Dense(8, "relu")(inputs * 2 / 100)))
    x = rng.integers(0, 255, size=(2, N)).astype("uint8")
    found = ks.shapley_values(model, x, 0, budget=300)
    assert found.method == "surrogate"
    assert relative_errors(found, ks.exact_shapley_values(model, x, 0)).max() < 0.1
    model = conv_net(rng, layers.Flatten(), layers.Dense(3, "softmax"))
    x = rng.normal(size=(1, 8, 8)).astype("float32")
    found = ks.shapley_values(model, x, 0, players=4, budget=200)
    np.testing.assert_allclose(found.values, ks.shapley_values(model, x[..., None], 0, players=4, budget=200).values)


def test_another_activation_is_seen(rng):
    model, x = mlp(rng), rng.normal(size=(1, N)).astype("float32")
    ks.shapley_values(model, x, 0, budget=100)
    model.layers[-1].activation = keras.activations.linear
    found = ks.shapley_values(model, x, 0, budget=1000)
    truth = ks.exact_shapley_values(model, x, 0)
    np.testing.assert_allclose(found.total, truth.total, rtol=1e-4)
    assert relative_errors(found, truth).max() < 0.1


def test_many_players_end(rng):
    model = conv_net(rng, layers.GlobalAveragePooling2D(), layers.Dense(3, "softmax"))
    found = ks.shapley_values(model, rng.normal(size=(1, 8, 8, 1)), 0)
    assert found.values.shape == (1, 64)
    with pytest.raises(ValueError, match="`players` must be up to 4096 .*players='patches'"):
        ks.shapley_values(lambda x: x.sum(axis=(1, 2)), np.ones((1, 224, 224, 3)), 0)


def test_a_model_is_compiled_once(rng):
    model, x = mlp(rng), rng.normal(size=(2, N)).astype("float32")
    ks.shapley_values(model, x, 0, budget=60)
    kept = set(model.__dict__["__keras_shapley__"].entries)
    for n in (60, 90):
        ks.shapley_values(model, x, 0, budget=n)
    assert set(model.__dict__["__keras_shapley__"].entries) == kept
    assert ops.convert_to_numpy(model(x)).shape == (2, 3)


def test_a_prior_serves_every_output(rng):
    """With a budget for all coalitions but some, a wrong prior costs accuracy and no output is that of another."""
    model, x = mlp(rng, end="linear"), rng.normal(size=(2, N)).astype("float32")
    truth = ks.exact_shapley_values(model, x, "all")
    relevance = ks.LRP(model).explain(x, [[0, 1, 2]])
    for prior in (np.ones((2, N)), x, relevance, truth, truth.values):
        found = ks.shapley_values(model, x, [[0, 1, 2]], prior=prior, method="regression", budget=800)
        errors = np.linalg.norm(found.values - truth.values, axis=1) / np.linalg.norm(truth.values, axis=1)
        assert errors.max() < 0.5
        np.testing.assert_allclose(found.residual, 0, atol=1e-5)
    same = np.moveaxis(relevance.input, 1, 2)
    by_object, by_array = (
        ks.shapley_values(model, x, [[0, 1, 2]], prior=prior, method="regression", budget=200)
        for prior in (relevance, same)
    )
    np.testing.assert_allclose(by_object.values, by_array.values)


def test_an_explanation_of_several_targets_of_images_is_a_prior(rng):
    model, x = conv_net(rng, layers.Flatten(), layers.Dense(2)), rng.normal(size=(2, 8, 8, 1)).astype("float32")
    relevance = ks.LRP(model).explain(x, [[0, 1]])
    sums = relevance.input.reshape(2, 2, 2, 4, 2, 4).sum(axis=(3, 5)).reshape(2, 2, 4)
    by_object, by_array = (
        ks.shapley_values(model, x, [[0, 1]], players=2, prior=prior, method="regression", budget=10)
        for prior in (relevance, np.moveaxis(sums, 1, 2))
    )
    np.testing.assert_allclose(by_object.values, by_array.values, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: ks.shapley_values(model, 1.0), "`x` must be a batch of inputs.*Received: a number"),
        (lambda model: ks.LRP(model)(1.0), "`x` must be a batch of inputs.*Received: a number"),
        (lambda model: ks.shapley_values(None, np.ones((2, N))), "`fn` must be a Keras model or a function.*None"),
        (lambda model: ks.shapley_values(model, np.ones((2, N)), prior="lrp"), "`prior` must be numbers"),
        (lambda model: ks.shapley_values(model, np.ones((2, N)), feature_names="abc"), "must be a list of names"),
        (lambda model: ks.LRP(model, rules=3), "`rules` must be a preset's name or entries"),
        (lambda model: ks.LRP(model, baseline="mean"), r"`baseline` must be numbers, such as x.mean\(axis=0\)"),
    ],
)
def test_what_is_no_array_and_no_function_is_named(call, message, rng):
    with pytest.raises(ValueError, match=message):
        call(mlp(rng))
