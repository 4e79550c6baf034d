# ruff: noqa: F403
"""How faithful attributions are: measures of any array of attributions, whichever library made it.

Throughout, `fn` is a Keras model, or a function of a NumPy batch, with outputs `(batch, ...)`.
Attributions are an array of the shape of `x`, or of `x` without the channels, where the channels of a pixel go
together; or an explanation object, such as `Explanation` or `ShapleyValues`, whose `heatmap` is taken. Results are
float64, one number for each image, shape `(batch,)`. Two functions return more: `perturbation_curve` a curve for each
image, shape `(batch, steps + 1)`, and `randomization` a dict of such numbers by layer.
"""

from keras_shapley.metrics import agreement, perturbation, stability
from keras_shapley.metrics.agreement import *
from keras_shapley.metrics.perturbation import *
from keras_shapley.metrics.stability import *

# each module lists its own metrics
__all__ = []
__all__ += agreement.__all__
__all__ += perturbation.__all__
__all__ += stability.__all__


def __dir__() -> list[str]:
    return sorted(__all__)
