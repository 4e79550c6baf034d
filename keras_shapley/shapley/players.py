"""Who plays for an input: each of its elements, or groups of them."""

import math

import numpy as np


class Players:
    """Players of an input, checked.

    Args:
        players: as in `keras_shapley.exact_shapley_values`.
        shape: of one input.

    Attributes:
        numbers: of the player of each element, ints in the shape of an input.
        n: how many there are.
        are_groups: whether they were given, and do not stand for the elements one by one.
        shape: of one value a player: `(n,)` for groups, else that of an input.
    """

    def __init__(self, players, shape):
        self.numbers = _numbers(players, shape)
        self.n = int(self.numbers.max()) + 1
        self.are_groups = players is not None
        self.shape = (self.n,) if self.are_groups else shape

    def spread(self, values):
        """What each element's player has, `(..., *shape of an input)`, of values `(..., *shape)`."""
        return values[..., self.numbers] if self.are_groups else values


def _numbers(players, shape):
    """The number of the player that each element of an input belongs to, in the shape of an input."""
    if players is None:
        return np.arange(math.prod(shape)).reshape(shape)
    players = np.asarray(players)
    if players.dtype == bool and players.ndim > 1:
        counts = players.sum(axis=0)
        if (counts != 1).any() or not players.reshape(len(players), -1).any(axis=1).all():
            raise ValueError(
                "`players` must be masks that partition the input: each element in one mask, no mask empty. Received: "
                f"{(counts == 0).sum()} elements in none, {(counts > 1).sum()} in several"
            )
        players = players.argmax(axis=0)
    if players.shape == shape[:-1] and shape[:-1]:
        players = np.broadcast_to(players[..., None], shape)
    if players.shape != shape or not np.issubdtype(players.dtype, np.integer):
        raise ValueError(
            f"`players` must be integers of shape {shape}, of it without the channels, or a mask of such a shape for "
            f"each player. Received: {players.dtype} of shape {players.shape}"
        )
    if players.min() != 0 or len(np.unique(players)) != players.max() + 1:
        raise ValueError(
            "`players` must be numbered from 0 without a gap. Received: numbers from "
            f"{players.min()} to {players.max()}, {len(np.unique(players))} different ones"
        )
    return players
