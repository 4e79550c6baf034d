"""zennit's rules and composites against ours, from the same weights. Skipped where zennit is not installed."""

import sys
import types

import keras
import numpy as np
import pytest
from keras import layers
from reference.calls import call_of, propagate

import keras_shapley as ks

if keras.backend.backend() != "torch":
    pytest.skip("zennit runs on PyTorch", allow_module_level=True)

import torch  # noqa: E402


def close(ours, theirs):
    theirs = theirs.detach().numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())


@pytest.fixture
def zennit(monkeypatch):
    """zennit imports torchvision for models that are not needed here."""

    class Stub(types.ModuleType):
        def __getattr__(self, name):
            return type(name, (torch.nn.Module,), {})

    for name in ("torchvision", "torchvision.models", "torchvision.ops"):
        for path in (name, f"{name}.resnet", f"{name}.vgg", f"{name}.misc"):
            monkeypatch.setitem(sys.modules, path, Stub(path))
    return pytest.importorskip("zennit")


PRESETS = {
    "EpsilonPlus": (dict(), "epsilon_plus"),
    "EpsilonPlusFlat": (dict(), "epsilon_plus_flat"),
    "EpsilonAlpha2Beta1": (dict(), "epsilon_alpha2_beta1"),
    "EpsilonGammaBox": (dict(low=-1.0, high=2.0), ks.presets.epsilon_gamma_box(-1.0, 2.0)),
}


@pytest.mark.parametrize("name", PRESETS)
def test_presets_agree_with_zennit(name, twins, zennit):
    composites = pytest.importorskip("zennit.composites")
    attribution = pytest.importorskip("zennit.attribution")
    model, twin, x, x_torch = twins
    options, preset = PRESETS[name]
    composite = getattr(composites, name)(**options)
    with attribution.Gradient(model=twin, composite=composite) as attributor:
        output, theirs = attributor(x_torch.requires_grad_(), lambda out: torch.eye(4)[[1]].expand(3, 4) * out.detach())
    close(ks.LRP(model, rules=preset).explain(x, 1).input, theirs)


def test_without_biases_eq_2_is_epsilon(twins):
    model, _, x, _ = twins
    shapley = ks.LRP(model, rules=[(layers.MaxPooling2D, "winner_takes_all")]).explain(x, 1).input
    np.testing.assert_allclose(
        shapley, ks.LRP(model, rules="epsilon").explain(x, 1).input, atol=1e-4 * np.abs(shapley).max()
    )


