"""shapiq's games: its exact values and interactions against ours. Skipped where shapiq is not installed."""

import numpy as np
import pytest

import keras_shapley as ks

shapiq = pytest.importorskip("shapiq")
synthetic = pytest.importorskip("shapiq_games.synthetic")
pytestmark = pytest.mark.filterwarnings("default")


def imputed(fn, n):
    """The game of a function at an input, whose absent features are those of a baseline."""
    rng = np.random.default_rng(n)
    x, baseline = rng.normal(size=(1, n)), rng.normal(size=n)
    return shapiq.BaselineImputer(model=fn, data=baseline, x=x, normalize=False)


def forest():
    """A forest on a data set that scikit-learn ships, for a patient and the mean of all."""
    datasets, ensemble = pytest.importorskip("sklearn.datasets"), pytest.importorskip("sklearn.ensemble")
    x, y = datasets.load_breast_cancer(return_X_y=True)
    model = ensemble.RandomForestClassifier(8, max_depth=4, random_state=0).fit(x[:, :9], y)
    return shapiq.BaselineImputer(
        model=lambda rows: model.predict_proba(rows)[:, 1], data=x[:, :9].mean(axis=0), x=x[:1, :9], normalize=False
    )


def random_table():
    if not hasattr(synthetic, "RandomTableGame"):
        pytest.skip("this version has no game with a table of random values")
    return synthetic.RandomTableGame(7)


GAMES = {
    "dummy": lambda: synthetic.DummyGame(6, interaction=(1, 2)),
    "dummy of three": lambda: synthetic.DummyGame(5, interaction=(0, 2, 4)),
    "unanimity": lambda: synthetic.UnanimityGame(np.array([1, 0, 1, 1, 0, 0])),
    "sum of unanimity games": lambda: synthetic.SOUM(8, n_basis_games=30, random_state=0),
    "sum of many": lambda: synthetic.SOUM(10, n_basis_games=200, random_state=3),
    "random table": random_table,
    "product": lambda: imputed(lambda x: np.prod(np.sin(x), axis=1), 5),
    "tanh": lambda: imputed(lambda x: np.tanh(x @ np.linspace(-1, 1, 8)) * x[:, 0], 8),
    "forest": forest,
}


@pytest.fixture(params=GAMES)
def game(request):
    return GAMES[request.param]()


def function(game):
    """A game as a function of batches of ones and zeros."""
    return lambda x: np.asarray(game(x != 0), "float64")[:, None]


def close(found, expected):
    np.testing.assert_allclose(found, expected, atol=1e-9 * (1 + np.abs(expected).max()))


def test_shapley_values(game):
    n = game.n_players
    expected = shapiq.ExactComputer(game, n_players=n)("SV", 1).get_n_order_values(1)
    for method in ("exact", "auto"):
        found = ks.shapley_values(function(game), np.ones((1, n)), 0, method=method, budget=2**n, progress=False)
        close(found.values[0], expected)
    orders = ks.sampled_shapley_values(function(game), np.ones((1, n)), 0, n_paths=400, progress=False)
    assert (np.abs(orders.values[0] - expected) <= 6 * orders.stderr[0] + 1e-9).all()


@pytest.mark.parametrize("index", ["SII", "k-SII"])
def test_interactions(index, game):
    n = game.n_players
    theirs = shapiq.ExactComputer(game, n_players=n)(index, 2)
    found = ks.shapley_interactions(function(game), np.ones((1, n)), 0, index=index, progress=False).values[0]
    beside = ~np.eye(n, dtype=bool)
    pairs = theirs.get_n_order_values(2)
    close(found[beside] * (2 if index == "k-SII" else 1), pairs[beside])
    close(np.diag(found), theirs.get_n_order_values(1))


@pytest.mark.parametrize("name", ["KernelSHAP", "LeverageSHAP", "OddSHAP"])
def test_estimators_are_near_what_is_exact(name, game):
    """With a budget for all coalitions; by another way than enumeration."""
    if getattr(shapiq, name, None) is None:
        pytest.skip("this version does not have it")
    n = game.n_players
    truth = ks.exact_shapley_values(function(game), np.ones((1, n)), 0, progress=False).values[0]
    found = getattr(shapiq, name)(n=n, random_state=0).approximate(budget=2**n, game=game).get_n_order_values(1)
    np.testing.assert_allclose(found, truth, atol=0.05 * np.abs(truth).max())
