"""Metrics take the targets, outputs and explanation objects of the other functions."""

import functools

import keras
import numpy as np
import pytest
from keras import layers, ops
from reference.marks import MASKS_OF_FEW_PLAYERS, MAY_MISS_THE_TOTAL

import keras_shapley as ks
from keras_shapley import metrics
from keras_shapley.utils import progress

PERTURBATION = [
    metrics.perturbation_curve,
    metrics.deletion,
    metrics.insertion,
    functools.partial(metrics.pixel_flipping, first=3),
    functools.partial(metrics.infidelity, n=20),
]
W = np.random.default_rng(3).normal(size=(6, 3))


def three_outputs(x):
    return np.tanh(x @ W)


@pytest.fixture
def x(rng):
    return rng.normal(size=(3, 6)).astype("float32")


def sequential(*last, shape=(6,)):
    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.Input(shape), layers.Dense(8, "relu", bias_initializer="normal"), *last])


def functional(head):
    keras.utils.set_random_seed(1)
    image = keras.Input((6,))
    return keras.Model(image, head(layers.Dense(4, bias_initializer="normal")(layers.Dense(8, "relu")(image))))


HEADS = {
    "softmax as a layer": lambda: sequential(layers.Dense(3), layers.Softmax()),
    "softmax as an activation": lambda: sequential(layers.Dense(3, "softmax")),
    "softmax as a function": lambda: functional(keras.activations.softmax),
    "softmax as an operation": lambda: functional(ops.softmax),
    "averaged softmaxes": lambda: functional(lambda x: (ops.softmax(x[:, :2]) + ops.softmax(x[:, 2:])) / 2),
    "logits": lambda: sequential(layers.Dense(3)),
    "one sigmoid": lambda: sequential(layers.Dense(1, "sigmoid")),
    "one sigmoid as an operation": lambda: functional(lambda x: ops.sigmoid(x[:, :1])),
    "a number": lambda: functional(lambda x: ops.sigmoid(x[:, 0])),
    "several sigmoids": lambda: sequential(layers.Dense(3, "sigmoid")),
    "regression with one unit": lambda: sequential(layers.Dense(1)),
    "regression with several units": lambda: sequential(layers.Dense(2, "tanh")),
    "maps": lambda: sequential(layers.Dense(12), layers.Reshape((2, 2, 3)), layers.Softmax()),
}


@MAY_MISS_THE_TOTAL
@pytest.mark.parametrize("head", HEADS)
def test_the_target_of_a_result_is_understood_for_every_head(head, x):
    """The metric looks at the output that was explained: curves begin at it, and end without players."""
    model = HEADS[head]()
    exact = ks.exact_shapley_values(model, x, None)
    fast = ks.fast_shapley_values(model, x)
    np.testing.assert_array_equal(fast.target, exact.target)
    outputs = ops.convert_to_numpy(model(x)).reshape(3, -1)
    for result in (exact, fast):
        curve = metrics.perturbation_curve(model, x, result, result.target)
        np.testing.assert_allclose(curve[:, 0], outputs[np.arange(3), exact.target], atol=1e-6)
        np.testing.assert_allclose(curve[:, -1], exact.baseline_value, atol=1e-6)
        np.testing.assert_array_equal(
            metrics.deletion(model, x, result.heatmap, result.target), metrics.deletion(model, x, result)
        )
    # attributions that raise the output go first, so that it falls sooner than with the opposite sign
    assert np.all(metrics.deletion(model, x, exact) <= metrics.deletion(model, x, -exact.values) + 1e-6)
    assert np.all(metrics.infidelity(model, x, exact) <= metrics.infidelity(model, x, -exact.values))
    for labels in (1, [0, 1, 1]) if outputs.shape[1] == 1 else ():
        with pytest.raises(ValueError, match="`target` must be 0, or None"):
            metrics.deletion(model, x, exact, labels)


@pytest.mark.parametrize("metric", PERTURBATION)
def test_each_form_of_target(metric, x, rng):
    attributions = rng.normal(size=x.shape)
    each = np.stack([metric(three_outputs, x, attributions, k) for k in range(3)])
    mixed = np.stack([each[2, 0], each[0, 1], each[1, 2]])
    for same in (np.array([2, 0, 1]), [[2], [0], [1]], np.eye(3)[[2, 0, 1]], np.eye(3, dtype=bool)[[2, 0, 1]]):
        np.testing.assert_allclose(metric(three_outputs, x, attributions, same, batch_size=2), mixed, atol=1e-12)
    largest = three_outputs(x).argmax(axis=1)
    expected = np.stack([each[k, i] for i, k in enumerate(largest)])
    np.testing.assert_allclose(metric(three_outputs, x, attributions, batch_size=2), expected, atol=1e-12)
    weights = rng.normal(size=3)
    weighted = metric(three_outputs, x, attributions, weights)
    alone = metric(lambda batch: three_outputs(batch) @ weights, x, attributions)
    np.testing.assert_allclose(weighted, alone, atol=1e-12)
    one_hot = np.eye(3, dtype=int)[[2, 0, 1]]
    with pytest.raises(ValueError, match=r"one-hot rows.*`target.argmax\(axis=1\)`"):
        metric(three_outputs, x, attributions, one_hot)
    with pytest.raises(ValueError, match="`target` must be one target for each sample. Received: 2"):
        metric(three_outputs, x, attributions, [[0, 1]])


