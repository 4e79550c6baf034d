"""Every public name has a docstring with an example, and the examples run."""

import doctest
import inspect
import re

import keras
import numpy as np
import pytest

import keras_shapley as ks
from keras_shapley.utils import progress

pytestmark = pytest.mark.once


def public():
    """Public classes and functions by the name that a user types."""
    names = {f"ks.{name}": getattr(ks, name) for name in ks.__all__}
    for module in (ks.metrics, ks.presets, ks.rules):
        names |= {f"{module.__name__.rpartition('.')[2]}.{name}": getattr(module, name) for name in module.__all__}
    return {name: thing for name, thing in names.items() if inspect.isclass(thing) or inspect.isfunction(thing)}


@pytest.mark.parametrize("name", public())
def test_the_example_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # no progress bar on a slow machine
    monkeypatch.setattr(progress, "_DELAY", float("inf"))
    keras.utils.set_random_seed(0)
    names = {"keras": keras, "ks": ks, "np": np}
    (example,) = doctest.DocTestFinder(recurse=False).find(public()[name], name, globs=names)
    assert example.examples
    report = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    runner.run(example, out=report.append)
    assert not runner.failures, "".join(report)


def parameters(thing):
    kept = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    return [p for p in inspect.signature(thing).parameters.values() if p.kind in kept and p.name != "self"]


@pytest.mark.parametrize("name", public())
def test_arguments_are_typed_and_described(name):
    thing = public()[name]
    if inspect.isclass(thing) and "__init__" not in vars(thing):
        pytest.skip("made by its parent")
    doc = inspect.getdoc(thing)
    undescribed = [p.name for p in parameters(thing) if not re.search(rf"^ +{p.name}:", doc, flags=re.MULTILINE)]
    untyped = [p.name for p in parameters(thing) if p.annotation is inspect.Parameter.empty]
    assert not undescribed
    assert not untyped
    if inspect.isfunction(thing):
        assert inspect.signature(thing).return_annotation is not inspect.Signature.empty
