"""Rules for maxima and minima: pooling, reductions, and pairs of tensors."""

from typing import ClassVar

from keras import ops

from keras_shapley.backend import cumsum, maximum, minimum, vjp
from keras_shapley.lrp.rules.base import CallRecord
from keras_shapley.lrp.rules.elementwise import OneOperand
from keras_shapley.lrp.rules.moving import Move
from keras_shapley.models.layer_types import EXTREME, MAX_POOLING, PAIR_EXTREME
from keras_shapley.models.windows import pooling_windows, real_elements
from keras_shapley.utils.typing import Tensor

__all__ = ["Airport", "LargerOperand", "WinnerTakesAll"]

# up to this many inputs in a window all pairs of them cost less than sorting twice
_SMALL_WINDOW = 16


class WinnerTakesAll(Move):
    """Maxima and minima, as in max pooling: the winning input receives the relevance of its output, Bach et al. (2015).

    Examples:
        >>> model = keras.Sequential([keras.Input((3, 1)), keras.layers.GlobalMaxPooling1D()])
        >>> explainer = ks.LRP(model, rules=[(keras.layers.GlobalMaxPooling1D, ks.rules.WinnerTakesAll())])
        >>> print(explainer.explain(np.array([[[1.0], [2.0], [4.0]]])).input[0, :, 0])
        [0. 0. 4.]
    """

    fits = (*MAX_POOLING, *EXTREME, *PAIR_EXTREME)


class LargerOperand(WinnerTakesAll):
    """`maximum` and `minimum` of two tensors: the winner takes all, as in `WinnerTakesAll`.

    Of a tensor and a constant, the tensor receives all relevance, as in `OneOperand`.

    Examples:
        >>> a, b = keras.Input((1,)), keras.Input((1,))
        >>> explainer = ks.LRP(keras.Model([a, b], keras.layers.Maximum()([a, b])), rules="paper")
        >>> r_a, r_b = explainer.explain([np.array([[2.0]]), np.array([[3.0]])]).input
        >>> print(r_a, r_b)
        [[0.]] [[3.]]
    """

    fits = PAIR_EXTREME

    def __call__(self, call: CallRecord, inputs: list[Tensor], relevance: Tensor) -> list[Tensor]:
        if len(inputs) == 1:
            return OneOperand()(call, inputs, relevance)
        return super().__call__(call, inputs, relevance)


class Airport:
    """Max pooling as a game whose Shapley values have a closed form.

    If absent inputs are 0, a window's value is `max(x, 0)`: the airport game of Littlechild & Owen (1973). With the
    inputs sorted upwards, `phi_(i) = sum over l <= i of (x_(l) - x_(l-1))/(m - l + 1)`. The relevance is distributed in
    proportion to `phi`, or equally, `1/m` each, if no input of the window is positive. Places that padding adds are not
    counted.

    Examples:
        >>> model = keras.Sequential([keras.Input((3, 1)), keras.layers.GlobalMaxPooling1D()])
        >>> explainer = ks.LRP(model, rules=[(keras.layers.GlobalMaxPooling1D, ks.rules.Airport())])
        >>> print(explainer.explain(np.array([[[1.0], [2.0], [4.0]]])).input[0, :, 0].round(2))
        [0.33 0.83 2.83]
    """

    fits: ClassVar[tuple[type, ...]] = MAX_POOLING

    def __call__(self, call: CallRecord, inputs: list[Tensor], relevance: Tensor) -> list[Tensor]:
        (x,) = inputs
        windows, pullback = vjp(lambda x: pooling_windows(call.op, x), maximum(x, 0))
        real = pooling_windows(call.op, real_elements(call, x))
        costs = ops.sort(windows, axis=0)
        phi = (_phi_by_pairs if windows.shape[0] <= _SMALL_WINDOW else _phi_by_places)(windows, costs)

        top = costs[-1]
        equal = real / maximum(ops.sum(real, axis=0), 1)
        shares = ops.where(top > 0, phi / ops.where(top > 0, top, 1), equal)
        return list(pullback(shares * ops.reshape(relevance, top.shape)))


def _phi_by_pairs(windows: Tensor, costs: Tensor) -> Tensor:
    """`phi` of windows `(m, ...)`: the sum over l <= i, rearranged into one over all l of `min(x_i, x_(l))`."""
    m = windows.shape[0]
    weights = [1 / (m - i) - 1 / (m - i - 1) for i in range(m - 1)] + [1.0]
    return sum(weight * minimum(windows, costs[i]) for i, weight in enumerate(weights))


def _phi_by_places(windows: Tensor, costs: Tensor) -> Tensor:
    """`phi` of windows `(m, ...)`: the sum over l <= i for the sorted inputs, put back to where each belongs."""
    m = windows.shape[0]
    remaining = ops.reshape(ops.arange(m, 0, -1, dtype=windows.dtype), (m,) + (1,) * (len(windows.shape) - 1))
    steps = (costs - ops.concatenate([ops.zeros_like(costs[:1]), costs[:-1]], axis=0)) / remaining
    places = ops.argsort(ops.argsort(windows, axis=0), axis=0)
    return ops.take_along_axis(cumsum(steps, axis=0), places, axis=0)
