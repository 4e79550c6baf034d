"""Families of layers and operations, by what they do to their input.

Rules of relevance propagation and moment rules are registered for these families. A layer type that both should treat
alike is added here, in one line.
"""

from collections.abc import Callable
from typing import Any

import keras
from keras import layers, ops

from keras_shapley.layers.linear_maps import LINEAR_TYPES
from keras_shapley.models.keras_internals import (
    ADDITION_OPERATIONS,
    BILINEAR_OPERATIONS,
    ELEMENTWISE_OPERATIONS,
    EXTREME_OPERATIONS,
    LOG_SOFTMAX_OPERATIONS,
    LOOKUP_OPERATIONS,
    MAX_POOLING_OPERATIONS,
    MEAN_OPERATIONS,
    MINIMUM_OPERATIONS,
    MOVING_OPERATIONS,
    ONE_HOT_OPERATIONS,
    ONE_OPERAND_OPERATIONS,
    PAIR_EXTREME_OPERATIONS,
    PRODUCT_OPERATIONS,
    RELU_OPERATIONS,
    SOFTMAX_OPERATIONS,
    SPREAD_OPERATIONS,
    SUM_OPERATIONS,
    in_dtype,
    newer_classes,
    takes_training,
)
from keras_shapley.utils.typing import Operation

Types = tuple[type, ...]

# layers with a linear map (`LINEAR_TYPES` are all of them)
DENSE: Types = (layers.Dense, layers.EinsumDense)
CONVOLUTION: Types = tuple(cls for cls in LINEAR_TYPES if cls not in DENSE)

# one output from many inputs, without weights
MAX_POOLING: Types = (
    layers.MaxPooling1D,
    layers.MaxPooling2D,
    layers.MaxPooling3D,
    layers.GlobalMaxPooling1D,
    layers.GlobalMaxPooling2D,
    layers.GlobalMaxPooling3D,
    *MAX_POOLING_OPERATIONS,
)
WINDOW_AVERAGE: Types = (
    layers.AveragePooling1D,
    layers.AveragePooling2D,
    layers.AveragePooling3D,
    layers.GlobalAveragePooling1D,
    layers.GlobalAveragePooling2D,
    layers.GlobalAveragePooling3D,
)
MEAN: Types = MEAN_OPERATIONS
AVERAGE_POOLING: Types = (
    *WINDOW_AVERAGE,
    *newer_classes(layers, "AdaptiveAveragePooling1D AdaptiveAveragePooling2D AdaptiveAveragePooling3D"),
    *MEAN,
    *SUM_OPERATIONS,
)
EXTREME: Types = (
    *newer_classes(layers, "AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D"),
    *EXTREME_OPERATIONS,
)
PAIR_EXTREME: Types = (layers.Maximum, layers.Minimum, *PAIR_EXTREME_OPERATIONS)

MINIMA: Types = (layers.Minimum, *MINIMUM_OPERATIONS)

# the same numbers in the same order, in inference
ORDER_KEEPING: Types = (layers.Flatten, layers.Reshape, layers.Dropout, layers.Identity)

# each element on its own
SCALING: Types = (layers.BatchNormalization, layers.Rescaling, layers.Normalization)
RANDOM: Types = tuple(  # augmentation does nothing in inference, except RandomCrop, which crops
    getattr(layers, name) for name in dir(layers) if name.startswith("Random") and name != "RandomCrop"
)
WITHOUT_EFFECT: Types = (  # in inference
    layers.Dropout,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
    layers.AlphaDropout,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.ActivityRegularization,
    layers.Identity,
    *RANDOM,
)
ELEMENTWISE: Types = (
    layers.Activation,
    layers.ReLU,
    layers.LeakyReLU,
    layers.PReLU,
    layers.ELU,
    *SCALING,
    layers.Masking,
    *WITHOUT_EFFECT,
    *ELEMENTWISE_OPERATIONS,
)
ONE_OPERAND: Types = ONE_OPERAND_OPERATIONS  # if the other operand is a constant

# several tensors
ADDITION: Types = (layers.Add, layers.Subtract, layers.Average, *ADDITION_OPERATIONS)
PRODUCT: Types = (layers.Multiply, *PRODUCT_OPERATIONS)
MERGED_WHERE_OPEN: Types = (layers.Maximum, layers.Minimum, layers.Multiply)  # nothing of a tensor where it is masked
BILINEAR: Types = (layers.Dot, *BILINEAR_OPERATIONS)

# elements that depend on each other
SOFTMAX: Types = (layers.Softmax, *SOFTMAX_OPERATIONS)
UNCENTRED: Types = (layers.RMSNormalization, layers.UnitNormalization)
NORMALIZATION: Types = (layers.LayerNormalization, layers.GroupNormalization, *UNCENTRED)
SPREAD: Types = SPREAD_OPERATIONS
LOG_SOFTMAX: Types = LOG_SOFTMAX_OPERATIONS
ATTENTION: Types = (
    layers.MultiHeadAttention,
    layers.GroupQueryAttention,
    layers.Attention,
    layers.AdditiveAttention,
)

