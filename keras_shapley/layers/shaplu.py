"""Layers with ShapLU: ReLU forward, the Shapley gradient of eq. (4) backward."""

from typing import Any

import keras
from keras import ops

from keras_shapley.layers.activations import shaplu, shaplu_full
from keras_shapley.layers.base import ShapleyLayer
from keras_shapley.utils.typing import Tensor
from keras_shapley.utils.validation import one_of


class ShapleyLinearUnit(ShapleyLayer):
    """Mixin whose output is ReLU and whose gradient is the Shapley gradient, eq. (4): section 2.2 of the paper.

    Args:
        second_moment: as in `ShapleyLayer`.
        gradient: `"simplified"` is what the paper ran: eq. (4) without the last terms of its first two lines. `"full"`
            is all of eq. (4); it needs `second_moment="exact"` and costs a third linear map.
    """

    def __init__(self, *args: Any, second_moment: str = "exact", gradient: str = "simplified", **kwargs: Any) -> None:
        super().__init__(*args, second_moment=second_moment, **kwargs)
        self.gradient = one_of("gradient", gradient, ("simplified", "full"))
        if self.gradient == "full" and self.second_moment == "pooled":
            raise ValueError(
                "`gradient='full'` is eq. (4) with each input's own moment: it needs second_moment='exact'. "
                "Received: second_moment='pooled'"
            )

    def call(self, inputs: Tensor) -> Tensor:
        if self._derivatives_are_exact:
            y = self.rectified(inputs)
        elif self.gradient == "full":
            y = shaplu_full(*self.full_moments(inputs))
        else:
            y = shaplu(*self.gate_moments(inputs, gradient=False))
        return ops.cast(y, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "gradient": self.gradient}


@keras.saving.register_keras_serializable(package="keras_shapley")
class ShapLUDense(ShapleyLinearUnit, keras.layers.Dense):
    """`keras.layers.Dense` with ReLU forward and the Shapley gradient, eq. (4) of Li & Cui (2022), backward.

    The output is that of ReLU. Where ReLU's gradient is 0 or 1, this one has the probability that the neuron is open
    over random orders of its inputs, so it does not vanish where ReLU is off.

    Args:
        *args: `units` and the other arguments of `keras.layers.Dense`, in its order.
        second_moment: `"exact"`: `q`, the sum of `(w_i x_i)**2`, is a second linear map. `"pooled"`: the mean of `x**2`
            over the input channels times the sum of `w**2`, which is cheaper.
        gradient: `"simplified"`, what the paper ran, or `"full"`, all of eq. (4), which needs `second_moment="exact"`.
        **kwargs: arguments of `keras.layers.Dense` by name. `activation` must be None or `"linear"`.

    Raises:
        ValueError: on another `activation`, an unknown option, or a quantized dtype policy.

    Input shape:
        `(batch, ..., features)`, as of `keras.layers.Dense`.

    Output shape:
        `(batch, ..., units)`.

    Examples:
        >>> layer = ks.ShapLUDense(4)
        >>> tuple(layer(np.ones((2, 3))).shape)
        (2, 4)
    """


@keras.saving.register_keras_serializable(package="keras_shapley")
class ShapLUConv1D(ShapleyLinearUnit, keras.layers.Conv1D):
    """`keras.layers.Conv1D` with ReLU forward and the Shapley gradient, eq. (4) of Li & Cui (2022), backward.

    Args:
        *args: `filters, kernel_size` and the other arguments of `keras.layers.Conv1D`, in its order.
        second_moment: `"exact"`: `q`, the sum of `(w_i x_i)**2`, is a second linear map. `"pooled"`: the mean of `x**2`
            over the input channels times the sum of `w**2`, which is cheaper.
        gradient: `"simplified"`, what the paper ran, or `"full"`, all of eq. (4), which needs `second_moment="exact"`.
        **kwargs: arguments of `keras.layers.Conv1D` by name. `activation` must be None or `"linear"`.

    Raises:
        ValueError: on another `activation`, an unknown option, or a quantized dtype policy.

    Input shape:
        `(batch, steps, channels)`, as of `keras.layers.Conv1D`.

    Output shape:
        `(batch, new_steps, filters)`.

    Examples:
        >>> layer = ks.ShapLUConv1D(4, 3)
        >>> tuple(layer(np.ones((2, 8, 3))).shape)
        (2, 6, 4)
    """


