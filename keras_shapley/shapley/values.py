"""Shapley values of any function or model, with as few evaluations as a method allows: the front door."""

import dataclasses
import numbers
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from numpy.typing import ArrayLike

from keras_shapley.models.last_layers import LastLayers, last_layers
from keras_shapley.models.outputs import output_index
from keras_shapley.shapley.coalitions import pair_count, random_pairs
from keras_shapley.shapley.exact import exact_shapley_values
from keras_shapley.shapley.explained import Explained
from keras_shapley.shapley.fast import fast_shapley_values
from keras_shapley.shapley.game import Game
from keras_shapley.shapley.given import values_by_player
from keras_shapley.shapley.result import ShapleyValues
from keras_shapley.shapley.sampled import sampled_shapley_values
from keras_shapley.shapley.surrogate import FOLDS, Estimate, Estimator, Regression, Surrogate, places_of
from keras_shapley.utils.progress import Progress
from keras_shapley.utils.typing import Function, Structure
from keras_shapley.utils.validation import integer, one_of
from keras_shapley.utils.wording import count

METHODS = ("auto", "exact", "surrogate", "regression", "orders", "moments", "masks")
# without a budget, coalitions for each player: to begin with and at most, and the error that is enough
_FIRST, _MOST, _ENOUGH = 8, 32, 0.05
# an image of so many players or fewer is enumerated where no budget forbids it
_ENUMERATED = 10
# the relative change between two evaluations of the same input above which a function is random
_ROUNDING = 1e-3
# coalitions of the smallest regression: none, all, and a pair; and of a surrogate, whose ends are evaluated again
_LEAST = 4
_LEAST_OF_SURROGATE = 6 + 4 * FOLDS
# of more players the equations of a regression do not fit into memory
_MOST_PLAYERS = 4096
# a gradient takes as long as three forward passes
_PASSES_OF_A_MASK = 3


def shapley_values(
    fn: Function,
    x: Structure,
    target: ArrayLike | None = None,
    *,
    players: Any = None,
    baseline: Structure = 0.0,
    budget: int | None = None,
    method: str = "auto",
    prior: Any = None,
    output: str | int | None = None,
    tolerance: float | None = None,
    feature_names: Sequence[str] | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    progress: bool = True,
) -> ShapleyValues:
    """Shapley values of a model or function, with standard errors, from few evaluations.

    The value of a coalition is the output where absent elements are those of the baseline (Shapley 1953). Few players
    are enumerated. Else coalitions are drawn in complementary pairs, with sizes by leverage scores.

    - `"surrogate"`, for Keras models: guesses the sums of the last hidden layer, or the logits, for every coalition,
      place by place where a pooling or a Flatten shows the places, and lets the network's own last layers make outputs
      of them. The values of this surrogate cost no evaluations; what it misses is estimated by regression.
    - `"regression"`, for any function: Bayesian least squares (Lundberg and Lee 2017; Musco and Witter 2025), by
      default around a prior mean that is equal for all players.
    - `"auto"`: a surrogate for Keras models whose last layers are known, and else a regression; all coalitions where
      that takes no more evaluations, or for up to 10 players.
    - `"exact"`, `"orders"`, `"moments"` and `"masks"` call `exact_shapley_values`, `sampled_shapley_values` and
      `fast_shapley_values`, which have further options.

    Args:
        fn: a Keras model, or a function of a NumPy batch. Outputs have the shape `(batch, ...)`.
        x: inputs, shape `(batch, ...)`; several as a list or dict of arrays.
        target: what is explained of each image, as in `exact_shapley_values`: None for its largest output, indices,
            weights of the outputs, or `"all"`.
        players: None for elements; `"patches"` or an int for a grid over images, `"tokens"` for the steps of sequences,
            `"inputs"`, or groups, as in `exact_shapley_values`.
        baseline: values of absent elements, as in `exact_shapley_values`.
        budget: the largest number of coalitions that are evaluated for each image. Over a background each takes as many
            evaluations as it has inputs. By default 8 for each player, doubled until the standard errors are 5 % of the
            values (both as root mean squares) or there are 32 for each player. Of the first image one coalition is
            evaluated twice, to see whether `fn` is random. Standard errors are reliable from about 20 coalitions on,
            those of `"orders"` from ten pairs of orders on; of a single pair they are NaN.
        method: `"auto"`, `"exact"`, `"surrogate"`, `"regression"`, `"orders"`, `"moments"` or `"masks"`.
        prior: expected values up to a scale, for `"regression"`: an explanation object, such as that of
            `LRP(model).explain(x)`, or an array in the shape of `x`, of `(batch, players)` or of the values returned.
            The data decide how far it is trusted. With a prior, `"auto"` is a regression.
        output: name or index of the model's output; None for a function, or a model with one output.
        tolerance: an image is finished once none of its standard errors is above this, in units of the output.
        feature_names: a name for each player, for the plots of `ShapleyValues.to_shap`.
        seed: of the coalitions.
        batch_size: largest number of inputs that `fn` is given at once, as in `exact_shapley_values`.
        progress: whether to show a progress bar if it takes more than two seconds.

    Returns:
        `ShapleyValues`, with values of shape `(batch, players)`, and `(batch, players, k)` for k targets.

    Raises:
        ValueError: as in `exact_shapley_values`, on a budget that is below what a method needs, a surrogate of a model
            whose last layers are not known, a negative tolerance, a prior of another shape or for another method, or
            `feature_names` that are not one for each player.

    Warns:
        UserWarning: if `fn` gives different outputs for the same input.

    Examples:
        >>> model = keras.Sequential(
        ...     [keras.Input((14, 14, 1)), keras.layers.Conv2D(4, 3, activation="relu"), keras.layers.Flatten(),
        ...      keras.layers.Dense(3, "softmax")]
        ... )
        >>> x = np.random.default_rng(0).random((2, 14, 14, 1))
        >>> found = ks.shapley_values(model, x, players=7)
        >>> found.values.shape, found.stderr.shape, found.heatmap.shape, found.method
        ((2, 49), (2, 49), (2, 14, 14, 1), 'surrogate')
        >>> np.allclose(found.values.sum(axis=1), found.total)
        True

        Any function of arrays, such as one of the columns of a table.

        >>> table = np.random.default_rng(0).random((3, 5))
        >>> ks.shapley_values(lambda x: x[:, 0] * x[:, 1] + x[:, 4], table, baseline=table.mean(axis=0)).method
        'exact'
    """
    one_of("method", method, METHODS)
    effort = Effort(budget, tolerance, integer("seed", seed, 0))
    effort.check(method)
    if prior is not None and method not in ("auto", "regression"):
        raise ValueError(f"`prior` must be None for method={method!r}: method='regression' takes one.")
    game = Game(fn, x, baseline, players, batch_size, output)
    names = None if feature_names is None else _checked_names(feature_names, game.players.n)
    if method in ("auto", "regression", "surrogate"):
        if game.players.n > _MOST_PLAYERS:
            raise ValueError(
                f"`players` must be up to {_MOST_PLAYERS} for method={method!r}. Received: {game.players.n}. Group "
                "them, as players='patches' does for images, or use method='moments' or 'orders'."
            )
        layers = _layers(fn if game.model is None else game.model, output, method, prior)
        found = _from_pairs(game, game.explained(target), layers, effort, prior, progress)
    else:
        options = {"baseline": baseline, "players": players, "output": output, "batch_size": batch_size}
        n = game.players.n if method == "exact" else max(len(game.active_players(k)) for k in range(len(game)))
        call, effort_options = effort.of_another(method, n)
        found = call(game.model or fn, game.x, target, progress=progress, **options, **effort_options)
        names = names or game.feature_names
    return found if names is None else dataclasses.replace(found, feature_names=names)


