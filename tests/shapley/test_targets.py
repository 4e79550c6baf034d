"""What `target` and `output` mean for Shapley values: every form of them, against the values of all outputs."""

import functools
import tracemalloc

import keras
import numpy as np
import pytest
from keras import layers, ops
from reference.games import network
from reference.marks import MASKS_OF_FEW_PLAYERS, MAY_MISS_THE_TOTAL
from reference.permutations import by_permutations

import keras_shapley as ks

# totals of networks with random weights may be near zero
pytestmark = [MAY_MISS_THE_TOTAL, MASKS_OF_FEW_PLAYERS]

exact = ks.exact_shapley_values
sampled = functools.partial(ks.sampled_shapley_values, n_paths=12, seed=2)
W = np.random.default_rng(3).normal(size=(4, 3))


def three_outputs(x):
    return np.tanh(x @ W) + x.prod(axis=1, keepdims=True)


def maps(x):
    """A function with maps as outputs, `(batch, 2, 3, 2)`."""
    kernel = np.random.default_rng(4).normal(size=(x.shape[1], 12))
    return np.tanh(x @ kernel).reshape(-1, 2, 3, 2)


@pytest.fixture
def x(rng):
    return rng.normal(size=(3, 4))


LARGEST = three_outputs(np.random.default_rng(0).normal(size=(3, 4))).argmax(axis=1)
EACH = np.array([[1.0, -2, 0], [0, 0.5, 3], [0, 0, 1]])
FORMS = {
    "largest": (None, lambda values: np.take_along_axis(values, LARGEST[:, None, None], axis=2)[..., 0]),
    "index": (1, lambda values: values[..., 1]),
    "indices": (np.array([2, 0, 1]), lambda values: np.stack([values[0, :, 2], values[1, :, 0], values[2, :, 1]])),
    "column": ([[2], [0], [1]], lambda values: np.stack([values[0, :, 2], values[1, :, 0], values[2, :, 1]])),
    "tensor": (2, lambda values: values[..., 2]),
    "several, the same of each": ([[2, 0]], lambda values: values[..., [2, 0]]),
    "several, of each its own": (
        [[0, 1], [1, 2], [2, 0]],
        lambda values: np.stack([values[0][:, [0, 1]], values[1][:, [1, 2]], values[2][:, [2, 0]]]),
    ),
    "weights": (np.array([1.0, -2.0, 0.5]), lambda values: values @ [1.0, -2.0, 0.5]),
    "bools": ([True, False, True], lambda values: values[..., 0] + values[..., 2]),
    "weights of each": (EACH, lambda values: np.einsum("npk,nk->np", values, EACH)),
}


@pytest.mark.parametrize("explain", [exact, sampled], ids=["exact", "sampled"])
@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_target_selects_or_adds_values_of_all_outputs(form, explain, x):
    target, expected = FORMS[form]
    everything = explain(three_outputs, x)
    result = explain(three_outputs, x, ops.convert_to_tensor(target) if form == "tensor" else target)
    np.testing.assert_allclose(result.values, expected(everything.values), atol=1e-12)
    assert result.stderr.shape == result.values.shape
    # every target has a value without players, and the values lack nothing to the whole
    outputs = np.broadcast_to(three_outputs(x)[:, None], (3, 4, 3))
    without = np.broadcast_to(three_outputs(np.zeros((1, 4))), (3, 4, 3))
    np.testing.assert_allclose(result.baseline_value, expected(without)[:, 0], atol=1e-12)
    total = expected(outputs)[:, 0] - result.baseline_value
    np.testing.assert_allclose(result.values.sum(axis=1), total, atol=1e-12)
    # whole images are evaluated once in any case
    assert result.n_evaluations == everything.n_evaluations


@pytest.mark.parametrize("form", FORMS)
def test_fast_values_take_the_same_forms(form, x):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(6, "relu"), layers.Dense(3)])
    x = x.astype("float32")
    target, expected = FORMS[form]
    if target is None:
        target = ops.convert_to_numpy(model(x)).argmax(axis=1)
        one_by_one = [ks.fast_shapley_values(model, x[[i]], k).values[0] for i, k in enumerate(target)]
        np.testing.assert_allclose(ks.fast_shapley_values(model, x).values, one_by_one, atol=1e-6)
        return
    everything = np.stack([ks.fast_shapley_values(model, x, k).values for k in range(3)], axis=2)
    expected = expected(everything)
    result = ks.fast_shapley_values(model, x, target)
    np.testing.assert_allclose(result.values, expected, atol=1e-5)
    np.testing.assert_allclose(result.values.sum(axis=1) + result.residual, result.total, atol=1e-6)
    again = ks.fast_shapley_values(model, x, result.target)
    np.testing.assert_allclose(again.values, result.values, atol=1e-6)
    exact_values = ks.exact_shapley_values(model, x, result.target)
    np.testing.assert_allclose(result.total + result.baseline_value, total_output(exact_values), atol=1e-5)


