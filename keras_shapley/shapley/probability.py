"""Shapley values of the inputs of a softmax or of sigmoids: by all coalitions, by random orders, or by quadrature."""

from typing import NamedTuple

import numpy as np
from keras import ops

from keras_shapley.backend import cumsum, matmul
from keras_shapley.shapley.exact import all_coalitions
from keras_shapley.utils.typing import Tensor

# Gauss-Legendre nodes in time, and pairs of opposite normal draws there. More of them would change the values less than
# the assumption of a normal distribution does.
_NODES = 4
DRAWS = 128
# Of these pairs, those on which the mean slope along each player is squared where there are more classes than draws. It
# takes a product of matrices for each of them, and enters the values only by differences between nodes.
_CURVATURE_DRAWS = 8
# What the quadrature may miss of the total, as a share of the values' absolute sum, or of the largest difference of the
# value between coalitions if that is smaller; and how often logits are halved at most.
_MAY_MISS = 0.2
_MOST_HALVINGS = 24
# largest number of elements of a block of coalitions or orders, which is some tens of megabytes
_MAX_ELEMENTS = 4_000_000


class ProbabilityGame(NamedTuple):
    """Games whose players add to logits. The value of a coalition is a weighted sum of the logits' probabilities.

    Attributes:
        a: what each player adds to each logit, shape `(games, players, classes)`.
        b: the logits without a player, shape `(games, classes)`.
        weights: weights of the probabilities, shape `(games, classes)`. None for the softmax probability of one class
            whose logit is subtracted from all, so that it is the inverse sum of the exponentials.
        link: `"softmax"` over the classes, or `"sigmoid"` of each logit.
    """

    a: Tensor
    b: Tensor
    weights: Tensor | None
    link: str

    @classmethod
    def of_class(cls, a: Tensor, b: Tensor, index: Tensor) -> "ProbabilityGame":
        """The games of the softmax probability of one class, whose number is `index`, ints of shape `(games,)`."""
        games, players, _ = a.shape
        places = ops.broadcast_to(index[:, None, None], (games, players, 1))
        a = a - ops.take_along_axis(a, places, axis=2)
        return cls(a, b - ops.take_along_axis(b, index[:, None], axis=1), None, "softmax")

    def ends(self) -> tuple[Tensor, Tensor]:
        """`(baseline, total)`: the value without any player, and what all players add to it, both `(games,)`."""
        baseline = self.value(self.b)
        return baseline, self.value(self.b + ops.sum(self.a, axis=1)) - baseline

    def value(self, logits: Tensor) -> Tensor:
        """The value of coalitions, shape `(games, ...)`, from their logits `(games, ..., classes)`."""
        if self.weights is None:
            return 1 / ops.sum(ops.exp(logits), axis=-1)
        games, *coalitions, classes = logits.shape
        weights = ops.reshape(self.weights, (games, *(1 for _ in coalitions), classes))
        if self.link == "sigmoid":
            return ops.sum(weights * ops.sigmoid(logits), axis=-1)
        exponentials = _exponentials(logits)
        return ops.sum(weights * exponentials, axis=-1) / ops.sum(exponentials, axis=-1)

    def span(self) -> Tensor | float:
        """The largest difference between two values, `(games,)`."""
        if self.weights is None:
            return 1.0
        if self.link == "sigmoid":
            return ops.sum(ops.abs(self.weights), axis=1)
        return ops.max(self.weights, axis=1) - ops.min(self.weights, axis=1)

    def scaled(self, factor: Tensor) -> "ProbabilityGame":
        """The games with all logits times a factor, `(games,)`."""
        return self._replace(a=self.a * factor[:, None, None], b=self.b * factor[:, None])

    def probabilities(self, logits: Tensor) -> Tensor:
        """The probabilities of logits, in their shape."""
        if self.link == "sigmoid":
            return ops.sigmoid(logits)
        exponentials = _exponentials(logits)
        return exponentials / ops.sum(exponentials, axis=-1, keepdims=True)


def _exponentials(logits: Tensor) -> Tensor:
    """The numerators of a softmax. With few classes they take a tenth of the time of `ops.softmax` on PyTorch."""
    return ops.exp(logits - ops.max(logits, axis=-1, keepdims=True))


