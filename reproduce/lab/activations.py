"""The hidden layers that the experiments compare, by the name of their activation."""

import functools
from collections.abc import Callable
from typing import Any

import keras
from keras import activations, layers

import keras_shapley as ks
from lab import input_dropout

LayerMaker = Callable[..., keras.layers.Layer]
# a name in ACTIVATIONS, or a function of "Dense" or "Conv2D" that returns what `hidden_layer` returns
Activation = str | Callable[[str], LayerMaker]


def _keeps_mean_square(scale: float) -> dict[str, Any]:
    """The configuration of kernels of variance `scale/n`, a truncated normal for `n` inputs, as `HeNormal` is for 2."""
    config = {"scale": scale, "mode": "fan_in", "distribution": "truncated_normal"}
    return {"class_name": "VarianceScaling", "config": config}


# name: prefix of the layer's type, its arguments. For the same seed all start from the same weights, except those with
# initializers of their own.
ACTIVATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "relu": ("", {"activation": "relu"}),
    "relu_he": ("", {"activation": "relu", "kernel_initializer": "he_normal", "bias_initializer": "zeros"}),
    "gelu": ("", {"activation": "gelu"}),
    "silu": ("", {"activation": "silu"}),
    "mish": ("", {"activation": "mish"}),
    "elu": ("", {"activation": "elu"}),
    # SA's gate without bias: 0.042 at least for many inputs, and a ratio of its two sides of 0.19 for a single one
    "leaky_relu_0.043": ("", {"activation": functools.partial(activations.leaky_relu, negative_slope=0.043)}),
    "leaky_relu_0.19": ("", {"activation": functools.partial(activations.leaky_relu, negative_slope=0.19)}),
    # the rule of He et al. (2015) for others: the mean square of the activation of a standard normal t is 1/scale
    "leaky_relu_normal": ("", {"activation": "leaky_relu", "kernel_initializer": _keeps_mean_square(2 / 1.04)}),
    "gelu_normal": ("", {"activation": "gelu", "kernel_initializer": _keeps_mean_square(2.3517)}),
    "silu_normal": ("", {"activation": "silu", "kernel_initializer": _keeps_mean_square(2.8108)}),
    "gelu_he": ("", {"activation": "gelu", "kernel_initializer": "he_normal"}),
    "silu_he": ("", {"activation": "silu", "kernel_initializer": "he_normal"}),
    "relu_permutation_dropout": ("InputDropout", {"activation": "relu", "permutation": True}),
    "relu_dropout": ("InputDropout", {"activation": "relu", "permutation": False}),
    "sa": ("SA", {}),
    "sa_he": ("SA", {"kernel_initializer": "he_normal"}),
    # the name and not an instance, which would give all layers the same values
    "sa_normal": ("SA", {"kernel_initializer": "keras_shapley>SANormal"}),
    "sa_no_moment_gradient": ("SA", {"moment_gradient": False}),
    "sa_pooled": ("SA", {"second_moment": "pooled"}),
    "sa_pooled_no_moment_gradient": ("SA", {"second_moment": "pooled", "moment_gradient": False}),
    "shaplu": ("ShapLU", {}),
    "shaplu_full": ("ShapLU", {"gradient": "full"}),
}
_MODULES = {"": layers, "InputDropout": input_dropout, "SA": ks, "ShapLU": ks}


def hidden_layer(activation: Activation, parent: str) -> LayerMaker:
    """A function that makes hidden layers with their activation.

    Args:
        activation: a name in `ACTIVATIONS`, or a function of `parent` that makes other layers.
        parent: `"Dense"` or `"Conv2D"`; those with dropout exist as `"Dense"` alone.

    Returns:
        A function that is called as the Keras layer is, without `activation`. The arguments in `ACTIVATIONS` override
        those of the call.
    """
    if callable(activation):
        return activation(parent)
    prefix, options = ACTIVATIONS[activation]
    layer = getattr(_MODULES[prefix], prefix + parent, None)
    if layer is None:
        raise ValueError(f"The activation {activation!r} is for Dense layers alone. Received: {parent}")
    return lambda *args, **others: layer(*args, **(others | options))
