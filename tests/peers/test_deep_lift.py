"""The rescale rule as captum's DeepLift from the same weights. Optional: skipped where captum is not installed."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_shapley as ks

if keras.backend.backend() != "torch":
    pytest.skip("captum runs on PyTorch", allow_module_level=True)

import torch  # noqa: E402


@pytest.mark.filterwarnings("ignore:Setting forward, backward hooks:UserWarning")
@pytest.mark.parametrize("activation", ["relu", "tanh", "leaky_relu"])
def test_rescale_agrees_with_deep_lift_of_captum(activation, rng):
    attr = pytest.importorskip("captum.attr")
    bias = keras.initializers.RandomNormal(stddev=0.3, seed=2)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(5, 3, bias_initializer=bias),
            layers.Activation(activation),
            layers.AveragePooling2D(2),
            layers.Conv2D(4, 2, activation=activation, bias_initializer=bias),
            layers.GlobalAveragePooling2D(),
            layers.Dense(6, activation, bias_initializer=bias),
            layers.Dense(3, bias_initializer=bias),
        ]
    )
    function = {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh, "leaky_relu": lambda: torch.nn.LeakyReLU(0.2)}[activation]
    twin = torch.nn.Sequential(
        torch.nn.Conv2d(3, 5, 3),
        function(),
        torch.nn.AvgPool2d(2),
        torch.nn.Conv2d(5, 4, 2),
        function(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(4, 6),
        function(),
        torch.nn.Linear(6, 3),
    )
    twin = twin.to(torch.empty(()).device)
    with torch.no_grad():
        for parameter, weight in zip(twin.parameters(), model.get_weights(), strict=True):
            order = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[weight.ndim]
            parameter.copy_(torch.tensor(weight.transpose(order)))
    x, baseline = (rng.normal(size=(n, 8, 8, 3)).astype("float32") for n in (3, 1))
    rules = [((layers.Conv2D, layers.Dense, layers.Activation), ks.rules.Rescale())]
    ours = ks.LRP(model, rules=rules, baseline=baseline[0]).explain(x, 1).input
    x_torch, baseline_torch = (torch.tensor(part.transpose(0, 3, 1, 2).copy()) for part in (x, baseline))
    # its default takes a difference below 1e-10 for none, as ours does in float32
    theirs = attr.DeepLift(twin).attribute(x_torch.requires_grad_(), baseline_torch, target=1)
    theirs = theirs.detach().numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())
