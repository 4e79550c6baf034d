"""How the output changes when elements are removed or inserted, compared with what attributions predict."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from keras_shapley.metrics.checks import Attributions, checked_samples, n_elements
from keras_shapley.metrics.target_function import TargetFunction
from keras_shapley.models.given_inputs import inputs_of
from keras_shapley.utils.attributions import own_target
from keras_shapley.utils.channels import channel_axis
from keras_shapley.utils.progress import Progress
from keras_shapley.utils.typing import Function, Structure
from keras_shapley.utils.validation import integer, one_of

__all__ = ["deletion", "infidelity", "insertion", "perturbation_curve", "pixel_flipping"]


def perturbation_curve(
    fn: Function,
    x: Structure,
    attributions: Attributions,
    target: ArrayLike | None = None,
    *,
    order: str = "most_relevant",
    insert: bool = False,
    baseline: Structure = 0.0,
    steps: int | None = None,
    output: str | int | None = None,
    batch_size: int = 256,
    progress: bool = True,
) -> np.ndarray:
    """The target's output while elements are removed, or inserted, in the order of their attributions.

    The pixel-flipping curve of Bach et al. (2015) and Samek et al. (2017).

    Args:
        fn: a Keras model, or a function of a NumPy batch, with outputs `(batch, ...)`.
        x: batch of inputs, shape `(batch, ...)`; several as a list or dict, whose elements are all in one order.
        attributions: of `x`, in its structure and shape, or without the channels where the channels of a pixel of a
            single input go together; or an explanation object.
        target: the output to look at, one for each image: None for the largest, an int, ints of shape `(batch,)` or
            `(batch, 1)`; or weights of the outputs, bools or floats of the shape of one output, for a weighted sum. The
            `target` of an explanation object is the output that it explains.
        order: which elements come first, `"most_relevant"` or `"least_relevant"`.
        insert: whether elements are inserted into the baseline, rather than removed from the image.
        baseline: values of absent elements: a number, or an array of the shape of one input, for each input. Give that
            of the explanation, which does not keep it.
        steps: number of parts in which the elements come, as equal as possible; at most the number of elements, and by
            default that number or 50, whichever is smaller.
        output: name or index of the model's output; None for a function, or a model with one output.
        batch_size: largest number of inputs that `fn` is given at once.
        progress: whether to show a progress bar if it takes more than two seconds.

    Returns:
        Shape `(batch, steps + 1)`, float64.

    Raises:
        ValueError: on an unknown `order`, shapes that do not fit, attributions that are not finite, `steps` below 1 or
            above the number of elements, a target out of range, several targets for an image, an `output` that the
            model does not have, or outputs of `fn` that are not finite.

    Examples:
        >>> weights = np.array([[4.0], [3.0], [-2.0], [1.0]])
        >>> x = np.ones((1, 4))
        >>> ks.metrics.perturbation_curve(lambda x: x @ weights, x, x * weights[:, 0]).tolist()
        [[6.0, 2.0, -1.0, -2.0, 0.0]]
    """
    one_of("order", order, ("most_relevant", "least_relevant"))
    fn, output, inputs, values, absent = checked_samples(fn, x, attributions, baseline, output)
    scores = values.reshape(len(values), -1)
    n = scores.shape[1]
    steps = min(50, n) if steps is None else integer("steps", steps, 1)
    if steps > n:
        raise ValueError(f"`steps` must be at most {n}, the number of elements. Received: steps={steps}")
    # a stable sort, so that ties are the same everywhere
    ranked = np.argsort(-scores if order == "most_relevant" else scores, axis=1, kind="stable")
    place = _like_inputs(np.argsort(ranked, axis=1).reshape(values.shape), inputs.ndim)
    counts = _element_counts(n, steps)
    function = TargetFunction(fn, inputs, own_target(attributions, target), output, batch_size)
    bar = Progress(len(inputs), "input", progress)
    curves = []
    for number, (image, image_place) in enumerate(zip(inputs, place)):
        is_perturbed = image_place < counts.reshape(-1, *(1,) * image_place.ndim)
        perturbed = np.where(is_perturbed == insert, image, absent).astype(inputs.dtype)
        curves.append(function(number, perturbed))
        bar.add()
    return np.stack(curves)


def deletion(
    fn: Function, x: Structure, attributions: Attributions, target: ArrayLike | None = None, **options: Any
) -> np.ndarray:
    """Area under the output while the most relevant elements are removed first; the lower the better.

    Petsiuk et al. (2018). The area is over the part of the elements removed, from 0 to 1.

    Args:
        fn: as in `perturbation_curve`.
        x: batch of inputs.
        attributions: of `x`.
        target: the output to look at; by default that of an explanation object, and else the largest.
        **options: other arguments of `perturbation_curve`.

    Returns:
        Shape `(batch,)`.

    Raises:
        ValueError: as in `perturbation_curve`.

    Examples:
        >>> weights = np.array([[4.0], [3.0], [-2.0], [1.0]])
        >>> x = np.ones((1, 4))
        >>> ks.metrics.deletion(lambda x: x @ weights, x, x * weights[:, 0]).tolist()
        [0.5]
    """
    x = inputs_of(fn, x)
    return _area(perturbation_curve(fn, x, attributions, target, **options), n_elements(x, attributions))


def insertion(
    fn: Function, x: Structure, attributions: Attributions, target: ArrayLike | None = None, **options: Any
) -> np.ndarray:
    """Area under the output while the most relevant elements are inserted first; the higher the better.

    Petsiuk et al. (2018). The area is over the part of the elements inserted, from 0 to 1.

    Args:
        fn: as in `perturbation_curve`.
        x: batch of inputs.
        attributions: of `x`.
        target: the output to look at; by default that of an explanation object, and else the largest.
        **options: other arguments of `perturbation_curve`.

    Returns:
        Shape `(batch,)`.

    Raises:
        ValueError: as in `perturbation_curve`.

    Examples:
        >>> weights = np.array([[4.0], [3.0], [-2.0], [1.0]])
        >>> x = np.ones((1, 4))
        >>> ks.metrics.insertion(lambda x: x @ weights, x, x * weights[:, 0]).tolist()
        [5.5]
    """
    x = inputs_of(fn, x)
    curves = perturbation_curve(fn, x, attributions, target, insert=True, **options)
    return _area(curves, n_elements(x, attributions))


def pixel_flipping(
    fn: Function,
    x: Structure,
    attributions: Attributions,
    target: ArrayLike | None = None,
    *,
    first: int | None = None,
    **options: Any,
) -> np.ndarray:
    """Mean drop of the output over the first steps of removing the most relevant elements; the higher the better.

    The area over the perturbation curve of Samek et al. (2017), eq. (12).

    Args:
        fn: as in `perturbation_curve`.
        x: batch of inputs.
        attributions: of `x`.
        target: the output to look at; by default that of an explanation object, and else the largest.
        first: number of steps, all by default.
        **options: other arguments of `perturbation_curve`.

    Returns:
        Shape `(batch,)`.

    Raises:
        ValueError: as in `perturbation_curve`, and on a `first` below 1 or above the number of steps.

    Examples:
        >>> weights = np.array([[4.0], [3.0], [-2.0], [1.0]])
        >>> x = np.ones((1, 4))
        >>> ks.metrics.pixel_flipping(lambda x: x @ weights, x, x * weights[:, 0], first=1).tolist()
        [2.0]
    """
    curve = perturbation_curve(fn, x, attributions, target, **options)
    steps = curve.shape[1] - 1
    n = steps if first is None else integer("first", first, 1)
    if n > steps:
        raise ValueError(f"`first` must be at most {steps}, the number of steps. Received: first={n}")
    return (curve[:, :1] - curve[:, : n + 1]).mean(axis=1)


def infidelity(
    fn: Function,
    x: Structure,
    attributions: Attributions,
    target: ArrayLike | None = None,
    *,
    baseline: Structure = 0.0,
    n: int = 256,
    seed: int = 0,
    output: str | int | None = None,
    batch_size: int = 256,
    progress: bool = True,
) -> np.ndarray:
    """Mean squared error of the drops that attributions predict for random sets of removed elements.

    Yeh et al. (2019), eq. (1). The change `I` sets elements to the baseline, each with probability t, where t is
    uniform in [0, 1]; the prediction is the sum of their attributions. The lower the better.

    Args:
        fn: as in `perturbation_curve`.
        x: batch of inputs, shape `(batch, ...)`.
        attributions: of `x`, an array in its shape or without the channels, or an explanation object.
        target: the output to look at; by default that of an explanation object, and else the largest.
        baseline: values of absent elements: a number, or an array of the shape of one input, for each input.
        n: number of random sets, the same for all images.
        seed: of the sets.
        output: name or index of the model's output; None for a function, or a model with one output.
        batch_size: largest number of inputs that `fn` is given at once.
        progress: whether to show a progress bar if it takes more than two seconds.

    Returns:
        Shape `(batch,)`.

    Raises:
        ValueError: on shapes that do not fit, attributions or outputs that are not finite, `n` below 1, a target out of
            range, several targets for an image, or an `output` that the model does not have.

    Examples:
        >>> weights = np.array([[4.0], [3.0], [-2.0], [1.0]])
        >>> x = np.ones((1, 4))
        >>> exact = ks.metrics.infidelity(lambda x: x @ weights, x, x * weights[:, 0])
        >>> uniform = ks.metrics.infidelity(lambda x: x @ weights, x, np.full((1, 4), 1.5))
        >>> bool(exact[0] < 1e-12), bool(uniform[0] > 1)
        (True, True)
    """
    integer("n", n, 1)
    integer("seed", seed, 0)
    fn, output, inputs, values, absent = checked_samples(fn, x, attributions, baseline, output)
    # a stream of its own: attributions may come from coalitions of the same seed
    rng = np.random.default_rng([seed, 1])
    shape = values.shape[1:]
    removed = rng.uniform(size=(n, *shape)) < rng.uniform(size=n).reshape(-1, *(1,) * len(shape))
    removed_from_inputs = _like_inputs(removed, inputs.ndim)
    function = TargetFunction(fn, inputs, own_target(attributions, target), output, batch_size)
    bar = Progress(len(inputs), "input", progress)
    errors = []
    for number, (image, attribution) in enumerate(zip(inputs, values)):
        perturbed = np.where(removed_from_inputs, absent, image).astype(inputs.dtype)
        drops = function.values[number] - function(number, perturbed)
        predicted = np.sum(removed * attribution, axis=tuple(range(1, removed.ndim)))
        errors.append(np.mean(np.square(predicted - drops)))
        bar.add()
    return np.array(errors)


def _area(curves: np.ndarray, n: int) -> np.ndarray:
    """Area under each curve over the part of n elements, by the trapezoidal rule."""
    parts = np.diff(_element_counts(n, curves.shape[1] - 1)) / n
    return (curves[:, 1:] + curves[:, :-1]) @ parts / 2


def _element_counts(n: int, steps: int) -> np.ndarray:
    """Numbers of elements that are perturbed after each step, from 0 to n."""
    return np.round(np.linspace(0, n, steps + 1))


def _like_inputs(values: np.ndarray, ndim: int) -> np.ndarray:
    """The values with an axis of size 1 for the channels, if inputs have that axis and attributions do not."""
    return values if values.ndim == ndim else np.expand_dims(values, 1 + channel_axis(ndim - 1))
