"""What Shapley propagation knows of a value on the way forward, and what it carries back to it."""

import dataclasses
import functools
from collections.abc import Callable

from keras import ops

from keras_shapley.utils.typing import Tensor


@dataclasses.dataclass
class Variation:
    """How a value of the model's graph differs from its value at the baseline.

    A value is either a *player*, one input of the neurons that use it; or it is a sum of contributions of several
    players, as in front of an activation. The sum of the squared contributions is then `q` of eq. (1).

    Attributes:
        value: shape `(batch, ...)`.
        baseline: the same at the baseline, with a batch of one or of the same size.
        sum_of_squares: function that returns the sum of the squared contributions, in the shape of `value`; None for a
            player. It is a function because only an activation asks for it.
    """

    value: Tensor
    baseline: Tensor
    sum_of_squares: Callable[[], Tensor] | None = None

    @functools.cached_property
    def difference(self) -> Tensor:
        """`u`, the value less that at the baseline."""
        return self.value - self.baseline

    @functools.cached_property
    def q(self) -> Tensor:
        """Sum of the squared contributions; for a player the square of the difference."""
        return ops.square(self.difference) if self.sum_of_squares is None else self.sum_of_squares()

    @property
    def is_player(self) -> bool:
        return self.sum_of_squares is None

    def has_shape_of(self, other: "Variation") -> bool:
        """Whether the values are of one shape; a constant may spread an element of one over several of the other."""
        return tuple(self.value.shape) == tuple(other.value.shape)

    def relevance(self, multiplier: "Multiplier") -> Tensor:
        """The relevance of all contributions to the value."""
        relevance = multiplier.u * self.difference
        return relevance if multiplier.q is None else relevance + multiplier.q * self.q


@dataclasses.dataclass
class Multiplier:
    """Relevance per unit: a contribution `a` to a value has the relevance `u a + q a**2`.

    Attributes:
        u: shape of the value.
        q: same shape; None if it is zero.
    """

    u: Tensor
    q: Tensor | None = None

    def __add__(self, other: "Multiplier") -> "Multiplier":
        squares = [part for part in (self.q, other.q) if part is not None]
        return Multiplier(self.u + other.u, sum(squares[1:], squares[0]) if squares else None)

    def of_player(self, difference: Tensor) -> Tensor:
        """The multiplier of a player, whose one contribution is its difference."""
        return self.u if self.q is None else self.u + difference * self.q


def per_unit(relevance: Tensor, difference: Tensor) -> Tensor:
    """Relevance over the difference of a player, 0 where there is none."""
    differs = difference != 0
    return ops.where(differs, relevance / ops.where(differs, difference, 1), 0)
