"""What holds for the methods that look into a network: random ones, in float64."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops, tree
from reference.marks import MASKS_OF_FEW_PLAYERS, MAY_MISS_THE_TOTAL, SLOW_ON_JAX
from reference.random_models import BLOCKS, LINEAR, WITHOUT_MOMENTS, eager_float64, networks

import keras_shapley as ks

pytestmark = [MAY_MISS_THE_TOTAL, MASKS_OF_FEW_PLAYERS, *SLOW_ON_JAX]
NAMES = {name for blocks in BLOCKS.values() for name in blocks}
NETWORKS = networks(kinds=("vector", "steps"), blocks=NAMES - WITHOUT_MOMENTS, ends=("flatten", "average"))
SEEDS = st.integers(0, 10**6)


@pytest.fixture(scope="module", autouse=True)
def without_compiling():
    with eager_float64():
        yield


def moments(model, x, target, **options):
    return ks.fast_shapley_values(model, x, target, n=2, n_samples=2, progress=False, **options)


def masks(model, x, target, **options):
    return ks.fast_shapley_values(model, x, target, method="masks", n=6, progress=False, **options)


def surrogate(model, x, target, **options):
    return ks.shapley_values(model, x, target, method="auto", budget=40, progress=False, **options)


METHODS = st.sampled_from([moments, masks, surrogate])


def close(found, expected, atol=1e-5):
    np.testing.assert_allclose(found, expected, atol=atol * (1 + np.abs(expected).max()))


def outputs(model, x):
    """What the first output is, in float64, `(batch,)`."""
    return ops.convert_to_numpy(model(x, training=False))[:, 0]


@given(NETWORKS, METHODS, SEEDS, st.booleans())
def test_values_and_residual_make_the_total(network, method, seed, normalizes):
    model, x, baseline = network.build(), network.inputs(3), network.inputs(1, seed=1)
    options = {} if method is surrogate else {"normalize": normalizes}
    result = method(model, x, 0, baseline=one_of(baseline), seed=seed, **options)
    close(result.total, outputs(model, x) - outputs(model, baseline))
    if method is surrogate:
        close(result.residual, 0)
    if normalizes or method is surrogate:
        close(result.values.sum(axis=1), result.total)
    else:
        close(result.values.sum(axis=1) + result.residual, result.total)
    assert result.stderr is None or (result.stderr >= 0).all()


@given(NETWORKS, METHODS, SEEDS)
def test_a_player_that_is_absent_has_nothing(network, method, seed):
    """Its element is the baseline's."""
    model, x, baseline = network.build(), network.inputs(2), one_of(network.inputs(1, seed=1))
    is_same = tree.map_structure(lambda part: np.random.default_rng(seed).uniform(size=part.shape) < 0.4, x)
    x = tree.map_structure(np.where, is_same, baseline, x)
    result = method(model, x, 0, baseline=baseline, seed=seed)
    for part, mask in zip(tree.flatten(result.heatmap), tree.flatten(is_same)):
        np.testing.assert_allclose(part[mask], 0, atol=1e-12)


@given(NETWORKS, METHODS, SEEDS)
def test_a_row_does_not_depend_on_its_batch(network, method, seed):
    model, x = network.build(), network.inputs(3)
    target = np.arange(3) % network.units
    result = method(model, x, target, seed=seed)
    np.testing.assert_array_equal(method(model, x, target, seed=seed).values, result.values)
    alone = method(model, rows(x, slice(1, 2)), target[1:2], seed=seed)
    close(alone.values, result.values[1:2])
    order = [2, 0, 1]
    close(method(model, rows(x, order), target[order], seed=seed, batch_size=2).values, result.values[order])


@given(NETWORKS, st.sampled_from([moments, masks]), SEEDS)
def test_several_targets_are_as_one_by_one(network, method, seed):
    model, x = network.build(), network.inputs(2)
    every = method(model, x, "all", seed=seed).values
    for k in range(network.units):
        close(every[:, :, k], method(model, x, k, seed=seed).values)
    both = method(model, x, [[0, network.units - 1]], seed=seed).values
    close(both, every[:, :, [0, network.units - 1]])


@given(networks(blocks=LINEAR, heads=["linear"], ends=("flatten", "average")), METHODS, SEEDS)
def test_a_linear_model_gives_each_input_what_it_adds(network, method, seed):
    """`w (x - baseline)`, with `w` from the model's outputs at single changes."""
    model, x, baseline = network.build(), network.inputs(1), network.inputs(1, seed=1)
    found = method(model, x, 0, baseline=one_of(baseline), seed=seed, players="inputs").values
    before = outputs(model, baseline)
    names = list(network.branches)
    for k, name in enumerate(names):
        changed = x if len(names) == 1 else {**baseline, name: x[name]}
        close(found[:, k], outputs(model, changed) - before, 1e-4)


def one_of(batch):
    """The first input of a batch."""
    return tree.map_structure(lambda part: part[0], batch)


def rows(x, index):
    return tree.map_structure(lambda part: part[index], x)
