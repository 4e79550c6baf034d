"""Tables of rules for whole models: functions that return ordered lists of `(key, rule)`; the first fit counts.

A key is a layer type or a tuple of them, a `First` of such, or the name of a layer or call. A table may be incomplete:
`LRP` appends the paper's own.

Presets that keep signs apart in convolutions do so in additions as well, by `AbsoluteSum`; zennit's divide by the sum:
`[(presets.ADDITION, rules.Sum()), *presets.epsilon_plus()]`.
"""

import keras
from keras import layers, ops

from keras_shapley.layers.linear_maps import LINEAR_TYPES
from keras_shapley.models.keras_internals import (
    ADDITION_OPERATIONS,
    BILINEAR_OPERATIONS,
    ELEMENTWISE_OPERATIONS,
    EXTREME_OPERATIONS,
    LOOKUP_OPERATIONS,
    MEAN_OPERATIONS,
    MOVING_OPERATIONS,
    ONE_OPERAND_OPERATIONS,
    PAIR_EXTREME_OPERATIONS,
    PRODUCT_OPERATIONS,
    RELU_OPERATIONS,
    SOFTMAX_OPERATIONS,
)

DENSE = (layers.Dense, layers.EinsumDense)
CONVOLUTION = tuple(cls for cls in LINEAR_TYPES if cls not in DENSE)
MAX_POOLING = (
    layers.MaxPooling1D,
    layers.MaxPooling2D,
    layers.MaxPooling3D,
    layers.GlobalMaxPooling1D,
    layers.GlobalMaxPooling2D,
    layers.GlobalMaxPooling3D,
)
AVERAGE_POOLING = (
    layers.AveragePooling1D,
    layers.AveragePooling2D,
    layers.AveragePooling3D,
    layers.GlobalAveragePooling1D,
    layers.GlobalAveragePooling2D,
    layers.GlobalAveragePooling3D,
    layers.AdaptiveAveragePooling1D,
    layers.AdaptiveAveragePooling2D,
    layers.AdaptiveAveragePooling3D,
    *MEAN_OPERATIONS,
)
PAIR_EXTREME = (layers.Maximum, layers.Minimum, *PAIR_EXTREME_OPERATIONS)
EXTREME = (
    layers.AdaptiveMaxPooling1D,
    layers.AdaptiveMaxPooling2D,
    layers.AdaptiveMaxPooling3D,
    *EXTREME_OPERATIONS,
)
# augmentation does nothing in inference, but RandomCrop, which crops
RANDOM = tuple(getattr(layers, name) for name in dir(layers) if name.startswith("Random") and name != "RandomCrop")
UNCENTRED = (keras.layers.RMSNormalization, keras.layers.UnitNormalization)
ZERO_PADDING = (keras.layers.ZeroPadding1D, keras.layers.ZeroPadding2D, keras.layers.ZeroPadding3D)
ELEMENTWISE = (
    layers.Activation,
    layers.ReLU,
    layers.LeakyReLU,
    layers.PReLU,
    layers.ELU,
    layers.BatchNormalization,
    layers.Dropout,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
    layers.AlphaDropout,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.ActivityRegularization,
    layers.Identity,
    layers.Rescaling,
    layers.Normalization,
    layers.Masking,
    *RANDOM,
    *ELEMENTWISE_OPERATIONS,
)
ADDITION = (layers.Add, layers.Subtract, layers.Average, *ADDITION_OPERATIONS)
PRODUCT = (layers.Multiply, *PRODUCT_OPERATIONS)
BILINEAR = (layers.Dot, *BILINEAR_OPERATIONS)
SOFTMAX = (layers.Softmax, *SOFTMAX_OPERATIONS)
NORMALIZATION = (layers.LayerNormalization, layers.GroupNormalization, *UNCENTRED)
MOVING = (
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
ONE_OPERAND = ONE_OPERAND_OPERATIONS
LOOKUP = LOOKUP_OPERATIONS
RESIZING = (layers.UpSampling1D, layers.UpSampling2D, layers.UpSampling3D, layers.Resizing)
_ELEMENTWISE_FUNCTIONS = {
    getattr(module, name, None)
    for module in (keras.activations, ops)
    for name in (
        "celu elu exponential gelu hard_shrink hard_sigmoid hard_silu hard_tanh leaky_relu linear log_sigmoid mish "
        "relu relu6 selu sigmoid silu soft_shrink softplus softsign sparse_plus sparse_sigmoid squareplus tanh "
        "tanh_shrink threshold"
    ).split()
}


def is_elementwise(function):
    """Whether an activation, a function or a layer, is known to act on each element alone."""
    if isinstance(function, layers.Layer):
        return isinstance(function, ELEMENTWISE)
    return function in _ELEMENTWISE_FUNCTIONS


def activation_name(op):
    """Name of the elementwise function that an operation is, or a linear layer ends with; empty for others."""
    if isinstance(op, RELU_OPERATIONS):
        return "relu"
    if isinstance(op, keras.layers.ReLU):
        plain = not op.negative_slope and not op.threshold
        return {None: "relu", 6: "relu6"}.get(op.max_value, "another relu") if plain else "another relu"
    function = getattr(op, "activation", None)
    if isinstance(op, (keras.layers.Activation, *LINEAR_TYPES)):
        return getattr(function, "__name__", str(function))
    return ""
