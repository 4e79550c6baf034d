"""`lab/statistics.py`: intervals that cover what they say, over seeds, over images and over rounds."""

import numpy as np
import pytest

from lab import statistics, tables
from lab.faithfulness import NEARNESS

RECORD = {"data": "none", "backend": "torch"}


def test_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(2000):
        mean, half, n = statistics.interval(rng.normal(3.0, 2.0, 4))
        covered += abs(mean - 3.0) <= half
    assert n == 4
    assert covered / 2000 == pytest.approx(0.95, abs=0.015)


def gains(table):
    """Rows in which SA is better than ReLU by `table[setting][seed]`, where that is not None."""
    found = []
    for rate, seeds in enumerate(table, 1):
        for seed, gain in enumerate(seeds):
            for activation, accuracy in (("relu", 0.5), ("sa", 0.5 + (gain or 0))):
                run = {"activation": activation, "optimizer": "SGD", "learning_rate": rate, "seed": seed}
                if gain is not None:
                    found.append({"run": run, "result": accuracy, **RECORD})
    return found


def over_relu(found):
    return statistics.paired(found, "sa", "relu", lambda row: row["result"])


def test_settings_that_share_their_seeds_are_not_counted_as_repetitions():
    """Fifty settings with the same gain for a seed say no more of other seeds than one of them."""
    one, many = over_relu(gains([[0.01, 0.03]])), over_relu(gains([[0.01, 0.03]] * 50))
    assert one == pytest.approx((0.02, 12.7062 * 0.01, 2), rel=1e-4) and many == pytest.approx(one)
    assert tables.comparison(many) == "no difference shown"
    # what differs between settings, and not between seeds, is no doubt about the mean over these settings
    mean, half, n = over_relu(gains([[0.01] * 3, [0.03] * 3]))
    assert (mean, n) == (pytest.approx(0.02), 3) and half == pytest.approx(0, abs=1e-12)


def test_a_seed_that_a_setting_lacks_does_not_count():
    assert over_relu(gains([[0.01, 0.09], [0.03, None]])) == pytest.approx((0.02, np.nan, 1), nan_ok=True)
    assert over_relu(gains([[0.01, None], [None, 0.03]])) is None
    assert statistics.paired(gains([[0.01]]), "sa", "gelu", lambda row: row["result"]) is None


def test_the_interval_over_seeds_covers_the_mean_where_settings_share_luck(rng):
    covered = 0
    for _ in range(300):
        luck, noise = rng.normal(size=4), rng.normal(size=(12, 4))
        mean, half, _ = over_relu(gains((0.7 + luck + noise).tolist()))
        covered += abs(mean - 0.7) <= half
    assert covered / 300 == pytest.approx(0.95, abs=0.03)


def test_one_value_has_no_interval():
    mean, half, n = statistics.interval([2.0])
    assert (mean, n) == (2.0, 1) and np.isnan(half)


@pytest.mark.parametrize("statistic", [np.mean, np.median])
@pytest.mark.parametrize("between_seeds", [0.0, 0.3, 1.0])
def test_the_interval_covers_where_all_seeds_share_their_images(between_seeds, statistic, rng, monkeypatch):
    """Three seeds and 50 images, each with an effect of its own: from images of variance 49 a mean has variance 1."""
    monkeypatch.setattr(statistics, "DRAWS", 200)
    inside = 0
    for _ in range(300):
        values = between_seeds * rng.normal(size=(3, 1)) + 7 * rng.normal(size=50) + rng.normal(size=(3, 50))
        mean, half, _ = statistics.over_seeds_and_images(values, rng, statistic)
        inside += abs(mean) < half
    np.testing.assert_allclose(mean, statistic(values, axis=1).mean())
    assert 0.91 < inside / 300 < 0.99


def test_the_interval_of_a_single_seed_is_over_images(rng):
    values = rng.normal(size=(1, 50))
    assert statistics.over_seeds_and_images(values, rng).half == pytest.approx(1.96 * values.std() / 50**0.5, rel=0.1)


def test_the_interval_of_an_error_is_of_its_logarithm(rng):
    """A factor of two either way; seeds of 1 and 4 have the mean 2."""
    assert tables.with_interval(statistics.Interval(np.log(2), np.log(2), 2), scale=np.exp) == "2.000 (1.000 to 4.000)"
    values = np.array([[1.0, 1.0, 9.0], [4.0, 3.0, 4.0]])
    measure = NEARNESS["error"]
    assert measure.scale(statistics.over_seeds_and_images(values, rng, measure.statistic).mean) == pytest.approx(2)


def test_a_smaller_deviation_is_one_beyond_chance(rng):
    a, b = rng.normal(size=(2, 40))
    assert statistics.smaller_deviation(a, 1 - a) is None
    assert statistics.smaller_deviation(a / 3, b) == True and statistics.smaller_deviation(a * 3, b) == False  # noqa: E712
    # as often as it says, where there is none
    found = [statistics.smaller_deviation(*rng.normal(size=(2, 4))) is None for _ in range(500)]
    assert np.mean(found) == pytest.approx(0.95, abs=0.03)


def test_alike_and_better_by_the_whole_interval():
    assert [statistics.alike(pair) for pair in ((0.0, 0.009, 3), (0.0, 0.02, 3), (-0.05, 0.03, 3))] == [
        True,
        None,
        False,
    ]
    assert [statistics.better(pair) for pair in ((0.1, 0.05, 3), (0.1, 0.2, 3), (-0.1, 0.05, 3))] == [True, None, False]
    assert statistics.alike((0.0, np.nan, 1)) is statistics.better((0.1, np.nan, 1)) is None


def test_a_ratio_and_its_interval(rng):
    """Rounds that a busy machine slows leave the interval where both have the same share of it."""
    base = 1 + rng.random(50)
    found = statistics.ratio_of_medians(3 * base, base, rng)
    assert found["ratio"] == pytest.approx(3) and found["interval"] == pytest.approx([3, 3])
    low, high = statistics.ratio_of_medians(3 * rng.permutation(base), base, rng)["interval"]
    assert low < 3 < high