# a loop over steps
RECURRENT: Types = (layers.SimpleRNN, layers.LSTM, layers.GRU, layers.RNN, layers.Bidirectional)

# elements at other places
ZERO_PADDING: Types = (layers.ZeroPadding1D, layers.ZeroPadding2D, layers.ZeroPadding3D)
MOVING: Types = (
    layers.Concatenate,
    layers.Flatten,
    layers.Reshape,
    layers.Permute,
    layers.RepeatVector,
    layers.Cropping1D,
    layers.Cropping2D,
    layers.Cropping3D,
    layers.CenterCrop,
    *ZERO_PADDING,
    *MOVING_OPERATIONS,
)
RESIZING: Types = (layers.UpSampling1D, layers.UpSampling2D, layers.UpSampling3D, layers.Resizing)
EMBEDDING: Types = (layers.Embedding,)
ENCODING: Types = (layers.CategoryEncoding, *ONE_HOT_OPERATIONS)
LOOKUP: Types = LOOKUP_OPERATIONS

# activations whose elements depend on each other
MIXING_ACTIVATIONS = (keras.activations.softmax, keras.activations.log_softmax)

_ELEMENTWISE_FUNCTIONS = {
    getattr(module, name, None)
    for module in (keras.activations, ops)
    for name in (
        "celu elu exponential gelu hard_shrink hard_sigmoid hard_silu hard_tanh leaky_relu linear log_sigmoid mish "
        "relu relu6 selu sigmoid silu soft_shrink softplus softsign sparse_plus sparse_sigmoid squareplus tanh "
        "tanh_shrink threshold"
    ).split()
}


# functions of `keras.ops` that are activations
_NAMESAKES = {
    getattr(ops, name): getattr(keras.activations, name) for name in ("log_softmax", "relu", "sigmoid", "softmax")
}


def activation_of(op: Operation) -> Callable[[Any], Any] | None:
    """The activation that a layer ends with, or that an Activation layer is; None for a layer without one.

    It is a layer where a layer is the activation, unless the layer is a softmax over the last axis or a plain ReLU.
    """
    activation: Any = getattr(op, "activation", None)
    while _computes_as(activation, layers.Activation):
        activation = activation.activation
    if _computes_as(activation, layers.Softmax) and activation.axis == -1:
        return keras.activations.softmax
    if _computes_as(activation, layers.ReLU) and activation_name(activation) == "relu":
        return keras.activations.relu
    return _NAMESAKES.get(activation, activation)


def activation_layer(op: Operation) -> Operation:
    """The layer that is the activation of another, or else the operation itself."""
    activation = activation_of(op) if isinstance(op, (layers.Activation, *LINEAR_TYPES)) else None
    return activation if isinstance(activation, layers.Layer) else op


def activation_function(op: Operation) -> Callable[[Any], Any] | None:
    """The activation of a layer, in the dtype of its argument. A layer is taken without its check of the rank."""
    activation = activation_of(op)
    if not isinstance(activation, layers.Layer):
        return activation
    options = {"training": False} if takes_training(activation) else {}
    return lambda x: in_dtype(activation, x.dtype).call(x, **options)


def is_elementwise(function: Any) -> bool:
    """Whether an activation, a function or a layer, is known to act on each element alone."""
    if _computes_as(function, layers.Activation):
        return is_elementwise(activation_of(function))
    if isinstance(function, layers.Layer):
        return any(_computes_as(function, cls) for cls in ELEMENTWISE)
    return function in _ELEMENTWISE_FUNCTIONS


def _computes_as(layer: Any, cls: type) -> bool:
    """Whether a layer is of a class, or of a subclass without a `call` of its own."""
    return isinstance(layer, cls) and getattr(type(layer), "call", None) is getattr(cls, "call", None)


def has_known_activation(op: Operation) -> bool:
    """Whether an operation ends in no activation, or in one of which it is known which elements it mixes."""
    function = activation_of(op)
    return function is None or function in MIXING_ACTIVATIONS or is_elementwise(function)


def activation_name(op: Operation) -> str:
    """Name of the elementwise function that an operation is, or a linear layer ends with; empty for others."""
    op = activation_layer(op)
    if isinstance(op, (layers.ReLU, *RELU_OPERATIONS)):
        if getattr(op, "negative_slope", 0) or getattr(op, "threshold", 0):
            return "another relu"
        return {None: "relu", 6: "relu6"}.get(getattr(op, "max_value", None), "another relu")
    if isinstance(op, (layers.Activation, *LINEAR_TYPES)):
        function = activation_of(op)
        name = getattr(function, "__name__", str(function))
        # a user's function may have the name of one of Keras's
        return name if getattr(keras.activations, name, function) is function else f"another {name}"
    return ""
