"""Shapley values of any function of arrays, a whole network say: exact by enumeration, or sampled by random orders."""

import numbers

import keras
import numpy as np
from keras import ops

from keras_shapley.shapley import orders as random_orders
from keras_shapley.shapley.game import Game
from keras_shapley.shapley.result import ShapleyValues
from keras_shapley.utils.validation import integer, one_of

# groups of orders between two looks at the standard errors
_BETWEEN_LOOKS = 16
# mean square of a control, which is below 1, that is nothing but rounding
_NOISE = 1e-24


def sampled_shapley_values(
    fn,
    x,
    *,
    baseline=0.0,
    players=None,
    n_paths=1000,
    antithetic=True,
    orders="random",
    control=None,
    tolerance=0.0,
    seed=0,
    batch_size=256,
    progress=False,
):
    """Shapley values of every output of a function, by random orders in which the players enter (Castro et al. 2009).

    Along each order the gains sum to the output less the baseline's, and so do their means, the values. The same orders
    are walked for all images, whatever the batch; players that are as in the baseline gain nothing and are left out.

    Args:
        fn, x, baseline, players, batch_size, progress: as in `exact_shapley_values`; any number of players.
        n_paths: orders; even where they are antithetic.
        antithetic: whether each random order is followed by its reverse, whose errors tend to be opposite.
        orders: `"random"` are independent. `"stratified"` come in fours: one turned by quarters, so that each player
            comes early and late. `"orthogonal"` are read off orthogonal directions, in at least 16 groups.
        control: attributions that are nearly the values, in the shape of `x`, or of the players `(batch, players)` or
            `(batch, players, outputs)`: those of `fast_shapley_values`, also of a softmax head alone, or an input times
            its weight. The cube of their sum over those who have come, a game whose values are known, is the control
            variate; it takes no evaluations.
        tolerance: stop, image by image, once no standard error is above this, in units of the output. 0 walks all.
        seed: of the orders.

    Returns:
        `ShapleyValues`; standard errors are over independent samples: pairs, single orders where not antithetic, or
        groups of these where `orders` come in groups. They are to be trusted from about ten samples on.

    Raises:
        ValueError: as in `exact_shapley_values`, and on `n_paths` below 1 or odd, unknown `orders`, a negative
            tolerance, or a `control` of another shape or not finite.
    """
    integer("n_paths", n_paths, 1), integer("seed", seed, 0)
    one_of("orders", orders, tuple(random_orders.KINDS))
    if antithetic and n_paths % 2:
        raise ValueError(f"`n_paths` must be even, as orders come in pairs. Received: n_paths={n_paths}")
    if not isinstance(tolerance, numbers.Real) or not tolerance >= 0:
        raise ValueError(f"`tolerance` must be a number, 0 or more. Received: tolerance={tolerance!r}")
    game = Game(fn, x, baseline, players, batch_size)
    controls = [None] * len(game.x) if control is None else _by_player(control, game)
    n_samples = n_paths // 2 if antithetic else n_paths
    bar = keras.utils.Progbar(len(game.x) * n_samples, verbose=int(progress), unit_name="order")
    found = []
    for number, (image, control) in enumerate(zip(game.x, controls), 1):
        active = game.active(image)
        estimate = _Estimate(len(active), len(game.worth_of_none))
        groups = random_orders.groups(orders, len(active), n_samples, seed)
        for size, gains in _gains(game, image, active, groups, antithetic, control, bool(tolerance)):
            estimate.add(*gains)
            bar.add(size)
            if tolerance and estimate.n % _BETWEEN_LOOKS == 0 and (estimate.stderr <= tolerance).all():
                break
        found.append([_placed(part, active, game.players.n) for part in (estimate.values, estimate.stderr)])
        # an image may have stopped before its last order
        bar.update(number * n_samples)
    values, stderr = (np.stack(arrays) for arrays in zip(*found))
    return ShapleyValues(values, stderr, game.worth_of_none, game.n_evaluations)


