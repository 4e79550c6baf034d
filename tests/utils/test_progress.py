"""The progress bar."""

import inspect
import itertools
import types

import numpy as np
import pytest
from reference.games import network

import keras_shapley as ks
from keras_shapley.utils import progress


def test_quick_work_shows_no_bar(capsys):
    bar = progress.Progress(3, "step", show=True)
    for _ in range(3):
        bar.add()
    assert capsys.readouterr().out == ""


def test_longer_work_shows_a_bar(capsys, monkeypatch):
    clock = iter(range(0, 100, 3))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    bar = progress.Progress(3, "step", show=True)
    bar.add()
    bar.add(2)
    assert "3/3" in capsys.readouterr().out


def test_a_bar_does_not_begin_at_its_end(capsys, monkeypatch):
    clock = iter(range(0, 100, 3))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    progress.Progress(1, "batch", show=True).add()
    assert capsys.readouterr().out == ""


def test_no_bar_where_none_is_wanted(capsys, monkeypatch):
    clock = iter(range(0, 100, 3))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    bar = progress.Progress(3, "step", show=False)
    bar.add()
    bar.add(2)
    assert capsys.readouterr().out == ""


def test_every_public_function_shows_its_progress_unless_it_is_not_wanted():
    functions = [getattr(place, name) for place in (ks, ks.metrics, ks.LRP) for name in dir(place) if name[0] != "_"]
    signatures = [inspect.signature(function) for function in functions if inspect.isroutine(function)]
    defaults = [
        signature.parameters["progress"].default for signature in signatures if "progress" in signature.parameters
    ]
    assert len(defaults) >= 10 and set(defaults) == {True}


X = np.random.default_rng(0).normal(size=(3, 5))


@pytest.mark.parametrize(
    "work, steps",
    [
        (lambda: ks.exact_shapley_values(network, X, 0), 3),
        (lambda: ks.shapley_interactions(network, X, 0), 3),
        (lambda: ks.shapley_values(network, X, 0, budget=20), 3),
        (lambda: ks.sampled_shapley_values(network, X, 0, n_paths=8), 3 * 4),
        (lambda: ks.sampled_shapley_values(network, X, 0, n_paths=64, tolerance=9.0), 3 * 32),
        (lambda: ks.metrics.perturbation_curve(network, X, X, 0), 3),
        (lambda: ks.metrics.infidelity(network, X, X, 0, n=8), 3),
        (lambda: ks.metrics.sensitivity_max(lambda x: x, X, n=7), 7),
    ],
    ids=["exact", "interactions", "values", "sampled", "stopped", "perturbation", "infidelity", "sensitivity"],
)
def test_the_bar_of_longer_work_reaches_its_end(work, steps, capsys, monkeypatch):
    monkeypatch.setattr(progress, "time", types.SimpleNamespace(monotonic=itertools.count(0, 3).__next__))
    work()
    assert f"{steps}/{steps}" in capsys.readouterr().out