@pytest.mark.parametrize("metric", PERTURBATION)
def test_a_region_of_a_map(metric, x, rng):
    model = HEADS["maps"]()
    attributions = rng.normal(size=x.shape)
    region = rng.normal(size=(2, 2, 3))

    def sums(batch):
        return np.sum(ops.convert_to_numpy(model(batch)) * region, axis=(1, 2, 3))

    result = metric(model, x, attributions, region)
    np.testing.assert_allclose(result, metric(sums, x, attributions), atol=1e-6)
    number = np.ravel_multi_index((1, 0, 2), (2, 2, 3))
    element = metric(lambda batch: ops.convert_to_numpy(model(batch))[:, 1, 0, 2], x, attributions)
    np.testing.assert_allclose(metric(model, x, attributions, number), element, atol=1e-6)


@pytest.mark.parametrize("metric", PERTURBATION)
def test_an_output_of_several(metric, x, rng):
    image = keras.Input((6,))
    hidden = layers.Dense(5, "relu")(image)
    kind, size = layers.Dense(3, "softmax", name="kind")(hidden), layers.Dense(1, name="size")(hidden)
    model = keras.Model(image, {"what": kind, "amount": size})
    attributions = rng.normal(size=x.shape)
    for output, alone in (("what", kind), ("kind", kind), (1, kind), ("amount", size), (0, size)):
        expected = metric(keras.Model(image, alone), x, attributions)
        np.testing.assert_allclose(metric(model, x, attributions, output=output), expected, atol=1e-6)
    with pytest.raises(ValueError, match="`output` must say which output"):
        metric(model, x, attributions)
    with pytest.raises(ValueError, match="`output` must be None for a function"):
        metric(three_outputs, x, attributions, output=1)


@pytest.mark.parametrize("metric", PERTURBATION)
def test_results_of_groups_are_spread_by_hand(metric, rng):
    """Unequal groups of pixels with channels: each element has its share of the group's value."""
    x = rng.normal(size=(2, 2, 3, 2)).astype("float32")
    model = keras.Sequential([keras.Input((2, 3, 2)), layers.Flatten(), layers.Dense(3, "softmax")])
    groups = np.array([[0, 0, 1], [0, 2, 2]])
    sizes = np.array([6, 2, 4])
    for result in (
        ks.exact_shapley_values(model, x, 1, players=groups),
        ks.sampled_shapley_values(model, x, 1, players=groups, n_paths=4),
        ks.fast_shapley_values(model, x, 1, players=groups),
    ):
        spread = (result.values / sizes)[:, groups][..., None].repeat(2, axis=3)
        np.testing.assert_allclose(metric(model, x, result, 1), metric(model, x, spread, 1), atol=1e-12)
    with pytest.raises(ValueError, match="`attributions` must be of the shape of `x`"):
        metric(model, x, result.values, 1)


def test_infidelity_of_whole_groups_counts_the_elements_that_are_removed(rng):
    """Half of a group takes half of its value away: by a loop over the sets."""
    groups = np.array([0, 0, 0, 1, 1, 0])
    x = rng.normal(size=(2, 6))
    result = ks.exact_shapley_values(three_outputs, x, 2, players=groups)
    draws = np.random.default_rng([0, 1])
    removed = draws.uniform(size=(30, 6)) < draws.uniform(size=30)[:, None]
    errors = []
    for image, (first, second) in zip(x, result.values):
        predicted = [first * np.mean(row[groups == 0]) + second * np.mean(row[groups == 1]) for row in removed]
        drops = three_outputs(image[None])[0, 2] - three_outputs(np.where(removed, 0, image))[:, 2]
        errors.append(np.mean(np.square(predicted - drops)))
    np.testing.assert_allclose(metrics.infidelity(three_outputs, x, result, 2, n=30), errors, atol=1e-12)


def test_relevance_is_taken_from_its_explanation(x):
    model = HEADS["one sigmoid"]()
    explanation = ks.LRP(model).explain(x)
    for metric in PERTURBATION:
        expected = metric(model, x, explanation.input, 0)
        np.testing.assert_array_equal(metric(model, x, explanation, explanation.target), expected)
    truth = ks.exact_shapley_values(model, x, explanation.target)
    np.testing.assert_array_equal(
        metrics.correlation(explanation, truth), metrics.correlation(explanation.input, truth.values)
    )


