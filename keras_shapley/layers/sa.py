"""Layers with the Shapley activation SA, eq. (5)."""

from typing import Any

import keras
from keras import ops

from keras_shapley.layers.activations import shapley_activation
from keras_shapley.layers.base import ShapleyLayer
from keras_shapley.utils.typing import Tensor
from keras_shapley.utils.validation import one_of


class ShapleyActivation(ShapleyLayer):
    """Mixin whose output is the Shapley activation SA, eq. (5): `Phi((mu + b)/sigma) * (u + b)`.

    Args:
        second_moment: as in `ShapleyLayer`.
        moment_gradient: whether the gradient flows into `q`. False is cheaper, and no longer the exact derivative.
    """

    def __init__(self, *args: Any, second_moment: str = "exact", moment_gradient: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, second_moment=second_moment, **kwargs)
        self.moment_gradient = one_of("moment_gradient", moment_gradient, (True, False))

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        moments = self.gate_moments(inputs, gradient=self.moment_gradient or self._derivatives_are_exact)
        # a graph of training is not exported
        return ops.cast(shapley_activation(*moments, exportable=not training), self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "moment_gradient": self.moment_gradient}


@keras.saving.register_keras_serializable(package="keras_shapley")
class SADense(ShapleyActivation, keras.layers.Dense):
    """`keras.layers.Dense` with the Shapley activation SA, eq. (5) of Li & Cui (2022), built in.

    The output is `Phi((mu + b)/sigma) * (u + b)`, with `u` the sum of `w_i x_i` and `mu` and `sigma` of eq. (1). The
    gradient does not vanish where ReLU is off.

    Args:
        *args: `units` and the other arguments of `keras.layers.Dense`, in its order.
        second_moment: `"exact"`: `q`, the sum of `(w_i x_i)**2`, is a second linear map. `"pooled"`: the mean of `x**2`
            over the input channels times the sum of `w**2`, which is cheaper.
        moment_gradient: whether the gradient flows into `q`. False is cheaper, and no longer the exact derivative.
        **kwargs: arguments of `keras.layers.Dense` by name. `activation` must be None or `"linear"`.

    Raises:
        ValueError: on another `activation`, an unknown option, or a quantized dtype policy.

    Input shape:
        `(batch, ..., features)`, as of `keras.layers.Dense`.

    Output shape:
        `(batch, ..., units)`.

    Examples:
        >>> layer = ks.SADense(4)
        >>> tuple(layer(np.ones((2, 3))).shape)
        (2, 4)
    """


@keras.saving.register_keras_serializable(package="keras_shapley")
class SAConv1D(ShapleyActivation, keras.layers.Conv1D):
    """`keras.layers.Conv1D` with the Shapley activation SA, eq. (5) of Li & Cui (2022), built in.

    Args:
        *args: `filters, kernel_size` and the other arguments of `keras.layers.Conv1D`, in its order.
        second_moment: `"exact"`: `q`, the sum of `(w_i x_i)**2`, is a second linear map. `"pooled"`: the mean of `x**2`
            over the input channels times the sum of `w**2`, which is cheaper.
        moment_gradient: whether the gradient flows into `q`. False is cheaper, and no longer the exact derivative.
        **kwargs: arguments of `keras.layers.Conv1D` by name. `activation` must be None or `"linear"`.

    Raises:
        ValueError: on another `activation`, an unknown option, or a quantized dtype policy.

    Input shape:
        `(batch, steps, channels)`, as of `keras.layers.Conv1D`.

    Output shape:
        `(batch, new_steps, filters)`.

    Examples:
        >>> layer = ks.SAConv1D(4, 3)
        >>> tuple(layer(np.ones((2, 8, 3))).shape)
        (2, 6, 4)
    """


@keras.saving.register_keras_serializable(package="keras_shapley")
class SAConv2D(ShapleyActivation, keras.layers.Conv2D):
    """`keras.layers.Conv2D` with the Shapley activation SA, eq. (5) of Li & Cui (2022), built in.

    Args:
        *args: `filters, kernel_size` and the other arguments of `keras.layers.Conv2D`, in its order.
        second_moment: `"exact"`: `q`, the sum of `(w_i x_i)**2`, is a second linear map. `"pooled"`: the mean of `x**2`
            over the input channels times the sum of `w**2`, which is cheaper.
        moment_gradient: whether the gradient flows into `q`. False is cheaper, and no longer the exact derivative.
        **kwargs: arguments of `keras.layers.Conv2D` by name. `activation` must be None or `"linear"`.

    Raises:
        ValueError: on another `activation`, an unknown option, or a quantized dtype policy.

    Input shape:
        `(batch, height, width, channels)`, as of `keras.layers.Conv2D`.

    Output shape:
        `(batch, new_height, new_width, filters)`.

    Examples:
        >>> layer = ks.SAConv2D(4, 3)
        >>> tuple(layer(np.ones((2, 8, 8, 3))).shape)
        (2, 6, 6, 4)
    """


