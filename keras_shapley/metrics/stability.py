"""How stable attributions are under small changes of the input, and how much they depend on what a model learned."""

import numbers
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_shapley.metrics.agreement import rank_correlation
from keras_shapley.metrics.checks import Attributions, attribution_array, checked_batch, flat_attributions, ratio
from keras_shapley.utils.progress import Progress
from keras_shapley.utils.quiet import quiet
from keras_shapley.utils.structures import filled, is_nested, leaves, skeleton_of
from keras_shapley.utils.typing import Structure
from keras_shapley.utils.validation import finite, integer

__all__ = ["randomization", "sensitivity_max"]


def sensitivity_max(
    explain: Callable[[Any], Attributions],
    x: Structure,
    *,
    radius: float = 0.02,
    n: int = 10,
    seed: int = 0,
    progress: bool = True,
) -> np.ndarray:
    """The largest relative change of attributions under small changes of the input; the lower the better.

    Yeh et al. (2019), eq. (2), by `n` draws from the cube of side `2 radius` around `x`. The change is relative to the
    norm of the attributions of `x`.

    Args:
        explain: function of a batch that returns its attributions, an array `(batch, ...)` or an explanation object. It
            should explain the same targets in each call: the largest output may be another one for a changed input.
        x: batch of inputs, floats; several as a list or dict, of which the floats are changed.
        radius: largest change of an element, in units of the input.
        n: number of draws.
        seed: of the draws.
        progress: whether to show a progress bar if it takes more than two seconds.

    Returns:
        Shape `(batch,)`; NaN where the attributions of `x` are zero.

    Raises:
        ValueError: on a `radius` that is not positive, `n` below 1, inputs that are no floats, or attributions that are
            not finite or not one row for each input.

    Examples:
        >>> x = np.ones((2, 4))
        >>> ks.metrics.sensitivity_max(lambda x: 3 * x, x, radius=0.1, n=100).round(2).tolist()
        [0.09, 0.09]
    """
    integer("n", n, 1)
    integer("seed", seed, 0)
    if not isinstance(radius, numbers.Real) or not radius > 0:
        raise ValueError(f"`radius` must be a positive number. Received: radius={radius!r}")
    skeleton = skeleton_of(x)
    arrays = [finite("x", ops.convert_to_numpy(leaf)) for leaf in leaves(x)] if is_nested(x) else [checked_batch(x)]
    are_floats = [np.issubdtype(array.dtype, np.inexact) for array in arrays]
    if not any(are_floats):
        dtypes = ", ".join(str(array.dtype) for array in arrays)
        raise ValueError(f"`x` must be floats, to be changed a little. Received: {dtypes}")
    rng = np.random.default_rng(seed)
    batch = len(arrays[0])
    attributions = flat_attributions(explain(filled(skeleton, arrays)))
    if len(attributions) != batch:
        raise ValueError(
            f"`explain` must give attributions of each of the {batch} inputs. Received: {len(attributions)}"
        )
    largest = np.zeros(batch)
    bar = Progress(n, "draw", progress)
    for _ in range(n):
        changed = [
            (array + rng.uniform(-radius, radius, size=array.shape)).astype(array.dtype) if is_float else array
            for array, is_float in zip(arrays, are_floats)
        ]
        change = flat_attributions(explain(filled(skeleton, changed))) - attributions
        largest = np.maximum(largest, np.linalg.norm(change, axis=1))
        bar.add()
    return ratio(largest, np.linalg.norm(attributions, axis=1))


def randomization(
    model: keras.Model,
    explain: Callable[[Any], Attributions],
    x: Structure,
    *,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, np.ndarray]:
    """Rank correlation of attributions with those after the weights of more and more layers are shuffled.

    The cascading model randomisation test of Adebayo et al. (2018), from the output down. Attributions that depend on
    what the model learned fall towards 0. The values within each weight are shuffled, so their distribution stays. The
    model gets its weights back at the end, also after an error.

    Args:
        model: a Keras model.
        explain: function of a batch that returns its attributions by the model's present weights, an array
            `(batch, ...)` or an explanation object. It should explain the same targets in each call.
        x: batch of inputs, in any structure that `explain` takes.
        seed: of the shuffling.
        progress: whether to show a progress bar if it takes more than two seconds.

    Returns:
        A dict by the path of a layer, of the `rank_correlation`, shape `(batch,)`, once its weights and those of all
        layers behind it are shuffled. A second layer of the same path has the key `path:1`.

    Raises:
        ValueError: on a negative seed, or attributions that are not finite.

    Examples:
        >>> model = keras.Sequential(
        ...     [keras.Input((4,)), keras.layers.Dense(8, "relu", name="hidden"), keras.layers.Dense(3, name="head")]
        ... )
        >>> explainer = ks.LRP(model)
        >>> def explain(x):
        ...     return explainer(x, target=0)
        >>> correlations = ks.metrics.randomization(model, explain, np.ones((2, 4)))
        >>> [path.split("/")[-1] for path in correlations]
        ['head', 'hidden']
        >>> [values.shape for values in correlations.values()]
        [(2,), (2,)]
    """
    integer("seed", seed, 0)
    rng = np.random.default_rng(seed)
    attributions = attribution_array(explain(x))
    weights = model.get_weights()
    correlations = {}
    by_layer = _weights_by_layer(model.weights)
    bar = Progress(len(by_layer), "layer", progress)
    try:
        for path, variables in reversed(by_layer.items()):
            for variable in variables:
                values = ops.convert_to_numpy(variable)
                variable.assign(rng.permutation(values.ravel()).reshape(values.shape))
            # attributions of a network with shuffled weights need not be right
            with quiet():
                correlations[path] = rank_correlation(explain(x), attributions)
            bar.add()
    finally:
        model.set_weights(weights)
    return correlations


def _weights_by_layer(weights: list[Any]) -> dict[str, list[Any]]:
    """Weights by the path of their layer. If a name comes again, it is of another layer with the same path."""
    by_layer: dict[str, list[Any]] = {}
    names: dict[str, list[str]] = {}
    repetitions: dict[str, int] = {}
    for variable in weights:
        path, _, name = variable.path.rpartition("/")
        if name in names.setdefault(path, []):
            repetitions[path] = repetitions.get(path, 0) + 1
            names[path] = []
        names[path].append(name)
        key = f"{path}:{repetitions[path]}" if path in repetitions else path
        by_layer.setdefault(key, []).append(variable)
    return by_layer
