"""What holds for the relevance of any model: random networks, rules and baselines, in float64."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from keras import ops, tree
from reference.marks import SLOW_ON_JAX
from reference.random_models import LINEAR, eager_float64, networks

import keras_shapley as ks

pytestmark = SLOW_ON_JAX
PRESETS = ["auto", "paper", "epsilon", "epsilon_plus", "epsilon_plus_flat", "epsilon_alpha2_beta1"]
BASELINES = ["none", "number", "array", "background"]


@pytest.fixture(scope="module", autouse=True)
def without_compiling():
    with eager_float64():
        yield


def rows(x, index):
    """Rows of a batch, or of what was computed for it."""
    return tree.map_structure(lambda part: part[index], x)


def baseline_of(network, kind, rules):
    if kind == "none" and rules != "auto":
        return None
    if kind in ("none", "number"):
        return 0.0 if kind == "none" else 0.3
    background = network.inputs(2, seed=1)
    return background if kind == "background" else rows(background, 0)


def total(relevance):
    return sum(part.reshape(len(part), -1).sum(axis=1) for part in tree.flatten(relevance))


def scale(explanation):
    """The most relevance that was anywhere on the way, for each row: rounding is relative to it."""
    places = [*explanation.layers.values(), *tree.flatten(explanation.input), explanation.head_total[:, None]]
    return 1e-3 + np.max([np.abs(place.reshape(len(place), -1)).sum(axis=1) for place in places], axis=0)


def close(found, expected, explanation, tolerance=1e-5):
    for a, b in zip(tree.flatten(found), tree.flatten(expected)):
        size = scale(explanation).reshape(-1, *(1,) * (a.ndim - 1))
        np.testing.assert_array_less(np.abs(a - b) / size, tolerance)


@given(networks(), st.sampled_from(PRESETS), st.sampled_from(BASELINES))
def test_relevance_and_the_gaps_make_the_total(network, rules, kind):
    """Whatever is lost or created stands in the gap of a call; from a baseline, Shapley propagation loses nothing."""
    model, x = network.build(), network.inputs(3)
    baseline = baseline_of(network, kind, rules)
    explanation = ks.LRP(model, rules=rules, baseline=baseline).explain(x, 0)
    gaps = sum(explanation.conservation_gap.signed.values())
    close(total(explanation.input) + gaps, explanation.head_total, explanation)
    if rules == "auto":
        close(total(explanation.input), explanation.head_total, explanation)
    if rules == "auto" or network.head != "relu":
        # Keras itself multiplies matrices of float64 in float32 on PyTorch
        output = ops.convert_to_numpy(model(x, training=False))[:, 0]
        close(explanation.head_total + explanation.head_baseline, output, explanation, 1e-4)


@given(networks(), st.sampled_from(PRESETS), st.sampled_from(BASELINES), st.permutations(range(4)))
def test_a_row_does_not_depend_on_its_batch(network, rules, kind, order):
    """Twice the same; alone as among others; in another order as in the first; and nothing of it in the model."""
    model, x = network.build(), network.inputs(4)
    weights = model.get_weights()
    explainer = ks.LRP(model, rules=rules, baseline=baseline_of(network, kind, rules))
    target = np.arange(4) % network.units
    explanation = explainer.explain(x, target)
    for a, b in zip(tree.flatten(explanation.input), tree.flatten(explainer.explain(x, target).input)):
        np.testing.assert_array_equal(a, b)
    close(tree.map_structure(ops.convert_to_numpy, explainer(x, target)), explanation.input, explanation)
    alone = explainer.explain(rows(x, slice(1, 2)), target[1:2])
    close(alone.input, rows(explanation.input, slice(1, 2)), alone)
    permuted = explainer.explain(rows(x, order), target[order])
    close(permuted.input, rows(explanation.input, order), permuted)
    both = explainer.explain(x, [[0, network.units - 1]])
    for k, output in enumerate((0, network.units - 1)):
        one = explainer.explain(x, output)
        close(rows(both.input, (slice(None), k)), one.input, one)
    for a, b in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(a, b)


@given(networks(), st.sampled_from(["number", "array"]), st.integers(0, 2**20))
def test_an_input_that_is_the_baselines_has_no_relevance(network, kind, seed):
    model, x = network.build(), network.inputs(3)
    baseline = baseline_of(network, kind, "auto")
    absent = [np.broadcast_to(part, a.shape[1:]) for part, a in zip(_each(baseline, x), tree.flatten(x))]
    rng = np.random.default_rng(seed)
    same = [rng.uniform(size=a.shape) < 0.5 for a in tree.flatten(x)]
    mixed = [np.where(mask, a0, a) for mask, a0, a in zip(same, absent, tree.flatten(x))]
    explainer = ks.LRP(model, baseline=baseline)
    relevance = explainer.explain(tree.pack_sequence_as(x, mixed), 0).input
    for part, mask in zip(tree.flatten(relevance), same):
        np.testing.assert_array_equal(part[mask], 0)
    everywhere = [np.repeat(a0[None], 2, axis=0) for a0 in absent]
    explanation = explainer.explain(tree.pack_sequence_as(x, everywhere), 0)
    for part in tree.flatten(explanation.input):
        np.testing.assert_array_equal(part, 0)


def _each(baseline, x):
    """The baseline of each input."""
    return [baseline] * len(tree.flatten(x)) if isinstance(baseline, float) else tree.flatten(baseline)


@given(networks(heads=["linear", "relu", "tanh"]), st.sampled_from(PRESETS), st.integers(0, 2**20))
def test_relevance_is_linear_in_what_is_explained(network, rules, seed):
    """Of a weighted sum of outputs it is the weighted sum of the relevance of each."""
    model, x = network.build(), network.inputs(3)
    weights = np.random.default_rng(seed).normal(size=network.units)
    explainer = ks.LRP(model, rules=rules)
    each = [explainer.explain(x, k) for k in range(network.units)]
    found = explainer.explain(x, weights).input
    for number, part in enumerate(tree.flatten(found)):
        expected = sum(weight * tree.flatten(one.input)[number] for weight, one in zip(weights, each))
        size = sum(abs(weight) * scale(one) for weight, one in zip(weights, each))
        np.testing.assert_array_less(np.abs(part - expected) / size.reshape(-1, *(1,) * (part.ndim - 1)), 1e-5)


@given(
    networks(kinds=("image", "vector"), blocks=LINEAR, heads=["linear"], ends=("flatten", "average"), bias=False),
    st.sampled_from(["auto", "paper", "epsilon"]),
)
def test_a_linear_model_without_biases_gives_each_input_what_it_adds(network, rules):
    """`w x`, with `w` from the model's outputs at unit vectors."""
    model, x = network.build(), network.inputs(2)
    inputs = tree.flatten(x)
    sizes = [a[0].size for a in inputs]
    eye = np.split(np.eye(sum(sizes), dtype=inputs[0].dtype), np.cumsum(sizes)[:-1], axis=1)
    units = [part.reshape(-1, *a.shape[1:]) for part, a in zip(eye, inputs)]
    slopes = ops.convert_to_numpy(model(tree.pack_sequence_as(x, units), training=False))[:, 0]
    # without a stabiliser, which would show beside a small denominator
    rules = rules if rules == "auto" else getattr(ks.presets, rules)(1e-30)
    explanation = ks.LRP(model, rules=rules).explain(x, 0)
    for a, w, part in zip(inputs, np.split(slopes, np.cumsum(sizes)[:-1]), tree.flatten(explanation.input)):
        close(part, a * w.reshape(a.shape[1:]), explanation, 1e-4)


@given(networks(), st.sampled_from(["sa", "shaplu"]), st.booleans())
def test_a_model_that_is_converted_and_back_is_the_same(network, activation, merges):
    """Its weights and predictions; with ShapLU also in between, as its forward pass is ReLU's."""
    model, x = network.build(), network.inputs(3)
    assume(not any(name.startswith(("SA", "ShapLU")) for name in network.names))
    converted, report = ks.to_shapley(model, activation, merge_batch_norm=merges)
    back, _ = ks.to_relu(converted, approximate=True)
    outputs = [ops.convert_to_numpy(each(x, training=False)) for each in (model, back, converted)]
    np.testing.assert_allclose(outputs[1], outputs[0], atol=1e-4)
    if activation == "shaplu" or not report.changed:
        np.testing.assert_allclose(outputs[2], outputs[0], atol=1e-4)
    if not merges:
        for a, b in zip(model.get_weights(), back.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
