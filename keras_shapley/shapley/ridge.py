"""Ridge regressions at many places, whose coefficients have other variances at each, and the evidence for a noise."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

# an eigenvalue below this, in units of the largest, is zero
_UNSEEN = 1e-12


@dataclasses.dataclass(frozen=True)
class Design:
    """What the observations are a linear function of, up to noise.

    Attributes:
        rows: features of each observation, `(rows, n)`.
        variances: of the coefficients at each place, `(places, n)`.
        known_kernel: function of the number of a place that returns `rows @ diag(variances[place]) @ rows.T` in a
            cheaper way; None if there is none.
    """

    rows: np.ndarray
    variances: np.ndarray
    known_kernel: Callable[[int], np.ndarray] | None = None

    @property
    def is_tall(self) -> bool:
        """Whether there are as many observations as features, or more."""
        return len(self.rows) >= self.rows.shape[1]

    def kernel(self, place: int) -> np.ndarray:
        """Covariance of the observations of a place, without noise, `(rows, rows)`."""
        if self.known_kernel is not None:
            return self.known_kernel(place)
        return (self.rows * self.variances[place]) @ self.rows.T


def coefficients(design: Design, y: np.ndarray, noise: float) -> np.ndarray:
    """Posterior means of the coefficients for observations `(places, rows, sums)`, summed over the places, `(n, sums)`.

    The smaller of two systems is solved, place by place, so that it stays in a processor's cache.
    """
    rows = design.rows
    gram = rows.T @ rows if design.is_tall else None
    total = np.zeros((rows.shape[1], y.shape[2]))
    for place, (variance, observed) in enumerate(zip(design.variances, y, strict=True)):
        if gram is not None:
            root = np.sqrt(variance)[:, None]
            of_place = np.linalg.solve(root * gram * root.T + noise * np.eye(len(gram)), root * (rows.T @ observed))
            total += root * of_place
        else:
            dual = np.linalg.solve(design.kernel(place) + noise * np.eye(len(rows)), observed)
            total += variance[:, None] * (rows.T @ dual)
    return total


class Spectrum(NamedTuple):
    """Observations by the eigenvectors of their covariance.

    Attributes:
        n_rows: number of observations of a sum.
        values: the eigenvalues, `(places, r, 1)`; the `n_rows - r` others are zero.
        squares: of the observations along each eigenvector, `(places, r, sums)`.
        rest: of the observations along all others, added, `(places, sums)`.
    """

    n_rows: int
    values: np.ndarray
    squares: np.ndarray
    rest: np.ndarray


def spectrum(design: Design, y: np.ndarray) -> Spectrum:
    """The spectrum of observations `(places, rows, sums)`, from the smaller of two matrices."""
    n_places, n_rows, _ = y.shape
    y = y.astype("float64", copy=False)
    if not design.is_tall:
        values, vectors = np.linalg.eigh(np.stack([design.kernel(place) for place in range(n_places)]))
        squares = np.square(np.swapaxes(vectors, 1, 2) @ y)
        return Spectrum(n_rows, np.maximum(values, 0)[:, :, None], squares, np.zeros_like(y[:, 0]))
    roots = np.sqrt(design.variances)[:, :, None]
    values, vectors = np.linalg.eigh(roots * (design.rows.T @ design.rows) * np.swapaxes(roots, 1, 2))
    values = np.maximum(values, 0)[:, :, None]
    along = np.swapaxes(vectors, 1, 2) @ (roots * (design.rows.T @ y))
    is_seen = values > _UNSEEN * values.max(axis=1, keepdims=True)
    squares = np.divide(np.square(along), values, out=np.zeros_like(along), where=is_seen)
    return Spectrum(n_rows, values, squares, np.maximum(np.square(y).sum(axis=1) - squares.sum(axis=1), 0))


def best_noise(found: Spectrum, noises: np.ndarray) -> tuple[float, float]:
    """The largest log evidence of sums that have a variance each, and the noise that has it, in units of these."""
    n_rows, values, squares, rest = found
    # a sum that never changes tells nothing
    varies = squares.sum(axis=1) + rest > 0
    n_unseen = n_rows - values.shape[1]
    tried = []
    for noise in noises:
        variance = ((squares / (values + noise)).sum(axis=1) + rest / noise)[varies] / n_rows
        occam = (np.log(values + noise).sum(axis=1) + n_unseen * np.log(noise)) * varies
        tried.append((-0.5 * (n_rows * np.log(variance).sum() + occam.sum()), noise))
    return max(tried)