@keras.saving.register_keras_serializable(package="keras_shapley")
class SAConv3D(ShapleyActivation, keras.layers.Conv3D):
    """`keras.layers.Conv3D` with the Shapley activation SA, eq. (5) of Li & Cui (2022), built in.

    Args:
        *args: `filters, kernel_size` and the other arguments of `keras.layers.Conv3D`, in its order.
        second_moment: `"exact"`: `q`, the sum of `(w_i x_i)**2`, is a second linear map. `"pooled"`: the mean of `x**2`
            over the input channels times the sum of `w**2`, which is cheaper.
        moment_gradient: whether the gradient flows into `q`. False is cheaper, and no longer the exact derivative.
        **kwargs: arguments of `keras.layers.Conv3D` by name. `activation` must be None or `"linear"`.

    Raises:
        ValueError: on another `activation`, an unknown option, or a quantized dtype policy.

    Input shape:
        `(batch, depth, height, width, channels)`, as of `keras.layers.Conv3D`.

    Output shape:
        `(batch, new_depth, new_height, new_width, filters)`.

    Examples:
        >>> layer = ks.SAConv3D(4, 3)
        >>> tuple(layer(np.ones((2, 5, 5, 5, 3))).shape)
        (2, 3, 3, 3, 4)
    """


@keras.saving.register_keras_serializable(package="keras_shapley")
class SAConv1DTranspose(ShapleyActivation, keras.layers.Conv1DTranspose):
    """`keras.layers.Conv1DTranspose` with the Shapley activation SA, eq. (5) of Li & Cui (2022), built in.

    The inputs of a neuron are the elements of the layer's input that reach it. With strides and at the borders their
    number differs between neurons. A neuron that no input reaches has the output `relu(b)`.

    Args:
        *args: `filters, kernel_size` and the other arguments of `keras.layers.Conv1DTranspose`, in its order.
        second_moment: `"exact"`: `q`, the sum of `(w_i x_i)**2`, is a second linear map. `"pooled"`: the mean of `x**2`
            over the input channels times the sum of `w**2`, which is cheaper.
        moment_gradient: whether the gradient flows into `q`. False is cheaper, and no longer the exact derivative.
        **kwargs: arguments of `keras.layers.Conv1DTranspose` by name. `activation` must be None or `"linear"`.

    Raises:
        ValueError: on another `activation`, an unknown option, or a quantized dtype policy.

    Input shape:
        `(batch, steps, channels)`, as of `keras.layers.Conv1DTranspose`.

    Output shape:
        `(batch, new_steps, filters)`.

    Examples:
        >>> layer = ks.SAConv1DTranspose(4, 3, strides=2)
        >>> tuple(layer(np.ones((2, 8, 3))).shape)
        (2, 17, 4)
    """


@keras.saving.register_keras_serializable(package="keras_shapley")
class SAConv2DTranspose(ShapleyActivation, keras.layers.Conv2DTranspose):
    """`keras.layers.Conv2DTranspose` with the Shapley activation SA, eq. (5) of Li & Cui (2022), built in.

    The inputs of a neuron are the elements of the layer's input that reach it. With strides and at the borders their
    number differs between neurons. A neuron that no input reaches has the output `relu(b)`.

    Args:
        *args: `filters, kernel_size` and the other arguments of `keras.layers.Conv2DTranspose`, in its order.
        second_moment: `"exact"`: `q`, the sum of `(w_i x_i)**2`, is a second linear map. `"pooled"`: the mean of `x**2`
            over the input channels times the sum of `w**2`, which is cheaper.
        moment_gradient: whether the gradient flows into `q`. False is cheaper, and no longer the exact derivative.
        **kwargs: arguments of `keras.layers.Conv2DTranspose` by name. `activation` must be None or `"linear"`.

    Raises:
        ValueError: on another `activation`, an unknown option, or a quantized dtype policy.

    Input shape:
        `(batch, height, width, channels)`, as of `keras.layers.Conv2DTranspose`.

    Output shape:
        `(batch, new_height, new_width, filters)`.

    Examples:
        >>> layer = ks.SAConv2DTranspose(4, 3, strides=2)
        >>> tuple(layer(np.ones((2, 8, 8, 3))).shape)
        (2, 17, 17, 4)
    """


