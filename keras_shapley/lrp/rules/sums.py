"""Rules for calls without weights: sums, pooling, elementwise operations, and those that move elements.

What a rule is, `keras_shapley.rules` says.
"""

from keras import ops

from keras_shapley.lrp.rules.base import gathered, in_proportion


class Proportional:
    """Eq. (2) where no weights or bias are: every addend of an output gets relevance in proportion to itself.

    For pooling by average, and for Add. Where all addends of an output are zero its relevance is lost.

    Args:
        epsilon: stabiliser of the denominator, in units of the output.
    """

    def __init__(self, epsilon=1e-9):
        self.epsilon = epsilon

    def __call__(self, call, inputs, relevance):
        return in_proportion(call.at_full_precision, inputs, relevance, self.epsilon)


class Sum(Proportional):
    """Addition: in proportion, as `Proportional`. A constant addend is no player: the others get everything."""

    def __call__(self, call, inputs, relevance):
        if len(inputs) == 1:
            return [gathered(relevance, inputs[0])]
        constant = call.at_full_precision(*map(ops.zeros_like, inputs))
        return in_proportion(lambda *x: call.at_full_precision(*x) - constant, inputs, relevance, self.epsilon)


class AbsoluteSum:
    """Addition, in proportion to absolute values: `r_k = |x_k| / sum_i |x_i| r`, so that no addend amplifies.

    The ratio-based splitting of Otsuki et al. (2024) for residual networks, where addends of opposite signs abound.
    Where all are zero they share equally. A constant addend is no player.
    """

    def __call__(self, call, inputs, relevance):
        zeros = [ops.zeros_like(x) for x in inputs]
        constant = call.at_full_precision(*zeros)
        alone = [call.at_full_precision(*zeros[:i], x, *zeros[i + 1 :]) for i, x in enumerate(inputs)]
        addends = [ops.abs(y - constant) for y in alone]
        total = sum(addends)
        shares = [ops.where(total > 0, addend / ops.where(total > 0, total, 1), 1 / len(inputs)) for addend in addends]
        return [gathered(share * relevance, x) for share, x in zip(shares, inputs)]


class EqualSplit:
    """Product of `n` tensors: `1/n` of the relevance each, the Shapley values where an absent factor is 0.

    For gates, as in squeeze-and-excite blocks; also the uniform rule of Achtibat et al. (2024) for products. A constant
    factor is no player.
    """

    def __call__(self, call, inputs, relevance):
        return [gathered(relevance, x) / len(inputs) for x in inputs]
