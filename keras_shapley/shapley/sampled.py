"""Shapley values of any function of arrays by sampling the orders in which players enter."""

import math
import numbers
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from keras_shapley.shapley import orders as random_orders
from keras_shapley.shapley.game import Game, ImageGame
from keras_shapley.shapley.given import values_by_player
from keras_shapley.shapley.result import ShapleyValues
from keras_shapley.utils.progress import Progress
from keras_shapley.utils.typing import Function, Structure
from keras_shapley.utils.validation import integer, one_of

# groups of orders between two looks at the standard errors
_BETWEEN_LOOKS = 16
# a mean square of the control variate below this is rounding; its values are below 1
_NOISE = 1e-24


def sampled_shapley_values(
    fn: Function,
    x: Structure,
    target: ArrayLike | None = "all",
    *,
    baseline: Structure = 0.0,
    players: Any = None,
    n_paths: int = 1000,
    antithetic: bool = True,
    orders: str = "random",
    control: Any = None,
    tolerance: float = 0.0,
    seed: int = 0,
    output: str | int | None = None,
    batch_size: int | None = None,
    progress: bool = True,
) -> ShapleyValues:
    """Shapley values of a function, by random orders in which players enter (Castro et al. 2009).

    A player's value is the mean of its marginal contributions. Along each order they sum to the output less that of the
    baseline, so the values do too. The same orders are walked for all images, whatever the batch. A player
    whose elements all equal the baseline contributes nothing and is left out.

    Args:
        fn: a Keras model, or a function of a NumPy batch. Outputs have the shape `(batch, ...)`.
        x: inputs, shape `(batch, ...)`; several as a list or dict of arrays, as in `exact_shapley_values`.
        target: what is explained, as in `exact_shapley_values`: `"all"` outputs, None for the largest of each image,
            indices, or weights of the outputs.
        baseline: values of absent elements, as in `exact_shapley_values`.
        players: elements, or groups of them, as in `exact_shapley_values`; any number of them.
        n_paths: number of orders; even if they are antithetic.
        antithetic: whether each random order is followed by its reverse, whose error tends to be opposite.
        orders: `"random"` orders are independent. `"stratified"` orders are four rotations of one, so that each player
            enters early and late. `"orthogonal"` orders are read off orthogonal directions (Mitchell et al. 2022), in
            at least 16 groups.
        control: approximate values for a control variate: an explanation object, such as the result of
            `fast_shapley_values`, or an array in the shape of `x`, of `(batch, players)` or of the values returned. The
            control variate is the cube of the sum of the approximate values of the players present, a game whose
            Shapley values are known. It takes no evaluations.
        tolerance: an image is finished once none of its standard errors is above this, in units of the output. With 0
            all orders are walked.
        seed: of the orders.
        output: name or index of the model's output; None for a function, or a model with one output.
        batch_size: largest number of inputs that `fn` is given at once, as in `exact_shapley_values`.
        progress: whether to show a progress bar if it takes more than two seconds.

    Returns:
        `ShapleyValues`, with values in the shapes of `exact_shapley_values`. Standard errors are over independent
        samples: pairs of orders, single orders if not antithetic, or groups of these if `orders` come in groups. They
        are reliable from about ten samples on.

    Raises:
        ValueError: as in `exact_shapley_values`, and on `n_paths` below 1 or odd, unknown `orders`, a negative
            tolerance, or a `control` that is of another shape or not finite.

    Examples:
        >>> model = keras.Sequential([keras.Input((100,)), keras.layers.Dense(3, "softmax")])
        >>> x = np.random.default_rng(0).random((2, 100))
        >>> result = ks.sampled_shapley_values(model, x, n_paths=50)
        >>> result.values.shape, result.stderr.shape
        ((2, 100, 3), (2, 100, 3))
        >>> np.allclose(result.values.sum(axis=1) + result.baseline_value, model.predict(x, verbose=0), atol=1e-5)
        True

        Approximate values that are nearly right make the standard errors smaller.

        >>> fast = ks.fast_shapley_values(model, x, 0)
        >>> controlled = ks.sampled_shapley_values(model, x, 0, n_paths=50, control=fast)
        >>> bool(controlled.stderr.mean() < result.stderr[:, :, 0].mean())
        True
    """
    integer("n_paths", n_paths, 1)
    integer("seed", seed, 0)
    one_of("orders", orders, tuple(random_orders.KINDS))
    if antithetic and n_paths % 2:
        raise ValueError(f"`n_paths` must be even, as orders come in pairs. Received: n_paths={n_paths}")
    if not isinstance(tolerance, numbers.Real) or not tolerance >= 0:
        raise ValueError(f"`tolerance` must be a number, 0 or more. Received: tolerance={tolerance!r}")
    game = Game(fn, x, baseline, players, batch_size, output)
    explained = game.explained(target)
    controls = [None] * len(game) if control is None else values_by_player("control", control, game, explained)
    n_samples = n_paths // 2 if antithetic else n_paths
    bar = Progress(len(game) * n_samples, "order", progress)
    values = np.zeros((len(game), game.players.n, math.prod(explained.shape)))
    stderr = np.zeros_like(values)
    for number, (image_game, image_control) in enumerate(zip(game.of_images(explained), controls)):
        active = image_game.active
        mean = _ControlledMean(len(active), values.shape[2])
        groups = random_orders.groups(orders, len(active), n_samples, seed)
        samples = _samples(game, image_game, groups, antithetic, image_control, stops_early=bool(tolerance))
        n_walked = 0
        for n_orders, contributions, control_contributions in samples:
            mean.add(contributions, control_contributions)
            bar.add(n_orders)
            n_walked += n_orders
            if tolerance and mean.n % _BETWEEN_LOOKS == 0 and (mean.stderr <= tolerance).all():
                break
        if n_walked < n_samples:
            bar.add(n_samples - n_walked)
        values[number, active] = mean.values
        stderr[number, active] = mean.stderr
    return game.result(explained, values, stderr, "orders")