@keras.saving.register_keras_serializable(package="keras_shapley")
class ShapLUConv2D(ShapleyLinearUnit, keras.layers.Conv2D):
    """`keras.layers.Conv2D` with ReLU forward and the Shapley gradient, eq. (4) of Li & Cui (2022), backward.

    Args:
        *args: `filters, kernel_size` and the other arguments of `keras.layers.Conv2D`, in its order.
        second_moment: `"exact"`: `q`, the sum of `(w_i x_i)**2`, is a second linear map. `"pooled"`: the mean of `x**2`
            over the input channels times the sum of `w**2`, which is cheaper.
        gradient: `"simplified"`, what the paper ran, or `"full"`, all of eq. (4), which needs `second_moment="exact"`.
        **kwargs: arguments of `keras.layers.Conv2D` by name. `activation` must be None or `"linear"`.

    Raises:
        ValueError: on another `activation`, an unknown option, or a quantized dtype policy.

    Input shape:
        `(batch, height, width, channels)`, as of `keras.layers.Conv2D`.

    Output shape:
        `(batch, new_height, new_width, filters)`.

    Examples:
        >>> layer = ks.ShapLUConv2D(4, 3)
        >>> tuple(layer(np.ones((2, 8, 8, 3))).shape)
        (2, 6, 6, 4)
    """


@keras.saving.register_keras_serializable(package="keras_shapley")
class ShapLUConv3D(ShapleyLinearUnit, keras.layers.Conv3D):
    """`keras.layers.Conv3D` with ReLU forward and the Shapley gradient, eq. (4) of Li & Cui (2022), backward.

    Args:
        *args: `filters, kernel_size` and the other arguments of `keras.layers.Conv3D`, in its order.
        second_moment: `"exact"`: `q`, the sum of `(w_i x_i)**2`, is a second linear map. `"pooled"`: the mean of `x**2`
            over the input channels times the sum of `w**2`, which is cheaper.
        gradient: `"simplified"`, what the paper ran, or `"full"`, all of eq. (4), which needs `second_moment="exact"`.
        **kwargs: arguments of `keras.layers.Conv3D` by name. `activation` must be None or `"linear"`.

    Raises:
        ValueError: on another `activation`, an unknown option, or a quantized dtype policy.

    Input shape:
        `(batch, depth, height, width, channels)`, as of `keras.layers.Conv3D`.

    Output shape:
        `(batch, new_depth, new_height, new_width, filters)`.

    Examples:
        >>> layer = ks.ShapLUConv3D(4, 3)
        >>> tuple(layer(np.ones((2, 5, 5, 5, 3))).shape)
        (2, 3, 3, 3, 4)
    """


@keras.saving.register_keras_serializable(package="keras_shapley")
class ShapLUConv1DTranspose(ShapleyLinearUnit, keras.layers.Conv1DTranspose):
    """`keras.layers.Conv1DTranspose` with ReLU forward and the Shapley gradient, eq. (4) of Li & Cui (2022), backward.

    The inputs of a neuron are the elements of the layer's input that reach it. With strides and at the borders their
    number differs between neurons. A neuron that no input reaches has the output `relu(b)`.

    Args:
        *args: `filters, kernel_size` and the other arguments of `keras.layers.Conv1DTranspose`, in its order.
        second_moment: `"exact"`: `q`, the sum of `(w_i x_i)**2`, is a second linear map. `"pooled"`: the mean of `x**2`
            over the input channels times the sum of `w**2`, which is cheaper.
        gradient: `"simplified"`, what the paper ran, or `"full"`, all of eq. (4), which needs `second_moment="exact"`.
        **kwargs: arguments of `keras.layers.Conv1DTranspose` by name. `activation` must be None or `"linear"`.

    Raises:
        ValueError: on another `activation`, an unknown option, or a quantized dtype policy.

    Input shape:
        `(batch, steps, channels)`, as of `keras.layers.Conv1DTranspose`.

    Output shape:
        `(batch, new_steps, filters)`.

    Examples:
        >>> layer = ks.ShapLUConv1DTranspose(4, 3, strides=2)
        >>> tuple(layer(np.ones((2, 8, 3))).shape)
        (2, 17, 4)
    """


@keras.saving.register_keras_serializable(package="keras_shapley")
class ShapLUConv2DTranspose(ShapleyLinearUnit, keras.layers.Conv2DTranspose):
    """`keras.layers.Conv2DTranspose` with ReLU forward and the Shapley gradient, eq. (4) of Li & Cui (2022), backward.

    The inputs of a neuron are the elements of the layer's input that reach it. With strides and at the borders their
    number differs between neurons. A neuron that no input reaches has the output `relu(b)`.

    Args:
        *args: `filters, kernel_size` and the other arguments of `keras.layers.Conv2DTranspose`, in its order.
        second_moment: `"exact"`: `q`, the sum of `(w_i x_i)**2`, is a second linear map. `"pooled"`: the mean of `x**2`
            over the input channels times the sum of `w**2`, which is cheaper.
        gradient: `"simplified"`, what the paper ran, or `"full"`, all of eq. (4), which needs `second_moment="exact"`.
        **kwargs: arguments of `keras.layers.Conv2DTranspose` by name. `activation` must be None or `"linear"`.

    Raises:
        ValueError: on another `activation`, an unknown option, or a quantized dtype policy.

    Input shape:
        `(batch, height, width, channels)`, as of `keras.layers.Conv2DTranspose`.

    Output shape:
        `(batch, new_height, new_width, filters)`.

    Examples:
        >>> layer = ks.ShapLUConv2DTranspose(4, 3, strides=2)
        >>> tuple(layer(np.ones((2, 8, 8, 3))).shape)
        (2, 17, 17, 4)
    """


