"""Shapley values by gradients at random masks, more of them where the network's gradients are large."""

from collections.abc import Callable

import keras
import numpy as np
from keras import ops, tree

from keras_shapley.backend import compiled, vjp
from keras_shapley.layers.base import exact_derivatives
from keras_shapley.models.evaluation import FewSizes, as_model_takes
from keras_shapley.models.kept import kept
from keras_shapley.models.keras_internals import sublayers
from keras_shapley.models.layer_types import NORMALIZATION
from keras_shapley.shapley.players import Players
from keras_shapley.utils.structures import filled
from keras_shapley.utils.typing import Structure, Tensor
from keras_shapley.utils.wording import count

# Largest number of masks of an image that the network sees at once
_BLOCK = 64
# Largest number of masked inputs that the network sees at once, and of their elements in the arrays of the masks.
_MAX_INPUTS = 512
_MAX_ELEMENTS = 2**21
# The weight of a mask in which hardly anything, or nearly everything, is present is cut at this many times the root of
# the number of masks, or at 2 where there are few, so that the error of the cut falls as fast as the random one.
_HEAVIEST = 0.25
_HEAVIEST_OF_FEW = 2.0
# How much of the chance t is mixed into a mask: the first number over the fourth root of the number of masks, or the
# second where that is more. Where all inputs of a unit are absent only its bias is left, near the kink of ReLU, and a
# gradient just there tells nothing about the rest of a player's way. With few masks more of t is mixed in, which makes
# them more alike.
_MIXED = 0.4
_LEAST_MIXED = 0.1
# The density of t: parts of [0, 1] in which it is constant, the width of the kernel that smooths it, and its least
# value, in units of its mean.
_PARTS = 200
_WIDTH = 0.08
_FLOOR = 0.2

# With fewer players than this, the step of one of them is too large for the gradients at its two ends.
_FEW_PLAYERS = 50


