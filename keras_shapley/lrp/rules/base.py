"""Rules for calls without weights: sums, pooling, elementwise operations, and those that move elements.

What a rule is, `keras_shapley.rules` says.
"""

from keras import ops

from keras_shapley.backend import signed, vjp


def stabilize(x, epsilon):
    """`x + epsilon sign(x)` with sign(0) = +1, the denominator of eq. (2) as the paper keeps it from vanishing."""
    return x + signed(epsilon, x)


def in_proportion(fn, inputs, relevance, epsilon):
    """Relevance of the inputs of a linear `fn`, or one linear in each: `x df/dx` of what it gives over what it is."""
    y, transpose = vjp(fn, *inputs)
    return [x * part for x, part in zip(inputs, transpose(relevance / stabilize(y, epsilon)))]


def gathered(relevance, x):
    """Relevance of what `x` was broadcast to, summed back to the shape of `x`."""
    _, transpose = vjp(lambda x: ops.broadcast_to(x, relevance.shape), x)
    return transpose(relevance)[0]
