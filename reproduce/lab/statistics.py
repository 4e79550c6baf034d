"""Statistics of the experiments: means, differences between paired runs, and their 95 % intervals."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from lab.rows import Row, key, pairs

CONFIDENCE = 0.95
QUANTILES = (0.025, 0.975)
# draws for intervals by resampling: of images or neurons, and of rounds of a measurement
DRAWS, ROUND_DRAWS = 1000, 2000
# accuracies that differ by less are alike
ALIKE = 0.01


class Interval(NamedTuple):
    """A mean with its 95 % interval, `mean - half` to `mean + half`, and the number of values."""

    mean: float
    half: float
    n: int


def interval(values: Sequence[float] | np.ndarray) -> Interval:
    """Mean and interval of independent values (Student's t); a single value has none, and `half` is NaN."""
    values = np.asarray(values, "float64")
    n = len(values)
    if n < 2:
        return Interval(float(values.mean()), float("nan"), n)
    half = stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * values.std(ddof=1) / np.sqrt(n)
    return Interval(float(values.mean()), float(half), n)


def paired(rows: list[Row], a: str, b: str, value: Callable[[Row], float]) -> Interval | None:
    """Mean difference between activations `a` and `b` over the runs that share all other settings.

    Args:
        rows: at most one of each run.
        a: activation whose value counts positive.
        b: activation whose value is subtracted.
        value: function of a row.

    Returns:
        See `over_seeds`.
    """
    return mean_difference(pairs(rows, a, b), value)


def mean_difference(couples: Iterable[tuple[Row, Row]], value: Callable[[Row], float]) -> Interval | None:
    """Mean difference of a function of two rows; see `over_seeds`."""
    return over_seeds(couples, lambda row, other: value(row) - value(other))


def over_seeds(couples: Iterable[tuple[Row, Row]], compare: Callable[[Row, Row], float]) -> Interval | None:
    """Mean of a comparison of two runs, and its interval over seeds.

    A seed gives all settings the same first weights, the same order of images and the same dropout. Seeds are therefore
    the repetitions, and settings are not: each value of the interval is the mean over the settings of one seed. A seed
    that some setting lacks does not count.

    Args:
        couples: pairs of rows that share a seed.
        compare: function of the two rows.

    Returns:
        The interval, or None if no seed has all settings.
    """
    by_seed: dict[int, dict[str, float]] = {}
    settings = set()
    for row, other in couples:
        setting = key({**row["run"], "seed": None}, row)
        settings.add(setting)
        by_seed.setdefault(row["run"]["seed"], {})[setting] = compare(row, other)
    means = [float(np.mean(list(values.values()))) for values in by_seed.values() if len(values) == len(settings)]
    return interval(means) if means else None


def better(difference: Interval) -> bool | None:
    """Whether a difference is above zero; None if its interval holds zero."""
    mean, half, n = difference
    return None if n < 2 or not abs(mean) > half else mean > 0


def alike(difference: Interval) -> bool | None:
    """Whether the whole interval of a difference lies within `ALIKE`; None if only a part of it does."""
    mean, half, n = difference
    if n < 2 or abs(mean) - half <= ALIKE < abs(mean) + half:
        return None
    return abs(mean) + half <= ALIKE


def smaller_deviation(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> bool | None:
    """Whether the standard deviation of `a` is below that of `b`; None if the interval of their ratio holds 1."""
    ratio = np.var(a, ddof=1) / np.var(b, ddof=1)
    low, high = ratio / stats.f.ppf(QUANTILES[::-1], len(a) - 1, len(b) - 1)
    return None if low <= 1 <= high else high < 1


def number(value: float, digits: int = 4) -> float | None:
    """A number of a row, to some digits; None if it is not finite, as the correlation with a constant map."""
    return float(f"{value:.{digits}g}") if np.isfinite(value) else None


def relative_noise(stderr: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The part of a relative error that is the truth's own, from values and standard errors `(..., players)`."""
    return np.linalg.norm(stderr, axis=-1) / np.linalg.norm(values, axis=-1)


def log_median(values: np.ndarray, axis: int) -> np.ndarray:
    """Logarithm of the median of positive numbers."""
    return np.log(np.median(values, axis=axis))


def over_seeds_and_images(values: np.ndarray, rng: np.random.Generator, statistic: Callable = np.mean) -> Interval:
    """Mean over seeds of a statistic of the images, with an interval that holds for other seeds and other images.

    All seeds have the same images, which are resampled for all seeds at once. There are too few seeds for that: their
    part of the interval takes Student's t. The two parts add up as variances do. The interval of a single seed is over
    images alone.

    Args:
        values: shape `(seeds, images)`.
        rng: of the draws.
        statistic: function of `(values, axis)`.
    """
    seeds, images = values.shape
    by_seed = statistic(values, axis=1)
    draws = values[:, rng.integers(images, size=(DRAWS, images))]
    images_half = stats.norm.ppf((1 + CONFIDENCE) / 2) * statistic(draws, axis=-1).mean(axis=0).std()
    seeds_half = interval(by_seed).half if seeds > 1 else 0.0
    return Interval(float(by_seed.mean()), float(np.hypot(images_half, seeds_half)), seeds)


def relative_error(errors: np.ndarray, sizes: np.ndarray, draws: np.ndarray) -> list[float]:
    """Root of the sum of squared errors over that of squared values, and the ends of its interval.

    Args:
        errors: sum of the squared errors of each neuron, shape `(neurons,)`.
        sizes: sum of the squared values of each neuron, same shape.
        draws: neurons drawn with replacement, indices of shape `(DRAWS, neurons)`.
    """
    resampled = np.sqrt(errors[draws].sum(axis=1) / sizes[draws].sum(axis=1))
    return [float(np.sqrt(errors.sum() / sizes.sum())), *map(float, np.quantile(resampled, QUANTILES))]


def ratio_of_medians(seconds: np.ndarray, base: np.ndarray, rng: np.random.Generator) -> dict[str, Any]:
    """Ratio of the medians over rounds, and the ends of its interval from rounds drawn with replacement."""
    drawn = rng.integers(len(seconds), size=(ROUND_DRAWS, len(seconds)))
    ratios = np.median(seconds[drawn], axis=1) / np.median(base[drawn], axis=1)
    return {
        "ratio": float(np.median(seconds) / np.median(base)),
        "interval": np.quantile(ratios, QUANTILES).tolist(),
    }
