"""`benchmarks/shapley_estimators.py`: its games and truths, its peers and how they are counted, table and picture."""

import itertools
import json

import keras
import matplotlib.image
import numpy as np
import pytest
from keras import layers

from benchmarks import shapley_estimators as script
from lab import estimator_games as games
from lab import estimator_peers as peers
from lab.analysis import shapley_estimators as analysis
from lab.statistics import Interval

pytestmark = pytest.mark.once
N = 8


class Counting(layers.Layer):
    """The identity, which counts the inputs that it sees."""

    n = 0

    def call(self, x):
        # not those that are asked for shapes only
        self.n += len(x) * (x.device.type != "meta")
        return x


def tiny_model(rng):
    model = keras.Sequential([keras.Input((N + 1,)), Counting(), layers.Dense(6, "tanh"), layers.Dense(3, "softmax")])
    for variable in model.trainable_variables:
        variable.assign(rng.normal(size=variable.shape))
    return model


def tiny(rng, background_rows=1):
    """A recipe's result: two inputs with 8 players of 9 elements; element 3 equals the background."""
    x = rng.normal(size=(2, N + 1)).astype("float32")
    background = np.zeros((background_rows, N + 1), "float32")
    background[:, 4:] += rng.normal(size=(background_rows, N - 3))
    x[:, 3] = 0
    players = np.array([0, 1, 2, 3, 4, 5, 6, 7, 7])
    return games.Untold(tiny_model(rng), x, np.array([0, 2]), background, players, "drawn")


@pytest.fixture(params=peers.PEERS)
def name(request):
    """A peer that is installed."""
    if reason := peers.missing(request.param):
        pytest.skip(reason)
    return request.param


@pytest.fixture
def game(rng):
    return games._with_truth(tiny(rng), 0)


def test_value_of_a_coalition_is_the_mean_over_the_background(rng):
    """One coalition and one row at a time; a player that equals the background is none."""
    made = tiny(rng, background_rows=3)
    game = games._with_truth(made, 0)
    assert game.active(1).tolist() == [0, 1, 2, 4, 5, 6, 7]
    coalitions = rng.random((5, 7)) < 0.5
    for coalition, value in zip(coalitions, game.value(1)(coalitions)):
        present = set(game.active(1)[coalition])
        rows = [
            [made.x[1, k] if made.players[k] in present else row[k] for k in range(N + 1)] for row in made.background
        ]
        outputs = [made.model.predict_on_batch(np.array([row], "float32"))[0, 2] for row in rows]
        assert value == pytest.approx(np.mean(outputs), abs=1e-6)


def test_enumeration_is_the_mean_over_all_orders(rng):
    n = 5
    table = rng.normal(size=2**n)

    def value(present):
        return table[present @ (1 << np.arange(n))]

    contributions = np.zeros(n)
    orders = list(itertools.permutations(range(n)))
    for order in orders:
        present = np.zeros((1, n), bool)
        for player in order:
            before = value(present)[0]
            present[0, player] = True
            contributions[player] += value(present)[0] - before
    np.testing.assert_allclose(games.enumerated(value, n), contributions / len(orders))


def test_truth_by_regression_is_within_its_standard_errors(game, monkeypatch):
    """In several blocks."""
    monkeypatch.setattr(games, "BLOCK", 400)
    value, active = game.value(0), game.active(0)
    values, stderr = games.regressed(value, len(active), 4000, np.random.default_rng(1))
    scores = (values - game.truth[0, active]) / stderr
    assert np.abs(scores).max() < 4 and np.sqrt(np.mean(scores**2)) > 0.2
    assert np.linalg.norm(stderr) < 0.05 * np.linalg.norm(values)


