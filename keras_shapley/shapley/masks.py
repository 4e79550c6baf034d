"""Shapley values by gradients at random masks, more of them where the network's gradients are large."""

import numpy as np
from keras import ops

from keras_shapley.backend import compiled, vjp
from keras_shapley.layers.base import exact_derivatives

# masks of an image that the network sees at once, at most
_BLOCK = 64
# The weight of a mask in which hardly anything, or nearly everything, is present is cut at this many times the root of
# the number of masks, or at 2 where there are few: so the error that this makes falls as the random one.
_HEAVIEST, _OF_FEW = 0.25, 2.0
# How much of the chance t is mixed into a mask: the first number over the fourth root of the number of masks, or the
# second where that is more. Where all inputs of a unit are absent it has nothing but its bias, near the kink of ReLU,
# and a gradient just there tells nothing of the rest of a player's way. Few masks take more, to be more alike.
_MIXED, _MIXED_ALWAYS = 0.4, 0.1
# The density of t: parts of [0, 1] in which it is constant, the width of the kernel that smooths it, and what it has
# everywhere, in units of its mean.
_PARTS, _WIDTH, _FLOOR = 200, 0.08, 0.2


class Masks:
    """`(values, stderr)` of a batch, by `(x - baseline) * gradient` where each player is present with probability t.

    A player's gain is its gradient's mean between where it is absent and where it is present; masks are mixed with a
    little of t, which on average leaves the values of a quadratic function as they are. Drawn by t, a player is present
    in a part t of all masks; so a gradient has the weight `1/(2t)` where its player is present and `1/(2(1 - t))` where
    it is absent, cut where it is large, and for all t the same on average.

    The pilots, a quarter of the masks but `_BLOCK` at most, have t spread evenly over [0, 1]. From the size of their
    gains each image gets a density of t for the rest (Neyman allocation), since a classifier that is sure has no
    gradient; weights are divided by the density of all masks together (Veach and Guibas 1995). In a block of masks, the
    numbers that decide whether a player is present are a Latin hypercube (McKay et al. 1979), the same for all images.
    """

    def __init__(self, model, shape, n, seed):
        self.n, self.shape, self.seed = n, shape, seed
        # two at least, for an error
        self.block = min(max(n // 4, 2), n, _BLOCK)
        self.heaviest = max(_OF_FEW, _HEAVIEST * np.sqrt(n))
        self.mixed = max(_MIXED / n**0.25, _MIXED_ALWAYS)
        self.model, self.gradient = model, compiled(self._gradient, model.variables)

    def __call__(self, x, baseline, chosen):
        rng, rest = np.random.default_rng(self.seed), self.n - self.block
        t = np.tile(_strata(rng, self.block), (len(x), 1))
        present, gains = self._gains(rng, x, baseline, chosen, t)
        density = _allocation(t, gains, self.block, rest)
        mean = _WeightedMean()
        mean.add(gains, self._weights(present, t, density))
        quantiles, blocks = _strata(rng, rest), -(-rest // self.block)
        for i in range(blocks):
            t = _inverse(density, quantiles[i::blocks])
            present, gains = self._gains(rng, x, baseline, chosen, t)
            mean.add(gains, self._weights(present, t, density))
        return mean.result()

    def _gains(self, rng, x, baseline, chosen, t):
        """Who is present, and `(x - baseline) * gradient`, at times of shape `(batch, masks)`."""
        masks = t.shape[1]
        ranks = rng.permuted(np.broadcast_to(_axis(np.arange(masks), self.shape), (masks, *self.shape)), axis=0)
        present = (ranks + rng.uniform(size=ranks.shape)) / masks < _axis(t, self.shape)
        difference = (x - baseline)[:, None]
        absent = (self.mixed * _axis(t, self.shape)).astype(x.dtype)
        amount = np.where(present, absent + (1 - self.mixed), absent)
        inputs = (baseline + amount * difference).reshape(-1, *self.shape)
        cotangent = np.repeat(chosen, masks, axis=0)
        gradient = self.gradient(*(ops.convert_to_tensor(array, x.dtype) for array in (inputs, cotangent)))
        return present, difference * ops.convert_to_numpy(gradient).reshape(present.shape)

    def _gradient(self, inputs, cotangent):
        # not the one that ShapLU trains with, which is no derivative of F
        with exact_derivatives():
            _, pullback = vjp(lambda x: ops.cast(self.model(x, training=False), cotangent.dtype), inputs)
            return pullback(cotangent)[0]

    def _weights(self, present, t, density):
        """Of each player at each mask, over the density of all masks, `(batch, masks, ...)`."""
        of_rest = np.take_along_axis(density, _part(t), axis=1)
        of_all = (self.block + (self.n - self.block) * of_rest) / self.n
        if_present, if_absent = (np.minimum(0.5 / part, self.heaviest) for part in (t, 1 - t))
        of_all = of_all * (t * if_present + (1 - t) * if_absent)
        if_present, if_absent = (_axis(part / of_all, self.shape) for part in (if_present, if_absent))
        return np.where(present, if_present, if_absent)


def _strata(rng, n):
    """A number in each of n equal parts of [0, 1], ascending."""
    return (np.arange(n) + rng.uniform(size=n)) / n


def _axis(values, shape):
    """With an axis of one for each of the shape's."""
    return values.reshape(*values.shape, *(1 for _ in shape))


def _part(t):
    return np.minimum((t * _PARTS).astype(int), _PARTS - 1)


def _allocation(t, gains, pilots, rest):
    """Density of t for the rest of the masks, `(batch, _PARTS)`, that makes that of all as the size of the gains."""
    squares = np.sum(np.square(gains.reshape(*t.shape, -1), dtype="float64"), axis=2)
    middles = (np.arange(_PARTS) + 0.5) / _PARTS
    kernel = np.exp(-0.5 * np.square((middles - t[:, :, None]) / max(_WIDTH, 1 / pilots)))
    # what is not finite says nothing of where to go
    size = np.nan_to_num(np.sqrt(np.sum(kernel * squares[:, :, None], axis=1) / np.sum(kernel, axis=1)), posinf=0.0)
    mean = size.mean(axis=1, keepdims=True)
    of_all = (np.divide(size, mean, out=np.ones_like(size), where=mean > 0) + _FLOOR) / (1 + _FLOOR)
    of_rest = np.maximum((pilots + rest) * of_all - pilots, 0) if rest else np.ones_like(of_all)
    return of_rest / of_rest.mean(axis=1, keepdims=True)


def _inverse(density, quantiles):
    """Times at which the distribution of each density reaches the quantiles, `(batch, quantiles)`."""
    edges = np.linspace(0, 1, _PARTS + 1)
    distributions = np.cumsum(np.pad(density / _PARTS, ((0, 0), (1, 0))), axis=1)
    return np.stack([np.interp(quantiles, distribution, edges) for distribution in distributions])


class _WeightedMean:
    """Weighted mean over blocks of samples, with its standard error; `(batch, samples, ...)`, in the order of t.

    The error is from differences between neighbours (von Neumann 1941), so that what depends on t, of which there are
    strata, does not count.
    """

    def __init__(self):
        self.weight = self.sum = self.squares = self.cross = self.of_weights = 0.0
        self.samples = self.pairs = 0

    def add(self, values, weights):
        self.weight = self.weight + weights.sum(axis=1)
        self.sum = self.sum + np.sum(weights * values, axis=1)
        a, b = np.diff(weights * values, axis=1), np.diff(weights, axis=1)
        self.squares = self.squares + np.sum(a * a, axis=1)
        self.cross = self.cross + np.sum(a * b, axis=1)
        self.of_weights = self.of_weights + np.sum(b * b, axis=1)
        self.samples, self.pairs = self.samples + values.shape[1], self.pairs + values.shape[1] - 1

    def result(self):
        mean = self.sum / self.weight
        if not self.pairs:
            return mean, np.full_like(mean, np.nan)
        squares = self.squares - 2 * mean * self.cross + np.square(mean) * self.of_weights
        return mean, np.sqrt(np.maximum(squares, 0) / 2 * self.samples / self.pairs) / self.weight
