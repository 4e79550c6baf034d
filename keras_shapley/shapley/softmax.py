"""Shapley values of a softmax's inputs: by all coalitions, by random orders, or by quadrature.

The target's probability is explained. The target's logit is subtracted from all logits, so that the probability is a
function of the differences. A sigmoid is the softmax of two classes.
"""

import numpy as np
from keras import ops

from keras_shapley.backend import cumsum, matmul
from keras_shapley.shapley.exact import all_coalitions
from keras_shapley.utils.typing import Tensor

# Gauss-Legendre nodes in time, and pairs of opposite normal draws there. More of them would change the values less than
# the assumption of a normal distribution does.
_NODES = 4
_DRAWS = 128
# largest number of elements of a block of coalitions or orders, which is some tens of megabytes
_MAX_ELEMENTS = 4_000_000


def ends(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The target's probability without any player, and what all players add to it.

    Args:
        a: as in `enumerated`.
        b: as in `enumerated`.

    Returns:
        `(baseline, total)`, both of shape `(batch,)`.
    """
    baseline = _target_probability(b)
    return baseline, _target_probability(b + ops.sum(a, axis=1)) - baseline


def enumerated(a: Tensor, b: Tensor) -> Tensor:
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

    def step(i: Tensor, values: Tensor) -> Tensor:
        logits = b[:, None] + matmul(ops.take(present, i, axis=0), a)
        return values + matmul(_target_probability(logits), ops.take(coefficients, i, axis=0))

    return ops.fori_loop(0, present.shape[0], step, ops.zeros_like(a[..., 0]))


def by_quadrature(a: Tensor, b: Tensor, seed: int) -> Tensor:
    """Approximate Shapley values of the target's probability, at a cost that hardly grows with the players.

    The logits of the players present at time t are taken to be normal, with their own mean and covariance. The
    contribution of player k is the derivative of the mean probability by the time of k alone,
    `E[g] a_k + (1/2 - t) a_k E[h] a_k`, with g and h the first and second derivatives of the probability by the logits.

    Args:
        a: as in `enumerated`.
        b: as in `enumerated`.
        seed: of the normal draws.

    Returns:
        Shape `(batch, players)`.
    """
    draws = np.random.default_rng(seed).standard_normal((_DRAWS, a.shape[1]))
    deviations = matmul(ops.convert_to_tensor(np.concatenate([draws, -draws]), a.dtype), a)
    sums = ops.sum(a, axis=1)[:, None]
    by_class = ops.transpose(a, (0, 2, 1))
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    values = ops.zeros_like(a[..., 0])
    for t, weight in zip(((nodes + 1) / 2).tolist(), (weights / 2).tolist()):
        logits = b[:, None] + t * sums + float(np.sqrt(t * (1 - t))) * deviations
        p = _target_probability(logits)[:, None]
        p_classes = ops.softmax(logits, axis=-1)
        # mean and mean square over the classes of what a player adds; the derivatives of p along a_k are
        # -p first and p (2 first**2 - second)
        first = matmul(p_classes, by_class)
        second = matmul(p_classes, ops.square(by_class))
        contributions = (0.5 - t) * (2 * ops.square(first) - second) - first
        values = values + weight * matmul(p, contributions)[:, 0] / (2 * _DRAWS)
    return values


def sampled(a: Tensor, b: Tensor, orders: Tensor, *, tolerance: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    """Shapley values of the target's probability by antithetic orders.

    Each order is walked from both ends at once; along each path the marginal contributions sum to the total.

    Args:
        a: as in `enumerated`.
        b: as in `enumerated`.
        orders: random permutations, int32 of shape `(pairs, players)`; each stands for itself and its reverse.
        tolerance: the walk ends once, in every image, the root sum of squares of the standard errors is below this
            share of that of the values. With 0 all orders are walked.

    Returns:
        `(values, stderr, n_pairs)`: shapes `(batch, players)` twice, and the number of pairs walked. `stderr` is over
        the means of pairs, and NaN for a single pair.
    """
    batch, players, classes = a.shape
    pairs = orders.shape[0]
    block = _block_length(pairs, batch * players * classes)
    blocks = ops.reshape(orders, (pairs // block, block, players))
    all_present = b + ops.sum(a, axis=1)

    def step(i: Tensor, mean: Tensor, squares: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        order = ops.take(blocks, i, axis=0)
        sums = cumsum(ops.take(a, order, axis=1), axis=2)
        sums = ops.concatenate([ops.zeros_like(sums[:, :, :1]), sums], axis=2)
        forward = _target_probability(b[:, None, None] + sums)
        backward = _target_probability(all_present[:, None, None] - sums)
        contributions = (forward[..., 1:] - forward[..., :-1] + backward[..., :-1] - backward[..., 1:]) / 2
        places = ops.broadcast_to(ops.argsort(order, axis=1)[None], contributions.shape)
        contributions = ops.take_along_axis(contributions, places, axis=2)

        # mean and sum of squared deviations of blocks, merged after Chan et al. (1979)
        n_before = ops.cast(i * block, a.dtype)
        # the mean of Keras computes in float32, whatever the dtype
        block_mean = ops.sum(contributions, axis=1) / block
        shift = block_mean - mean
        squares = squares + ops.sum(ops.square(contributions - block_mean[:, None]), axis=1)
        squares = squares + ops.square(shift) * n_before * block / (n_before + block)
        return i + 1, mean + shift * block / (n_before + block), squares

    def standard_errors(i: Tensor, squares: Tensor) -> Tensor:
        n = ops.cast(i * block, a.dtype)
        return ops.sqrt(squares / (n * (n - 1)))

    def unfinished(i: Tensor, mean: Tensor, squares: Tensor) -> Tensor:
        if not tolerance:
            return i * block < pairs
        error = ops.sum(ops.square(standard_errors(i, squares)), axis=1)
        size = ops.sum(ops.square(mean), axis=1)
        is_rough = ops.any(error > tolerance**2 * size)
        return ops.logical_and(i * block < pairs, ops.logical_or(is_rough, i * block < min(2, pairs)))

    zeros = ops.zeros_like(a[..., 0])
    i, values, squares = ops.while_loop(unfinished, step, (ops.zeros((), "int32"), zeros, zeros))
    return values, standard_errors(i, squares), i * block


def _target_probability(logits: Tensor) -> Tensor:
    """Softmax probability of the target over the last axis, for logits less the target's."""
    return 1 / ops.sum(ops.exp(logits), axis=-1)


def _block_length(n: int, size: int) -> int:
    """Largest divisor of `n` that keeps a block of `size` elements each below `_MAX_ELEMENTS`; 1 if there is none."""
    return max(d for d in range(1, n + 1) if n % d == 0 and (d == 1 or d * size <= _MAX_ELEMENTS))
