"""Layers with Shapley activations: the parent's linear map, then eq. (5) or ShapLU instead of an activation."""

import keras
from keras import ops

from keras_shapley.layers.activations import shaplu, shaplu_full
from keras_shapley.layers.base import ShapleyLayer
from keras_shapley.utils.validation import one_of


class ShapleyLinearUnit(ShapleyLayer):
    """Mixin: the output is ReLU and its gradient the Shapley gradient, eq. (4): ShapLU, section 2.2 of the paper.

    Args:
        second_moment: as in `ShapleyLayer`.
        gradient: `"simplified"` is what the paper ran: eq. (4) without the last terms of its first two lines. `"full"`
            is all of eq. (4); it needs `second_moment="exact"` and costs a third linear map.
    """

    def __init__(self, *args, gradient="simplified", **kwargs):
        super().__init__(*args, **kwargs)
        self.gradient = one_of("gradient", gradient, ("simplified", "full"))
        if self.gradient == "full" and self.second_moment == "pooled":
            raise ValueError(
                "`gradient='full'` is eq. (4) with each input's own moment: it needs second_moment='exact'. "
                "Received: second_moment='pooled'"
            )

    def call(self, inputs):
        if self._derivatives_are_exact:
            u, _, b = self.gate_moments(inputs)
            y = ops.relu(u + b)
        elif self.gradient == "full":
            u, q, b = self.gate_moments(inputs)
            y = shaplu_full(u, q, self.third_moment(inputs), b, self.fan_in(inputs))
        else:
            y = shaplu(*self.gate_moments(inputs, gradient=False))
        return ops.cast(y, self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "gradient": self.gradient}


@keras.saving.register_keras_serializable(package="keras_shapley")
class ShapLUDense(ShapleyLinearUnit, keras.layers.Dense):
    """`keras.layers.Dense` with ReLU forward and the Shapley gradient backward, eq. (4).

    Takes the arguments of its parent, and `second_moment` and `gradient` of `ShapleyLinearUnit`.
    """


@keras.saving.register_keras_serializable(package="keras_shapley")
class ShapLUConv1D(ShapleyLinearUnit, keras.layers.Conv1D):
    """`keras.layers.Conv1D` with ReLU forward and the Shapley gradient backward, eq. (4).

    Takes the arguments of its parent, and `second_moment` and `gradient` of `ShapleyLinearUnit`.
    """


@keras.saving.register_keras_serializable(package="keras_shapley")
class ShapLUConv2D(ShapleyLinearUnit, keras.layers.Conv2D):
    """`keras.layers.Conv2D` with ReLU forward and the Shapley gradient backward, eq. (4).

    Takes the arguments of its parent, and `second_moment` and `gradient` of `ShapleyLinearUnit`.
    """


@keras.saving.register_keras_serializable(package="keras_shapley")
class ShapLUConv3D(ShapleyLinearUnit, keras.layers.Conv3D):
    """`keras.layers.Conv3D` with ReLU forward and the Shapley gradient backward, eq. (4).

    Takes the arguments of its parent, and `second_moment` and `gradient` of `ShapleyLinearUnit`.
    """


@keras.saving.register_keras_serializable(package="keras_shapley")
class ShapLUDepthwiseConv2D(ShapleyLinearUnit, keras.layers.DepthwiseConv2D):
    """`keras.layers.DepthwiseConv2D` with ReLU forward and the Shapley gradient backward, eq. (4).

    Takes the arguments of its parent, and `second_moment` and `gradient` of `ShapleyLinearUnit`.
    """


@keras.saving.register_keras_serializable(package="keras_shapley")
class ShapLUEinsumDense(ShapleyLinearUnit, keras.layers.EinsumDense):
    """`keras.layers.EinsumDense` with ReLU forward and the Shapley gradient backward, eq. (4).

    Takes the arguments of its parent, and `second_moment` and `gradient` of `ShapleyLinearUnit`.
    """
