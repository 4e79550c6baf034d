"""captum's LRP, Shapley values, infidelity and sensitivity against ours, from the same weights, sets and draws.

Skipped where captum is not installed.
"""

import itertools

import keras
import numpy as np
import pytest
from keras import layers

import keras_shapley as ks

if keras.backend.backend() != "torch":
    pytest.skip("captum runs on PyTorch", allow_module_level=True)

import torch  # noqa: E402

attr = pytest.importorskip("captum.attr")
captum_metrics = pytest.importorskip("captum.metrics")
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture
def model(rng):
    bias = keras.initializers.RandomNormal(stddev=0.3, seed=2)
    hidden = [layers.Dense(n, "relu", bias_initializer=bias) for n in (12, 8)]
    return keras.Sequential([keras.Input((6,)), *hidden, layers.Dense(3, bias_initializer=bias)])


@pytest.fixture
def x(rng):
    return rng.normal(size=(4, 6)).astype("float32")


def twin_of(model, rules=None):
    """The same network in PyTorch."""
    parts = []
    for layer in model.layers:
        kernel, offset = layer.get_weights()
        linear = torch.nn.Linear(*kernel.shape)
        with torch.no_grad():
            linear.weight.copy_(torch.tensor(kernel.T))
            linear.bias.copy_(torch.tensor(offset))
        parts.append(linear)
        if layer.activation is keras.activations.relu:
            parts.append(torch.nn.ReLU())
        if rules is not None:
            linear.rule = rules()
    return torch.nn.Sequential(*parts)


def numpy(tensor):
    return tensor.detach().numpy()


RULES = {
    "epsilon": ("EpsilonRule", dict(epsilon=1e-9), lambda: ks.rules.Epsilon(1e-9)),
    "epsilon, large": ("EpsilonRule", dict(epsilon=0.1), lambda: ks.rules.Epsilon(0.1)),
}


@pytest.mark.parametrize("name", RULES)
def test_lrp(name, model, x):
    lrp_rules = pytest.importorskip("captum.attr._utils.lrp_rules")
    rule, options, ours = RULES[name]
    twin = twin_of(model, lambda: getattr(lrp_rules, rule)(**options))
    theirs = numpy(attr.LRP(twin).attribute(torch.tensor(x, requires_grad=True), target=1))
    found = ks.LRP(model, rules=[(layers.Dense, ours())]).explain(x, 1).input
    np.testing.assert_allclose(found, theirs, atol=1e-4 * np.abs(theirs).max())


def test_lrp_of_a_conv_net(twins):
    lrp_rules = pytest.importorskip("captum.attr._utils.lrp_rules")
    model, twin, x, x_torch = twins
    twin[6].rule = lrp_rules.EpsilonRule()  # it knows none for Flatten
    theirs = numpy(attr.LRP(twin).attribute(x_torch.requires_grad_(), target=1)).transpose(0, 2, 3, 1)
    found = ks.LRP(model, rules="epsilon").explain(x, 1).input
    np.testing.assert_allclose(found, theirs, atol=1e-4 * np.abs(theirs).max())


@pytest.mark.parametrize("rule", ["GammaRule", "Alpha1_Beta0_Rule"])
def test_lrp_of_positive_inputs(rule, rng, x):
    """Captum changes weights alone, which is the rule where inputs are positive and there is no bias."""
    lrp_rules = pytest.importorskip("captum.attr._utils.lrp_rules")
    model = keras.Sequential([keras.Input((6,)), layers.Dense(5, use_bias=False)])
    linear = torch.nn.Linear(6, 5, bias=False)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor(model.get_weights()[0].T))
    linear.rule = getattr(lrp_rules, rule)()
    x = np.abs(x)
    target = keras.ops.convert_to_numpy(model(x)).argmax(axis=1)
    explainer = attr.LRP(torch.nn.Sequential(linear))
    theirs = numpy(explainer.attribute(torch.tensor(x, requires_grad=True), target=target.tolist()))
    ours = ks.rules.Gamma(0.25, epsilon=1e-9) if rule == "GammaRule" else ks.rules.ZPlus(1e-9)
    found = ks.LRP(model, rules=[(layers.Dense, ours)]).explain(x, target).input
    np.testing.assert_allclose(found, theirs, atol=1e-4 * np.abs(theirs).max())


