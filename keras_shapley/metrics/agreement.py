"""Agreement of attributions with reference values, such as Shapley values, and with the total they should sum to."""

import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from keras_shapley.metrics.checks import Attributions, flat_attributions, flat_pair, ratio

__all__ = ["conservation", "correlation", "rank_correlation", "relative_rmse"]


def correlation(attributions: Attributions, truth: Attributions) -> np.ndarray:
    """Pearson's correlation of attributions with others, such as Shapley values, over the elements.

    Args:
        attributions: an array, `(batch, ...)`, or an explanation object.
        truth: the same, of one shape with them.

    Returns:
        Shape `(batch,)`; NaN where either is constant.

    Raises:
        ValueError: if the shapes differ, or values are not finite.

    Examples:
        >>> truth = np.array([[1.0, 2.0, 3.0]])
        >>> ks.metrics.correlation(np.array([[10.0, 20.0, 40.0]]), truth).round(3).tolist()
        [0.982]
    """
    a, b = (_centred(values) for values in flat_pair(attributions, truth))
    return ratio(np.sum(a * b, axis=1), np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))


def rank_correlation(attributions: Attributions, truth: Attributions) -> np.ndarray:
    """Spearman's correlation: `correlation` of the ranks of the elements. Equal values share their mean rank.

    Args:
        attributions: an array, `(batch, ...)`, or an explanation object.
        truth: the same, of one shape with them.

    Returns:
        Shape `(batch,)`; NaN where either is constant.

    Raises:
        ValueError: if the shapes differ, or values are not finite.

    Examples:
        >>> truth = np.array([[1.0, 2.0, 3.0]])
        >>> ks.metrics.rank_correlation(np.array([[10.0, 20.0, 40.0]]), truth).round(3).tolist()
        [1.0]
    """
    a, b = (np.stack([_ranks(row) for row in values]) for values in flat_pair(attributions, truth))
    return correlation(a, b)


def relative_rmse(attributions: Attributions, truth: Attributions) -> np.ndarray:
    """Root mean squared error of attributions over the root mean square of the truth; the lower the better.

    Args:
        attributions: an array, `(batch, ...)`, or an explanation object.
        truth: the same, of one shape with them.

    Returns:
        Shape `(batch,)`; NaN where the truth is zero.

    Raises:
        ValueError: if the shapes differ, or values are not finite.

    Examples:
        >>> truth = np.array([[1.0, 2.0, 2.0]])
        >>> ks.metrics.relative_rmse(1.1 * truth, truth).round(3).tolist()
        [0.1]
    """
    a, b = flat_pair(attributions, truth)
    return ratio(np.linalg.norm(a - b, axis=1), np.linalg.norm(b, axis=1))


def conservation(attributions: Attributions, total: ArrayLike) -> np.ndarray:
    """The part of `total` that attributions leave out, `(total - sum) / |total|`; 0 if nothing is lost or added.

    Args:
        attributions: an array, `(batch, ...)`, or an explanation object.
        total: what they should sum to, shape `(batch,)`: the output, or its difference from that of the baseline.

    Returns:
        Shape `(batch,)`; NaN where the total is 0.

    Raises:
        ValueError: on a total of another shape, or attributions that are not finite.

    Examples:
        >>> ks.metrics.conservation(np.array([[1.0, 2.0], [1.0, 2.0]]), np.array([3.0, 6.0])).tolist()
        [0.0, 0.5]
    """
    sums = flat_attributions(attributions).sum(axis=1)
    totals = np.asarray(ops.convert_to_numpy(total), "float64")
    if totals.shape != sums.shape:
        raise ValueError(f"`total` must be of shape {sums.shape}. Received: {totals.shape}")
    return ratio(totals - sums, np.abs(totals))


def _centred(values: np.ndarray) -> np.ndarray:
    """Rows less their means. Constant rows become 0: the rounding of their mean is no variation."""
    varies = np.ptp(values, axis=1, keepdims=True) > 0
    return np.where(varies, values - values.mean(axis=1, keepdims=True), 0)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1; equal values share the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]