@MASKS_OF_FEW_PLAYERS
@MAY_MISS_THE_TOTAL
def test_agreement_and_stability_take_results(x):
    model = HEADS["softmax as an activation"]()
    truth = ks.exact_shapley_values(model, x, 0)
    fast = ks.fast_shapley_values(model, x, 0)
    for metric in (metrics.correlation, metrics.rank_correlation, metrics.relative_rmse):
        np.testing.assert_array_equal(metric(fast, truth), metric(fast.values, truth.values))
        np.testing.assert_array_equal(metric(fast.values, truth), metric(fast, truth.values))
    np.testing.assert_allclose(metrics.conservation(truth, fast.total), 0, atol=1e-4)
    with pytest.raises(ValueError, match="`target=`"):
        metrics.correlation(ks.exact_shapley_values(model, x), truth)

    def explain(inputs):
        return ks.fast_shapley_values(model, inputs, 0, method="masks", n=2)

    np.testing.assert_array_equal(
        metrics.sensitivity_max(explain, x, n=2), metrics.sensitivity_max(lambda inputs: explain(inputs).values, x, n=2)
    )
    of_results = metrics.randomization(model, explain, x)
    of_arrays = metrics.randomization(model, lambda inputs: explain(inputs).values, x)
    np.testing.assert_array_equal(list(of_results.values()), list(of_arrays.values()))


def two_inputs(x):
    first, second = x.values() if isinstance(x, dict) else x
    return first.sum(axis=1) + second.prod(axis=1) * first[:, 0]


@pytest.mark.parametrize("names", [None, ("a", "b")])
@pytest.mark.parametrize("sizes", [(3, 3), (3, 4)])
def test_results_of_several_inputs(names, sizes, rng):
    """They are compared element by element, input after input, and elements are changed in one order."""
    x = [rng.normal(size=(2, size)) for size in sizes]
    x = dict(zip(names, x)) if names else x
    truth = ks.exact_shapley_values(two_inputs, x, 0)
    estimate = ks.sampled_shapley_values(two_inputs, x, 0, n_paths=2)
    for metric in (metrics.correlation, metrics.rank_correlation, metrics.relative_rmse):
        expected = metric(estimate.values, truth.values)
        assert expected.shape == (2,)
        np.testing.assert_array_equal(metric(estimate, truth), expected)
    np.testing.assert_allclose(metrics.conservation(truth, truth.total), 0, atol=1e-12)
    joined = np.concatenate(list(x.values()) if names else x, axis=1)

    def of_joined(rows):
        return two_inputs(np.split(rows, [3], axis=1))

    swapped = dict(reversed(x.items())) if names else x
    for metric in PERTURBATION:
        expected = metric(of_joined, joined, truth.values, 0, baseline=0.5)
        np.testing.assert_allclose(metric(two_inputs, x, truth, baseline=0.5), expected)
        np.testing.assert_allclose(metric(two_inputs, x, truth.values, 0, baseline=0.5), expected)
        baselines = {name: np.full(part.shape[1], 0.5) for name, part in swapped.items()} if names else [0.5, 0.5]
        heatmap = {name: truth.heatmap[name] for name in swapped} if names else truth.heatmap
        np.testing.assert_allclose(metric(two_inputs, x, heatmap, 0, baseline=baselines), expected)
        with pytest.raises(ValueError, match="`attributions`"):
            metric(of_joined, joined, truth)

    # attributions `3 a` and `5 b`, whose changes are known
    def explain(inputs):
        first, second = inputs.values() if isinstance(inputs, dict) else inputs
        return dict(zip(names, (3 * first, 5 * second))) if names else {"first": 3 * first, "second": 5 * second}

    scaled = joined * np.repeat([3, 5], sizes)
    bound = 0.1 * np.sqrt(9 * sizes[0] + 25 * sizes[1]) / np.linalg.norm(scaled, axis=1)
    sensitivity = metrics.sensitivity_max(explain, x, radius=0.1, n=200)
    assert np.all(sensitivity <= bound) and np.all(sensitivity > 0.75 * bound)


def test_progress_is_shown_by_default_for_work_that_takes_long(x, capsys, monkeypatch):
    model = HEADS["logits"]()
    calls = [
        functools.partial(metrics.sensitivity_max, lambda inputs: inputs, x, n=3),
        functools.partial(metrics.randomization, model, lambda inputs: inputs, x),
        *(functools.partial(metric, three_outputs, x, x, 0) for metric in PERTURBATION),
    ]
    for call in calls:
        call()
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(progress, "_DELAY", 0.0)
    for call in calls:
        call(progress=False)
        assert capsys.readouterr().out == ""
        call()
        out = capsys.readouterr().out
        assert "3/3" in out or "2/2" in out


def test_an_explanation_is_judged_by_its_own_target(rng):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "softmax")])
    x = rng.normal(size=(5, 4)).astype("float32")
    explanation = ks.LRP(model).explain(x, 2)
    expected = ks.metrics.deletion(model, x, explanation.input, 2)
    np.testing.assert_array_equal(ks.metrics.deletion(model, x, explanation), expected)


def test_relevance_for_one_output_rather_than_another_is_judged_so(rng):
    """A linear model, whose relevance is exact: nothing is unexplained."""
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, use_bias=False)])
    x = rng.normal(size=(5, 4)).astype("float32")
    for target, versus in [(1, 0), ([0, 1, 2, 1, 0], [2, 2, 1, 0, 1]), (np.array([0.0, 1.0, 0.0]), 2)]:
        explanation = ks.LRP(model).explain(x, target, versus=versus)
        np.testing.assert_allclose(metrics.infidelity(model, x, explanation, progress=False), 0, atol=1e-10)