def test_a_kept_game_is_the_same_and_is_made_again_only_for_more_inputs(rng, tmp_path, monkeypatch):
    n_made = []

    def make(options):
        n_made.append(options.images)
        model = keras.Sequential([keras.Input((N + 1,)), layers.Dense(3, "softmax")])
        made = tiny(np.random.default_rng(0))
        return made._replace(model=model, x=made.x[: options.images], target=made.target[: options.images])

    monkeypatch.setattr(games, "RECIPES", {"tiny": games.Recipe(make, 2, 0)})
    both = games.load("tiny", tmp_path, games.Options())
    first = games.load("tiny", tmp_path, games.Options(images=1))
    assert n_made == [2] and len(first.x) == 1 and first.source == "drawn"
    np.testing.assert_array_equal(first.truth, both.truth[:1])
    coalitions = rng.random((4, 7)) < 0.5
    np.testing.assert_allclose(first.value(0)(coalitions), both.value(0)(coalitions), atol=1e-6)
    games.load("tiny", tmp_path / "other", games.Options(images=1))
    games.load("tiny", tmp_path / "other", games.Options(images=2))
    assert n_made == [2, 1, 2]

    def killed(model, path):
        path.write_bytes(b"half a model")
        raise KeyboardInterrupt

    # arrays never stand beside another model than theirs, or half of it
    games.load("tiny", tmp_path / "killed", games.Options(images=1))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(keras.Model, "save", killed)
        games.load("tiny", tmp_path / "killed", games.Options(images=2))
    assert len(games.load("tiny", tmp_path / "killed", games.Options(images=1)).x) == 1


@pytest.mark.filterwarnings("ignore")
def test_peers_are_counted_by_what_the_network_sees(game, name):
    """They cannot evaluate more than they claim, and stay within the budget: an order and its reverse at least."""
    counter = game.model.layers[0]
    for budget in (20, 40, 90):
        before = counter.n
        estimate = script.estimated(name, game, 0, budget, seed=0)
        assert counter.n - before == estimate.evaluations <= max(budget, 2 * 7 + 1)
        assert estimate.evaluations >= 0.7 * min(budget, 2**7)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", ["auto", "regression", "orders"])
def test_our_evaluations_are_what_the_network_sees(rng, method):
    """Coalitions: of each, the network sees every row of the background."""
    for rows in (1, 3):
        game = games._with_truth(tiny(rng, rows), 0)
        counter = game.model.layers[0]
        before = counter.n
        estimate = script.estimated(method, game, 0, 40, seed=0)
        assert counter.n - before == pytest.approx(estimate.evaluations * rows)
        assert estimate.evaluations <= 40 + 1
        assert estimate.values.shape == (7,)


@pytest.mark.filterwarnings("ignore")
def test_peers_estimate_the_values_of_the_game(game, name):
    """Nearly all coalitions, or very many of a larger number."""
    active = game.active(1)
    truth = game.truth[1, active]
    estimates = [script.estimated(name, game, 1, 1000, seed).values for seed in range(3)]
    assert np.linalg.norm(np.mean(estimates, axis=0) - truth) < 0.1 * np.linalg.norm(truth)


def test_errors_of_an_estimate_by_hand():
    truth, noise = np.array([3.0, 0.0, 4.0]), np.zeros(3)
    of_input = analysis.errors(np.array([3.0, 1.0, 4.0]), np.array([0.0, 0.6, 1.0]), truth, noise)
    assert of_input["error"] == pytest.approx(0.2) and of_input["covered"] == 1
    assert of_input["correlation"] == pytest.approx(np.corrcoef([3, 1, 4], [3, 0, 4])[0, 1])
    # 1.96 standard errors do not reach
    assert analysis.errors(np.array([3.0, 1.0, 4.0]), np.full(3, 0.5), truth, noise)["covered"] == pytest.approx(2 / 3)
    assert analysis.errors(np.array([3.0, 1.0, 4.0]), None, truth, noise)["covered"] is None
    # standard errors that are not known
    unknown = analysis.errors(np.array([3.0, 1.0, 4.0]), np.full(3, np.nan), truth, noise)
    assert unknown["error"] == pytest.approx(0.2) and unknown["covered"] is None


def test_the_error_of_the_truth_is_subtracted(rng):
    """With a truth of its own error, errors are those against the exact values."""
    exact, n = rng.normal(size=50), 2000
    truths = exact + 0.2 * rng.normal(size=(n, 50))
    estimates = exact + 0.3 * rng.normal(size=(n, 50))
    size = np.linalg.norm(truths, axis=1)
    measured = analysis.without_noise(np.linalg.norm(estimates - truths, axis=1) / size, 0.2 * np.sqrt(50) / size)
    against_exact = np.linalg.norm(estimates - exact, axis=1) / np.linalg.norm(exact)
    assert np.mean(measured**2) == pytest.approx(np.mean(against_exact**2), rel=0.02)


def points(errors, budgets=(2, 5, 10, 50)):
    return [
        analysis.Point(budget, float(budget), Interval(error, 0.0, 3), 0.9, None, 1.0, 3)
        for budget, error in zip(budgets, errors)
    ]