@keras.saving.register_keras_serializable(package="keras_shapley")
class ShapLUConv3DTranspose(ShapleyLinearUnit, keras.layers.Conv3DTranspose):
    """`keras.layers.Conv3DTranspose` with ReLU forward and the Shapley gradient, eq. (4) of Li & Cui (2022), backward.

    The inputs of a neuron are the elements of the layer's input that reach it. With strides and at the borders their
    number differs between neurons. A neuron that no input reaches has the output `relu(b)`.

    Args:
        *args: `filters, kernel_size` and the other arguments of `keras.layers.Conv3DTranspose`, in its order.
        second_moment: `"exact"`: `q`, the sum of `(w_i x_i)**2`, is a second linear map. `"pooled"`: the mean of `x**2`
            over the input channels times the sum of `w**2`, which is cheaper.
        gradient: `"simplified"`, what the paper ran, or `"full"`, all of eq. (4), which needs `second_moment="exact"`.
        **kwargs: arguments of `keras.layers.Conv3DTranspose` by name. `activation` must be None or `"linear"`.

    Raises:
        ValueError: on another `activation`, an unknown option, or a quantized dtype policy.

    Input shape:
        `(batch, depth, height, width, channels)`, as of `keras.layers.Conv3DTranspose`.

    Output shape:
        `(batch, new_depth, new_height, new_width, filters)`.

    Examples:
        >>> layer = ks.ShapLUConv3DTranspose(4, 3)
        >>> tuple(layer(np.ones((2, 5, 5, 5, 3))).shape)
        (2, 7, 7, 7, 4)
    """


@keras.saving.register_keras_serializable(package="keras_shapley")
class ShapLUDepthwiseConv1D(ShapleyLinearUnit, keras.layers.DepthwiseConv1D):
    """`keras.layers.DepthwiseConv1D` with ReLU forward and the Shapley gradient, eq. (4) of Li & Cui (2022), backward.

    Args:
        *args: `kernel_size` and the other arguments of `keras.layers.DepthwiseConv1D`, in its order.
        second_moment: `"exact"`: `q`, the sum of `(w_i x_i)**2`, is a second linear map. `"pooled"` is the same here,
            because each group has one input channel.
        gradient: `"simplified"`, what the paper ran, or `"full"`, all of eq. (4), which needs `second_moment="exact"`.
        **kwargs: arguments of `keras.layers.DepthwiseConv1D` by name. `activation` must be None or `"linear"`.

    Raises:
        ValueError: on another `activation`, an unknown option, or a quantized dtype policy.

    Input shape:
        `(batch, steps, channels)`, as of `keras.layers.DepthwiseConv1D`.

    Output shape:
        `(batch, new_steps, channels * depth_multiplier)`.

    Examples:
        >>> layer = ks.ShapLUDepthwiseConv1D(3)
        >>> tuple(layer(np.ones((2, 8, 3))).shape)
        (2, 6, 3)
    """


@keras.saving.register_keras_serializable(package="keras_shapley")
class ShapLUDepthwiseConv2D(ShapleyLinearUnit, keras.layers.DepthwiseConv2D):
    """`keras.layers.DepthwiseConv2D` with ReLU forward and the Shapley gradient, eq. (4) of Li & Cui (2022), backward.

    Args:
        *args: `kernel_size` and the other arguments of `keras.layers.DepthwiseConv2D`, in its order.
        second_moment: `"exact"`: `q`, the sum of `(w_i x_i)**2`, is a second linear map. `"pooled"` is the same here,
            because each group has one input channel.
        gradient: `"simplified"`, what the paper ran, or `"full"`, all of eq. (4), which needs `second_moment="exact"`.
        **kwargs: arguments of `keras.layers.DepthwiseConv2D` by name. `activation` must be None or `"linear"`.

    Raises:
        ValueError: on another `activation`, an unknown option, or a quantized dtype policy.

    Input shape:
        `(batch, height, width, channels)`, as of `keras.layers.DepthwiseConv2D`.

    Output shape:
        `(batch, new_height, new_width, channels * depth_multiplier)`.

    Examples:
        >>> layer = ks.ShapLUDepthwiseConv2D(3)
        >>> tuple(layer(np.ones((2, 8, 8, 3))).shape)
        (2, 6, 6, 3)
    """


