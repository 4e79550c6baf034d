"""The hidden layers that the experiments compare, by name."""

import functools

import input_dropout
from keras import activations, layers

import keras_shapley as ks

# name: prefix of the layers' type, their arguments. For the same seed all kinds start from the same weights, but for
# those with initializers of their own.
KINDS = {
    "relu": ("", {"activation": "relu"}),
    "relu_he": ("", {"activation": "relu", "kernel_initializer": "he_normal", "bias_initializer": "zeros"}),
    "gelu": ("", {"activation": "gelu"}),
    "silu": ("", {"activation": "silu"}),
    "mish": ("", {"activation": "mish"}),
    "elu": ("", {"activation": "elu"}),
    # for many inputs and no bias, SA's gate is 0.042 at least; where one input is all, its two sides are as 0.19 to 1
    "leaky_relu_0.043": ("", {"activation": functools.partial(activations.leaky_relu, negative_slope=0.043)}),
    "leaky_relu_0.19": ("", {"activation": functools.partial(activations.leaky_relu, negative_slope=0.19)}),
    "relu_permutation_dropout": ("InputDropout", {"activation": "relu", "permutation": True}),
    "relu_dropout": ("InputDropout", {"activation": "relu", "permutation": False}),
    "sa": ("SA", {}),
    "sa_he": ("SA", {"kernel_initializer": "he_normal"}),
    # by its name, for an object would give all layers the same values
    "sa_normal": ("SA", {"kernel_initializer": "keras_shapley>SANormal"}),
    "sa_no_moment_gradient": ("SA", {"moment_gradient": False}),
    "sa_pooled": ("SA", {"second_moment": "pooled"}),
    "sa_pooled_no_moment_gradient": ("SA", {"second_moment": "pooled", "moment_gradient": False}),
    "shaplu": ("ShapLU", {}),
    "shaplu_full": ("ShapLU", {"gradient": "full"}),
}
_HOMES = {"": layers, "InputDropout": input_dropout}


def neurons(kind, parent):
    """What makes hidden layers with their activation.

    Args:
        kind: a name in `KINDS`.
        parent: `"Dense"` or `"Conv2D"`; the kinds with dropout are of the first alone.

    Returns:
        A function that is called as the Keras layer is, without `activation`. The options of the kind go before those
        of the call.
    """
    prefix, options = KINDS[kind]
    layer = getattr(_HOMES.get(prefix, ks), prefix + parent)
    return lambda *args, **others: layer(*args, **(others | options))