def total_output(result):
    return result.values.sum(axis=1) + result.baseline_value


@pytest.mark.parametrize("method", ["moments", "masks"])
def test_fast_values_of_several_targets_are_those_of_each(method, x):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(6, "tanh"), layers.Dense(3, "softmax")])
    each = [ks.fast_shapley_values(model, x, k, method=method, normalize=True) for k in (2, 0)]
    both = ks.fast_shapley_values(model, x, [[2, 0]], method=method, normalize=True)
    assert both.values.shape == (3, 4, 2) and both.total.shape == both.residual.shape == (3, 2)
    assert both.target.tolist() == [[2, 0]] * 3
    for name in ("values", "total", "residual", "baseline_value", *(["stderr"] if method == "masks" else [])):
        expected = np.stack([getattr(result, name) for result in each], axis=-1)
        np.testing.assert_allclose(getattr(both, name), expected, atol=1e-6)


@pytest.mark.parametrize("explain", [exact, sampled], ids=["exact", "sampled"])
def test_values_are_linear_in_the_weights(explain, x):
    """Values of a weighted sum are the weighted sum of values, and not those of some other function."""
    weights = np.random.default_rng(5).normal(size=(2, 3))
    first, second, both = (
        explain(three_outputs, x, w).values for w in (weights[0], weights[1], 2 * weights[0] - 3 * weights[1])
    )
    np.testing.assert_allclose(both, 2 * first - 3 * second, atol=1e-12)
    summed = explain(lambda batch: three_outputs(batch) @ weights[0], x)
    np.testing.assert_allclose(first, summed.values[..., 0], atol=1e-12)
    np.testing.assert_allclose(explain(three_outputs, x, weights[0]).stderr, summed.stderr[..., 0], atol=1e-12)


def test_targets_are_what_can_be_given_again(x):
    for target in (None, 1, [2, 0, 1], [[2], [0], [1]], [[0, 2]], [1.0, 0.0, -1.0], [True, True, False], EACH):
        result = exact(three_outputs, x, target)
        again = exact(three_outputs, x, result.target)
        np.testing.assert_array_equal(again.values, result.values)
        np.testing.assert_array_equal(again.target, result.target)
        np.testing.assert_allclose(
            sampled(three_outputs, x, result.target).values.sum(axis=1), again.values.sum(axis=1)
        )
    assert exact(three_outputs, x).target is None
    assert exact(three_outputs, x, None).target.tolist() == LARGEST.tolist()
    assert exact(three_outputs, x, [[2], [0], [1]]).target.tolist() == [2, 0, 1]


def test_a_single_unit_is_never_negated(x):
    """Its target is 0, whatever its value; the class labels are no targets."""
    result = exact(lambda batch: -np.abs(batch @ W[:, :1]) - 1, x, None)
    same = exact(lambda batch: -np.abs(batch @ W[:, :1]) - 1, x)
    assert result.target.tolist() == [0, 0, 0]
    np.testing.assert_array_equal(result.values, same.values[..., 0])
    numbers = exact(lambda batch: -np.abs(batch @ W[:, 0]) - 1, x, 0)
    np.testing.assert_array_equal(numbers.values, result.values)


def test_a_region_of_a_map_by_enumeration(x):
    """Outputs of several axes: all of them, an element by its number, and the sum over a region."""
    x = x[:, :4]
    everything = exact(maps, x)
    assert everything.values.shape == (3, 4, 2, 3, 2) and everything.baseline_value.shape == (2, 3, 2)
    region = np.zeros((2, 3, 2))
    region[1, :2] = [[1, 0], [0.5, -2]]

    def worth(present):
        return np.sum(maps((x[1] * present)[None])[0] * region)

    result = exact(maps, x, region)
    np.testing.assert_allclose(result.values[1], by_permutations(worth, 4), atol=1e-12)
    np.testing.assert_allclose(result.values, np.sum(everything.values * region, axis=(2, 3, 4)), atol=1e-12)
    element = exact(maps, x, np.ravel_multi_index((1, 2, 0), (2, 3, 2)))
    np.testing.assert_allclose(element.values, everything.values[:, :, 1, 2, 0], atol=1e-12)
    largest = exact(maps, x, None)
    assert largest.target.tolist() == maps(x).reshape(3, -1).argmax(axis=1).tolist()
    walked = ks.sampled_shapley_values(maps, x, region, n_paths=2000)
    assert (np.abs(walked.values - result.values) <= 5 * walked.stderr + 1e-9).all()
    assert sampled(maps, x).values.shape == everything.values.shape