class _ControlledMean:
    """Means of samples and their standard errors, with a control variate of mean zero.

    Args:
        players: number of them.
        outputs: number of outputs or targets.

    Attributes:
        n: number of samples.
    """

    def __init__(self, players: int, outputs: int) -> None:
        self.n = 0
        self._first = np.zeros((players, outputs))
        # of contributions and control: sums, and sums of squares and products
        self._sums = np.zeros((2, players, outputs))
        self._products = np.zeros((2, 2, players, outputs))

    def add(self, contributions: np.ndarray, control: np.ndarray) -> None:
        """Adds a sample: `(players, outputs)` twice."""
        if not self.n:
            # subtracted from all samples, so that sums of squares keep their digits
            self._first = contributions
        sample = np.stack([contributions - self._first, control])
        self.n += 1
        self._sums += sample
        self._products += sample[:, None] * sample[None]

    @property
    def values(self) -> np.ndarray:
        return self._first + (self._sums[0] - self._slope * self._sums[1]) / self.n

    @property
    def stderr(self) -> np.ndarray:
        if self.n == 1:
            return np.full(self._first.shape, np.nan)
        slope = self._slope
        sums = self._sums[0] - slope * self._sums[1]
        squares = self._products[0, 0] - 2 * slope * self._products[0, 1] + slope**2 * self._products[1, 1]
        return np.sqrt(np.maximum(squares - np.square(sums) / self.n, 0) / (self.n * (self.n - 1)))

    @property
    def _slope(self) -> np.ndarray:
        """Regression slope of contributions on the control, shape `(outputs,)`.

        One slope for all players leaves the sum of the values as it is, because the control sums to zero over them.
        """
        covariances = self._products - self._sums[:, None] * self._sums[None] / self.n
        variance = covariances[1, 1].sum(axis=0)
        covariance = covariances[0, 1].sum(axis=0)
        is_signal = variance > _NOISE * self._first.size * self.n
        return np.divide(covariance, variance, out=np.zeros_like(variance), where=is_signal)


def _samples(
    game: Game,
    image_game: ImageGame,
    groups: Iterable[np.ndarray],
    antithetic: bool,
    control: np.ndarray | None,
    stops_early: bool,
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yields a sample of marginal contributions for each group of orders.

    Args:
        game: of all images.
        image_game: whose marginal contributions are sampled.
        groups: of orders of the active players, ints `(orders, n)`.
        antithetic: whether reverse orders are walked too.
        control: approximate values of the image, `(players, 1 or outputs)`.
        stops_early: whether the sample before a look at the standard errors may be the last.

    Returns:
        An iterator of the number of orders, and of two means over them and their reverses, `(n, outputs)`: the
        marginal contributions to the game and, less their known means, to the control variate; zeros without one.
    """
    whole = image_game.whole_value
    active = image_game.active
    n, n_outputs = len(active), len(whole)
    # as many orders at once as make a batch, but none beyond the next look, after which there may be no more
    size = max(1, game.batch_size // max(1, n - 1) // (1 + antithetic))
    for block in _blocks(groups, size, _BETWEEN_LOOKS if stops_early else None):
        orders = np.concatenate(block)
        if antithetic:
            orders = np.stack([orders, orders[:, ::-1]], axis=1).reshape(2 * len(orders), n)
        contributions = np.zeros((len(orders), n, n_outputs))
        control_contributions = np.zeros_like(contributions)
        if n:
            first, last = (
                np.broadcast_to(end, (len(orders), 1, n_outputs)) for end in (image_game.baseline_value, whole)
            )
            along_orders = np.diff(image_game.values_along_orders(active[orders]), axis=1, prepend=first, append=last)
            np.put_along_axis(contributions, orders[:, :, None], along_orders, axis=1)
        if n and control is not None:
            sums = np.cumsum(control[active][orders], axis=1)
            along_orders = np.broadcast_to(np.diff(sums**3, axis=1, prepend=0), contributions.shape)
            np.put_along_axis(control_contributions, orders[:, :, None], along_orders, axis=1)
            control_contributions -= _cube_shapley_values(control[active])
        ends = np.cumsum([len(group) * (1 + antithetic) for group in block])[:-1]
        parts = zip(block, np.split(contributions, ends), np.split(control_contributions, ends))
        for group, part, control_part in parts:
            yield len(group), part.mean(axis=0), control_part.mean(axis=0)


def _blocks(groups: Iterable[np.ndarray], size: int, cut: int | None) -> Iterator[list[np.ndarray]]:
    """Yields lists of groups that have `size` orders together, or a few more; a list ends after every `cut` groups."""
    block = []
    for number, group in enumerate(groups, 1):
        block.append(group)
        is_cut = cut is not None and number % cut == 0
        if is_cut or sum(map(len, block)) >= size:
            yield block
            block = []
    if block:
        yield block


def _cube_shapley_values(a: np.ndarray) -> np.ndarray:
    """Shapley values of the cube of the sum of `a` over the players present, shape `(players, outputs)` as `a`.

    Player k adds `3 a_k s**2 + 3 a_k**2 s + a_k**3` to the others' sum s. With u and q the sums of the others' `a` and
    of its square, over all orders s has mean `u/2`, and its square `u**2/3 + q/6`: `mu` and `sigma` of eq. (1).
    """
    squares = np.square(a)
    u = a.sum(axis=0) - a
    q = squares.sum(axis=0) - squares
    return 3 * a * (np.square(u) / 3 + q / 6) + 1.5 * squares * u + a**3