class Effort(NamedTuple):
    """How much is evaluated for each image; the arguments of `shapley_values`."""

    budget: int | None
    tolerance: float | None
    seed: int

    def check(self, method: str) -> None:
        """Raises a `ValueError` where an argument is wrong, or means nothing to a method."""
        budget, tolerance, _ = self
        if budget is not None:
            least = {"surrogate": _LEAST_OF_SURROGATE, "masks": 2 * _PASSES_OF_A_MASK}.get(method, _LEAST)
            if isinstance(budget, bool) or not isinstance(budget, (int, np.integer)) or budget < least:
                raise ValueError(
                    f"`budget` must be None or an int, {least} or more for method={method!r}. Received: {budget!r}"
                )
            if method == "moments":
                raise ValueError("`budget` must be None for method='moments', whose cost is the same for all players.")
        if tolerance is not None:
            if not isinstance(tolerance, numbers.Real) or not tolerance >= 0:
                raise ValueError(f"`tolerance` must be None or a number, 0 or more. Received: tolerance={tolerance!r}")
            if method in ("moments", "masks"):
                raise ValueError(f"`tolerance` must be None for method={method!r}, which does not know its error.")

    def n_pairs(self, n: int) -> int:
        """Number of pairs of coalitions of n players that may be evaluated, besides none and all."""
        budget = self.budget
        if budget is None:
            budget = 2**n if n <= _ENUMERATED else _MOST * n
        return min((int(budget) - 2) // 2, pair_count(n))

    def is_enough(self, estimate: Estimate) -> bool:
        """Whether standard errors are small enough to stop before the budget is spent."""
        values, stderr = estimate
        if self.tolerance is not None:
            return bool((stderr <= self.tolerance).all())
        return self.budget is None and bool(np.mean(stderr**2) <= _ENOUGH**2 * np.mean(values**2))

    def of_another(self, method: str, n: int) -> tuple[Callable[..., ShapleyValues], dict[str, Any]]:
        """The function that a method names, and its options for images of n active players or fewer."""
        budget = _MOST * n if self.budget is None else int(self.budget)
        if method == "exact":
            if self.budget is not None and 2**n > budget:
                raise ValueError(f"`budget` must be None or at least 2**{n} for method='exact'. Received: {budget}")
            return exact_shapley_values, {}
        if method == "orders":
            # an order has a coalition after each player but the last
            n_paths = (budget - 2) // max(n - 1, 1) // 2 * 2
            if n_paths < 2:
                raise ValueError(
                    f"`budget` must be at least {2 * n} for method='orders' and {count(n, 'player')}, or use "
                    f"method='auto'. Received: {budget}"
                )
            return sampled_shapley_values, {"n_paths": n_paths, "tolerance": self.tolerance or 0.0, "seed": self.seed}
        masks = {} if self.budget is None else {"n": budget // _PASSES_OF_A_MASK}
        return fast_shapley_values, {"method": method, "seed": self.seed, **masks}


def _layers(fn: Function, output: str | int | None, method: str, prior: Any) -> LastLayers | None:
    """The model in two parts, if a surrogate is wanted and there is one."""
    if method == "regression" or prior is not None:
        return None
    layers = last_layers(fn, output_index(fn, output)) if isinstance(fn, keras.Model) else None
    if method == "surrogate" and layers is None:
        raise ValueError(
            "method='surrogate' needs a Sequential or Functional model in float32 that ends in a softmax, a sigmoid or "
            "a Dense layer behind another, a Flatten or a global average, with up to 8192 sums. "
            f"Received: {fn!r}. Use method='regression'."
        )
    return layers


def _from_pairs(
    game: Game, explained: Explained, layers: LastLayers | None, effort: Effort, prior: Any, progress: bool
) -> ShapleyValues:
    """Values by a surrogate, or by regression where there are no layers; exact where all coalitions are evaluated."""
    _warn_if_random(game, explained)
    priors = None if prior is None else values_by_player("prior", prior, game, explained)
    places = None if layers is None else places_of(game, layers)
    values = np.zeros((len(game), game.players.n, explained.whole.shape[1]))
    stderr = np.zeros_like(values)
    methods = {"exact"}
    bar = Progress(len(game), "input", progress)
    for number, image in enumerate(game.of_images(explained)):
        n = len(image.active)
        if n == 1:
            values[number, image.active] = image.whole_value - image.baseline_value
        elif n > 1:
            n_pairs = effort.n_pairs(n)
            is_exact = n_pairs == pair_count(n)
            estimator: Estimator = Regression(image, None if priors is None else priors[number, image.active])
            if is_exact:
                methods.add("exact")
            elif layers is None or n_pairs <= 2 * FOLDS:
                methods.add("regression")
            else:
                # none and all are evaluated again, for their sums
                n_pairs -= 1
                surrogate = Surrogate(image, layers, places, n_pairs, effort.seed)
                estimator = surrogate if surrogate.fits else estimator
                methods.add("surrogate" if surrogate.fits else "regression")
            values[number, image.active], stderr[number, image.active] = _estimated(estimator, n, n_pairs, effort)
        bar.add()
    method = next(name for name in ("regression", "surrogate", "exact") if name in methods)
    return game.result(explained, values, stderr, method)


def _estimated(estimator: Estimator, n: int, n_pairs: int, effort: Effort) -> Estimate:
    """The estimate from `n_pairs` random pairs of coalitions of n players, or from fewer if they are enough."""
    pairs = random_pairs(n, n_pairs, np.random.default_rng(effort.seed))
    is_one_go = n_pairs == pair_count(n) or (effort.budget is not None and effort.tolerance is None)
    done = 0
    while True:
        step = n_pairs if is_one_go else max(done, _FIRST * n // 2)
        estimator.add(pairs.take(slice(done, done + step)))
        done += step
        estimate = estimator.estimate()
        if done >= n_pairs or effort.is_enough(estimate):
            return estimate


def _warn_if_random(game: Game, explained: Explained) -> None:
    """Warns if a second evaluation of the first image gives another value."""
    image = next(game.of_images(explained))
    everyone = np.ones((1, game.players.n), bool)
    (again,) = image.coalition_values(everyone)
    change = np.abs(again - image.whole_value)
    worst = int(np.argmax(change))
    size = max(float(np.abs(image.whole_value[worst])), float(np.abs(game.baseline_output).max()))
    if change[worst] > _ROUNDING * size:
        warnings.warn(
            f"`fn` gave {image.whole_value[worst]:.4g} and then {again[worst]:.4g} for the same input. The values and "
            "their standard errors assume a deterministic function: switch off dropout, or fix its seed.",
            stacklevel=4,
        )


def _checked_names(feature_names: Sequence[str], n_players: int) -> list[str]:
    if isinstance(feature_names, str):
        raise ValueError(f"`feature_names` must be a list of names. Received: the string {feature_names!r}")
    names = list(map(str, feature_names))
    if len(names) != n_players:
        raise ValueError(f"`feature_names` must be a name for each of {n_players} players. Received: {len(names)}")
    return names
