"""Every family of keras.applications, with random weights: finite relevance, and nothing passed that mixes elements."""

import keras
import numpy as np
import pytest
from keras import ops, tree
from reference.random_models import eager_tensorflow

import keras_shapley as ks
from benchmarks import lrp_zoo
from keras_shapley.models.tracing import trace

# eager PyTorch compiles nothing; keras.applications has no NASNet for it
BACKENDS = {family: "tensorflow" if family.startswith("NASNet") else "torch" for family in lrp_zoo.FAMILIES}


@pytest.fixture(scope="module", params=lrp_zoo.FAMILIES)
def zoo(request):
    """`(family, model, two images)`."""
    if keras.backend.backend() != BACKENDS[request.param]:
        pytest.skip("slow, so on one backend")
    model, images = lrp_zoo.network(request.param, seed=0)
    # a graph of 770 calls takes minutes to make, and seconds to run
    with eager_tensorflow():
        yield request.param, model, images(2)


@pytest.fixture
def sparing(monkeypatch):
    kept = ("default", "eq. (2), merged", "epsilon_plus")
    monkeypatch.setattr(lrp_zoo, "WAYS", {way: lrp_zoo.WAYS[way] for way in kept})


def test_relevance_is_finite_and_accounted_for(zoo, sparing):
    row = lrp_zoo.measure(*zoo)
    for way, figures in row["ways"].items():
        assert figures["finite"], way
        assert figures["unaccounted"] < 1e-3, way
    # eq. (2) distributes everything at every call, whatever it amplifies
    assert row["ways"]["eq. (2), merged"]["worst_gap"][1] < 0.05
    default = row["ways"]["default"]
    assert default["worst_gap"][1] < 0.01 and default["held"] < 10


def test_pass_is_for_operations_on_each_element_alone(zoo):
    """Change one element of what such a call gets: no other element of what it gives may change."""
    _, model, images = zoo
    rules = ks.LRP(model, rules="paper").rules
    passing = {name for name, (_, rule) in rules.items() if isinstance(rule, ks.rules.Pass)}
    graph = trace(model)
    values = dict(zip(graph.inputs, [ops.convert_to_tensor(images[:1])]))
    for call in graph.calls:
        values.update(zip(call.outputs, tree.flatten(call(*(values[value] for value in call.inputs)))))
        if call.name not in passing:
            continue
        x = ops.convert_to_numpy(values[call.inputs[0]])
        place = np.unravel_index(x.size // 2, x.shape)
        other = x.copy()
        other[place] += 1 + abs(other[place])
        before, after = (ops.convert_to_numpy(call(ops.convert_to_tensor(data))) for data in (x, other))
        changed = before != after
        changed[place] = False
        assert not changed.any(), call.description
