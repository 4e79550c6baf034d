"""Shapley values of a softmax's inputs: by all coalitions, by random orders, or by quadrature.

A sigmoid is the softmax of two classes. All logits are less the target's, whose probability is explained.
"""

import numpy as np
from keras import ops

from keras_shapley.shapley.exact import all_coalitions

# Gauss-Legendre nodes in time, and pairs of opposite normal draws there; more of both change less than the normal
# distribution that is assumed
_NODES = 4
_DRAWS = 128


def ends(a, b):
    """`(baseline, total)`: the target's probability without any player, and that with all less it, shape `(batch,)`."""
    baseline = _target_probability(b)
    return baseline, _target_probability(b + ops.sum(a, axis=1)) - baseline


def enumerated(a, b):
    """Shapley values of the target's probability by all coalitions.

    Args:
        a: what each player adds to each logit, less what it adds to the target's, shape `(batch, players, classes)`.
        b: the logits without a player, less the target's, shape `(batch, classes)`.

    Returns:
        Shape `(batch, players)`.
    """
    batch, players, classes = a.shape
    present, coefficients = all_coalitions(players)
    block = _block_length(len(present), batch * classes)
    present, coefficients = (
        ops.convert_to_tensor(part.reshape(-1, block, players), a.dtype) for part in (present, coefficients.T)
    )

    def step(i, values):
        logits = b[:, None] + ops.matmul(ops.take(present, i, axis=0), a)
        return values + ops.matmul(_target_probability(logits), ops.take(coefficients, i, axis=0))

    return ops.fori_loop(0, present.shape[0], step, ops.zeros_like(a[..., 0]))


def by_quadrature(a, b, seed):
    """Shapley values of the target's probability, approximately, at a cost that hardly grows with the players.

    At time t the logits of those who have come are taken to be normal, with the mean and covariance that they have, and
    the gain of player k is the derivative of the mean probability by the time of k alone: `E[g] a_k + (1/2 - t)
    a_k E[h] a_k`, with g and h the first and second derivatives of the probability by the logits.

    Args:
        a, b: as in `enumerated`.
        seed: of the draws.

    Returns:
        Shape `(batch, players)`.
    """
    draws = np.random.default_rng(seed).standard_normal((_DRAWS, a.shape[1]))
    spread = ops.matmul(ops.convert_to_tensor(np.concatenate([draws, -draws]), a.dtype), a)
    middle, by_class = ops.sum(a, axis=1)[:, None], ops.transpose(a, (0, 2, 1))
    values = 0.0
    for t, weight in zip(*_nodes()):
        logits = b[:, None] + t * middle + float(np.sqrt(t * (1 - t))) * spread
        p, of_classes = _target_probability(logits)[:, None], ops.softmax(logits, axis=-1)
        # mean and mean square over the classes of what a player adds: along a_k, p has the derivatives
        # -p first and p (2 first**2 - second)
        first, second = ops.matmul(of_classes, by_class), ops.matmul(of_classes, ops.square(by_class))
        gain = (0.5 - t) * (2 * ops.square(first) - second) - first
        values = values + weight * ops.matmul(p, gain)[:, 0] / (2 * _DRAWS)
    return values


def _nodes():
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    return ((nodes + 1) / 2).tolist(), (weights / 2).tolist()


def sampled(a, b, orders, *, tolerance=0.0):
    """Shapley values of the target's probability by antithetic permutations.

    Each order is walked from both ends at once; along each path the contributions sum to `p(all) - p(no player)`.

    Args:
        a, b: as in `enumerated`.
        orders: random permutations, int32 of shape `(pairs, players)`; each stands for itself and its reverse.
        tolerance: stop once, in every image, the standard errors' root sum of squares is below this share of the
            values'. 0 walks all orders.

    Returns:
        `(values, stderr, n_pairs)`: shapes `(batch, players)` twice, and the number of pairs walked; `stderr` is over
        the means of pairs, NaN for a single pair.
    """
    batch, players, classes = a.shape
    pairs = orders.shape[0]
    block = _block_length(pairs, batch * players * classes)
    blocks = ops.reshape(orders, (pairs // block, block, players))
    whole = b + ops.sum(a, axis=1)

    def step(i, mean, squares):
        order = ops.take(blocks, i, axis=0)
        came = ops.cumsum(ops.take(a, order, axis=1), axis=2)
        came = ops.concatenate([ops.zeros_like(came[:, :, :1]), came], axis=2)
        forward = _target_probability(b[:, None, None] + came)
        backward = _target_probability(whole[:, None, None] - came)
        gains = (forward[..., 1:] - forward[..., :-1] + backward[..., :-1] - backward[..., 1:]) / 2
        places = ops.broadcast_to(ops.argsort(order, axis=1)[None], gains.shape)
        gains = ops.take_along_axis(gains, places, axis=2)

        # mean and sum of squared deviations of blocks, merged after Chan et al. (1979)
        done = ops.cast(i * block, a.dtype)
        block_mean = ops.mean(gains, axis=1)
        shift = block_mean - mean
        squares = squares + ops.sum(ops.square(gains - block_mean[:, None]), axis=1)
        squares = squares + ops.square(shift) * done * block / (done + block)
        return i + 1, mean + shift * block / (done + block), squares

    def stderr_of(i, squares):
        done = ops.cast(i * block, a.dtype)
        return ops.sqrt(squares / (done * (done - 1)))

    def unfinished(i, mean, squares):
        if not tolerance:
            return i * block < pairs
        errors, sizes = (ops.sum(ops.square(v), axis=1) for v in (stderr_of(i, squares), mean))
        rough = ops.any(errors > tolerance**2 * sizes)
        return ops.logical_and(i * block < pairs, ops.logical_or(rough, i * block < min(2, pairs)))

    zeros = ops.zeros_like(a[..., 0])
    i, values, squares = ops.while_loop(unfinished, step, (ops.zeros((), "int32"), zeros, zeros))
    return values, stderr_of(i, squares), i * block


def _target_probability(logits):
    """Softmax probability of the target, whose logit has been subtracted from all, over the last axis."""
    return 1 / ops.sum(ops.exp(logits), axis=-1)


def _block_length(n, size):
    """Largest divisor of `n` that keeps a block of `size` elements each within some tens of megabytes."""
    return max(d for d in range(1, n + 1) if n % d == 0 and (d == 1 or d * size <= 4_000_000))
