"""The same attributions as zennit and captum from the same weights. Optional: skipped where they are not installed."""

import sys
import types

import keras
import numpy as np
import pytest
from keras import layers

import keras_shapley as ks

if keras.backend.backend() != "torch":
    pytest.skip("both run on PyTorch", allow_module_level=True)

import torch  # noqa: E402


@pytest.fixture
def twins(rng):
    """A conv net in Keras and in PyTorch, without biases, and a batch for each."""
    model = keras.Sequential(
        [
            keras.Input((10, 10, 3)),
            layers.Conv2D(6, 3, activation="relu", use_bias=False, name="conv1"),
            layers.MaxPooling2D(2),
            layers.Conv2D(8, 3, activation="relu", use_bias=False, name="conv2"),
            layers.GlobalAveragePooling2D(keepdims=True),
            layers.Flatten(),
            layers.Dense(12, "relu", use_bias=False),
            layers.Dense(4, use_bias=False),
        ]
    )
    twin = torch.nn.Sequential(
        torch.nn.Conv2d(3, 6, 3, bias=False),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(6, 8, 3, bias=False),
        torch.nn.ReLU(),
        torch.nn.AvgPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(8, 12, bias=False),
        torch.nn.ReLU(),
        torch.nn.Linear(12, 4, bias=False),
    )
    twin = twin.to(torch.empty(()).device)
    with torch.no_grad():
        for parameter, weight in zip(twin.parameters(), model.get_weights(), strict=True):
            order = (3, 2, 0, 1) if weight.ndim == 4 else (1, 0)
            parameter.copy_(torch.tensor(weight.transpose(order)))
    x = rng.uniform(-1, 2, size=(3, 10, 10, 3)).astype("float32")
    return model, twin, x, torch.tensor(x.transpose(0, 3, 1, 2).copy())


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


def test_epsilon_agrees_with_captum(twins):
    attr = pytest.importorskip("captum.attr")
    lrp_rules = pytest.importorskip("captum.attr._utils.lrp_rules")
    model, twin, x, x_torch = twins
    twin[6].rule = lrp_rules.EpsilonRule()  # it knows none for Flatten
    close(
        ks.LRP(model, rules="epsilon").explain(x, 1).input,
        attr.LRP(twin).attribute(x_torch.requires_grad_(), target=1),
    )


def test_without_biases_eq_2_is_epsilon(twins):
    model, _, x, _ = twins
    shapley = ks.LRP(model, rules=[(layers.MaxPooling2D, "winner_takes_all")]).explain(x, 1).input
    np.testing.assert_allclose(
        shapley, ks.LRP(model, rules="epsilon").explain(x, 1).input, atol=1e-4 * np.abs(shapley).max()
    )
