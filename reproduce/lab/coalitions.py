"""Shapley values by weighted least squares over coalitions, with standard errors."""

from collections.abc import Callable

import numpy as np


def paired(n_players: int, n_pairs: int, rng: np.random.Generator) -> np.ndarray:
    """Random coalitions, each followed by its complement, bools `(2 n_pairs, players)`.

    Their sizes have the weights of the Shapley kernel, so that the regression on them needs none (Covert & Lee 2021).
    """
    sizes = np.arange(1, n_players)
    weights = 1 / (sizes * (n_players - sizes))
    drawn = rng.choice(sizes, size=n_pairs, p=weights / weights.sum())
    places = np.argsort(rng.random((n_pairs, n_players)), axis=1)
    coalitions = places < drawn[:, None]
    return np.stack([coalitions, ~coalitions], axis=1).reshape(-1, n_players)


def regression(
    coalitions: np.ndarray, outputs: np.ndarray, none: np.ndarray, every: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Shapley values and standard errors, `(outputs, players)` each.

    The values sum to `every - none`. The standard errors hold for any spread of the residuals (White 1980), with pairs
    as samples; a pair has one degree of freedom in an estimate of so many players.

    Args:
        coalitions: as `paired` returns them.
        outputs: of the coalitions, `(coalitions, outputs)`.
        none: outputs without any player, `(outputs,)`.
        every: outputs with all of them, `(outputs,)`.
    """
    total, n_players = every - none, coalitions.shape[1]
    z = coalitions.astype("float64")
    # the last player's value is what is left of the total
    design = z[:, :-1] - z[:, -1:]
    y = outputs - none - z[:, -1:] * total
    inverse = np.linalg.inv(design.T @ design)
    values = inverse @ design.T @ y
    residuals = y - design @ values

    n_pairs = len(z) // 2
    restored = np.concatenate([np.eye(n_players - 1), -np.ones((1, n_players - 1))])
    spread = restored @ inverse
    errors = []
    for residual in residuals.T:
        scores = (design * residual[:, None]).reshape(n_pairs, 2, -1).sum(axis=1)
        variance = np.square(spread @ scores.T).sum(axis=1) * n_pairs / (n_pairs - n_players + 1)
        errors.append(np.sqrt(variance))
    values = np.concatenate([values, total[None] - values.sum(axis=0, keepdims=True)])
    return values.T, np.stack(errors)


def shapley_values(
    function: Callable[[np.ndarray], np.ndarray],
    x: np.ndarray,
    baseline: np.ndarray,
    players: np.ndarray,
    coalitions: np.ndarray,
    batch_size: int = 16,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shapley values of an input, their standard errors, and their sum: `(outputs, players)` twice, `(outputs,)`.

    Args:
        function: of a batch, that returns `(batch, outputs)`.
        x: the input.
        baseline: what absent elements are, in the shape of the input.
        players: the player of each element, ints that broadcast against the input.
        coalitions: as `paired` returns them.
        batch_size: number of coalitions at once.
    """
    ends = np.stack([np.zeros_like(coalitions[0]), np.ones_like(coalitions[0])])
    blocks = [coalitions[start : start + batch_size] for start in range(0, len(coalitions), batch_size)]
    ends, *outputs = (
        np.asarray(function(np.where(block[:, players], x, baseline).astype("float32")), "float64")
        for block in (ends, *blocks)
    )
    return *regression(coalitions, np.concatenate(outputs), *ends), ends[1] - ends[0]
