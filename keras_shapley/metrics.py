"""How faithful attributions are: measures of any array of them, whichever library made it.

Throughout, `fn` is a Keras model with one input, or a function of a NumPy batch, with outputs `(batch, outputs)`;
attributions have the shape of `x`, or of `x` without the channels, where the channels of a pixel go together; results
have a number for each image, shape `(batch,)`, in float64.
"""

import math
import numbers

import keras
import numpy as np
from keras import ops

from keras_shapley.models.evaluation import evaluated, inference
from keras_shapley.utils.validation import finite, integer, of_dtype, one_of, targets


def perturbation_curve(
    fn, x, attributions, target=None, *, order="most_relevant", insert=False, baseline=0.0, steps=None, batch_size=256
):
    """The target's output while elements are taken away, or put in, in the order of their attribution.

    Args:
        fn, x, attributions: as in the module's head.
        target: the output to look at: None for the largest of each image, an int, or ints of shape `(batch,)`.
        order: which come first, `"most_relevant"` or `"least_relevant"`.
        insert: whether elements are put into the baseline, rather than taken away from the image.
        baseline: what stands in the place of an absent element, a number or an array of the shape of one input.
        steps: number of parts in which elements come, as equal as can be; at most, and where there are fewer than 50
            by default, as many as there are elements.
        batch_size: inputs that `fn` is given at once, at most.

    Returns:
        Array of shape `(batch, steps + 1)`.

    Raises:
        ValueError: on an unknown `order`, shapes that do not fit, attributions that are not finite, `steps` below 1, or
            outputs of `fn` that are not finite.
    """
    one_of("order", order, ("most_relevant", "least_relevant"))
    integer("batch_size", batch_size, 1)
    x, attributions, baseline = _checked(x, attributions, baseline)
    scores = attributions.reshape(len(x), -1)
    n = scores.shape[1]
    steps = min(50, n) if steps is None else integer("steps", steps, 1)
    if steps > n:
        raise ValueError(f"`steps` must be at most {n}, the number of elements. Received: steps={steps}")
    # stable, so that ties are the same everywhere
    ranked = np.argsort(-scores if order == "most_relevant" else scores, axis=1, kind="stable")
    place = np.argsort(ranked, axis=1).reshape(attributions.shape)
    place = place.reshape(*place.shape, *(1,) * (x.ndim - place.ndim))
    bounds = _bounds(n, steps)
    fn = _function(fn)
    target = targets(target, _outputs(fn, x, batch_size))
    curves = []
    for image, where, k in zip(x, place, target):
        chosen = where < bounds.reshape(-1, *(1,) * where.ndim)
        inputs = np.where(chosen == insert, image, baseline).astype(x.dtype)
        curves.append(_outputs(fn, inputs, batch_size)[:, k])
    return np.stack(curves)


def _bounds(n, steps):
    """How many of n elements have come after each of the steps, from 0 to n."""
    return np.round(np.linspace(0, n, steps + 1))


def deletion(fn, x, attributions, target=None, **options):
    """Area under the output while the most relevant elements are taken away first; the lower the better.

    Petsiuk et al. (2018). Arguments as in `perturbation_curve`; the area is over the part of the elements, 0 to 1.
    """
    return _area(perturbation_curve(fn, x, attributions, target, **options), attributions)


def insertion(fn, x, attributions, target=None, **options):
    """Area under the output while the most relevant elements are put in first; the higher the better.

    Petsiuk et al. (2018). Arguments as in `perturbation_curve`.
    """
    return _area(perturbation_curve(fn, x, attributions, target, insert=True, **options), attributions)


def pixel_flipping(fn, x, attributions, target=None, *, first=None, **options):
    """Mean drop of the output over the first steps of taking the most relevant elements away; the higher the better.

    The area over the perturbation curve of Samek et al. (2017), eq. (12).

    Args:
        first: number of steps, all by default; the others are as in `perturbation_curve`.
    """
    curve = perturbation_curve(fn, x, attributions, target, **options)
    first = curve.shape[1] - 1 if first is None else integer("first", first, 1)
    if first >= curve.shape[1]:
        raise ValueError(f"`first` must be at most {curve.shape[1] - 1}, the number of steps. Received: first={first}")
    return (curve[:, :1] - curve[:, : first + 1]).mean(axis=1)