@pytest.mark.parametrize("channels", [1, 3])
def test_fast_values_of_a_region_of_a_segmentation(channels, rng):
    model = keras.Sequential(
        [
            keras.Input((4, 4, channels)),
            layers.Conv2D(4, 3, padding="same", activation="relu", bias_initializer="normal"),
            layers.Conv2D(3, 1, activation="softmax"),
        ]
    )
    x = rng.normal(size=(2, 4, 4, channels)).astype("float32")
    rows = np.arange(4) // 2
    patches = rows[:, None] * 2 + rows
    region = np.zeros((4, 4, 3), bool)
    region[:2, :2, 1] = True
    truth = exact(model, x, region, players=patches)
    result = ks.fast_shapley_values(model, x, region, players=patches, n=8)
    np.testing.assert_allclose(result.total, truth.values.sum(axis=1), atol=1e-5)
    assert ks.metrics.correlation(result, truth).min() > 0.95
    by_masks = ks.fast_shapley_values(model, x, region, method="masks", n=500)
    walked = ks.sampled_shapley_values(model, x, region, n_paths=400)
    assert ks.metrics.correlation(by_masks, walked).min() > 0.95
    # a pixel far from the region does not matter to it
    assert not by_masks.heatmap[:, 3, 3].any()
    number = np.ravel_multi_index((0, 1, 1), (4, 4, 3))
    element = ks.fast_shapley_values(model, x, number)
    one = np.zeros((4, 4, 3))
    one[0, 1, 1] = 1
    np.testing.assert_allclose(element.values, ks.fast_shapley_values(model, x, one).values, atol=1e-6)


@pytest.mark.parametrize("explain", [ks.exact_shapley_values, ks.sampled_shapley_values])
def test_outputs_are_not_kept_where_a_weighted_sum_is_explained(explain):
    """All outputs of 256 coalitions would be 64 MB in float64; those of a batch are 0.5 MB."""
    outputs = np.zeros((2, 128, 128, 2), "float32")

    def fn(batch):
        return outputs[: len(batch)] + batch.sum(axis=1)[:, None, None, None]

    options = {} if explain is ks.exact_shapley_values else {"n_paths": 34}
    tracemalloc.start()
    result = explain(fn, np.ones((1, 8)), np.full((128, 128, 2), 2.0**-15), batch_size=2, **options)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert result.n_evaluations > 200
    np.testing.assert_allclose(result.values, 1, rtol=1e-6)
    assert peak < 6e6


def two_heads(as_dict):
    keras.utils.set_random_seed(2)
    image = keras.Input((5,))
    hidden = layers.Dense(6, "relu", bias_initializer="normal")(image)
    wide = layers.Dense(3, "softmax", name="kind")(hidden)
    narrow = layers.Dense(1, name="size")(layers.Dense(4, "tanh")(hidden))
    # in another order than that of the keys
    outputs = {"what": wide, "amount": narrow} if as_dict else [narrow, wide]
    return keras.Model(image, outputs), {"kind": keras.Model(image, wide), "size": keras.Model(image, narrow)}


@pytest.mark.parametrize(
    "as_dict, kind, size",
    [(False, "kind", "size"), (False, 1, 0), (True, "what", "amount"), (True, 1, 0)],
    ids=["names", "indices", "keys", "indices of keys"],
)
def test_an_output_of_several_is_explained_as_if_it_were_alone(as_dict, kind, size, rng):
    model, alone = two_heads(as_dict)
    x = rng.normal(size=(2, 5)).astype("float32")
    for output, expected in ((kind, alone["kind"]), (size, alone["size"])):
        for explain in (
            exact,
            sampled,
            functools.partial(exact, target=None),
            functools.partial(sampled, target=0),
            ks.fast_shapley_values,
            functools.partial(ks.fast_shapley_values, method="masks"),
        ):
            result, of_alone = explain(model, x, output=output), explain(expected, x)
            np.testing.assert_allclose(result.values, of_alone.values, atol=1e-6)
            np.testing.assert_array_equal(result.target, of_alone.target)
    assert exact(model, x, output=kind).values.shape == (2, 5, 3)


