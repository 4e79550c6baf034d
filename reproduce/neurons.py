"""The hidden layers that the experiments compare, by name."""

import functools

from keras import layers

import keras_shapley as ks

# name: prefix of the layers' type, their arguments
KINDS = {
    "relu": ("", {"activation": "relu"}),
    "gelu": ("", {"activation": "gelu"}),
    "sa": ("SA", {}),
    "sa_no_moment_gradient": ("SA", {"moment_gradient": False}),
    "sa_pooled": ("SA", {"second_moment": "pooled"}),
    "sa_pooled_no_moment_gradient": ("SA", {"second_moment": "pooled", "moment_gradient": False}),
    "shaplu": ("ShapLU", {}),
    "shaplu_full": ("ShapLU", {"gradient": "full"}),
}


def neurons(kind, parent):
    """What makes hidden layers with their activation.

    Args:
        kind: a name in `KINDS`.
        parent: `"Dense"` or `"Conv2D"`.

    Returns:
        A function that is called as the Keras layer is, without `activation`.
    """
    prefix, options = KINDS[kind]
    return functools.partial(getattr(ks if prefix else layers, prefix + parent), **options)
