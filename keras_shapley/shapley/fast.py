"""Approximate Shapley values of a whole network, by gradients."""

import dataclasses
import math
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers, ops, tree
from numpy.typing import ArrayLike

from keras_shapley.models.evaluation import as_model_takes
from keras_shapley.models.given_inputs import inputs_of
from keras_shapley.models.outputs import output_index
from keras_shapley.models.tokens import behind_embedding, behind_text, tokens_of
from keras_shapley.shapley.game import Game
from keras_shapley.shapley.inputs import Inputs
from keras_shapley.shapley.masks import Masks, bias_of_masks
from keras_shapley.shapley.moments import MomentPropagation
from keras_shapley.shapley.players import Players
from keras_shapley.shapley.result import ShapleyValues
from keras_shapley.utils.progress import Progress
from keras_shapley.utils.quiet import warn
from keras_shapley.utils.typing import Structure
from keras_shapley.utils.validation import integer, one_of

# number of gradients by default
_DEFAULT_N = {"moments": 4, "masks": 64}
# the share of the total above which a residual warns
_LARGE = 0.25
# a residual below this share of the outputs is rounding
_ROUNDING = 1e-4


def fast_shapley_values(
    model: keras.Model,
    x: Structure,
    target: ArrayLike | None = None,
    *,
    method: str = "moments",
    n: int | None = None,
    n_samples: int = 16,
    baseline: Structure = 0.0,
    players: Any = None,
    output: str | int | None = None,
    seed: int = 0,
    normalize: bool = False,
    batch_size: int | None = None,
    progress: bool = True,
) -> ShapleyValues:
    """Approximate Shapley values of a network's inputs, for the cost of tens to hundreds of gradients per image.

    The values are an integral of gradients of the network's multilinear extension (Owen 1972).

    `method="moments"` carries mean and variance of every value through the network, layer by layer, and takes a
    gradient at each of `n` Gauss-Legendre nodes in t, the probability that a player is present. With 4 nodes and 16
    samples it makes the passes of about thirty gradients of the model, and takes two to five times as long.

    `method="masks"` is a weighted mean of `(x - baseline) * gradient` over `n` random masks, for any differentiable
    model. A quarter of the masks have t spread evenly over [0, 1]; the rest go where the gradients of these are large.
    Gradients at masks are biased where the network is far from smooth between absent and present, with any number of
    masks. A LayerNormalization is nearly constant on the way from a baseline of zeros; few players, as the columns of a
    table or large groups, take large steps. Both warn, and so does a large residual.

    Args:
        model: a built Keras model whose inputs are floats, or that begins with an Embedding of tokens without a mask;
            Sequential or Functional for `"moments"`.
        x: a batch as the model takes it: an array, or a list or dict of arrays.
        target: what is explained of each image: None for the largest output; an int, or ints of shape `(batch,)` or
            `(batch, 1)`, for output indices; `(batch, k)` or `(1, k)` for k targets, which cost k times as much; or
            bools or floats of the shape of one output, or of all, for a weighted sum of the outputs; or `"all"`
            outputs, each of which costs as much as a target. Outputs of several axes are numbered in the order of
            `ravel`.
        method: `"moments"` or `"masks"`.
        n: number of nodes or of masks; by default 4 for `"moments"` and 64 for `"masks"`.
        n_samples: for `"moments"`, the number of random coalitions at each node, 2 or more, or 0 for none. Neighbouring
            values are not independent: the variance measured on these coalitions rescales the computed one, channel by
            channel. No gradient passes through them.
        baseline: values of absent elements, as in `exact_shapley_values`. Each input of a background costs as much as
            one.
        players: elements, or groups of them, as in `exact_shapley_values`. For `"moments"`, each group passes once
            through the affine layers in front.
        output: name or index of the model's output; None for a model with one output.
        seed: of the masks and coalitions, which are the same for all images.
        normalize: whether to distribute the residual over the players, in proportion to their absolute values.
        batch_size: largest number of images at once; by default as many as fit into about half a gigabyte.
        progress: whether to show a progress bar if it takes more than two seconds.

    Returns:
        `ShapleyValues`, with values of shape `(batch, players)`, and `(batch, players, k)` for k targets. Their
        `residual` is what they missed of the total before `normalize`, and shows the error of the method.

    Raises:
        ValueError: on an unknown `method`, an `n` or `n_samples` that does not fit it, inputs or a baseline that are of
            another shape or not finite, outputs that are not finite, players that do not partition the input, a target
            that does not fit the outputs, an `output` that the model does not have, or a layer without moments, which
            the message names.

    Warns:
        RuntimeWarning: if the residual of some images is above a quarter of their total, or not a number. Their values
            are then often wrong, normalized or not; least so where a total is near zero.
        UserWarning: if `"masks"` are biased for the model or its players.

    Examples:
        >>> model = keras.Sequential(
        ...     [keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3, activation="relu"), keras.layers.Flatten(),
        ...      keras.layers.Dense(3, "softmax")]
        ... )
        >>> x = np.random.default_rng(0).random((5, 8, 8, 1))
        >>> result = ks.fast_shapley_values(model, x)
        >>> result.values.shape, result.heatmap.shape
        ((5, 64), (5, 8, 8, 1))
        >>> np.allclose(result.values.sum(axis=1) + result.residual, result.total)
        True

        The sixteen patches of a grid as players.

        >>> ks.fast_shapley_values(model, x, players=4).values.shape
        (5, 16)
    """
    one_of("method", method, tuple(_DEFAULT_N))
    integer("seed", seed, 0)
    n = integer("n", _DEFAULT_N[method] if n is None else n, 1)
    if integer("n_samples", n_samples, 0) == 1:
        raise ValueError("`n_samples` must be 0, or 2 or more, to have a variance. Received: n_samples=1")
    text, model = behind_text(model) or (None, model)
    x = tokens_of(text, x)
    embedded = behind_embedding(model)
    if embedded is not None:
        options = {"method": method, "n": n, "n_samples": n_samples, "output": output, "seed": seed}
        options |= {"normalize": normalize, "batch_size": batch_size, "progress": progress}
        return _of_tokens(*embedded, inputs_of(model, x), target, baseline, players, options)
    dtype = _float_dtype(model)
    index = output_index(model, output)
    game = Game(model, x, baseline, players, batch_size, output, dtype)
    _check_shapes(model, game.x)
    explained = game.explained(target)
    if method == "moments":
        estimate = MomentPropagation(model, game.players, n, n_samples, seed, index)
    else:
        estimate = Masks(model, game.players, n, seed, index, game.batch_size)
        bias = bias_of_masks(model, game.players)
        if bias:
            warnings.warn(
                f"method='masks' is biased {bias}. Use shapley_values(model, x), or check some images by it.",
                stacklevel=2,
            )
    k = explained.whole.shape[1]
    # the rows of a batch are pairs of an image and one of its values
    most = max(min(estimate.images_at_once, batch_size or estimate.images_at_once), 1)
    batches = _batches(len(game) * k, most, estimate.padded_size)
    others = range(len(game.inputs.background[0]))
    bar = Progress(len(batches) * len(others), "batch", progress)
    parts = []
    for rows in batches:
        images, columns = np.divmod(rows, k)
        x_rows = [array[images] for array in game.inputs.arrays]
        weights = explained.weights(images, columns, game.baseline_output.shape)
        estimates = []
        for other in others:
            estimates.append(estimate(x_rows, [array[other] for array in game.inputs.background], weights))
            bar.add()
        # masks are the same for all inputs of the background, so their errors do not average out
        parts.append([None if of[0] is None else np.mean(of, axis=0) for of in zip(*estimates)])

    def joined(arrays: tuple[np.ndarray, ...]) -> np.ndarray:
        """An array `(batch, players, values)` of all images from those of the batches, whose rows are pairs."""
        rows = np.concatenate(arrays)[: len(game) * k]
        return np.moveaxis(rows.reshape(len(game), k, -1), 1, 2)

    values_parts, stderr_parts = zip(*parts)
    values = joined(values_parts)
    stderr = None if stderr_parts[0] is None else joined(stderr_parts)
    game.n_evaluations += len(game) * k * len(others) * estimate.n_passes
    result = game.result(explained, values, stderr, method)
    _warn_of_residual(result)
    if normalize:
        shares = _shares(result.values)
        result.values = result.values + shares * result.residual[:, None]
    return result