@keras.saving.register_keras_serializable(package="keras_shapley")
class ShapLUSeparableConv1D(ShapleyLinearUnit, keras.layers.SeparableConv1D):
    """`keras.layers.SeparableConv1D` with ReLU forward and the Shapley gradient, eq. (4) of Li & Cui (2022), backward.

    The inputs of a neuron are elements of the layer's input: the depthwise and the pointwise kernel are one kernel,
    their product.

    Args:
        *args: `filters, kernel_size` and the other arguments of `keras.layers.SeparableConv1D`, in its order.
        second_moment: `"exact"`: `q`, the sum of `(w_i x_i)**2`, is a second separable map if `depth_multiplier` is 1.
            Else it is a full convolution, which costs more than the layer itself. `"pooled"`: the mean of `x**2` over
            the input channels times the sum of `w**2`, which is cheaper.
        gradient: `"simplified"`, what the paper ran, or `"full"`, all of eq. (4), which needs `second_moment="exact"`.
        **kwargs: arguments of `keras.layers.SeparableConv1D` by name. `activation` must be None or `"linear"`.

    Raises:
        ValueError: on another `activation`, an unknown option, or a quantized dtype policy.

    Input shape:
        `(batch, steps, channels)`, as of `keras.layers.SeparableConv1D`.

    Output shape:
        `(batch, new_steps, filters)`.

    Examples:
        >>> layer = ks.ShapLUSeparableConv1D(4, 3)
        >>> tuple(layer(np.ones((2, 8, 3))).shape)
        (2, 6, 4)
    """


@keras.saving.register_keras_serializable(package="keras_shapley")
class ShapLUSeparableConv2D(ShapleyLinearUnit, keras.layers.SeparableConv2D):
    """`keras.layers.SeparableConv2D` with ReLU forward and the Shapley gradient, eq. (4) of Li & Cui (2022), backward.

    The inputs of a neuron are elements of the layer's input: the depthwise and the pointwise kernel are one kernel,
    their product.

    Args:
        *args: `filters, kernel_size` and the other arguments of `keras.layers.SeparableConv2D`, in its order.
        second_moment: `"exact"`: `q`, the sum of `(w_i x_i)**2`, is a second separable map if `depth_multiplier` is 1.
            Else it is a full convolution, which costs more than the layer itself. `"pooled"`: the mean of `x**2` over
            the input channels times the sum of `w**2`, which is cheaper.
        gradient: `"simplified"`, what the paper ran, or `"full"`, all of eq. (4), which needs `second_moment="exact"`.
        **kwargs: arguments of `keras.layers.SeparableConv2D` by name. `activation` must be None or `"linear"`.

    Raises:
        ValueError: on another `activation`, an unknown option, or a quantized dtype policy.

    Input shape:
        `(batch, height, width, channels)`, as of `keras.layers.SeparableConv2D`.

    Output shape:
        `(batch, new_height, new_width, filters)`.

    Examples:
        >>> layer = ks.ShapLUSeparableConv2D(4, 3)
        >>> tuple(layer(np.ones((2, 8, 8, 3))).shape)
        (2, 6, 6, 4)
    """


@keras.saving.register_keras_serializable(package="keras_shapley")
class ShapLUEinsumDense(ShapleyLinearUnit, keras.layers.EinsumDense):
    """`keras.layers.EinsumDense` with ReLU forward and the Shapley gradient, eq. (4) of Li & Cui (2022), backward.

    Args:
        *args: `equation, output_shape` and the other arguments of `keras.layers.EinsumDense`, in its order.
        second_moment: `"exact"`: `q`, the sum of `(w_i x_i)**2`, is a second linear map. `"pooled"`: the mean of `x**2`
            over the input channels times the sum of `w**2`, which is cheaper.
        gradient: `"simplified"`, what the paper ran, or `"full"`, all of eq. (4), which needs `second_moment="exact"`.
        **kwargs: arguments of `keras.layers.EinsumDense` by name. `activation` must be None or `"linear"`.

    Raises:
        ValueError: on another `activation`, an unknown option, or a quantized dtype policy.

    Input shape:
        as given by `equation`.

    Output shape:
        `(batch, *output_shape)`.

    Examples:
        >>> layer = ks.ShapLUEinsumDense("abc,cd->abd", output_shape=(5, 4), bias_axes="d")
        >>> tuple(layer(np.ones((2, 5, 3))).shape)
        (2, 5, 4)
    """
