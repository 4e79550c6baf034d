"""Initial kernels for layers with the Shapley activation."""

import keras

# 1/E[t**2 Phi(t sqrt(3/(2 + t**2)))**2] for a standard normal t
_SCALE = 2.515594


@keras.saving.register_keras_serializable(package="keras_shapley")
class SANormal(keras.initializers.VarianceScaling):
    """Kernels with which SA keeps the mean square of its inputs from layer to layer, as He et al. (2015) did for ReLU.

    With many inputs, independent kernel elements of mean 0 and variance `v`, and no bias, `u` is normal with variance
    `n v E[x**2]`, and `q` is close to that variance. Then `z = t sqrt(3/(2 + t**2))` with a standard normal `t`, and by
    eq. (5) the output has the mean square `n v E[x**2] E[t**2 Phi(z)**2]`. It is that of the input for
    `v = 2.5156/n`, where ReLU's is `2/n`. Backwards the gradient's variance grows by 1.05 a layer.

    A truncated normal distribution, as `keras.initializers.HeNormal`.

    Args:
        seed, input_axes, output_axes: as of `keras.initializers.HeNormal`.
    """

    def __init__(self, seed=None, **axes):
        super().__init__(scale=_SCALE, mode="fan_in", distribution="truncated_normal", seed=seed, **axes)

    def get_config(self):
        config = super().get_config()
        for name in ("scale", "mode", "distribution"):
            del config[name]
        return config
