"""Rules for calls without weights: sums, pooling, elementwise operations, and those that move elements.

What a rule is, `keras_shapley.rules` says.
"""

from keras import ops

from keras_shapley.backend import vjp
from keras_shapley.lrp.rules.elementwise import OneOperand
from keras_shapley.lrp.rules.moving import Move
from keras_shapley.models.windows import pooling_windows, real_elements


class WinnerTakesAll(Move):
    """Maxima and minima, as in max pooling: the winning input takes the relevance of its output."""


class LargerOperand(WinnerTakesAll):
    """`maximum` and `minimum` of two tensors: the winner takes all; beside a constant, as `OneOperand`."""

    def __call__(self, call, inputs, relevance):
        return (super().__call__ if len(inputs) > 1 else OneOperand())(call, inputs, relevance)


class Airport:
    """Max pooling as a game whose Shapley values have a closed form.

    With absent inputs at 0 the window's value is `max(x, 0)`, the airport game of Littlechild & Owen (1973): sorted
    upwards, `phi_(i) = sum over l <= i of (x_(l) - x_(l-1))/(m - l + 1)`. Relevance is dealt in proportion to `phi`;
    equally, `1/m` each, where no input of the window is positive. Places that padding adds are no real_elements.
    """

    def __call__(self, call, inputs, relevance):
        (x,) = inputs
        windows, gather = vjp(lambda x: pooling_windows(call.op, x), ops.maximum(x, 0))
        real = pooling_windows(call.op, real_elements(call, x))

        costs, m = ops.sort(windows, axis=0), windows.shape[0]
        phi = (_airport_by_pairs if m <= 16 else _airport_by_places)(windows, costs)

        top = costs[-1]
        dealt = ops.where(top > 0, phi / ops.where(top > 0, top, 1), real / ops.maximum(ops.sum(real, axis=0), 1))
        return list(gather(dealt * ops.reshape(relevance, top.shape)))


def _airport_by_pairs(windows, costs):
    """`phi` of small windows: the sum over l <= i, rearranged into one over all l of `min(x_i, x_(l))`."""
    m = windows.shape[0]
    weights = [1 / (m - i) - 1 / (m - i - 1) for i in range(m - 1)] + [1.0]
    return sum(weight * ops.minimum(windows, costs[i]) for i, weight in enumerate(weights))


def _airport_by_places(windows, costs):
    """`phi` of large windows, where sorting twice costs less than all pairs: the sum, put back to where it belongs."""
    m = windows.shape[0]
    remaining = ops.reshape(ops.arange(m, 0, -1, dtype=windows.dtype), (m,) + (1,) * (len(windows.shape) - 1))
    steps = (costs - ops.concatenate([ops.zeros_like(costs[:1]), costs[:-1]], axis=0)) / remaining
    places = ops.argsort(ops.argsort(windows, axis=0), axis=0)
    return ops.take_along_axis(ops.cumsum(steps, axis=0), places, axis=0)