@keras.saving.register_keras_serializable(package="keras_shapley")
class SAConv3DTranspose(ShapleyActivation, keras.layers.Conv3DTranspose):
    """`keras.layers.Conv3DTranspose` with the Shapley activation SA, eq. (5) of Li & Cui (2022), built in.

    The inputs of a neuron are the elements of the layer's input that reach it. With strides and at the borders their
    number differs between neurons. A neuron that no input reaches has the output `relu(b)`.

    Args:
        *args: `filters, kernel_size` and the other arguments of `keras.layers.Conv3DTranspose`, in its order.
        second_moment: `"exact"`: `q`, the sum of `(w_i x_i)**2`, is a second linear map. `"pooled"`: the mean of `x**2`
            over the input channels times the sum of `w**2`, which is cheaper.
        moment_gradient: whether the gradient flows into `q`. False is cheaper, and no longer the exact derivative.
        **kwargs: arguments of `keras.layers.Conv3DTranspose` by name. `activation` must be None or `"linear"`.

    Raises:
        ValueError: on another `activation`, an unknown option, or a quantized dtype policy.

    Input shape:
        `(batch, depth, height, width, channels)`, as of `keras.layers.Conv3DTranspose`.

    Output shape:
        `(batch, new_depth, new_height, new_width, filters)`.

    Examples:
        >>> layer = ks.SAConv3DTranspose(4, 3)
        >>> tuple(layer(np.ones((2, 5, 5, 5, 3))).shape)
        (2, 7, 7, 7, 4)
    """


@keras.saving.register_keras_serializable(package="keras_shapley")
class SADepthwiseConv1D(ShapleyActivation, keras.layers.DepthwiseConv1D):
    """`keras.layers.DepthwiseConv1D` with the Shapley activation SA, eq. (5) of Li & Cui (2022), built in.

    Args:
        *args: `kernel_size` and the other arguments of `keras.layers.DepthwiseConv1D`, in its order.
        second_moment: `"exact"`: `q`, the sum of `(w_i x_i)**2`, is a second linear map. `"pooled"` is the same here,
            because each group has one input channel.
        moment_gradient: whether the gradient flows into `q`. False is cheaper, and no longer the exact derivative.
        **kwargs: arguments of `keras.layers.DepthwiseConv1D` by name. `activation` must be None or `"linear"`.

    Raises:
        ValueError: on another `activation`, an unknown option, or a quantized dtype policy.

    Input shape:
        `(batch, steps, channels)`, as of `keras.layers.DepthwiseConv1D`.

    Output shape:
        `(batch, new_steps, channels * depth_multiplier)`.

    Examples:
        >>> layer = ks.SADepthwiseConv1D(3)
        >>> tuple(layer(np.ones((2, 8, 3))).shape)
        (2, 6, 3)
    """


@keras.saving.register_keras_serializable(package="keras_shapley")
class SADepthwiseConv2D(ShapleyActivation, keras.layers.DepthwiseConv2D):
    """`keras.layers.DepthwiseConv2D` with the Shapley activation SA, eq. (5) of Li & Cui (2022), built in.

    Args:
        *args: `kernel_size` and the other arguments of `keras.layers.DepthwiseConv2D`, in its order.
        second_moment: `"exact"`: `q`, the sum of `(w_i x_i)**2`, is a second linear map. `"pooled"` is the same here,
            because each group has one input channel.
        moment_gradient: whether the gradient flows into `q`. False is cheaper, and no longer the exact derivative.
        **kwargs: arguments of `keras.layers.DepthwiseConv2D` by name. `activation` must be None or `"linear"`.

    Raises:
        ValueError: on another `activation`, an unknown option, or a quantized dtype policy.

    Input shape:
        `(batch, height, width, channels)`, as of `keras.layers.DepthwiseConv2D`.

    Output shape:
        `(batch, new_height, new_width, channels * depth_multiplier)`.

    Examples:
        >>> layer = ks.SADepthwiseConv2D(3)
        >>> tuple(layer(np.ones((2, 8, 8, 3))).shape)
        (2, 6, 6, 3)
    """


