"""The same relevance and Shapley values on JAX, TensorFlow and PyTorch, to 1e-4: a process for each, the same weights.

python tests/test_three_backends.py FILE    # what one process writes
"""

import importlib.util
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

BACKENDS = {"jax": "jax", "tensorflow": "tensorflow", "torch": "torch"}
TESTS = pathlib.Path(__file__).parent


def results():
    """Explanations of a few random models, by name."""
    from reference.random_models import Network

    import keras_shapley as ks

    image = {"image": (["conv, normalized", "conv added", "max pooling", "excited"], "flatten")}
    both = {
        "steps": (["less its average", "attention", "LSTM"], "average"),
        "vector": (["SA dense", "multiply"], "flatten"),
    }
    models = {
        "image": Network(image, ["ShapLU dense"], "softmax", 3, seed=1),
        "both": Network(both, ["dense with silu"], "linear", 2, seed=2),
        "vector": Network({"vector": (["dense", "relu", "add", "gelu"], "flatten")}, [], "sigmoid", 1, seed=3),
    }
    found = {}
    for name, network in models.items():
        model, x = network.build(), network.inputs(2)
        for rules in ("auto", "paper", "epsilon_plus"):
            relevance = ks.LRP(model, rules=rules).explain(x, 0).input
            for kind, part in (relevance if isinstance(relevance, dict) else {"x": relevance}).items():
                found[f"{name}, {rules}, {kind}"] = part
        found[f"{name}, values"] = ks.shapley_values(model, x, 0, budget=64, players="inputs", progress=False).values
    vector = models["vector"].build(), models["vector"].inputs(2)
    found["moments"] = ks.fast_shapley_values(*vector, 0, progress=False).values
    found["masks"] = ks.fast_shapley_values(*vector, 0, method="masks", progress=False).values
    found["interactions"] = ks.shapley_interactions(*vector, 0, progress=False).values
    return found


@pytest.mark.slow
def test_three_backends_agree(tmp_path):
    installed = [name for name, module in BACKENDS.items() if importlib.util.find_spec(module)]
    if len(installed) < 2:
        pytest.skip(f"one backend is installed, {installed}")
    found = {}
    for backend in installed:
        path = tmp_path / f"{backend}.npz"
        environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])}
        subprocess.run([sys.executable, "-W", "ignore", __file__, str(path)], check=True, env=environment)
        with np.load(path) as arrays:
            found[backend] = {name: arrays[name] for name in arrays}
    first, *others = installed
    for other in others:
        assert set(found[other]) == set(found[first])
        for name, expected in found[first].items():
            size = np.abs(expected).max()
            np.testing.assert_allclose(found[other][name], expected, atol=1e-4 * size, err_msg=f"{name}: {other}")


if __name__ == "__main__":
    np.savez(sys.argv[1], **results())
