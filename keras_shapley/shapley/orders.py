"""Random orders in which players enter a game."""

import itertools

import numpy as np

# Orders that depend on each other come in groups; standard errors are over groups, of which there are so many at least.
_GROUPS = 16
_QUARTERS = 4


def random(rng, n, size):
    """Independent orders of n players, shape `(size, n)`."""
    return np.stack([rng.permutation(n) for _ in range(size)])


def stratified(rng, n, size):
    """A random order turned by equal parts: of four orders, each player comes once in each quarter."""
    order = rng.permutation(n)
    return np.stack([np.roll(order, round(n * i / size)) for i in range(size)])


def orthogonal(rng, n, size):
    """Orders read off random orthogonal directions: as unlike each other as they can be (Mitchell et al. 2022).

    A direction in the hyperplane in which coordinates sum to zero gives the order that sorts them, its opposite the
    reverse.
    """
    normal = rng.standard_normal((n, size))
    directions, triangle = np.linalg.qr(normal - normal.mean(axis=0))
    # a factorization has signs of its own, which are not random
    return np.argsort((directions * np.sign(np.diag(triangle))).T, axis=1)


KINDS = {"random": random, "stratified": stratified, "orthogonal": orthogonal}


def groups(kind, n, size, seed):
    """Yields orders of n players, `(orders, n)`, in groups that are independent and differ in length by one at most.

    Args:
        kind: one of `KINDS`.
        n: number of players.
        size: number of orders in all.
        seed: of the orders.
    """
    kind = "random" if n < 3 else kind
    # more directions than dimensions cannot be orthogonal
    largest = {"random": 1, "stratified": _QUARTERS, "orthogonal": max(1, min(n - 1, size // _GROUPS))}[kind]
    number = -(-size // largest)
    rng = np.random.default_rng(seed)
    for ends in itertools.pairwise(np.arange(number + 1) * size // number):
        yield KINDS[kind](rng, n, ends[1] - ends[0])
