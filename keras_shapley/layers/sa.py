"""Layers with Shapley activations: the parent's linear map, then eq. (5) or ShapLU instead of an activation."""

import keras
from keras import ops

from keras_shapley.layers.activations import shapley_activation
from keras_shapley.layers.base import ShapleyLayer
from keras_shapley.utils.validation import one_of


class ShapleyActivation(ShapleyLayer):
    """Mixin: the output is the Shapley activation SA, eq. (5): `Phi((mu + b)/sigma) * (u + b)`.

    Args:
        second_moment: as in `ShapleyLayer`.
        moment_gradient: whether the gradient flows into `q`. False is cheaper, and no longer the exact derivative.
    """

    def __init__(self, *args, moment_gradient=True, **kwargs):
        super().__init__(*args, **kwargs)
        self.moment_gradient = one_of("moment_gradient", moment_gradient, (True, False))

    def call(self, inputs):
        u, q, b = self.gate_moments(inputs, gradient=self.moment_gradient or self._derivatives_are_exact)
        return ops.cast(shapley_activation(u, q, b), self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "moment_gradient": self.moment_gradient}


@keras.saving.register_keras_serializable(package="keras_shapley")
class SADense(ShapleyActivation, keras.layers.Dense):
    """`keras.layers.Dense` with the Shapley activation, eq. (5).

    Takes the arguments of its parent, and `second_moment` and `moment_gradient` of `ShapleyActivation`.
    """


@keras.saving.register_keras_serializable(package="keras_shapley")
class SAConv1D(ShapleyActivation, keras.layers.Conv1D):
    """`keras.layers.Conv1D` with the Shapley activation, eq. (5).

    Takes the arguments of its parent, and `second_moment` and `moment_gradient` of `ShapleyActivation`.
    """


@keras.saving.register_keras_serializable(package="keras_shapley")
class SAConv2D(ShapleyActivation, keras.layers.Conv2D):
    """`keras.layers.Conv2D` with the Shapley activation, eq. (5).

    Takes the arguments of its parent, and `second_moment` and `moment_gradient` of `ShapleyActivation`.
    """


@keras.saving.register_keras_serializable(package="keras_shapley")
class SAConv3D(ShapleyActivation, keras.layers.Conv3D):
    """`keras.layers.Conv3D` with the Shapley activation, eq. (5).

    Takes the arguments of its parent, and `second_moment` and `moment_gradient` of `ShapleyActivation`.
    """


@keras.saving.register_keras_serializable(package="keras_shapley")
class SADepthwiseConv2D(ShapleyActivation, keras.layers.DepthwiseConv2D):
    """`keras.layers.DepthwiseConv2D` with the Shapley activation, eq. (5).

    Takes the arguments of its parent, and `second_moment` and `moment_gradient` of `ShapleyActivation`.
    """


@keras.saving.register_keras_serializable(package="keras_shapley")
class SAEinsumDense(ShapleyActivation, keras.layers.EinsumDense):
    """`keras.layers.EinsumDense` with the Shapley activation, eq. (5).

    Takes the arguments of its parent, and `second_moment` and `moment_gradient` of `ShapleyActivation`.
    """