def test_outputs_that_are_not_there_are_named(x, rng):
    model, _ = two_heads(as_dict=False)
    inputs = rng.normal(size=(2, 5)).astype("float32")
    for explain in (exact, sampled, ks.fast_shapley_values):
        with pytest.raises(ValueError, match="`output` must say which output.*'size', 'kind'"):
            explain(model, inputs)
        with pytest.raises(ValueError, match="`output` must be one of 'size', 'kind'. Received: output='sort'"):
            explain(model, inputs, output="sort")
        with pytest.raises(ValueError, match="`output` must be below 2"):
            explain(model, inputs, output=2)
    for explain in (exact, sampled):
        with pytest.raises(ValueError, match="`output` must be None for a function.*Received: output=0"):
            explain(network, rng.normal(size=(2, 5)), output=0)


@pytest.mark.parametrize(
    "target, message",
    [
        (np.eye(3, dtype=int)[[2, 0, 1]], r"one-hot.*target.argmax\(axis=1\)"),
        (3, r"`target` must be in \[0, 3\).*Received: 3$"),
        ([0, 1, 5], r"`target` must be in \[0, 3\).*Received: 0 to 5$"),
        ([0, -1, 0], r"`target` must be in \[0, 3\)"),
        ([0, 1], r"`target` must be None.*Received: int64 of shape \(2,\)"),
        (0.5, r"weights of the shape of one output, \(3,\).*Output indices must be ints"),
        (np.ones(2), r"weights of the shape of one output, \(3,\)"),
        ([np.nan, 0, 1], "`target` must be finite"),
        ("some", "`target` must be one of 'all'. Received: target='some'"),
    ],
)
def test_bad_targets_are_named(target, message, x):
    for explain in (exact, sampled):
        with pytest.raises(ValueError, match=message):
            explain(three_outputs, x, target)


def test_the_label_1_of_a_single_unit_is_refused_with_the_index_that_it_has(rng):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(1, "sigmoid")])
    x = rng.normal(size=(3, 4)).astype("float32")
    for explain in (exact, sampled, ks.fast_shapley_values):
        for labels in (1, [0, 1, 1]):
            with pytest.raises(ValueError, match="`target` must be 0, or None: a single output unit"):
                explain(model, x, labels)
        assert explain(model, x, None).target.tolist() == [0, 0, 0]


def test_the_tolerance_is_that_of_the_target(rng):
    """A target of a small scale is done sooner than all outputs."""
    x = rng.normal(size=(2, 4))
    options = {"n_paths": 20_000, "tolerance": 0.002}
    everything = ks.sampled_shapley_values(of_two_scales, x, **options)
    smooth = ks.sampled_shapley_values(of_two_scales, x, 0, **options)
    assert smooth.stderr.max() <= 0.002 and smooth.n_evaluations < everything.n_evaluations / 3


def of_two_scales(batch):
    return three_outputs(batch) * [0.01, 1, 1]


def test_a_control_may_be_a_result_or_have_the_shape_of_the_values(rng):
    x = np.random.default_rng(5).normal(size=(1, 8))

    def fn(batch):
        rising = 1 / (1 + np.exp(-1.5 * batch.sum(axis=1)))
        return np.stack([rising, -rising], axis=1)

    pairs = np.arange(8) // 2
    for players in (None, pairs):
        options = {"n_paths": 8, "players": players}
        truth = exact(fn, x, 0, players=players)
        plain = ks.sampled_shapley_values(fn, x, 0, **options)
        controlled = ks.sampled_shapley_values(fn, x, 0, control=truth, **options)
        assert controlled.stderr.mean() < 0.5 * plain.stderr.mean()
        by_array = ks.sampled_shapley_values(fn, x, 0, control=truth.values, **options)
        np.testing.assert_allclose(controlled.values, by_array.values, atol=1e-12)
        both = exact(fn, x, [[0, 1]], players=players)
        of_both = ks.sampled_shapley_values(fn, x, [[0, 1]], control=both.values, **options)
        np.testing.assert_allclose(of_both.values[..., 0], controlled.values, atol=1e-12)
        everything = exact(fn, x, players=players)
        of_all = ks.sampled_shapley_values(fn, x, control=everything, **options)
        np.testing.assert_allclose(of_all.values, of_both.values, atol=1e-12)
        with pytest.raises(ValueError, match=r"`control` must be .*Received: shape \(1, \d, 2\)"):
            ks.sampled_shapley_values(fn, x, 0, control=everything, **options)
