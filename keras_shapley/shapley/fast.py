"""Approximate Shapley values of a whole network for the cost of a few gradients."""

import math
import warnings
from collections.abc import Iterable

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from keras_shapley.models.evaluation import evaluated, inference
from keras_shapley.models.outputs import output_index
from keras_shapley.shapley.masks import Masks
from keras_shapley.shapley.moments import MomentPropagation
from keras_shapley.shapley.players import Players
from keras_shapley.shapley.result import FastShapleyValues
from keras_shapley.utils.progress import Progress
from keras_shapley.utils.targets import as_weights, parse_targets
from keras_shapley.utils.validation import finite, integer, one_of

# number of gradients by default
_DEFAULT_N = {"moments": 4, "masks": 64}
# the share of the total above which a residual warns
_LARGE = 0.25
# a residual below this share of the outputs is rounding
_ROUNDING = 1e-4


def fast_shapley_values(
    model: keras.Model,
    x: ArrayLike,
    target: ArrayLike | None = None,
    *,
    method: str = "moments",
    n: int | None = None,
    n_samples: int = 16,
    baseline: ArrayLike = 0.0,
    players: ArrayLike | None = None,
    output: str | int | None = None,
    seed: int = 0,
    normalize: bool = False,
    progress: bool = True,
) -> FastShapleyValues:
    """Approximate Shapley values of a network's inputs, for the cost of a few gradients per image.

    The values are an integral of gradients of the network's multilinear extension (Owen 1972).

    `method="moments"` carries mean and variance of every value through the network, layer by layer, and takes a
    gradient at each of `n` Gauss-Legendre nodes in t, the probability that a player is present. With 4 nodes and 16
    samples it makes the passes of about thirty gradients of the model, and takes two to six times as long.

    `method="masks"` is a weighted mean of `(x - baseline) * gradient` over `n` random masks, for any differentiable
    model. A quarter of the masks have t spread evenly over [0, 1]; the rest go where the gradients of these are large.
    Gradients at masks tell nothing of a step between absent and present: a LayerNormalization is nearly constant on the
    way from a baseline of zeros. There the values are wrong with any number of masks, and their residual is large.

    Args:
        model: a built Keras model with one input, of floats; Sequential or Functional for `"moments"`.
        x: a batch as the model takes it. Give all images in one call, because each call compiles.
        target: what is explained of each image: None for the largest output; an int, or ints of shape `(batch,)` or
            `(batch, 1)`, for output indices; `(batch, k)` or `(1, k)` for k targets, which cost k times as much; or
            bools or floats of the shape of one output, or of all, for a weighted sum of the outputs. Outputs of several
            axes are numbered in the order of `ravel`.
        method: `"moments"` or `"masks"`.
        n: number of nodes or of masks; by default 4 for `"moments"` and 64 for `"masks"`.
        n_samples: for `"moments"`, the number of random coalitions at each node. Their variance in the network corrects
            that of independent neighbours, by a factor for each channel. 2 or more, or 0 for none. No gradient passes
            through them.
        baseline: values of absent elements: a number, or an array of the shape of one input.
        players: for `"moments"`, groups of elements as in `exact_shapley_values`. Each group passes once through the
            affine layers in front.
        output: name or index of the model's output; None for a model with one output.
        seed: of the masks and coalitions, which are the same for all images.
        normalize: whether to distribute the residual over the players, in proportion to their absolute values.
        progress: whether to show a progress bar if it takes more than two seconds.

    Returns:
        `FastShapleyValues`, with values in the shape of `x`, or `(batch, players)` if `players` are given. With k
        targets, they have an axis for them after the batch, as the results of `LRP` do.

    Raises:
        ValueError: on an unknown `method`, an `n` or `n_samples` that does not fit it, inputs or a baseline that are of
            another shape or not finite, outputs that are not finite, players that do not partition the input or are
            given for `"masks"`, a target that does not fit the outputs, an `output` that the model does not have, or a
            layer without moments, which the message names.

    Warns:
        RuntimeWarning: if the residual of some images is above a quarter of their total, or not a number. Their values
            are then often wrong, normalized or not; least so where a total is near zero.

    Example:
        >>> model = keras.Sequential(
        ...     [keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3, activation="relu"), keras.layers.Flatten(),
        ...      keras.layers.Dense(3, "softmax")]
        ... )
        >>> x = np.random.default_rng(0).random((5, 8, 8, 1))
        >>> result = ks.fast_shapley_values(model, x)
        >>> result.values.shape
        (5, 8, 8, 1)
        >>> np.allclose(result.values.sum(axis=(1, 2, 3)) + result.residual, result.total)
        True

        Sixteen patches as players.

        >>> patches = np.arange(16).reshape(4, 4).repeat(2, axis=0).repeat(2, axis=1)
        >>> ks.fast_shapley_values(model, x, players=patches).values.shape
        (5, 16)
    """
    one_of("method", method, tuple(_DEFAULT_N))
    integer("seed", seed, 0)
    n = integer("n", _DEFAULT_N[method] if n is None else n, 1)
    if integer("n_samples", n_samples, 0) == 1:
        raise ValueError("`n_samples` must be 0, or 2 or more, to have a variance. Received: n_samples=1")
    if players is not None and method == "masks":
        # between absent and present a group changes far more than the gradients at these ends tell
        raise ValueError("`players` must be None for method='masks'. Use method='moments', or sampled_shapley_values.")
    x, baseline = _checked_inputs(model, x, baseline)
    index = output_index(model, output)
    player_table = Players(players, x.shape[1:])
    if method == "moments":
        estimate = MomentPropagation(model, player_table, n, n_samples, seed, index)
    else:
        estimate = Masks(model, x.shape[1:], n, seed, index)
    forward = inference(model, index)
    baseline_output = evaluated(forward, baseline[None], "model")
    targets = parse_targets(target, len(x), baseline_output.shape[1:])
    k = len(targets.columns)
    # the rows of a batch are pairs of an image and one of its targets
    batches = _batches(len(x) * k, max(estimate.images_at_once, 1))
    bar = Progress(len(batches), "batch", progress)
    parts: list[tuple[np.ndarray, ...]] = []
    stderr_parts: list[np.ndarray] = []
    for rows in batches:
        images, columns = np.divmod(rows, k)
        outputs = evaluated(forward, x[images], "model")
        row_targets = np.stack(targets.resolved(outputs, images))[columns, np.arange(len(rows))]
        weights = as_weights(row_targets, outputs.shape[1:]).reshape(outputs.shape)
        values, stderr = estimate(x[images], baseline, weights.astype(x.dtype))
        without_players = _row_sums(weights * baseline_output)
        total = _row_sums(weights * (outputs - baseline_output))
        residual = total - _row_sums(values)
        if normalize:
            values = values + _shares(values) * residual.reshape(-1, *(1 for _ in values.shape[1:]))
        parts.append((values, row_targets, total, residual, without_players))
        if stderr is not None:
            stderr_parts.append(stderr)
        bar.add()

    def joined(arrays: Iterable[np.ndarray]) -> np.ndarray:
        """An array of all images, with an axis of targets if there are several, from those of the batches."""
        array = np.concatenate(list(arrays))[: len(x) * k]
        return array.reshape(len(x), k, *array.shape[1:]) if targets.has_axis else array

    values, row_targets, total, residual, without_players = map(joined, zip(*parts))
    result = FastShapleyValues(
        values=values,
        stderr=joined(stderr_parts) if stderr_parts else None,
        target=row_targets,
        total=total,
        residual=residual,
        baseline_value=without_players,
        players=player_table.numbers if player_table.are_groups else None,
    )
    _warn_of_residual(result)
    return result


