"""Initial kernels for layers with the Shapley activation."""

from typing import Any

import keras

# 1/E[t**2 Phi(t sqrt(3/(2 + t**2)))**2] for a standard normal t
_SCALE = 2.515594


@keras.saving.register_keras_serializable(package="keras_shapley")
class SANormal(keras.initializers.VarianceScaling):
    """Kernels with which SA, eq. (5), keeps the mean square of a signal, as He et al. (2015) did for ReLU.

    Take many inputs, independent kernel elements of mean 0 and variance `v`, and no bias. Then `u` is normal with
    variance `n v E[x**2]`, `q` is close to that variance, and `z = t sqrt(3/(2 + t**2))` with a standard normal `t`. By
    eq. (5) the output has the mean square `n v E[x**2] E[t**2 Phi(z)**2]`. It equals that of the input for
    `v = 2.5156/n`, where ReLU's is `2/n`. The gradient's variance grows by a factor of 1.05 a layer.

    The distribution is a truncated normal, as in `keras.initializers.HeNormal`.

    Args:
        seed: as of `keras.initializers.HeNormal`.
        axes: `input_axes` and `output_axes`, as of `keras.initializers.HeNormal`.

    Examples:
        >>> layer = ks.SADense(64, kernel_initializer=ks.SANormal(seed=0))
        >>> tuple(layer(np.ones((2, 32))).shape)
        (2, 64)
    """

    def __init__(self, seed: Any = None, **axes: Any) -> None:
        super().__init__(scale=_SCALE, mode="fan_in", distribution="truncated_normal", seed=seed, **axes)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        for name in ("scale", "mode", "distribution"):
            del config[name]
        return config
