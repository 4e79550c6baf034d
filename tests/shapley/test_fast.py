"""Fast Shapley values: against enumeration, closed forms and loops over the definition."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops
from reference.marks import MASKS_OF_FEW_PLAYERS, MAY_MISS_THE_TOTAL
from reference.networks import exact, network
from scipy import stats

import keras_shapley as ks
from keras_shapley.shapley import masks, moments
from keras_shapley.utils import progress

# totals of networks with random weights may be near zero
pytestmark = [MAY_MISS_THE_TOTAL, MASKS_OF_FEW_PLAYERS]

METHODS = ("moments", "masks")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("baseline", [0.0, np.linspace(-1, 1, 10)])
def test_values_of_an_additive_function_are_its_addends(method, baseline, rng):
    model = keras.Sequential([keras.Input((10,)), layers.Dense(4, bias_initializer="normal")])
    x = rng.normal(size=(3, 10))
    result = ks.fast_shapley_values(model, x, 2, method=method, baseline=baseline, n=2)
    kernel = ops.convert_to_numpy(model.layers[0].kernel)
    np.testing.assert_allclose(result.values, (x - baseline) * kernel[:, 2], atol=1e-5)
    np.testing.assert_allclose(result.residual, 0, atol=1e-5)
    assert result.values.dtype == "float64" and list(result.target) == [2, 2, 2]


@pytest.mark.parametrize("n, n_samples", [(4, 5), (3, 0)])
def test_evaluations_of_moments_are_counted_as_forward_passes(n, n_samples, rng):
    """At a node six for mean and variance, forward and back, and one for each sample; the baseline, and each image."""
    result = ks.fast_shapley_values(network(rng, "relu"), rng.normal(size=(3, 10)), 0, n=n, n_samples=n_samples)
    assert result.n_evaluations == 1 + 3 + 3 * n * (6 + n_samples)


def test_moments_of_a_relu_neuron_give_the_integral_of_its_derivative(rng):
    """dE/dp_k, with mean b + t u and variance t (1 - t) q, over t: by loops over 4 nodes."""
    model = keras.Sequential([keras.Input((10,)), layers.Dense(1, "relu", bias_initializer="normal")])
    x = rng.normal(size=(2, 10))
    result = ks.fast_shapley_values(model, x, 0, n=4)
    w, b = (ops.convert_to_numpy(weight).astype("float64") for weight in model.get_weights())
    expected = np.zeros((2, 10))
    nodes, weights = np.polynomial.legendre.leggauss(4)
    for image, row in zip(x, expected):
        a = w[:, 0] * image
        for t, weight in zip((nodes + 1) / 2, weights / 2):
            s = np.sqrt(t * (1 - t) * np.sum(a**2))
            z = (b[0] + t * a.sum()) / s
            row += weight * (a * stats.norm.cdf(z) + (1 - 2 * t) * a**2 * stats.norm.pdf(z) / (2 * s))
    np.testing.assert_allclose(result.values, expected, atol=1e-5)
    np.testing.assert_allclose(result.total, ops.convert_to_numpy(model(x))[:, 0] - max(b[0], 0), atol=1e-6)
    assert result.stderr is None


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("gradient", ["simplified", "full"])
def test_shaplu_is_explained_as_the_relu_that_it_computes(method, gradient, rng):
    """Its own gradient is for training, and no derivative."""
    hidden = [ks.ShapLUDense(n, bias_initializer="normal", gradient=gradient) for n in (12, 8)]
    model = keras.Sequential([keras.Input((10,)), *hidden, layers.Dense(3, "softmax")])
    plain, _ = ks.to_relu(model)
    x = rng.normal(size=(3, 10)).astype("float32")
    result, expected = (ks.fast_shapley_values(each, x, method=method).values for each in (model, plain))
    np.testing.assert_allclose(result, expected, atol=1e-6)


@pytest.mark.parametrize("activation", ["relu", "gelu", "tanh"])
def test_both_methods_are_near_the_exact_values(activation, rng):
    model, x = network(rng, activation), rng.normal(size=(3, 10))
    # masks see a kink only near the two ends of a player's way
    for method, n, tolerance in (("moments", 8, 0.2), ("masks", 2000, 0.35)):
        result = ks.fast_shapley_values(model, x, method=method, n=n)
        expected = exact(model, x, result.target)
        error = np.linalg.norm(result.values - expected, axis=1) / np.linalg.norm(expected, axis=1)
        assert np.mean(error) < tolerance
        assert np.corrcoef(result.values.ravel(), expected.ravel())[0, 1] > 0.9


def test_both_methods_explain_shapley_layers(rng):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.Input((10,)), ks.SADense(12), ks.ShapLUDense(8, gradient="full"), layers.Dense(3, "softmax")]
    )
    x = rng.normal(size=(4, 10))
    for method in METHODS:
        result = ks.fast_shapley_values(model, x, method=method, n={"moments": 8, "masks": 1000}[method])
        truth = exact(model, x, result.target)
        assert np.corrcoef(result.values.ravel(), truth.ravel())[0, 1] > 0.9
        assert np.linalg.norm(result.values - truth) < 0.5 * np.linalg.norm(truth)


def test_a_network_of_images(rng):
    """A small classifier with every common layer, and with some pixels at the baseline."""
    inputs = keras.Input((6, 6, 1))
    y = layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same", bias_initializer="normal")(inputs))
    y = layers.ReLU()(y)
    y = layers.Add()([y, layers.Conv2D(4, 3, padding="same", activation="relu")(y)])
    y = layers.Flatten()(layers.MaxPooling2D(2)(layers.Dropout(0.5)(y)))
    model = keras.Model(inputs, layers.Dense(3, "softmax")(y))
    x = rng.uniform(size=(3, 6, 6, 1))
    x[:, :, 0] = 0
    truth = ks.sampled_shapley_values(model, x, n_paths=300)
    for method, n in (("moments", 4), ("masks", 512)):
        result = ks.fast_shapley_values(model, x, method=method, n=n)
        expected = np.stack([of[:, k].reshape(6, 6, 1) for of, k in zip(truth.values, result.target)])
        assert np.corrcoef(result.heatmap.ravel(), expected.ravel())[0, 1] > 0.9
        assert np.linalg.norm(result.heatmap - expected) < 0.5 * np.linalg.norm(expected)
        assert not result.heatmap[:, :, 0].any()


def test_a_group_of_an_additive_function_receives_the_sum_of_its_addends(rng):
    model = keras.Sequential([keras.Input((4, 6, 2)), layers.Flatten(), layers.Dense(3)])
    x, players = rng.normal(size=(2, 4, 6, 2)), rng.permutation(np.arange(24) % 5).reshape(4, 6)
    result = ks.fast_shapley_values(model, x, 1, players=players, n=2)
    terms = x * ops.convert_to_numpy(model.layers[-1].kernel)[:, 1].reshape(4, 6, 2)
    expected = np.stack([terms[:, players == k].sum(axis=(1, 2)) for k in range(5)], axis=1)
    np.testing.assert_allclose(result.values, expected, atol=1e-5)
    np.testing.assert_allclose(result.residual, 0, atol=1e-5)


@pytest.mark.parametrize("affine", [False, True])
def test_moments_by_group_are_those_of_a_network_with_one_input_for_each_group(affine, rng):
    """Each group has one number, so that the weights of its members can be added."""
    in_front = [layers.Rescaling(0.5, 0.1), layers.BatchNormalization(), layers.Dense(10)] if affine else []
    numbers = rng.permutation(np.arange(10) % 5)
    model = keras.Sequential([keras.Input((10,)), *in_front, *network(rng).layers])
    spread = np.eye(5)[numbers].T.astype("float32")
    by_group = keras.Sequential([keras.Input((5,)), layers.Dense(10, use_bias=False), *model.layers])
    by_group.layers[0].set_weights([spread])
    x = rng.normal(size=(4, 5))
    result = ks.fast_shapley_values(model, x[:, numbers], 0, players=numbers, n_samples=0)
    expected = ks.fast_shapley_values(by_group, x, 0, players=np.arange(5), n_samples=0)
    np.testing.assert_allclose(result.values, expected.values, atol=1e-5)
    if not affine:
        first, kernel = model.layers[0], ops.convert_to_numpy(model.layers[0].kernel)
        merged = keras.Sequential([keras.Input((5,)), layers.Dense(12, "relu"), *model.layers[1:]])
        merged.layers[0].set_weights([spread @ kernel, ops.convert_to_numpy(first.bias)])
        expected = ks.fast_shapley_values(merged, x, 0, n_samples=0)
        np.testing.assert_allclose(result.values, expected.values, atol=1e-5)


@pytest.mark.parametrize("prefix", ["SA", "ShapLU"])
def test_moments_by_group_stop_being_exact_at_a_shapley_gate(prefix, rng):
    """The values are near those of ReLU with the same weights; equal for ShapLU."""
    dense, numbers = getattr(ks, f"{prefix}Dense"), np.arange(10) // 2
    hidden = [dense(n, bias_initializer="normal") for n in (12, 8)]
    model = keras.Sequential([keras.Input((10,)), *hidden, layers.Dense(3, "softmax")])
    x = rng.normal(size=(6, 10)).astype("float32")
    result = ks.fast_shapley_values(model, x, 0, players=numbers, n_samples=0).values
    if prefix == "ShapLU":
        plain, _ = ks.to_relu(model)
        expected = ks.fast_shapley_values(plain, x, 0, players=numbers, n_samples=0).values
        np.testing.assert_allclose(result, expected, atol=1e-6)
    truth = exact(model, x, np.zeros(6, int), players=numbers)
    assert ks.metrics.relative_rmse(result, truth).mean() < 0.25


def test_moments_of_patches_are_near_their_exact_values(rng):
    hidden = layers.Conv2D(6, 3, activation="relu", bias_initializer="normal")
    model = keras.Sequential([keras.Input((9, 9, 1)), hidden, layers.Flatten(), layers.Dense(3, "softmax")])
    x, rows = rng.normal(size=(8, 9, 9, 1)), np.arange(9) // 3
    players = rows[:, None] * 3 + rows
    result = ks.fast_shapley_values(model, x, players=players)
    expected = exact(model, x, result.target, players=players)
    assert ks.metrics.relative_rmse(result.values, expected).mean() < 0.1


@pytest.mark.parametrize("method", METHODS)
def test_an_image_has_the_same_values_alone_and_among_many(method, rng):
    model, x = network(rng), rng.normal(size=(11, 10))
    together = ks.fast_shapley_values(model, x, method=method, n=6)
    alone = ks.fast_shapley_values(model, x[7:8], method=method, n=6)
    np.testing.assert_allclose(together.values[7], alone.values[0], atol=1e-6)
    assert together.target[7] == alone.target[0]
    other = ks.fast_shapley_values(model, x, method=method, n=6, seed=1)
    assert np.abs(other.values - together.values).max() > 1e-5


@pytest.mark.parametrize("method", METHODS)
def test_normalized_values_are_efficient_and_leave_null_players_alone(method, rng):
    model, x = network(rng), rng.normal(size=(3, 10))
    x[:, 4] = 0
    plain, result = (ks.fast_shapley_values(model, x, method=method, n=4, normalize=n) for n in (False, True))
    outputs, (without,) = (ops.convert_to_numpy(model(part)) for part in (x, np.zeros((1, 10))))
    target = outputs.argmax(axis=1)
    np.testing.assert_array_equal(result.target, target)
    total = (outputs - without)[np.arange(3), target]
    np.testing.assert_allclose(result.values.sum(axis=1), total, atol=1e-5)
    np.testing.assert_allclose(result.total, total, atol=1e-5)
    np.testing.assert_allclose(plain.residual, total - plain.values.sum(axis=1), atol=1e-5)
    assert np.abs(plain.residual).max() > 1e-4
    assert not result.values[:, 4].any()


def test_a_residual_without_values_is_distributed_equally(rng):
    """An image whose gradients are zero at every mask, although its output differs from that of the baseline."""
    model = keras.Sequential([keras.Input((2,)), layers.Lambda(lambda x: ops.stop_gradient(x)), layers.Dense(1)])
    with pytest.warns(RuntimeWarning, match="1 of 1 images"):
        result = ks.fast_shapley_values(model, [[1.0, 3.0]], method="masks", normalize=True)
    np.testing.assert_allclose(result.values, np.full((1, 2), result.total[0] / 2), rtol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_targets_may_differ_from_image_to_image(method, rng):
    model, x = network(rng), rng.normal(size=(3, 10))
    each = [ks.fast_shapley_values(model, x, k, method=method, n=4).values for k in range(3)]
    result = ks.fast_shapley_values(model, x, np.array([2, 0, 1]), method=method, n=4)
    np.testing.assert_allclose(result.values, [each[2][0], each[0][1], each[1][2]], atol=1e-6)


def test_present_weights_count(rng):
    model, x = network(rng), rng.normal(size=(2, 10))
    before = model.get_weights()
    first = ks.fast_shapley_values(model, x, 0).values
    np.testing.assert_array_equal(np.concatenate([w.ravel() for w in before]), flat_weights(model))
    model.set_weights([-weight for weight in before])
    assert np.abs(ks.fast_shapley_values(model, x, 0).values - first).max() > 1e-3


def flat_weights(model):
    return np.concatenate([weight.ravel() for weight in model.get_weights()])


def batches_of(monkeypatch, method):
    """A list that gets the number of images of each batch that the method explains."""
    cls = {"moments": moments.MomentPropagation, "masks": masks.Masks}[method]
    sizes = []
    call = cls.__call__

    def counted(self, x, *others):
        sizes.append(len(x[0]))
        return call(self, x, *others)

    monkeypatch.setattr(cls, "__call__", counted)
    return sizes


# masks: 16 of an image at once, of 10 elements; the last batch is filled up
@pytest.mark.parametrize(
    "method, module, limit, value, sizes",
    [
        ("moments", moments, "_MAX_VALUES", 1, [1] * 5),
        ("moments", moments, "_MAX_VALUES", 5000, [2, 2, 2]),
        ("masks", masks, "_MAX_INPUTS", 1, [1] * 5),
        ("masks", masks, "_MAX_INPUTS", 4 * 16 - 1, [3, 3]),
        ("masks", masks, "_MAX_ELEMENTS", 3 * 16 * 10 - 1, [2, 2, 2]),
    ],
)
def test_the_number_of_images_at_once_changes_nothing(method, module, limit, value, sizes, rng, monkeypatch):
    model, x = network(rng), rng.normal(size=(5, 10)).astype("float32")
    expected = ks.fast_shapley_values(model, x, method=method)
    monkeypatch.setattr(module, limit, value)
    explained = batches_of(monkeypatch, method)
    result = ks.fast_shapley_values(model, x, method=method)
    assert explained == sizes
    np.testing.assert_allclose(result.values, expected.values, atol=1e-6)
    if method == "masks":
        np.testing.assert_allclose(result.stderr, expected.stderr, atol=1e-6)


@pytest.mark.parametrize(
    "hidden, options, values",
    [
        (layers.Dense(6, "relu"), {"n_samples": 3}, 2 * (10 + 4 + 6 + 2) + 2 * 3 * 10),
        (layers.Dense(40, "relu"), {"n_samples": 3}, 2 * (10 + 4 + 40 + 2) + 2 * 3 * 40),
        (layers.Dense(40, "relu"), {"n_samples": 0}, 2 * (10 + 4 + 40 + 2)),
        (ks.SADense(40), {"n_samples": 3}, 2 * (10 + 4 + 24 * 40 + 2) + 2 * 3 * 40),
        (layers.Dense(40, "softmax"), {"n_samples": 0}, 2 * (10 + 4 + 128 * 40 + 2)),
        # no player, and five groups alone
        (layers.Dense(40), {"n_samples": 2, "players": np.repeat(range(5), 2)}, 2 * (10 + 4 + 40 + 2) + 6 * 40),
    ],
    ids=["the input", "a layer", "no samples", "quadrature", "softmax", "groups"],
)
def test_images_come_in_batches_by_the_number_of_their_values(hidden, options, values, rng, monkeypatch):
    model = keras.Sequential([keras.Input((10,)), layers.Dense(4, "relu"), hidden, layers.Dense(2)])
    monkeypatch.setattr(moments, "_MAX_VALUES", 4 * values - 1)
    explained = batches_of(monkeypatch, "moments")
    ks.fast_shapley_values(model, rng.normal(size=(7, 10)), n=2, **options)
    # batches have one size, so that one function is compiled
    assert explained == [3, 3, 3]


# heads as operations, and as the layers of which they are the functions
HEADS = {
    "softmax": (layers.Softmax(), [keras.activations.softmax, ops.softmax, layers.Activation("softmax")]),
    "sigmoid": (layers.Activation("sigmoid"), [keras.activations.sigmoid, ops.sigmoid, ops.nn.sigmoid]),
    "a mean of two softmaxes": (
        lambda logits: layers.Average()([layers.Softmax()(logits[:, :3]), layers.Softmax()(logits[:, 3:])]),
        [
            lambda logits: (ops.softmax(logits[:, :3]) + ops.softmax(logits[:, 3:])) / 2,
            lambda logits: 0.5 * keras.activations.softmax(logits[:, :3]) + 0.5 * ops.softmax(logits[:, 3:]),
            lambda logits: ops.mean(ops.stack([ops.softmax(logits[:, :3]), ops.softmax(logits[:, 3:])]), axis=0),
        ],
    ),
    "a mean of two sigmoids": (
        lambda logits: layers.Average()([layers.Activation("sigmoid")(logits[:, k : k + 1]) for k in range(2)]),
        [lambda logits: (ops.sigmoid(logits[:, :1]) + keras.activations.sigmoid(logits[:, 1:2])) / 2],
    ),
    "one number": (
        lambda logits: layers.Activation("sigmoid")(logits[:, :1]),
        [lambda logits: ops.squeeze(ops.sigmoid(logits[:, :1]), axis=1), lambda logits: ops.sigmoid(logits[:, 0])],
    ),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("head", HEADS)
def test_a_head_as_an_operation_has_the_values_of_its_layer(head, method, rng):
    as_layer, as_operations = HEADS[head]
    image = keras.Input((10,))
    logits = layers.Dense(6, bias_initializer="normal")(layers.Dense(8, "relu")(image))
    x = rng.normal(size=(3, 10)).astype("float32")
    plain = keras.Model(image, as_layer(logits))
    expected = ks.fast_shapley_values(plain, x, method=method)
    truth = ks.exact_shapley_values(plain, x, None)
    assert ks.metrics.correlation(expected, truth).min() > 0.9
    for operation in as_operations:
        result = ks.fast_shapley_values(keras.Model(image, operation(logits)), x, method=method)
        np.testing.assert_allclose(result.values, expected.values, atol=1e-5)
        np.testing.assert_array_equal(result.target, expected.target)


@pytest.mark.parametrize("method", METHODS)
def test_progress_is_shown_by_default_for_work_that_takes_long(method, rng, capsys, monkeypatch):
    model, x = network(rng), rng.normal(size=(3, 10))
    module, limit = {"moments": (moments, "_MAX_VALUES"), "masks": (masks, "_MAX_INPUTS")}[method]
    monkeypatch.setattr(module, limit, 1)
    # longer than it may take to compile
    monkeypatch.setattr(progress, "_DELAY", 600.0)
    ks.fast_shapley_values(model, x, method=method)
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(progress, "_DELAY", 0.0)
    ks.fast_shapley_values(model, x, method=method, progress=False)
    assert capsys.readouterr().out == ""
    ks.fast_shapley_values(model, x, method=method)
    assert "3/3" in capsys.readouterr().out


def partly_hidden(share):
    """A model that multiplies by 2, and whose gradient shows a share of that; its values miss the rest."""
    hidden = layers.Lambda(lambda x: 2 * (x * share + ops.stop_gradient(x * (1 - share))))
    return keras.Sequential([keras.Input((2,)), hidden])


def explained_strictly(*arguments, **options):
    """Fast Shapley values; a warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        return ks.fast_shapley_values(*arguments, method="masks", **options)