def infidelity(fn, x, attributions, target=None, *, baseline=0.0, n=256, seed=0, batch_size=256):
    """Mean squared error of what attributions say of random coalitions taken away; the lower the better.

    Yeh et al. (2019), eq. (1), with the change `I` made of the elements that are set to the baseline: each with
    probability t, t uniform in [0, 1]. What attributions say of it is their sum over these elements.

    Args:
        fn, x, attributions, target, baseline, batch_size: as in `perturbation_curve`.
        n: number of coalitions, the same for all images.
        seed: of the coalitions.
    """
    integer("n", n, 1), integer("seed", seed, 0), integer("batch_size", batch_size, 1)
    x, attributions, baseline = _checked(x, attributions, baseline)
    # a stream of its own: attributions may come from coalitions of the same seed
    rng = np.random.default_rng([seed, 1])
    shape = attributions.shape[1:]
    gone = rng.uniform(size=(n, *shape)) < rng.uniform(size=n).reshape(-1, *(1,) * len(shape))
    wide = gone.reshape(*gone.shape, *(1,) * (x.ndim - attributions.ndim))
    fn = _function(fn)
    outputs = _outputs(fn, x, batch_size)
    target, found = targets(target, outputs), []
    for image, attribution, before, k in zip(x, attributions, outputs, target):
        after = _outputs(fn, np.where(wide, baseline, image).astype(x.dtype), batch_size)[:, k]
        said = np.sum(gone * attribution, axis=tuple(range(1, gone.ndim)))
        found.append(np.mean(np.square(said - (before[k] - after))))
    return np.array(found)


def sensitivity_max(explain, x, *, radius=0.02, n=10, seed=0):
    """The largest relative change of attributions under small changes of the input; the lower the better.

    Yeh et al. (2019), eq. (2), by `n` draws from the cube of side `2 radius` about `x`; relative to the norm of the
    attributions of `x`.

    Args:
        explain: function of a batch that gives its attributions.
        x: batch of inputs.
        radius: largest change of an element, in units of the input.
        n: number of draws.
        seed: of the draws.
    """
    integer("n", n, 1), integer("seed", seed, 0)
    if not isinstance(radius, numbers.Real) or not radius > 0:
        raise ValueError(f"`radius` must be a positive number. Received: radius={radius!r}")
    x, rng = _array(x), np.random.default_rng(seed)
    if not np.issubdtype(x.dtype, np.inexact):
        raise ValueError(f"`x` must be floats, to be changed a little. Received: {x.dtype}")
    first = _flat(explain(x))
    if len(first) != len(x):
        raise ValueError(f"`explain` must give attributions of each of the {len(x)} inputs. Received: {len(first)}")
    largest = np.zeros(len(x))
    for _ in range(n):
        change = _flat(explain((x + rng.uniform(-radius, radius, size=x.shape)).astype(x.dtype))) - first
        largest = np.maximum(largest, np.linalg.norm(change, axis=1))
    return _ratio(largest, np.linalg.norm(first, axis=1))


def randomization(model, explain, x, *, seed=0):
    """Rank correlation of attributions with those after the weights of more and more layers are shuffled.

    The cascading model randomisation test of Adebayo et al. (2018), from the output down. Attributions that depend on
    what the model learned fall towards 0. Shuffled are the values within each weight, so that their distribution
    stays. The model has its weights back at the end, also after an error.

    Args:
        model: a Keras model.
        explain: function of a batch that gives its attributions by the model's present weights.
        x: batch of inputs.
        seed: of the shuffling.

    Returns:
        Dict by the path of a layer, `path:1` for the next one of that path, of `rank_correlation`: with its weights,
        and those of all behind it, shuffled.
    """
    integer("seed", seed, 0)
    rng, found, first = np.random.default_rng(seed), {}, np.asarray(ops.convert_to_numpy(explain(x)))
    by_layer = _by_layer(model.weights)
    before = model.get_weights()
    try:
        for path, variables in reversed(by_layer.items()):
            for variable in variables:
                values = ops.convert_to_numpy(variable)
                variable.assign(rng.permutation(values.ravel()).reshape(values.shape))
            found[path] = rank_correlation(explain(x), first)
    finally:
        model.set_weights(before)
    return found


def _by_layer(weights):
    """Lists of the weights of a layer, by its path; one of the same path in another model is another layer."""
    found, last, numbers_of = {}, {}, {}
    for variable in weights:
        path, _, name = variable.path.rpartition("/")
        if name in last.setdefault(path, []):
            numbers_of[path] = numbers_of.get(path, 0) + 1
            last[path] = []
        last[path].append(name)
        key = f"{path}:{numbers_of[path]}" if path in numbers_of else path
        found.setdefault(key, []).append(variable)
    return found