def _of_tokens(
    layer: layers.Embedding,
    model: keras.Model,
    x: Structure,
    target: ArrayLike | None,
    baseline: Structure,
    players: Any,
    options: dict[str, Any],
) -> ShapleyValues:
    """The values of tokens: those of their vectors, which the model behind the embedding takes."""
    tokens = Inputs(x, baseline, are_ids=[True])
    _check_vocabulary(tokens, layer)
    (numbers,) = Players(players, tokens.shapes).parts
    vectors, absent = (ops.convert_to_numpy(layer(each)) for (each,) in (tokens.arrays, tokens.background))
    of_vectors = np.broadcast_to(numbers[..., None], vectors.shape[1:])
    result = fast_shapley_values(model, vectors, target, baseline=absent, players=of_vectors, **options)
    return dataclasses.replace(result, x=tokens.arrays[0], players=numbers)


def _check_vocabulary(tokens: Inputs, layer: layers.Embedding) -> None:
    for name, (ids,) in (("x", tokens.arrays), ("baseline", tokens.background)):
        if ids.min() < 0 or ids.max() >= layer.input_dim:
            raise ValueError(
                f"`{name}` must be tokens from 0 to {layer.input_dim - 1}, which layer '{layer.name}' knows. Received: "
                f"tokens from {ids.min()} to {ids.max()}"
            )