def enumerated(game: ProbabilityGame) -> Tensor:
    """Shapley values by all coalitions, shape `(games, players)`."""
    a, b = game.a, game.b
    games, players, classes = a.shape
    present, coefficients = all_coalitions(players)
    block = _block_length(len(present), games * classes)
    present, coefficients = (
        ops.convert_to_tensor(part.reshape(-1, block, players), a.dtype) for part in (present, coefficients.T)
    )

    def step(i: Tensor, values: Tensor) -> Tensor:
        logits = b[:, None] + matmul(ops.take(present, i, axis=0), a)
        return values + matmul(game.value(logits), ops.take(coefficients, i, axis=0))

    return ops.fori_loop(0, present.shape[0], step, ops.zeros_like(a[..., 0]))


def by_quadrature(game: ProbabilityGame, seed: int) -> Tensor:
    """Approximate Shapley values, at a cost that hardly grows with the players.

    The logits of the players present at time t are taken to be normal, with their own mean and covariance. The
    contribution of player k is the derivative of the mean value by the time of k alone,
    `E[g] a_k + (1/2 - t) a_k E[h] a_k`, with g and h the first and second derivatives of the value by the logits.

    Where logits differ by tens or hundreds the value is nearly a step, which the draws can leave out, and these
    derivatives are no differences. The sum of the values then misses the total, and the logits of the game are halved
    until it does not.

    Args:
        game: the games.
        seed: of the normal draws.

    Returns:
        Shape `(games, players)`. Their sum misses the total by a few percent of it, by more where logits differ by
            tens.
    """
    draws = np.random.default_rng(seed).standard_normal((DRAWS, game.a.shape[1]))
    draws, span = ops.convert_to_tensor(draws, game.a.dtype), game.span()

    def step(i: Tensor, factor: Tensor, values: Tensor, misses: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        factor = ops.where(misses, factor / 2, factor)
        part = game.scaled(factor)
        values = _by_draws(part, draws)
        _, total = part.ends()
        missed = ops.abs(total - ops.sum(values, axis=1))
        return i + 1, factor, values, missed > _MAY_MISS * ops.minimum(span, ops.sum(ops.abs(values), axis=1))

    def unfinished(i: Tensor, factor: Tensor, values: Tensor, misses: Tensor) -> Tensor:
        return ops.logical_and(i <= _MOST_HALVINGS, ops.any(misses))

    # the first step halves to 1
    twice = ops.full_like(game.b[:, 0], 2.0)
    start = ops.zeros((), "int32"), twice, ops.zeros_like(game.a[..., 0]), twice > 0
    return ops.while_loop(unfinished, step, start)[2]


def _by_draws(game: ProbabilityGame, draws: Tensor) -> Tensor:
    """The values of `by_quadrature` for logits as they are; normal draws have the shape `(DRAWS, players)`."""
    a, b = game.a, game.b
    deviations = matmul(draws, a)
    # each draw is followed by its opposite
    deviations = ops.reshape(ops.stack([deviations, -deviations], axis=2), (b.shape[0], 2 * DRAWS, b.shape[1]))
    sums = ops.sum(a, axis=1)[:, None]
    derivatives = _softmax_derivatives if game.link == "softmax" else _sigmoid_derivatives
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    slopes = curvatures = products = 0.0
    for t, weight in zip(((nodes + 1) / 2).tolist(), (weights / (4 * DRAWS)).tolist()):
        logits = b[:, None] + t * sums + float(np.sqrt(t * (1 - t))) * deviations
        parts = derivatives(game, logits)
        slopes = slopes + weight * parts.slopes
        curvatures = curvatures + weight * (0.5 - t) * parts.curvatures
        products = products + weight * (0.5 - t) * parts.products
    return _along(a, slopes) + _along(ops.square(a), curvatures) - 2 * products


class _Derivatives(NamedTuple):
    """Derivatives of the value along what a player adds, summed over draws of the logits.

    The first is `sum_i slopes_i a_ki`, the second `sum_i curvatures_i a_ki**2 - 2 products_k`.

    Attributes:
        slopes: shape `(games, classes)`.
        curvatures: shape `(games, classes)`.
        products: shape `(games, players)`, or 0.
    """

    slopes: Tensor
    curvatures: Tensor
    products: Tensor | float


def _softmax_derivatives(game: ProbabilityGame, logits: Tensor) -> _Derivatives:
    """The derivatives of a weighted sum of softmax probabilities.

    With `v = sum_i w_i p_i`, `c_i = (w_i - v) p_i` and the mean `m = sum_i p_i a_ki`, slopes and curvatures are both
    `c_i`, and the product is `m sum_i c_i a_ki`.

    Args:
        game: the games.
        logits: shape `(games, draws, classes)`.
    """
    a = game.a
    p = game.probabilities(logits)
    v = game.value(logits)[..., None]
    # where the class's logit is subtracted, its `a_ki` is zero, and the other classes have no weight
    c = -v * p if game.weights is None else (game.weights[:, None] - v) * p
    c_sum = ops.sum(c, axis=1)
    if p.shape[1] > p.shape[2]:
        # the sum over the draws first: a matrix of classes x classes
        products = ops.sum(matmul(a, matmul(ops.transpose(p, (0, 2, 1)), c)) * a, axis=2)
    else:
        n = 2 * _CURVATURE_DRAWS
        by_class = ops.transpose(a, (0, 2, 1))
        mean = matmul(p[:, :n], by_class)
        slope = -v[:, :n] * mean if game.weights is None else matmul(c[:, :n], by_class)
        products = ops.sum(mean * slope, axis=1) * (DRAWS / _CURVATURE_DRAWS)
    return _Derivatives(c_sum, c_sum, products)


def _sigmoid_derivatives(game: ProbabilityGame, logits: Tensor) -> _Derivatives:
    """As `_softmax_derivatives`: slopes `w_i s_i'` and curvatures `w_i s_i''`."""
    s = game.probabilities(logits)
    slope = s * (1 - s)
    slopes = game.weights * ops.sum(slope, axis=1)
    return _Derivatives(slopes, game.weights * ops.sum(slope * (1 - 2 * s), axis=1), 0.0)


def _along(a: Tensor, slopes: Tensor) -> Tensor:
    """Sums over the classes of `a`, shape `(games, players, classes)`, times slopes of shape `(games, classes)`."""
    return matmul(a, slopes[:, :, None])[..., 0]


def sampled(game: ProbabilityGame, orders: Tensor, *, tolerance: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    """Shapley values by antithetic orders.

    Each order is walked from both ends at once; along each path the marginal contributions sum to the total.

    Args:
        game: the games.
        orders: random permutations, int32 of shape `(pairs, players)`; each stands for itself and its reverse.
        tolerance: the walk ends once, in every game, the root sum of squares of the standard errors is below this
            share of that of the values. With 0 all orders are walked.

    Returns:
        `(values, stderr, n_pairs)`: shapes `(games, players)` twice, and the number of pairs walked. `stderr` is over
        the means of pairs, and NaN for a single pair.
    """
    a, b = game.a, game.b
    games, players, classes = a.shape
    pairs = orders.shape[0]
    block = _block_length(pairs, games * players * classes)
    blocks = ops.reshape(orders, (pairs // block, block, players))
    all_present = b + ops.sum(a, axis=1)
    # the ends of each path, which sums of large logits miss by rounding
    full, empty = (ops.broadcast_to(game.value(end)[:, None, None], (games, block, 1)) for end in (all_present, b))

    def step(i: Tensor, mean: Tensor, squares: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        order = ops.take(blocks, i, axis=0)
        sums = cumsum(ops.take(a, order, axis=1), axis=2)
        sums = ops.concatenate([ops.zeros_like(sums[:, :, :1]), sums[:, :, :-1]], axis=2)
        forward = ops.concatenate([game.value(b[:, None, None] + sums), full], axis=2)
        backward = ops.concatenate([game.value(all_present[:, None, None] - sums), empty], axis=2)
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


def _block_length(n: int, size: int) -> int:
    """Largest divisor of `n` that keeps a block of `size` elements each below `_MAX_ELEMENTS`; 1 if there is none."""
    return max(d for d in range(1, n + 1) if n % d == 0 and (d == 1 or d * size <= _MAX_ELEMENTS))