def conservation(attributions, total):
    """The part of `total` that attributions leave out, `(total - sum) / |total|`; 0 where nothing is lost or made.

    Args:
        attributions: shape `(batch, ...)`.
        total: what they should sum to, shape `(batch,)`: the output, or what it has more than the baseline's.
    """
    sums, total = _flat(attributions).sum(axis=1), np.asarray(ops.convert_to_numpy(total), "float64")
    if total.shape != sums.shape:
        raise ValueError(f"`total` must be of shape {sums.shape}. Received: {total.shape}")
    return _ratio(total - sums, np.abs(total))


def correlation(attributions, truth):
    """Linear correlation of attributions with others, as Shapley values, over the elements; NaN where one is constant.

    Args:
        attributions, truth: shape `(batch, ...)`.
    """
    both = _both(attributions, truth)
    # of a constant the rounding of its mean is not taken for something that varies
    a, b = (np.where(np.ptp(x, axis=1, keepdims=True) > 0, x - x.mean(axis=1, keepdims=True), 0) for x in both)
    return _ratio(np.sum(a * b, axis=1), np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))


def rank_correlation(attributions, truth):
    """As `correlation`, of the ranks: Spearman's."""
    return correlation(*(np.stack([_ranks(row) for row in part]) for part in _both(attributions, truth)))


def _ranks(values):
    """From 1; equal values share the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]


def relative_rmse(attributions, truth):
    """Root mean squared error over the root mean square of the truth.

    Args:
        attributions, truth: shape `(batch, ...)`.
    """
    a, b = _both(attributions, truth)
    return _ratio(np.linalg.norm(a - b, axis=1), np.linalg.norm(b, axis=1))


def _area(curves, attributions):
    """By the trapezoidal rule."""
    n = math.prod(np.shape(attributions)[1:])
    parts = np.diff(_bounds(n, curves.shape[1] - 1)) / n
    return (curves[:, 1:] + curves[:, :-1]) @ parts / 2


def _ratio(numerator, denominator):
    """NaN where there is nothing to compare with."""
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)


def _function(fn):
    return inference(fn) if isinstance(fn, keras.Model) else fn


def _outputs(fn, inputs, batch_size):
    return np.concatenate([evaluated(fn, inputs[i : i + batch_size]) for i in range(0, len(inputs), batch_size)])


def _array(x):
    x = ops.convert_to_numpy(x)
    if x.ndim < 2 or not x.size:
        raise ValueError(f"`x` must be a batch of inputs, shape (batch, ...). Received: shape {x.shape}")
    return finite("x", x)


def _flat(attributions):
    attributions = np.asarray(ops.convert_to_numpy(attributions), "float64")
    if attributions.ndim < 2 or not np.isfinite(attributions).all():
        raise ValueError(
            f"Attributions must be finite, of shape (batch, ...). Received: shape {attributions.shape}, "
            f"{np.count_nonzero(~np.isfinite(attributions))} not finite"
        )
    return attributions.reshape(len(attributions), -1)


def _both(attributions, truth):
    a, b = (np.asarray(ops.convert_to_numpy(part)) for part in (attributions, truth))
    if a.shape != b.shape:
        raise ValueError(f"`attributions` and `truth` must be of one shape. Received: {a.shape} and {b.shape}")
    return _flat(a), _flat(b)


def _checked(x, attributions, baseline):
    x = _array(x)
    attributions = np.asarray(ops.convert_to_numpy(attributions), "float64")
    allowed = {x.shape, x.shape[:-1]} if x.ndim > 2 else {x.shape}
    if attributions.shape not in allowed:
        raise ValueError(
            f"`attributions` must be of the shape of `x`, {x.shape}, or of it without the channels. Received: "
            f"{attributions.shape}"
        )
    _flat(attributions)
    baseline = np.asarray(ops.convert_to_numpy(baseline))
    if baseline.shape not in ((), x.shape[1:]) or not np.isfinite(baseline).all():
        raise ValueError(
            f"`baseline` must be a finite number or array of shape {x.shape[1:]}. Received: shape {baseline.shape}"
        )
    return x, attributions, of_dtype("baseline", baseline, x.dtype)