@pytest.mark.parametrize("normalize", [False, True])
def test_a_residual_above_a_quarter_of_the_total_warns_once(normalize):
    x = np.array([[1.0, 0.0], [0.0, 0.0], [-4.0, 1.0]])
    quiet = explained_strictly(partly_hidden(0.76), x, 0, normalize=normalize)
    np.testing.assert_allclose(quiet.residual, 0.24 * quiet.total, rtol=1e-5)
    with pytest.warns(RuntimeWarning) as record:
        result = ks.fast_shapley_values(partly_hidden(0.74), x, 0, method="masks", normalize=normalize)
    np.testing.assert_allclose(result.residual, 0.26 * result.total, rtol=1e-5)
    (warning,) = [warning for warning in record if warning.category is RuntimeWarning]
    message = str(warning.message)
    # the second image is the baseline, whose values have nothing to miss
    assert "2 of 3 images miss more than a quarter of the total" in message
    assert "image 2 have a residual of -2.1, for a total of -8." in message
    assert (
        "Use shapley_values(model, x) or sampled_shapley_values(model, x)" in message
        and "LRP(model)" in message
        and "masks" not in message
    )
    assert warning.filename == __file__


def test_one_bad_target_of_several_warns():
    shares = ops.convert_to_tensor([1.0, 0.5])
    x = np.array([[3.0, 0.0], [3.0, 2.0]])
    assert not explained_strictly(partly_hidden(shares), x, 0).residual.any()
    with pytest.warns(RuntimeWarning, match=r"1 of 2 images.* image 1 have a residual of 2, for a total of 4\."):
        ks.fast_shapley_values(partly_hidden(shares), x, [[0, 1]], method="masks")