def test_what_the_best_peer_needs_is_interpolated():
    ours = points([0.5, 0.2, 0.1, 0.05])
    root = points([2**-0.5, 5**-0.5, 10**-0.5, 50**-0.5])  # .2 at 25 evaluations
    slow = points([0.9, 0.8, 0.7, 0.6])
    need = analysis.needed({"auto": ours, "shapiq.KernelSHAP": root, "shapiq.OddSHAP": slow})
    assert need.peer == "shapiq.KernelSHAP" and need.ratio == pytest.approx(5) and str(need).startswith("5.0 (")
    assert str(analysis.needed({"auto": ours, "shapiq.OddSHAP": slow})) == "> 10.0 (no peer is so near)"
    assert str(analysis.needed({"auto": ours, "shapiq.OddSHAP": points([0.1] * 4)})) == "< 0.4 (shapiq.OddSHAP)"
    assert analysis.needed({"auto": ours, "orders": root}) is None


@pytest.fixture
def tiny_recipe(rng, monkeypatch):
    recipe = games.Recipe(lambda options: tiny(rng), 2, 0)
    monkeypatch.setattr(games, "RECIPES", {"digits_conv": recipe})
    # a layer of this file cannot be loaded again
    game = games._with_truth(tiny(rng), 0)
    monkeypatch.setattr(script, "load", lambda name, directory, options: game.first(options.images))


@pytest.mark.filterwarnings("ignore")
def test_quick_run(tiny_recipe, tmp_path, capsys):
    command = ["--quick", "--out", str(tmp_path), "--methods", "orders", "captum.KernelShap"]
    assert script.main([*command, "--budgets", "2"]) == 0
    assert script.main(command) == 0
    lines = (tmp_path / "shapley_estimators.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    runs = [(row["run"]["method"], row["run"].get("budget")) for row in found]
    peer = [("captum.KernelShap", budget) for budget in (2, 5) if not peers.missing("captum.KernelShap")]
    assert sorted(runs, key=str) == sorted([("truth", None), ("orders", 2), ("orders", 5), *peer], key=str)
    for row in found:
        if row["run"]["method"] != "truth":
            assert len(row["result"]["error"]) == 2 and min(row["result"]["error"]) > 0
            assert ("captum" in row["versions"]) == (row["run"]["method"] == "captum.KernelShap")
    capsys.readouterr()
    text = (tmp_path / "shapley_estimators.md").read_text()
    # one pair of orders has no standard errors
    (line,) = (line for line in text.splitlines() if line.startswith("| orders | "))
    assert "| –, " in line
    assert "2 inputs, 7 players; seeds at each budget: 1, 1. Truth: all coalitions." in text
    assert "not installed or not asked for: shap.KernelExplainer" in text
    picture = matplotlib.image.imread(tmp_path / "shapley_estimators.png")
    assert picture[..., :3].std() > 0.05
    # nothing is left to do, and the table comes from the rows alone
    assert script.main(command) == 0
    assert script.main(["--out", str(tmp_path), "--table"]) == 0
    assert capsys.readouterr().out == 2 * (text + "\n")
    assert (tmp_path / "shapley_estimators.jsonl").read_text().splitlines() == lines


def test_refusals_and_singular_regressions_are_told(tiny_recipe, tmp_path, monkeypatch, capsys):
    def estimated(method, game, index, budget, seed):
        if method == "auto":
            raise ValueError("the budget is too small")
        return script.Estimate(np.full(7, 1e15), None, budget)

    monkeypatch.setattr(script, "estimated", estimated)
    monkeypatch.setattr(peers, "missing", lambda name: None if name == "captum.KernelShap" else "it is not installed")
    command = ["--quick", "--out", str(tmp_path), "--methods", "auto", "captum.KernelShap", "shapiq.KernelSHAP"]
    monkeypatch.setattr(script.importlib.metadata, "version", lambda package: "1")
    assert script.main(command) == 0
    printed = capsys.readouterr()
    assert "shapiq.KernelSHAP is left out: it is not installed" in printed.err
    assert "| auto | refused | refused |" in printed.out and "`auto` refused: the budget is too small" in printed.out
    assert "| captum.KernelShap | above 10 | above 10 |" in printed.out


def test_results_that_are_none_are_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit):
        script.main(["--table", "--out", str(tmp_path)])
    assert "shapley_estimators.jsonl holds no finished row" in capsys.readouterr().err
