"""Keras's own tests of its layers, run on ours: SADense and ShapLUDense in place of Dense, and so on.

Keras ships its tests; `KERAS_SOURCE` names the folder of another version's `keras/src`. Where a test compares with a
convolution in NumPy, the Shapley activation of that convolution takes its place. Tests that say nothing of our layers
are skipped by name, with the reason.

    pytest -m slow tests/peers/test_keras_suite.py
"""

import importlib.util
import os
import pathlib
import re
import types
import unittest
import warnings

import keras
import keras.src
import numpy as np
import pytest

import keras_shapley as ks

special = pytest.importorskip("scipy.special")
pytest.importorskip("absl.testing.parameterized")

SOURCE = pathlib.Path(os.environ.get("KERAS_SOURCE", pathlib.Path(keras.src.__file__).parent))
FILES = [
    "core/dense_test.py",
    "core/einsum_dense_test.py",
    "convolutional/conv_test.py",
    "convolutional/conv_transpose_test.py",
    "convolutional/depthwise_conv_test.py",
    "convolutional/separable_conv_test.py",
]
# the warnings are Keras's business here, and its tests run in its own way
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]

NOT_APPLICABLE = {
    "quantiz|int4|int8|float8|gptq|awq|ternary|legacy_load_own": "layers with a Shapley activation are not quantized",
    "test_dense_(basics|correctness|errors|with_activation)|test_lora_rank_argument": "asks for another activation, "
    "which our layers refuse",
    "test_dense_(no_activation|without_activation_set)": "expects values of a linear activation",
    r"SA .*separable_conv_test.py test_separable_conv[12]d\d": "expects values of two convolutions, whose squares have "
    "no `q`; tests/layers/test_layers.py has eq. (5) for these layers",
}


class Layers(types.ModuleType):
    """`keras.layers`, in which the layers that have one are those with a Shapley activation."""

    def __init__(self, prefix):
        super().__init__(f"{prefix} layers")
        self.prefix = prefix

    def __getattr__(self, name):
        return getattr(ks, self.prefix + name, None) or getattr(keras.layers, name)


def activated(convolution, prefix):
    """A convolution in NumPy with eq. (5) or ReLU behind it; `q` is the convolution of squares."""

    def reference(x, kernel_weights, bias_weights, *args, **options):
        without_bias = np.zeros_like(bias_weights)
        u = convolution(x, kernel_weights, without_bias, *args, **options)
        s = convolution(x, kernel_weights, bias_weights, *args, **options)
        if prefix == "ShapLU":
            return np.maximum(s, 0)
        q = convolution(x**2, kernel_weights**2, without_bias, *args, **options)
        return special.ndtr((s - u / 2) / np.sqrt(q / 6 + u**2 / 12 + 1e-30)) * s

    return reference


def loaded(file, prefix):
    """A module of Keras's tests with our layers in place of Keras's."""
    path = SOURCE / "layers" / file
    spec = importlib.util.spec_from_file_location(f"keras_{prefix}_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    original = keras.src.layers
    keras.src.layers = Layers(prefix)
    try:
        with warnings.catch_warnings():
            # marks that only Keras registers
            warnings.simplefilter("ignore")
            spec.loader.exec_module(module)
    finally:
        keras.src.layers = original
    # of a separable convolution the second of two has the activation
    kinds = "np_conv" if "separable" in file else "np_"
    for name in [name for name in vars(module) if name.startswith(kinds)]:
        setattr(module, name, activated(getattr(module, name), prefix))
    return module


def reason(name, file, prefix):
    """Why a test says nothing of our layers, or None."""
    return next((why for pattern, why in NOT_APPLICABLE.items() if re.search(pattern, f"{prefix} {file} {name}")), None)


def collected(file, prefix):
    """The test classes of a file, by name, with tests skipped that say nothing of our layers."""
    classes = {}
    for name, cls in vars(loaded(file, prefix)).items():
        if isinstance(cls, type) and issubclass(cls, unittest.TestCase):
            for test in [test for test in dir(cls) if test.startswith("test")]:
                if why := reason(test, file, prefix):
                    setattr(cls, test, unittest.skip(why)(getattr(cls, test)))
            classes[f"{prefix}{name}"] = cls
    return classes


if not all((SOURCE / "layers" / file).exists() for file in FILES):
    pytest.skip(f"no tests of Keras in {SOURCE}", allow_module_level=True)

for each_prefix in ("SA", "ShapLU"):
    for each_file in FILES:
        globals().update(collected(each_file, each_prefix))
