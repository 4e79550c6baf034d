"""Shapley values of a ReLU neuron, eq. (1) and better, and of a softmax by random orders of its inputs."""

import itertools
import math

import numpy as np
from keras import backend, ops

from keras_shapley import activations
from keras_shapley._validation import finite, one_of

MAX_PLAYERS = 16
_NODES = 8


def neuron_shapley_values(x, kernel, bias=None, *, method="gaussian", normalize=False):
    """Shapley values of the inputs of one Dense layer with ReLU, absent inputs at 0.

    Exact Shapley values sum to `relu(u + b) - relu(b)`, with `u` the sum of `w_i x_i`. The approximations miss that
    sum: `gaussian` deals the bias out as well and sums to `Phi((mu + b)/sigma) (u + b)`; `quadrature` comes near it.

    Args:
        x: inputs, shape `(batch, inputs)`.
        kernel: weights, shape `(inputs, units)`.
        bias: shape `(units,)`, or None for none.
        method: `"gaussian"` is eq. (1). `"quadrature"` keeps the time `t` at which an input enters, with 8
            Gauss-Legendre nodes: the mean of `relu` over a Gaussian with the mean and variance of what is there at
            `t`, with and without the input. `"exact"` enumerates all coalitions, for up to 16 inputs.
        normalize: whether to spread the missing part of the sum over the inputs, in proportion to `|w_k x_k|`.

    Returns:
        Tensor of shape `(batch, inputs, units)`.

    Raises:
        ValueError: on an unknown `method`, shapes that do not fit, NaN or infinity, or more than 16 inputs for
            `"exact"`.
    """
    methods = {"gaussian": _gaussian, "quadrature": _quadrature, "exact": _exact}
    one_of("method", method, tuple(methods))
    x, kernel = ops.convert_to_tensor(x), ops.convert_to_tensor(kernel)
    bias = ops.zeros(kernel.shape[-1:]) if bias is None else ops.convert_to_tensor(bias)
    dtype = backend.result_type("float32", x.dtype, kernel.dtype, bias.dtype)
    named = {"x": x, "kernel": kernel, "bias": bias}
    x, kernel, bias = (finite(name, ops.cast(value, dtype)) for name, value in named.items())
    if len(x.shape) != 2 or len(kernel.shape) != 2 or x.shape[1] != kernel.shape[0] or bias.shape != kernel.shape[1:]:
        raise ValueError(
            "`x`, `kernel` and `bias` must have shapes (batch, inputs), (inputs, units) and (units,). Received: "
            f"{tuple(x.shape)}, {tuple(kernel.shape)} and {tuple(bias.shape)}"
        )
    if method == "exact" and x.shape[1] > MAX_PLAYERS:
        raise ValueError(
            f"method='exact' enumerates 2**inputs coalitions and takes up to {MAX_PLAYERS} inputs. "
            f"Received: x with {x.shape[1]} inputs. Use method='quadrature'."
        )
    a = x[:, :, None] * kernel
    values = methods[method](a, bias)
    if not normalize:
        return values

    size = ops.sum(ops.abs(a), axis=1, keepdims=True)
    weights = ops.where(size > 0, ops.abs(a) / ops.where(size > 0, size, 1), 1 / x.shape[1])
    total = ops.relu(ops.sum(a, axis=1) + bias) - ops.relu(bias)
    return values + weights * (total - ops.sum(values, axis=1))[:, None]


def _gaussian(a, b):
    """Eq. (1), from the products `a_k = w_k x_k`, shape `(batch, inputs, units)`."""
    u, q = ops.sum(a, axis=1, keepdims=True), ops.sum(ops.square(a), axis=1, keepdims=True)
    return activations.gate(u, q, b) * (a + b / a.shape[1])


def _quadrature(a, b):
    u, q = ops.sum(a, axis=1, keepdims=True), ops.sum(ops.square(a), axis=1, keepdims=True)
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    values = ops.zeros_like(a)
    for t, weight in zip((nodes + 1) / 2, weights / 2):
        mean = b + float(t) * (u - a)
        # the variance of the other inputs; rounding can take it below zero
        variance = float(t * (1 - t)) * ops.maximum(q - ops.square(a), 0)
        values = values + float(weight) * (_mean_relu(mean + a, variance) - _mean_relu(mean, variance))
    return values


def _mean_relu(m, v):
    """Mean of `relu` of a Gaussian with mean `m` and variance `v`."""
    sigma = ops.sqrt(v + activations.TINY)
    z = m / sigma
    return m * activations.normal_cdf(z) + sigma * activations.normal_pdf(z)


def _exact(a, b):
    n = a.shape[1]
    present = np.array(list(itertools.product((0, 1), repeat=n)))
    size = present.sum(axis=1, keepdims=True)
    # of the orders of n inputs, (s - 1)! (n - s)! have input k enter last in a coalition of size s
    weight = np.array([0] + [1 / (n * math.comb(n - 1, s - 1)) for s in range(1, n + 1)])
    without = np.array([1 / (n * math.comb(n - 1, s)) for s in range(n)] + [0])
    coefficients = np.where(present, weight[size], -without[size])
    present, coefficients = ops.cast(present, a.dtype), ops.cast(coefficients.T, a.dtype)
    # image by image: the worth of every coalition at once
    values = [ops.matmul(coefficients, ops.relu(ops.matmul(present, image) + b)) for image in a]
    return ops.stack(values)


def random_orders(n_players, n_pairs, seed):
    """Random permutations, shape `(n_pairs, n_players)`, int32; each stands for itself and its reverse."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.permutation(n_players) for _ in range(n_pairs)]).astype("int32")


def softmax_shapley_values(a, b, orders, *, tolerance=0.0):
    """Shapley values of a softmax probability by antithetic permutations.

    Each order is walked from both ends at once; along each path the contributions sum to `p(all) - p(no player)`.

    Args:
        a: what each player adds to each logit, less what it adds to the target's, shape `(batch, players, classes)`.
        b: the logits without a player, less the target's, shape `(batch, classes)`.
        orders: from `random_orders`, shape `(pairs, players)`.
        tolerance: stop once, in every image, the standard errors' root sum of squares is below this share of the
            values'. 0 walks all orders.

    Returns:
        `(values, stderr, baseline, total, n_pairs)`: shapes `(batch, players)` twice, `(batch,)` twice, and scalar.
        `total` is `p(all) - p(no player)`; `stderr` is over the means of pairs, NaN for a single pair.
    """
    batch, players, classes = a.shape
    pairs = orders.shape[0]
    block = _block_length(pairs, batch * players * classes)
    blocks = ops.reshape(orders, (pairs // block, block, players))
    whole = b + ops.sum(a, axis=1)
    baseline, full = _target_probability(b), _target_probability(whole)

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
    return values, stderr_of(i, squares), baseline, full - baseline, i * block


def _target_probability(logits):
    """Softmax probability of the target, whose logit has been subtracted from all, over the last axis."""
    return 1 / ops.sum(ops.exp(logits), axis=-1)


def _block_length(pairs, size):
    """Largest divisor of `pairs` that keeps a block of `size` elements an order within some tens of megabytes."""
    return max(d for d in range(1, pairs + 1) if pairs % d == 0 and (d == 1 or d * size <= 4_000_000))