BIAS = keras.initializers.RandomNormal(stddev=0.3, seed=1)
# by name: the layer, the shape of its input, and the same module of PyTorch
LAYERS = {
    "Dense": (lambda: layers.Dense(4, bias_initializer=BIAS), (6,), lambda: torch.nn.Linear(6, 4)),
    "Conv1D": (lambda: layers.Conv1D(4, 3, bias_initializer=BIAS), (7, 3), lambda: torch.nn.Conv1d(3, 4, 3)),
    "Conv2D": (lambda: layers.Conv2D(4, 3, bias_initializer=BIAS), (6, 5, 3), lambda: torch.nn.Conv2d(3, 4, 3)),
    "Conv2D, same": (
        lambda: layers.Conv2D(4, 3, padding="same", bias_initializer=BIAS),
        (6, 5, 3),
        lambda: torch.nn.Conv2d(3, 4, 3, padding=1),
    ),
    "Conv2D, strided": (
        lambda: layers.Conv2D(4, 3, strides=2, bias_initializer=BIAS),
        (7, 7, 3),
        lambda: torch.nn.Conv2d(3, 4, 3, stride=2),
    ),
    "Conv2D, dilated": (
        lambda: layers.Conv2D(4, 2, dilation_rate=2, bias_initializer=BIAS),
        (6, 6, 3),
        lambda: torch.nn.Conv2d(3, 4, 2, dilation=2),
    ),
    "Conv2D, groups": (
        lambda: layers.Conv2D(4, 3, groups=2, bias_initializer=BIAS),
        (6, 6, 4),
        lambda: torch.nn.Conv2d(4, 4, 3, groups=2),
    ),
    "Conv3D": (lambda: layers.Conv3D(2, 2, bias_initializer=BIAS), (4, 4, 3, 2), lambda: torch.nn.Conv3d(2, 2, 2)),
    "Conv2DTranspose": (
        lambda: layers.Conv2DTranspose(3, 2, strides=2, bias_initializer=BIAS),
        (4, 4, 2),
        lambda: torch.nn.ConvTranspose2d(2, 3, 2, stride=2),
    ),
}
# by name: ours and zennit's; "ignore" leaves the bias out of the denominators
RULES = {
    "Epsilon": (ks.rules.Epsilon, dict(epsilon=1e-6), lambda rules: rules.Epsilon),
    "Epsilon, large": (ks.rules.Epsilon, dict(epsilon=0.5), lambda rules: rules.Epsilon),
    "ZPlus": (ks.rules.ZPlus, {}, lambda rules: rules.ZPlus),
    "AlphaBeta 2, 1": (ks.rules.AlphaBeta, dict(alpha=2.0, beta=1.0), lambda rules: rules.AlphaBeta),
    "AlphaBeta 1, 0": (ks.rules.AlphaBeta, dict(alpha=1.0, beta=0.0), lambda rules: rules.AlphaBeta),
    "Gamma": (ks.rules.Gamma, dict(gamma=0.25), lambda rules: rules.Gamma),
    "Gamma, large": (ks.rules.Gamma, dict(gamma=5.0), lambda rules: rules.Gamma),
    "ZBox": (ks.rules.ZBox, dict(low=-2.0, high=3.0), lambda rules: rules.ZBox),
    "WSquare": (ks.rules.WSquare, {}, lambda rules: rules.WSquare),
    "Flat": (ks.rules.Flat, {}, lambda rules: rules.Flat),
}


@pytest.mark.parametrize("bias", ["absorb", "ignore"])
@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("kind", LAYERS)
def test_rules_agree_with_zennit(kind, name, bias, rng, zennit):
    layer, shape, module = (part() if callable(part) else part for part in LAYERS[kind])
    ours, options, theirs = RULES[name]
    rules = pytest.importorskip("zennit.rules")
    call = call_of(layer, shape)
    with torch.no_grad():
        kernel, offset = layer.get_weights()
        # channels of the output first, or of the input, for a transposed convolution too
        module.weight.copy_(torch.tensor(np.moveaxis(kernel, (-1, -2), (0, 1)).copy()))
        module.bias.copy_(torch.tensor(offset))
    module = module.to(torch.float32)
    x = rng.normal(size=(3, *shape)).astype("float32")
    relevance = rng.normal(size=(3, *call.op.compute_output_shape((3, *shape))[1:])).astype("float32")
    ignores_bias = name in ("ZBox", "Flat")
    own = {} if ignores_bias else {"bias": bias}
    found = propagate(ours(**options, **own), call, [x], relevance)[0]

    zero = {"zero_params": "bias"} if bias == "ignore" or ignores_bias else {}
    handles = theirs(rules)(**options, **zero).register(module)
    x_torch, relevance_torch = (torch.tensor(np.moveaxis(part, -1, 1).copy()) for part in (x, relevance))
    y = module(x_torch.requires_grad_())
    (expected,) = torch.autograd.grad(y, x_torch, relevance_torch)
    handles.remove()
    expected = np.moveaxis(expected.detach().numpy(), 1, -1)
    # processors round convolutions differently, and a small epsilon makes much of that where sums are near zero
    bound = 2e-3 if name == "Epsilon" else 2e-4
    np.testing.assert_allclose(found, expected, atol=bound * np.abs(expected).max())
