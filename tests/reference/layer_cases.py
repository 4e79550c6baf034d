"""Layers with a Shapley activation in every geometry, and the formulas that they are held against."""

import inspect

import numpy as np
import pytest

from reference import paper

# parent, its arguments, input shape
CASES = {
    "Dense": ("Dense", dict(units=3), (4, 5)),
    "Dense, n-D": ("Dense", dict(units=3), (2, 3, 4)),
    "Dense, no bias": ("Dense", dict(units=3, use_bias=False), (4, 5)),
    "Conv1D, strided": ("Conv1D", dict(filters=3, kernel_size=3, strides=2), (2, 7, 2)),
    "Conv1D, same, even kernel": ("Conv1D", dict(filters=2, kernel_size=4, padding="same"), (2, 5, 3)),
    "Conv1D, causal, dilated": (
        "Conv1D",
        dict(filters=3, kernel_size=3, padding="causal", dilation_rate=2),
        (2, 6, 2),
    ),
    "Conv1D, causal, strided, channels_first": (
        "Conv1D",
        dict(filters=2, kernel_size=3, padding="causal", strides=2, data_format="channels_first"),
        (2, 3, 7),
    ),
    "Conv1D, groups": ("Conv1D", dict(filters=4, kernel_size=3, groups=2), (2, 5, 4)),
    "Conv2D": ("Conv2D", dict(filters=3, kernel_size=(2, 3)), (2, 4, 4, 2)),
    "Conv2D, same, strided": ("Conv2D", dict(filters=3, kernel_size=3, padding="same", strides=(2, 1)), (1, 5, 4, 2)),
    "Conv2D, 1 x 1, strided": ("Conv2D", dict(filters=3, kernel_size=1, strides=2), (2, 4, 3, 5)),
    "Conv1D, 1, strided, channels_first": (
        "Conv1D",
        dict(filters=3, kernel_size=1, strides=2, data_format="channels_first"),
        (2, 4, 5),
    ),
    "Conv2D, same, dilated": (
        "Conv2D",
        dict(filters=2, kernel_size=(3, 2), padding="same", dilation_rate=(2, 1)),
        (1, 5, 4, 2),
    ),
    "Conv2D, groups, no bias": (
        "Conv2D",
        dict(filters=4, kernel_size=3, padding="same", groups=2, use_bias=False),
        (1, 3, 4, 6),
    ),
    "Conv2D, channels_first": (
        "Conv2D",
        dict(filters=3, kernel_size=3, padding="same", data_format="channels_first"),
        (1, 2, 4, 5),
    ),
    "Conv2D, groups, strided, channels_first": (
        "Conv2D",
        dict(filters=4, kernel_size=2, strides=2, groups=2, data_format="channels_first"),
        (2, 4, 5, 6),
    ),
    "Conv3D, same, strided": (
        "Conv3D",
        dict(filters=2, kernel_size=2, padding="same", strides=(1, 2, 1)),
        (1, 3, 3, 2, 2),
    ),
    "Conv3D, dilated, channels_first": (
        "Conv3D",
        dict(filters=2, kernel_size=(1, 2, 2), dilation_rate=(1, 1, 2), data_format="channels_first"),
        (1, 3, 2, 3, 4),
    ),
    "Conv1DTranspose": ("Conv1DTranspose", dict(filters=3, kernel_size=3), (2, 4, 2)),
    "Conv1DTranspose, dilated": (
        "Conv1DTranspose",
        dict(filters=2, kernel_size=2, dilation_rate=2, use_bias=False),
        (1, 4, 3),
    ),
    "Conv2DTranspose": ("Conv2DTranspose", dict(filters=3, kernel_size=3, strides=2), (1, 3, 2, 2)),
    "Conv2DTranspose, same, strided": (
        "Conv2DTranspose",
        dict(filters=2, kernel_size=(3, 4), padding="same", strides=2),
        (1, 3, 2, 2),
    ),
    "Conv2DTranspose, output_padding": (
        "Conv2DTranspose",
        dict(filters=2, kernel_size=3, strides=(3, 2), padding="same", output_padding=(2, 0)),
        (1, 2, 3, 2),
    ),
    "Conv2DTranspose, channels_first": (
        "Conv2DTranspose",
        dict(filters=3, kernel_size=3, strides=2, padding="same", data_format="channels_first"),
        (2, 2, 2, 3),
    ),
    "Conv3DTranspose": ("Conv3DTranspose", dict(filters=2, kernel_size=2, padding="same"), (1, 2, 3, 2, 2)),
    "DepthwiseConv1D": ("DepthwiseConv1D", dict(kernel_size=3, depth_multiplier=2), (2, 5, 3)),
    "DepthwiseConv1D, same, strided": (
        "DepthwiseConv1D",
        dict(kernel_size=3, padding="same", strides=2, use_bias=False),
        (2, 6, 3),
    ),
    "DepthwiseConv2D": ("DepthwiseConv2D", dict(kernel_size=(2, 3), depth_multiplier=2), (2, 4, 4, 2)),
    "DepthwiseConv2D, same, strided": (
        "DepthwiseConv2D",
        dict(kernel_size=3, padding="same", strides=2),
        (1, 5, 6, 3),
    ),
    "DepthwiseConv2D, same, dilated": (
        "DepthwiseConv2D",
        dict(kernel_size=2, padding="same", dilation_rate=2, depth_multiplier=2),
        (1, 4, 5, 2),
    ),
    "DepthwiseConv2D, channels_first": (
        "DepthwiseConv2D",
        dict(kernel_size=3, padding="same", data_format="channels_first"),
        (1, 3, 4, 5),
    ),
    "SeparableConv1D": ("SeparableConv1D", dict(filters=4, kernel_size=3, padding="same", strides=2), (2, 6, 3)),
    "SeparableConv1D, depth_multiplier": (
        "SeparableConv1D",
        dict(filters=2, kernel_size=2, depth_multiplier=3, use_bias=False),
        (2, 4, 3),
    ),
    "SeparableConv2D": ("SeparableConv2D", dict(filters=3, kernel_size=(2, 3)), (1, 4, 5, 2)),
    "SeparableConv2D, same, dilated, depth_multiplier": (
        "SeparableConv2D",
        dict(filters=3, kernel_size=3, padding="same", dilation_rate=2, depth_multiplier=2),
        (1, 4, 3, 2),
    ),
    "SeparableConv2D, channels_first": (
        "SeparableConv2D",
        dict(filters=3, kernel_size=3, padding="same", depth_multiplier=2, data_format="channels_first"),
        (1, 2, 4, 3),
    ),
    "EinsumDense": ("EinsumDense", dict(equation="abc,cd->abd", output_shape=(None, 3), bias_axes="d"), (2, 3, 4)),
    "EinsumDense, no bias": ("EinsumDense", dict(equation="ab,bc->ac", output_shape=(3,)), (2, 4)),
    "EinsumDense, heads": (
        "EinsumDense",
        dict(equation="abc,cde->abde", output_shape=(None, 2, 3), bias_axes="de"),
        (2, 2, 4),
    ),
    "EinsumDense, two axes contracted": (
        "EinsumDense",
        dict(equation="abcd,cde->abe", output_shape=(None, 3), bias_axes="e"),
        (2, 2, 2, 3),
    ),
    "EinsumDense, ellipsis": (
        "EinsumDense",
        dict(equation="...x,xy->...y", output_shape=(3,), bias_axes="y"),
        (2, 2, 4),
    ),
    "EinsumDense, kernel per position": (
        "EinsumDense",
        dict(equation="abc,bcd->abd", output_shape=(3, 4), bias_axes="bd"),
        (2, 3, 5),
    ),
    "EinsumDense, one input each": (
        "EinsumDense",
        dict(equation="ab,b->ab", output_shape=(4,), bias_axes="b"),
        (2, 4),
    ),
}


