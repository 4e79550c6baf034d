"""Approximate Shapley values of a whole network for the cost of a few gradients."""

import math

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from keras_shapley.models.evaluation import evaluated, inference
from keras_shapley.shapley.masks import Masks
from keras_shapley.shapley.moments import MomentPropagation
from keras_shapley.shapley.players import Players
from keras_shapley.shapley.result import FastShapleyValues
from keras_shapley.utils.validation import finite, integer, one_of, targets

# number of gradients by default
_DEFAULT_N = {"moments": 4, "masks": 64}


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
    seed: int = 0,
    normalize: bool = False,
) -> FastShapleyValues:
    """Approximate Shapley values of a network's inputs, for the cost of a few gradients per image.

    The values are an integral of gradients of the network's multilinear extension (Owen 1972).

    `method="moments"` carries mean and variance of every value through the network, layer by layer, and takes a
    gradient at each of `n` Gauss-Legendre nodes in t, the probability that a player is present. With 4 nodes and 16
    samples it makes the passes of about thirty gradients of the model, and takes two to six times as long.

    `method="masks"` is a weighted mean of `(x - baseline) * gradient` over `n` random masks, for any differentiable
    model. A quarter of the masks have t spread evenly over [0, 1]; the rest go where the gradients of these are large.

    Args:
        model: a built Keras model with one input of floats and outputs `(batch, outputs)`; Sequential or Functional for
            `"moments"`.
        x: a batch as the model takes it. Give all images in one call, because each call compiles.
        target: the explained output: None for the largest of each image, an int, or ints of shape `(batch,)`.
        method: `"moments"` or `"masks"`.
        n: number of nodes or of masks; by default 4 for `"moments"` and 64 for `"masks"`.
        n_samples: for `"moments"`, the number of random coalitions at each node. Their variance in the network corrects
            that of independent neighbours, by a factor for each channel. 2 or more, or 0 for none. No gradient passes
            through them.
        baseline: values of absent elements: a number, or an array of the shape of one input.
        players: for `"moments"`, groups of elements as in `exact_shapley_values`. Each group passes once through the
            affine layers in front.
        seed: of the masks and coalitions, which are the same for all images.
        normalize: whether to distribute the residual over the players, in proportion to their absolute values.

    Returns:
        `FastShapleyValues`, with values in the shape of `x`, or `(batch, players)` if `players` are given.

    Raises:
        ValueError: on an unknown `method`, an `n` or `n_samples` that does not fit it, inputs or a baseline that are of
            another shape or not finite, outputs that are not finite, players that do not partition the input or are
            given for `"masks"`, a target out of range, or a layer without moments, which the message names.

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
    if method == "moments":
        estimate = MomentPropagation(model, Players(players, x.shape[1:]), n, n_samples, seed)
    else:
        estimate = Masks(model, x.shape[1:], n, seed)
    batches = _batches(len(x), max(estimate.images_at_once, 1))
    forward = inference(model)
    outputs = np.concatenate([evaluated(forward, x[rows], "model") for rows in batches])[: len(x)]
    (baseline_output,) = evaluated(forward, baseline[None], "model")
    target = targets(target, outputs)
    total = (outputs - baseline_output)[np.arange(len(x)), target]

    one_hot = np.eye(outputs.shape[1], dtype=x.dtype)[target]
    values_by_batch, stderr_by_batch = zip(*(estimate(x[rows], baseline, one_hot[rows]) for rows in batches))
    values = np.concatenate(values_by_batch)[: len(x)]
    stderr = None if method == "moments" else np.concatenate(stderr_by_batch)[: len(x)]
    axes = tuple(range(1, values.ndim))
    residual = total - values.sum(axis=axes)
    if normalize:
        values = values + _shares(values) * residual.reshape(-1, *(1 for _ in axes))
    return FastShapleyValues(values, stderr, target, total, residual)


def _batches(n: int, largest: int) -> np.ndarray:
    """Numbers of images, `(batches, images)`, in batches of one size, because another would compile anew.

    The last image is repeated to fill the last batch.
    """
    count = math.ceil(n / largest)
    return np.minimum(np.arange(count * math.ceil(n / count)), n - 1).reshape(count, -1)


def _shares(values: np.ndarray) -> np.ndarray:
    """Shares that sum to 1 for each image, in proportion to absolute values; equal where all values are zero."""
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
        raise ValueError(f"`model` must have one input, of floats. Received: {received}")
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