def _warn_of_residual(result: ShapleyValues) -> None:
    """Warns once if the values of some images miss more than a quarter of their total."""
    n = len(result.total)
    # a row for each image, with its targets
    total, residual = result.total.reshape(n, -1), result.residual.reshape(n, -1)
    without_players = np.broadcast_to(result.baseline_value, result.total.shape).reshape(n, -1)
    size = np.abs(result.values).sum(axis=1).reshape(n, -1) + np.abs(without_players)
    # a residual that is not a number is large
    is_large = ~(np.abs(residual) <= np.maximum(_LARGE * np.abs(total), _ROUNDING * size))
    if not is_large.any():
        return
    worst = np.unravel_index(np.argmax(np.where(is_large, np.abs(residual), -1)), is_large.shape)
    warn(
        f"The values of {is_large.any(axis=1).sum()} of {n} images miss more than a quarter of the total. Those of "
        f"image {worst[0]} have a residual of {residual[worst]:.2g}, for a total of {total[worst]:.2g}. Use "
        "shapley_values(model, x) or sampled_shapley_values(model, x), which take any model and give standard errors, "
        "or LRP(model), whose relevance sums to the total in one pass.",
        stacklevel=3,
    )


def _batches(n: int, largest: int, padded_size: Callable[[int], int]) -> np.ndarray:
    """Numbers of rows, `(batches, rows)`, in batches of one size, because another would compile anew.

    The last row is repeated to fill the batches.
    """
    count = math.ceil(n / largest)
    size = min(padded_size(math.ceil(n / count)), largest)
    return np.minimum(np.arange(count * size), n - 1).reshape(count, -1)


def _shares(values: np.ndarray) -> np.ndarray:
    """Shares of the players that sum to 1, in proportion to absolute values; equal where all values are zero."""
    sizes = np.abs(values)
    total = sizes.sum(axis=1, keepdims=True)
    equal = np.full_like(sizes, 1 / sizes.shape[1])
    return np.divide(sizes, total, out=equal, where=total > 0)


def _float_dtype(model: keras.Model) -> str:
    """The dtype of a model's inputs; raises a `ValueError` if they are no floats."""
    if not isinstance(model, keras.Model) or not model.built:
        raise ValueError(f"`model` must be a built keras.Model. Received: {model!r}")
    # a model whose call is code of its own does not say what it takes
    inputs = getattr(model, "inputs", None)
    if not inputs:
        return keras.config.floatx()
    if not all(keras.backend.is_float_dtype(tensor.dtype) for tensor in inputs):
        received = ", ".join(f"{tensor.name} of {tensor.dtype}" for tensor in inputs)
        raise ValueError(
            f"`model` must have inputs of floats. Received: {received}. Use shapley_values(model, x) or LRP(model), "
            "which take tokens."
        )
    return inputs[0].dtype


def _check_shapes(model: keras.Model, x: Structure) -> None:
    """Raises a `ValueError` if a batch has another shape than the model's inputs."""
    inputs = getattr(model, "inputs", None) or []
    for array, tensor in zip(tree.flatten(as_model_takes(model, x)) if inputs else [], inputs):
        shape, expected = np.shape(array), tuple(tensor.shape)
        fits = len(shape) == len(expected) and all(a in (None, b) for a, b in zip(expected[1:], shape[1:]))
        if not fits or len(shape) < 2 or 0 in shape:
            raise ValueError(f"`x` must be a batch of shape {expected}, of one image or more. Received: shape {shape}")