# prefix, arguments, the reference's value and gradient, whether the second moment is pooled, options of the gradient
MODES = {
    "SA": ("SA", {}, paper.shapley_activation, paper.sa_gradient, False, {}),
    "SA, moment_gradient=False": (
        "SA",
        dict(moment_gradient=False),
        paper.shapley_activation,
        paper.sa_gradient,
        False,
        dict(moment_gradient=False),
    ),
    "SA, pooled": (
        "SA",
        dict(second_moment="pooled"),
        paper.shapley_activation,
        paper.sa_gradient,
        True,
        {},
    ),
    "SA, pooled, moment_gradient=False": (
        "SA",
        dict(second_moment="pooled", moment_gradient=False),
        paper.shapley_activation,
        paper.sa_gradient,
        True,
        dict(moment_gradient=False),
    ),
    "ShapLU": ("ShapLU", {}, paper.relu, paper.shapley_gradient, False, dict(full=False)),
    "ShapLU, pooled": (
        "ShapLU",
        dict(second_moment="pooled"),
        paper.relu,
        paper.shapley_gradient,
        True,
        dict(full=False),
    ),
    "ShapLU, full": ("ShapLU", dict(gradient="full"), paper.relu, paper.shapley_gradient, False, {}),
}


NAMES = list(dict.fromkeys(name for name, *_ in CASES.values()))


def arguments_of(name):
    """Arguments of the layer type `name`, and a shape that fits: those of its first case."""
    return next((arguments, shape) for parent, arguments, shape in CASES.values() if parent == name)


def kernels_of(cls):
    """What a layer type calls its kernels in the arguments of its constructor."""
    if "Separable" in cls.__name__:
        return ["depthwise", "pointwise"]
    return ["depthwise" if "Depthwise" in cls.__name__ else "kernel"]


def operands_of(cls, weights):
    """`(kernels, bias)` among a layer's weights; the bias is None where there is none."""
    n = len(kernels_of(cls))
    return weights[:n], [*weights, None][n]


def build(cls, arguments, shape, rng=None, **more):
    """A built layer; with `rng`, with weights of which about half the neurons are open."""
    layer = cls(**{f"{kernels_of(cls)[0]}_initializer": "zeros", **arguments, **more})
    layer.build(shape)
    if rng is not None:
        layer.set_weights([rng.normal(size=w.shape) for w in layer.weights])
    return layer


def close(actual, expected, rtol, message=""):
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=rtol * np.abs(expected).max(), err_msg=message)


def gated_attention(cls, *sizes, **options):
    """An attention layer with a gate, which Keras has from 3.14 on."""
    if "use_gate" not in inspect.signature(cls).parameters:
        pytest.skip("attention of this Keras has no gates")
    return cls(*sizes, use_gate=True, **options)