@pytest.mark.parametrize("method", ["gradient", "integrated"])
def test_first_order_methods_of_a_linear_model(method, rng, x):
    """There all methods are `w (x - baseline)`."""
    model = keras.Sequential([keras.Input((6,)), layers.Dense(3, bias_initializer="normal")])
    twin, baseline = twin_of(model), torch.full((1, 6), 0.5)
    tensor = torch.tensor(x, requires_grad=True)
    theirs = (
        attr.IntegratedGradients(twin).attribute(tensor, baseline, target=1)
        if method == "integrated"
        else attr.DeepLift(twin).attribute(tensor, baseline, target=1)
    )
    np.testing.assert_allclose(ks.LRP(model, baseline=0.5).explain(x, 1).input, numpy(theirs), atol=1e-5)


def test_exact_shapley_values_are_those_of_all_orders(model, x):
    """captum's ShapleyValues walks every order, 720 of them."""
    theirs = attr.ShapleyValues(twin_of(model)).attribute(torch.tensor(x), baselines=0.25, target=2)
    found = ks.exact_shapley_values(model, x, 2, baseline=0.25).values
    np.testing.assert_allclose(found, numpy(theirs), atol=1e-5)


def test_groups_of_features(model, x):
    groups = np.array([0, 0, 1, 2, 2, 1])
    mask = torch.tensor(groups)[None]
    theirs = attr.ShapleyValues(twin_of(model)).attribute(torch.tensor(x), target=0, feature_mask=mask)
    found = ks.exact_shapley_values(model, x, 0, players=groups).values[:, groups]
    np.testing.assert_allclose(found, numpy(theirs), atol=1e-5)


def test_sampling_and_kernel_shap_are_near_by_their_own_errors(model, x):
    """Both estimate the values that ours has exactly."""
    torch.manual_seed(0)
    twin, tensor = twin_of(model), torch.tensor(x)
    truth = ks.exact_shapley_values(model, x, 1).values
    sampled = numpy(attr.ShapleyValueSampling(twin).attribute(tensor, target=1, n_samples=2000))
    kernel = [attr.KernelShap(twin).attribute(tensor[k : k + 1], target=1, n_samples=4000) for k in range(len(x))]
    size = np.abs(truth).max()
    np.testing.assert_allclose(sampled, truth, atol=0.05 * size)
    np.testing.assert_allclose(numpy(torch.cat(kernel)), truth, atol=0.1 * size)
    ours = ks.sampled_shapley_values(model, x, 1, n_paths=2000, progress=False)
    assert (np.abs(ours.values - truth) <= 6 * ours.stderr + 1e-6).all()


def test_infidelity(model, x):
    """captum averages over the sets that ours draws, given as the perturbations of its function."""
    n, seed, target = 64, 3, 1
    attributions = ks.exact_shapley_values(model, x, target).values
    ours = ks.metrics.infidelity(model, x, attributions, target, n=n, seed=seed)
    # the sets of `infidelity`: each element with a chance that is uniform
    rng = np.random.default_rng([seed, 1])
    removed = rng.uniform(size=(n, 6)) < rng.uniform(size=n)[:, None]
    draws = itertools.cycle(removed)

    def perturb(inputs):
        """One set at a time, for all images."""
        change = torch.tensor(next(draws))[None] * inputs
        return torch.tensor(np.broadcast_to(numpy(change != 0), inputs.shape).astype("float32")), inputs - change

    theirs = captum_metrics.infidelity(
        twin_of(model),
        perturb,
        torch.tensor(x),
        torch.tensor(attributions, dtype=torch.float32),
        target=target,
        n_perturb_samples=n,
        max_examples_per_batch=len(x),
        normalize=False,
    )
    np.testing.assert_allclose(ours, numpy(theirs), rtol=1e-3, atol=1e-6)


def test_sensitivity_max(model, x):
    """captum's largest relative change over the draws of ours."""
    n, seed, radius = 8, 5, 0.02
    explainer = ks.LRP(model)
    ours = ks.metrics.sensitivity_max(lambda x: explainer(x, 1), x, radius=radius, n=n, seed=seed)
    rng = np.random.default_rng(seed)
    draws = itertools.cycle([rng.uniform(-radius, radius, size=x.shape).astype("float32") for _ in range(n)])

    def explain(inputs):
        (inputs,) = inputs if isinstance(inputs, tuple) else (inputs,)
        return (torch.tensor(explainer.explain(numpy(inputs), 1).input),)

    theirs = captum_metrics.sensitivity_max(
        explain,
        torch.tensor(x),
        perturb_func=lambda inputs: inputs + torch.tensor(next(draws)),
        n_perturb_samples=n,
        max_examples_per_batch=len(x),
    )
    np.testing.assert_allclose(ours, numpy(theirs), rtol=1e-3)