class Masks:
    """Estimates Shapley values as weighted means of `(x - baseline) * gradient` over random masks.

    At time t each player is present with probability t. A player's contribution is the mean of its gradient between
    where it is absent and where it is present. Masks are mixed with a little of t, which on average leaves the values
    of a quadratic function as they are. A player is present in a part t of the masks, so a gradient has the weight
    `1/(2t)` where its player is present and `1/(2(1 - t))` where it is absent. Large weights are cut, and all are
    scaled to have the same mean for all t.

    A quarter of the masks, `_BLOCK` at most, are pilots, with t spread evenly over [0, 1]. The size of their
    contributions gives each image a density of t for the rest (Neyman allocation), since a classifier that is sure has
    no gradient. Weights are divided by the density of all masks together (Veach and Guibas 1995). In a block of masks,
    the numbers that decide whether a player is present are a Latin hypercube (McKay et al. 1979), the same for all
    images.

    Args:
        model: any Keras model whose inputs are floats.
        players: of an input.
        n: number of masks.
        seed: of the masks.
        output: index of the model's output.
        most: the largest number of inputs that the model may be evaluated on at once.
    """

    def __init__(self, model: keras.Model, players: Players, n: int, seed: int, output: int, most: int) -> None:
        self.n = n
        self.players = players
        self.seed = seed
        # two at least, for a standard error
        self.block = min(max(n // 4, 2), n, _BLOCK)
        self.heaviest = max(_HEAVIEST_OF_FEW, _HEAVIEST * np.sqrt(n))
        self.mixed = max(_MIXED / n**0.25, _LEAST_MIXED)
        # a gradient keeps what inference forgets
        self.most = max(1, min(_MAX_INPUTS, most // 2))
        self.gradient, self.padded_size = _gradient(model, output, players.skeleton)

    @property
    def images_at_once(self) -> int:
        """Number of images in a batch; 0 if a single one takes more than the limits."""
        elements = sum(part.size for part in self.players.parts)
        return min(self.most, _MAX_ELEMENTS // elements) // self.block

    @property
    def n_passes(self) -> int:
        """How many forward passes an image takes as long as; a gradient takes three."""
        return 3 * self.n

    def __call__(
        self, x: list[np.ndarray], baseline: list[np.ndarray], weights: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The values of a batch and their standard errors, both `(batch, players)`.

        Args:
            x: inputs, an array `(batch, *shape)` for each of the model's.
            baseline: values of absent elements, arrays in the shapes of one input.
            weights: of the outputs of each image, `(batch, *output)`.
        """
        rng = np.random.default_rng(self.seed)
        rest = self.n - self.block
        t = np.tile(_strata(rng, self.block), (len(weights), 1))
        present, contributions = self._contributions(rng, x, baseline, weights, t)
        density = _allocation(t, contributions, self.block, rest)
        mean = _WeightedMean()
        mean.add(contributions, self._weights(present, t, density))
        quantiles = _strata(rng, rest)
        n_blocks = -(-rest // self.block)
        for i in range(n_blocks):
            t = _quantile_times(density, quantiles[i::n_blocks])
            present, contributions = self._contributions(rng, x, baseline, weights, t)
            mean.add(contributions, self._weights(present, t, density))
        return mean.result()

    def _contributions(
        self,
        rng: np.random.Generator,
        x: list[np.ndarray],
        baseline: list[np.ndarray],
        weights: np.ndarray,
        t: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Who is present, and `(x - baseline) * gradient`, both `(batch, masks, players)`.

        Args:
            rng: of the ranks.
            x: as in a call, like `baseline` and `weights`.
            baseline: see above.
            weights: see above.
            t: the times of the masks, `(batch, masks)`.
        """
        n_masks = t.shape[1]
        masks = np.broadcast_to(np.arange(n_masks)[:, None], (n_masks, self.players.n))
        ranks = rng.permuted(masks, axis=0)
        present = (ranks + rng.uniform(size=ranks.shape)) / n_masks < t[:, :, None]
        absent = self.mixed * t[:, :, None]
        amount = np.where(present, absent + (1 - self.mixed), absent).astype(x[0].dtype)
        differences = [(part - other)[:, None] for part, other in zip(x, baseline)]
        parts = zip(baseline, self.players.spread(amount), differences)
        inputs = [(other + own * difference).reshape(-1, *other.shape) for other, own, difference in parts]
        cotangent = np.repeat(weights, n_masks, axis=0).astype(x[0].dtype)
        gradients = self._gradients(inputs, cotangent)
        contributions = [
            difference * gradient.reshape(*t.shape, *difference.shape[2:])
            for difference, gradient in zip(differences, gradients)
        ]
        return present, self.players.sums(contributions, 2)

    def _gradients(self, inputs: list[np.ndarray], cotangent: np.ndarray) -> list[np.ndarray]:
        """Gradients of the outputs, times the cotangent, by each input, batch by batch."""
        parts = []
        for start in range(0, len(cotangent), self.most):
            rows = slice(start, start + self.most)
            tensors = [ops.convert_to_tensor(part[rows]) for part in inputs]
            gradients = self.gradient(tensors, ops.convert_to_tensor(cotangent[rows]))
            parts.append([ops.convert_to_numpy(gradient) for gradient in gradients])
        return [np.concatenate(of_input) for of_input in zip(*parts)]

    def _weights(self, present: np.ndarray, t: np.ndarray, density: np.ndarray) -> np.ndarray:
        """Weights of each player at each mask, over the density of all masks, `(batch, masks, players)`."""
        rest_density = np.take_along_axis(density, _part(t), axis=1)
        all_density = (self.block + (self.n - self.block) * rest_density) / self.n
        if_present = np.minimum(0.5 / t, self.heaviest)
        if_absent = np.minimum(0.5 / (1 - t), self.heaviest)
        scale = all_density * (t * if_present + (1 - t) * if_absent)
        return np.where(present, (if_present / scale)[:, :, None], (if_absent / scale)[:, :, None])


def _gradient(
    model: keras.Model, output: int, skeleton: Structure
) -> tuple[Callable[..., list[Tensor]], Callable[[int], int]]:
    """Compiled function of inputs and a cotangent: the gradient of an output, times the cotangent, by each input.

    Beside it the size to which a batch of images is padded.
    """

    def gradient(inputs: list[Tensor], cotangent: Tensor) -> list[Tensor]:
        def outputs(*x: Tensor) -> Tensor:
            y = tree.flatten(model(as_model_takes(model, filled(skeleton, x)), training=False))[output]
            # a model may give numbers, without an axis of outputs
            return ops.reshape(ops.cast(y, cotangent.dtype), cotangent.shape)

        # the gradient that ShapLU trains with is no derivative
        with exact_derivatives():
            _, pullback = vjp(outputs, *inputs)
            return list(pullback(cotangent))

    key = ("masks", output, repr(skeleton))
    return kept(model, key, lambda: (compiled(gradient, model.variables), FewSizes()))


def bias_of_masks(model: keras.Model, players: Players) -> str | None:
    """Why gradients at masks are biased for a model and its players, in words; None if nothing is known."""
    layer = next((layer for layer in sublayers(model) if isinstance(layer, NORMALIZATION)), None)
    if layer is not None:
        return (
            f"behind the {type(layer).__name__} '{layer.name}', which is nearly constant between baseline and input, "
            "so that gradients there tell little of what a player adds"
        )
    if players.n < _FEW_PLAYERS:
        return (
            f"for {count(players.n, 'player')}: with so few, as in tables or with groups, the step of one between "
            "absent and present is large, and gradients are taken at its two ends alone"
        )
    return None


def _strata(rng: np.random.Generator, n: int) -> np.ndarray:
    """A random number in each of n equal parts of [0, 1], ascending."""
    return (np.arange(n) + rng.uniform(size=n)) / n


def _part(t: np.ndarray) -> np.ndarray:
    """Number of the part of [0, 1] that holds each time."""
    return np.minimum((t * _PARTS).astype(int), _PARTS - 1)


def _allocation(t: np.ndarray, contributions: np.ndarray, pilots: int, rest: int) -> np.ndarray:
    """Density of t for the masks that are no pilots, `(batch, _PARTS)`.

    It makes the density of all masks proportional to the size of the contributions at t, as the pilots show it.
    """
    squares = np.sum(np.square(contributions.reshape(*t.shape, -1), dtype="float64"), axis=2)
    middles = (np.arange(_PARTS) + 0.5) / _PARTS
    kernel = np.exp(-0.5 * np.square((middles - t[:, :, None]) / max(_WIDTH, 1 / pilots)))
    size = np.sqrt(np.sum(kernel * squares[:, :, None], axis=1) / np.sum(kernel, axis=1))
    # contributions that are not finite do not tell where masks are needed
    size = np.nan_to_num(size, posinf=0.0)
    mean = size.mean(axis=1, keepdims=True)
    all_density = (np.divide(size, mean, out=np.ones_like(size), where=mean > 0) + _FLOOR) / (1 + _FLOOR)
    rest_density = np.maximum((pilots + rest) * all_density - pilots, 0) if rest else np.ones_like(all_density)
    return rest_density / rest_density.mean(axis=1, keepdims=True)


def _quantile_times(density: np.ndarray, quantiles: np.ndarray) -> np.ndarray:
    """Times at which the distribution of each density reaches the quantiles, `(batch, quantiles)`."""
    edges = np.linspace(0, 1, _PARTS + 1)
    distributions = np.cumsum(np.pad(density / _PARTS, ((0, 0), (1, 0))), axis=1)
    return np.stack([np.interp(quantiles, distribution, edges) for distribution in distributions])


class _WeightedMean:
    """Weighted mean over blocks of samples, with its standard error; `(batch, samples, ...)`, in the order of t.

    The standard error is from differences between neighbours (von Neumann 1941). So it does not count the variation
    with t, which the strata take away.
    """

    def __init__(self) -> None:
        self.sum_of_weights: np.ndarray | float = 0.0
        self.sum: np.ndarray | float = 0.0
        # of differences between neighbours: products of weight and value, and weights
        self.squares: np.ndarray | float = 0.0
        self.cross: np.ndarray | float = 0.0
        self.weight_squares: np.ndarray | float = 0.0
        self.samples = 0
        self.pairs = 0

    def add(self, values: np.ndarray, weights: np.ndarray) -> None:
        """Adds a block."""
        self.sum_of_weights = self.sum_of_weights + weights.sum(axis=1)
        self.sum = self.sum + np.sum(weights * values, axis=1)
        products = np.diff(weights * values, axis=1)
        differences = np.diff(weights, axis=1)
        self.squares = self.squares + np.sum(products * products, axis=1)
        self.cross = self.cross + np.sum(products * differences, axis=1)
        self.weight_squares = self.weight_squares + np.sum(differences * differences, axis=1)
        self.samples = self.samples + values.shape[1]
        self.pairs = self.pairs + values.shape[1] - 1

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """The mean and its standard error; NaN for blocks of a single sample."""
        mean = np.asarray(self.sum / self.sum_of_weights)
        if not self.pairs:
            return mean, np.full_like(mean, np.nan)
        squares = self.squares - 2 * mean * self.cross + np.square(mean) * self.weight_squares
        stderr = np.sqrt(np.maximum(squares, 0) / 2 * self.samples / self.pairs) / self.sum_of_weights
        return mean, stderr
