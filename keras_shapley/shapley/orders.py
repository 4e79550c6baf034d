"""Random orders in which players enter a game."""

import itertools
from collections.abc import Callable, Iterator

import numpy as np

# Orders that depend on each other come in groups. Standard errors are over groups, so there are at least so many.
_GROUPS = 16
_QUARTERS = 4


def random(rng: np.random.Generator, n: int, size: int) -> np.ndarray:
    """Independent orders of n players, ints of shape `(size, n)`."""
    return np.stack([rng.permutation(n) for _ in range(size)])


def stratified(rng: np.random.Generator, n: int, size: int) -> np.ndarray:
    """Rotations of one random order, ints of shape `(size, n)`; in four of them each player enters once a quarter."""
    order = rng.permutation(n)
    return np.stack([np.roll(order, round(n * i / size)) for i in range(size)])


def orthogonal(rng: np.random.Generator, n: int, size: int) -> np.ndarray:
    """Orders that are as different as they can be (Mitchell et al. 2022), ints of shape `(size, n)`.

    They are read off random orthogonal directions in the hyperplane where coordinates sum to zero: a direction gives
    the order that sorts its coordinates, and the opposite direction gives the reverse.
    """
    normal = rng.standard_normal((n, size))
    directions, triangle = np.linalg.qr(normal - normal.mean(axis=0))
    # the signs that a factorization chooses are not random
    return np.argsort((directions * np.sign(np.diag(triangle))).T, axis=1)


KINDS: dict[str, Callable[[np.random.Generator, int, int], np.ndarray]] = {
    "random": random,
    "stratified": stratified,
    "orthogonal": orthogonal,
}


def groups(kind: str, n: int, size: int, seed: int) -> Iterator[np.ndarray]:
    """Yields independent groups of orders, ints of shape `(orders, n)`; their lengths differ by one at most.

    Args:
        kind: one of `KINDS`.
        n: number of players.
        size: number of orders in all groups.
        seed: of the orders.
    """
    kind = "random" if n < 3 else kind
    # there are no more orthogonal directions than dimensions
    largest = {"random": 1, "stratified": _QUARTERS, "orthogonal": max(1, min(n - 1, size // _GROUPS))}[kind]
    number = -(-size // largest)
    rng = np.random.default_rng(seed)
    for start, stop in itertools.pairwise(i * size // number for i in range(number + 1)):
        yield KINDS[kind](rng, n, stop - start)