def test_rounding_of_a_total_near_zero_does_not_warn(rng):
    """Addends up to a thousand that cancel: what is left of them is their rounding."""
    x = 300 * rng.normal(size=(20, 400))
    x[:, -1] = -x[:, :-1].sum(axis=1)
    model = keras.Sequential([keras.Input((400,)), layers.Dense(1, kernel_initializer="ones", use_bias=False)])
    assert np.abs(explained_strictly(model, x, 0).residual).max() > 0


def test_masks_are_wrong_behind_a_normalization_and_what_is_recommended_is_right(rng):
    """A LayerNormalization of `t x` is the same for all t: gradients on the way from zero see nothing of the step."""
    model = keras.Sequential([keras.Input((6,)), layers.LayerNormalization(), layers.Dense(4)])
    model.layers[1].set_weights([rng.normal(size=(6, 4)), np.zeros(4)])
    x = rng.normal(size=(20, 6)).astype("float32")
    truth = ks.exact_shapley_values(model, x, 0)
    with pytest.raises(ValueError, match=r"Use sampled_shapley_values\(model, x\).*LRP\(model\)") as error:
        ks.fast_shapley_values(model, x, 0)
    assert "masks" not in str(error.value)
    with (
        pytest.warns(RuntimeWarning, match="of 20 images miss"),
        pytest.warns(UserWarning, match=f"biased behind the LayerNormalization '{model.layers[0].name}'"),
    ):
        by_masks = ks.fast_shapley_values(model, x, 0, method="masks", n=512)
    sampled = ks.sampled_shapley_values(model, x, 0, n_paths=200)
    relevance = ks.LRP(model, head="linear").explain(x, 0)
    errors = [ks.metrics.relative_rmse(part, truth).mean() for part in (by_masks, sampled, relevance)]
    assert errors[0] > 1 and errors[1] < 0.1 and errors[2] < 0.6
    np.testing.assert_allclose(relevance.input.sum(axis=1), by_masks.total, atol=1e-4)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"method": "both"}, "`method` must be one of 'moments', 'masks'"),
        ({"n": 0}, "`n` must be an int, 1 or more"),
        ({"n_samples": 1}, "`n_samples` must be 0, or 2 or more"),
        ({"target": 3}, r"`target` must be in \[0, 3\)"),
        ({"target": [0, 1, 2, 0]}, r"`target` must be None for the largest.*int64 of shape \(4,\)"),
        ({"target": 0.5}, "`target` of bools or floats must be weights"),
        ({"target": np.eye(3, dtype=int)[:2]}, "one-hot"),
        ({"x": np.ones((2, 9))}, r"`x` must be a batch of shape \(None, 10\).*\(2, 9\)"),
        ({"x": np.ones(10)}, "`x` must be a batch"),
        ({"x": np.full((2, 10), np.nan)}, "`x` must be finite"),
        ({"baseline": np.ones(3)}, r"`baseline` must be a number, an array of shape \(10,\).*\(3,\)"),
        ({"baseline": np.inf}, "`baseline` must be finite"),
        ({"players": np.arange(9)}, r"`players` must be integers of shape \(10,\)"),
        ({"model": keras.Sequential([layers.Dense(2)])}, "`model` must be a built keras.Model"),
        ({"model": lambda x: x}, "`model` must be a built keras.Model"),
        (
            {"model": keras.Sequential([keras.Input((4,), dtype="int32"), layers.Rescaling(2.0)])},
            "`model` must have inputs of floats.*int32.*shapley_values",
        ),
    ],
)
def test_bad_arguments_are_named(arguments, message, rng):
    arguments = {"model": network(rng), "x": np.ones((2, 10)), **arguments}
    with pytest.raises(ValueError, match=message):
        ks.fast_shapley_values(arguments.pop("model"), arguments.pop("x"), **arguments)
