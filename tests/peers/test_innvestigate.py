"""Attributions that iNNvestigate stores for its own tests: models of one layer, and ours of the same weights.

Skipped unless `INNVESTIGATE_SOURCE` is a folder with its repository (github.com/albermax/innvestigate). Its methods
that are no LRP are left out, and two more: the rules of DeepTaylor depend on signs of inputs, and LRPZPlusFast takes
inputs to be positive, though those that are stored are not.
"""

import os
import pathlib

import keras
import numpy as np
import pytest
from keras import layers

import keras_shapley as ks
from keras_shapley.lrp import presets

h5py = pytest.importorskip("h5py")
SOURCE = pathlib.Path(os.environ.get("INNVESTIGATE_SOURCE", "nowhere")) / "tests" / "references" / "layer"
if not SOURCE.exists():
    pytest.skip("INNVESTIGATE_SOURCE has no tests/references/layer", allow_module_level=True)

LAYERS = {
    "Dense": lambda: layers.Dense(5),
    "Dense_relu": lambda: layers.Dense(5, "relu"),
    "Conv2D": lambda: layers.Conv2D(5, 3),
    "Conv2D_relu": lambda: layers.Conv2D(5, 3, activation="relu"),
    "AveragePooling2D": lambda: layers.AveragePooling2D(2),
    "MaxPooling2D": lambda: layers.MaxPooling2D(2),
}
EPSILON = 1e-7


def absorb(rule, *options):
    return rule(*options, epsilon=EPSILON)


def ignore(rule, *options):
    return rule(*options, epsilon=EPSILON, bias="ignore")


# our rule for linear layers, by iNNvestigate's name of the method
RULES = {
    "LRPZ": absorb(ks.rules.Epsilon),
    "LRPZIgnoreBias": ignore(ks.rules.Epsilon),
    "LRPEpsilon": absorb(ks.rules.Epsilon),
    "LRPEpsilonIgnoreBias": ignore(ks.rules.Epsilon),
    "InputTimesGradient": ignore(ks.rules.Epsilon),
    "LRPAlpha1Beta0": absorb(ks.rules.AlphaBeta, 1.0, 0.0),
    "LRPAlpha1Beta0IgnoreBias": ignore(ks.rules.AlphaBeta, 1.0, 0.0),
    "LRPAlpha2Beta1": absorb(ks.rules.AlphaBeta, 2.0, 1.0),
    "LRPAlpha2Beta1IgnoreBias": ignore(ks.rules.AlphaBeta, 2.0, 1.0),
    "LRPZPlus": ignore(ks.rules.ZPlus),
    "LRPWSquare": absorb(ks.rules.WSquare),
    "LRPFlat": absorb(ks.rules.Flat),
    "LRPZ_Flat_input_layer_rule": absorb(ks.rules.Flat),
    "LRPZ_boxed_input_layer_rule": ks.rules.ZBox(-10.0, 10.0, epsilon=EPSILON),
    "LRPSequentialPresetAFlat": absorb(ks.rules.Flat),
    "LRPSequentialPresetBFlat": absorb(ks.rules.Flat),
}
# methods with a rule for each kind of layer
TABLES = {
    **{method: [(presets.LINEAR_TYPES, rule)] for method, rule in RULES.items()},
    "LRPSequentialPresetA": [(presets.DENSE, ks.rules.Epsilon(0.1)), (presets.CONVOLUTION, RULES["LRPAlpha1Beta0"])],
    "LRPSequentialPresetB": [(presets.DENSE, ks.rules.Epsilon(0.1)), (presets.CONVOLUTION, RULES["LRPAlpha2Beta1"])],
}


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("method", TABLES)
def test_stored_attributions(method, layer):
    with h5py.File(SOURCE / f"{method}.hdf5") as file:
        x = file["input"][:]
        stored = file[layer]
        weights = [weight[:] for weight in stored["weights"].values()]
        output, attribution = stored["output"][:], stored["attribution"][:]
    model = keras.Sequential([keras.Input(x.shape[1:]), LAYERS[layer](), layers.Flatten()])
    model.set_weights(weights)
    rules = [
        *TABLES[method],
        (presets.AVERAGE_POOLING, ks.rules.Proportional(EPSILON)),
        (presets.MAX_POOLING, "winner_takes_all"),
    ]
    # without it the start at a ReLU is the sum of eq. (1)
    explanation = ks.LRP(model, rules=rules, head="linear").explain(x)
    np.testing.assert_allclose(explanation.output, output, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(explanation.input, attribution, rtol=1e-2, atol=1e-4 * np.abs(attribution).max())
