"""Rules for calls without weights: sums, pooling, elementwise operations, and those that move elements.

What a rule is, `keras_shapley.rules` says.
"""

import keras
from keras import ops

from keras_shapley.backend import vjp
from keras_shapley.lrp.rules.sums import Proportional
from keras_shapley.models.graph import Value


class Move:
    """Operations that move elements to other places (Reshape, Concatenate, ZeroPadding, ...): each takes its relevance.

    Relevance on places that no input element fills, as the margin of ZeroPadding, is lost and shows as a gap.
    """

    def __call__(self, call, inputs, relevance):
        def moved(*inputs):
            return _flat(call.at_full_precision(*inputs))

        _, transpose = vjp(moved, *inputs)
        return list(transpose(_flat(relevance)))


def _flat(tensors):
    """All elements of a tensor or list of tensors in one vector."""
    return ops.concatenate([ops.reshape(tensor, (-1,)) for tensor in keras.tree.flatten(tensors)], axis=0)


class Resize(Proportional):
    """UpSampling: copies give their relevance back to the original, interpolated values in proportion to their parts.

    Args:
        epsilon: stabiliser of the denominator.
    """

    def __call__(self, call, inputs, relevance):
        if getattr(call.op, "interpolation", "nearest") == "nearest":
            return Move()(call, inputs, relevance)
        return super().__call__(call, inputs, relevance)


class Lookup:
    """Embedding: a token takes the relevance of its vector. The walk ends there."""

    def __call__(self, call, inputs, relevance):
        return [ops.sum(relevance, axis=-1)]


class Gather(Move):
    """`take`: elements take their relevance along; of a constant table, as `Lookup`."""

    def __call__(self, call, inputs, relevance):
        if isinstance(call.named(call.inputs)["x"], Value):
            return super().__call__(call, inputs, relevance)
        rank = len(inputs[0].shape)
        if tuple(relevance.shape[:rank]) != tuple(inputs[0].shape):
            raise ValueError(
                f"Rule Gather is for rows of a constant table. Received: {call.description} on another axis."
            )
        return [ops.sum(relevance, axis=tuple(range(rank, len(relevance.shape))))]


class EachStep:
    """TimeDistributed: a rule on every step by itself.

    Args:
        call: the wrapped layer's call.
        rule: its rule.
    """

    def __init__(self, call, rule):
        self.call, self.rule = call, rule

    def __call__(self, call, inputs, relevance):
        (x,) = inputs
        (part,) = self.rule(self.call, [_steps(x)], _steps(relevance))
        return [ops.reshape(part, x.shape)]


def _steps(x):
    return ops.reshape(x, (x.shape[0] * x.shape[1], *x.shape[2:]))