def _warn_of_residual(result: FastShapleyValues) -> None:
    """Warns once if the values of some images miss more than a quarter of their total."""
    n = len(result.total)
    # a row for each image, with its targets
    total, residual, without_players = (
        part.reshape(n, -1) for part in (result.total, result.residual, result.baseline_value)
    )
    size = np.abs(result.values).reshape(*total.shape, -1).sum(axis=2) + np.abs(without_players)
    # a residual that is not a number is large
    is_large = ~(np.abs(residual) <= np.maximum(_LARGE * np.abs(total), _ROUNDING * size))
    if not is_large.any():
        return
    worst = np.unravel_index(np.argmax(np.where(is_large, np.abs(residual), -1)), is_large.shape)
    warnings.warn(
        f"The values of {is_large.any(axis=1).sum()} of {n} images miss more than a quarter of the total. Those of "
        f"image {worst[0]} have a residual of {residual[worst]:.2g}, for a total of {total[worst]:.2g}. Use "
        "sampled_shapley_values(model, x), which takes any model and gives standard errors, or LRP(model), whose "
        "relevance sums to the total in one pass.",
        RuntimeWarning,
        stacklevel=3,
    )


def _batches(n: int, largest: int) -> np.ndarray:
    """Numbers of rows, `(batches, rows)`, in batches of one size, because another would compile anew.

    The last row is repeated to fill the last batch.
    """
    count = math.ceil(n / largest)
    return np.minimum(np.arange(count * math.ceil(n / count)), n - 1).reshape(count, -1)


def _row_sums(values: np.ndarray) -> np.ndarray:
    return values.sum(axis=tuple(range(1, values.ndim)))


def _shares(values: np.ndarray) -> np.ndarray:
    """Shares that sum to 1 in each row, in proportion to absolute values; equal where all values are zero."""
    sizes = np.abs(values).reshape(len(values), -1)
    total = sizes.sum(axis=1, keepdims=True)
    equal = np.full_like(sizes, 1 / sizes.shape[1])
    return np.divide(sizes, total, out=equal, where=total > 0).reshape(values.shape)


def _checked_inputs(model: keras.Model, x: ArrayLike, baseline: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and baseline as finite arrays of the model's dtype and shape."""
    if not isinstance(model, keras.Model) or not model.built:
        raise ValueError(f"`model` must be a built keras.Model. Received: {model!r}")
    # a model whose call is code of its own does not say what it takes
    inputs = getattr(model, "inputs", None)
    if inputs and (len(inputs) != 1 or not keras.backend.is_float_dtype(inputs[0].dtype)):
        received = ", ".join(f"{tensor.name} of {tensor.dtype}" for tensor in inputs)
        raise ValueError(
            f"`model` must have one input, of floats. Received: {received}. Use LRP(model), which takes several inputs "
            "and tokens."
        )
    dtype, expected = (inputs[0].dtype, tuple(inputs[0].shape)) if inputs else (keras.config.floatx(), np.shape(x))
    x, baseline = (np.asarray(ops.convert_to_numpy(value), dtype) for value in (x, baseline))
    fits = x.ndim == len(expected) and all(a in (None, b) for a, b in zip(expected[1:], x.shape[1:]))
    if not fits or x.ndim < 2 or not x.size:
        expected = expected if inputs else "(batch, ...)"
        raise ValueError(f"`x` must be a batch of shape {expected}, of one image or more. Received: shape {x.shape}")
    if baseline.shape not in ((), x.shape[1:]):
        raise ValueError(f"`baseline` must be a number or of shape {x.shape[1:]}. Received: shape {baseline.shape}")
    finite("x", x)
    finite("baseline", baseline)
    return x, np.broadcast_to(baseline, x.shape[1:])