@keras.saving.register_keras_serializable(package="keras_shapley")
class SASeparableConv1D(ShapleyActivation, keras.layers.SeparableConv1D):
    """`keras.layers.SeparableConv1D` with the Shapley activation SA, eq. (5) of Li & Cui (2022), built in.

    The inputs of a neuron are elements of the layer's input: the depthwise and the pointwise kernel are one kernel,
    their product.

    Args:
        *args: `filters, kernel_size` and the other arguments of `keras.layers.SeparableConv1D`, in its order.
        second_moment: `"exact"`: `q`, the sum of `(w_i x_i)**2`, is a second separable map if `depth_multiplier` is 1.
            Else it is a full convolution, which costs more than the layer itself. `"pooled"`: the mean of `x**2` over
            the input channels times the sum of `w**2`, which is cheaper.
        moment_gradient: whether the gradient flows into `q`. False is cheaper, and no longer the exact derivative.
        **kwargs: arguments of `keras.layers.SeparableConv1D` by name. `activation` must be None or `"linear"`.

    Raises:
        ValueError: on another `activation`, an unknown option, or a quantized dtype policy.

    Input shape:
        `(batch, steps, channels)`, as of `keras.layers.SeparableConv1D`.

    Output shape:
        `(batch, new_steps, filters)`.

    Examples:
        >>> layer = ks.SASeparableConv1D(4, 3)
        >>> tuple(layer(np.ones((2, 8, 3))).shape)
        (2, 6, 4)
    """


@keras.saving.register_keras_serializable(package="keras_shapley")
class SASeparableConv2D(ShapleyActivation, keras.layers.SeparableConv2D):
    """`keras.layers.SeparableConv2D` with the Shapley activation SA, eq. (5) of Li & Cui (2022), built in.

    The inputs of a neuron are elements of the layer's input: the depthwise and the pointwise kernel are one kernel,
    their product.

    Args:
        *args: `filters, kernel_size` and the other arguments of `keras.layers.SeparableConv2D`, in its order.
        second_moment: `"exact"`: `q`, the sum of `(w_i x_i)**2`, is a second separable map if `depth_multiplier` is 1.
            Else it is a full convolution, which costs more than the layer itself. `"pooled"`: the mean of `x**2` over
            the input channels times the sum of `w**2`, which is cheaper.
        moment_gradient: whether the gradient flows into `q`. False is cheaper, and no longer the exact derivative.
        **kwargs: arguments of `keras.layers.SeparableConv2D` by name. `activation` must be None or `"linear"`.

    Raises:
        ValueError: on another `activation`, an unknown option, or a quantized dtype policy.

    Input shape:
        `(batch, height, width, channels)`, as of `keras.layers.SeparableConv2D`.

    Output shape:
        `(batch, new_height, new_width, filters)`.

    Examples:
        >>> layer = ks.SASeparableConv2D(4, 3)
        >>> tuple(layer(np.ones((2, 8, 8, 3))).shape)
        (2, 6, 6, 4)
    """


@keras.saving.register_keras_serializable(package="keras_shapley")
class SAEinsumDense(ShapleyActivation, keras.layers.EinsumDense):
    """`keras.layers.EinsumDense` with the Shapley activation SA, eq. (5) of Li & Cui (2022), built in.

    Args:
        *args: `equation, output_shape` and the other arguments of `keras.layers.EinsumDense`, in its order.
        second_moment: `"exact"`: `q`, the sum of `(w_i x_i)**2`, is a second linear map. `"pooled"`: the mean of `x**2`
            over the input channels times the sum of `w**2`, which is cheaper.
        moment_gradient: whether the gradient flows into `q`. False is cheaper, and no longer the exact derivative.
        **kwargs: arguments of `keras.layers.EinsumDense` by name. `activation` must be None or `"linear"`.

    Raises:
        ValueError: on another `activation`, an unknown option, or a quantized dtype policy.

    Input shape:
        as given by `equation`.

    Output shape:
        `(batch, *output_shape)`.

    Examples:
        >>> layer = ks.SAEinsumDense("abc,cd->abd", output_shape=(5, 4), bias_axes="d")
        >>> tuple(layer(np.ones((2, 5, 3))).shape)
        (2, 5, 4)
    """