class _Estimate:
    """Means of samples and their standard errors, less what a control variate of mean zero explains of them."""

    def __init__(self, players, outputs):
        self.n = 0
        self._sums = np.zeros((2, players, outputs))
        # of squares and of the product
        self._products = np.zeros((2, 2, players, outputs))

    def add(self, gains, control):
        """One sample: `(players, outputs)` twice."""
        if not self.n:
            # subtracted from all, which keeps their digits
            self._first = gains
        sample = np.stack([gains - self._first, control])
        self.n += 1
        self._sums += sample
        self._products += sample[:, None] * sample[None]

    @property
    def _slope(self):
        """Of the gains over the control, one for all players: so what sums to zero over them keeps doing so."""
        spread = self._products - self._sums[:, None] * self._sums[None] / self.n
        own, with_gains = spread[1, 1].sum(axis=0), spread[0, 1].sum(axis=0)
        return np.divide(with_gains, own, out=np.zeros_like(own), where=own > _NOISE * self._first.size * self.n)

    @property
    def values(self):
        return self._first + (self._sums[0] - self._slope * self._sums[1]) / self.n

    @property
    def stderr(self):
        if self.n == 1:
            return np.full(self._first.shape, np.nan)
        slope = self._slope
        sums = self._sums[0] - slope * self._sums[1]
        squares = self._products[0, 0] - 2 * slope * self._products[0, 1] + slope**2 * self._products[1, 1]
        return np.sqrt(np.maximum(squares - np.square(sums) / self.n, 0) / (self.n * (self.n - 1)))


def _gains(game, image, active, groups, antithetic, control, stops):
    """Of each group of orders its length, and the mean over the orders and their reverses of what players add.

    That is what they add to the game and, less its known values, to the control, shape `(2, players, outputs)`. The
    players are those of `active`: the others add nothing.
    """
    (whole,) = game.worth(image, np.ones((1, game.players.n), bool))
    n, n_outputs = len(active), len(whole)
    known = None if control is None else _values_of_cube(control[active])
    worths = game.walk(image)
    # as many orders at once as make a batch; none beyond the next look, where it may have been the last
    block = max(1, game.batch_size // max(1, n - 1) // (1 + antithetic))
    for some in _blocks(groups, block, _BETWEEN_LOOKS if stops else None):
        walked = np.concatenate(some)
        if antithetic:
            walked = np.stack([walked, walked[:, ::-1]], axis=1).reshape(2 * len(walked), n)
        first, last = (np.broadcast_to(end, (len(walked), 1, n_outputs)) for end in (game.worth_of_none, whole))
        gains = np.zeros((len(walked), 2, n, n_outputs))
        if n:
            added = np.diff(worths(active[walked]), axis=1, prepend=first, append=last)
            np.put_along_axis(gains[:, 0], walked[:, :, None], added, axis=1)
        if n and control is not None:
            came = np.cumsum(control[active][walked], axis=1)
            cubes = np.broadcast_to(np.diff(came**3, axis=1, prepend=0), added.shape)
            np.put_along_axis(gains[:, 1], walked[:, :, None], cubes, axis=1)
            gains[:, 1] -= known
        ends = np.cumsum([len(group) * (1 + antithetic) for group in some])
        for group, part in zip(some, np.split(gains, ends[:-1])):
            yield len(group), part.mean(axis=0)


def _blocks(groups, size, cut):
    """Lists of groups that have `size` orders together, or a few more; one ends behind every `cut` groups."""
    block = []
    for number, group in enumerate(groups, 1):
        block.append(group)
        if sum(map(len, block)) >= size or cut and not number % cut:
            yield block
            block = []
    if block:
        yield block


def _values_of_cube(a):
    """Shapley values of the cube of the sum over players of `a`, shape `(players, outputs)`.

    Player k adds `3 a_k s**2 + 3 a_k**2 s + a_k**3` to the others' sum s. With u and q the sums of the others' `a` and
    of its square, s is `u/2` on average over all orders, and its square `u**2/3 + q/6`: `mu` and `sigma` of eq. (1).
    """
    u, q = (part.sum(axis=0) - part for part in (a, np.square(a)))
    return 3 * a * (np.square(u) / 3 + q / 6) + 1.5 * np.square(a) * u + a**3


def _by_player(control, game):
    """The control of each image, `(batch, players, 1 or outputs)`, of sums below 1."""
    control = np.asarray(ops.convert_to_numpy(control), "float64")
    by_player = (len(game.x), game.players.n)
    allowed = (game.x.shape, by_player, (*by_player, len(game.worth_of_none)))
    if control.shape not in allowed or not np.isfinite(control).all():
        shapes = ", ".join(map(str, dict.fromkeys(allowed)))
        received = f"shape {control.shape}" if control.shape not in allowed else "NaN or infinity"
        raise ValueError(f"`control` must be finite, of one of the shapes {shapes}. Received: {received}")
    if control.shape == game.x.shape:
        grouped = np.zeros(by_player)
        for sums, values in zip(grouped, control):
            np.add.at(sums, game.players.numbers, values)
        control = grouped
    control = control.reshape(*by_player, -1)
    size = np.abs(control).sum(axis=1, keepdims=True)
    return control / np.where(size > 0, size, 1)


def _placed(values, active, n_players):
    """The values of all players: nothing for those that are not active."""
    found = np.zeros((n_players, values.shape[1]))
    found[active] = values
    return found
