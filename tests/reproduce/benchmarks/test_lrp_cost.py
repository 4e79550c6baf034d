"""`benchmarks/lrp_cost.py`: a quick run, and that its numbers mean what they say. Never how fast anything is."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from reference.paths import REPRODUCE

import keras_shapley as ks
from benchmarks import lrp_cost as script
from lab.analysis import lrp_cost

OURS = ["input gradient", "forward pass", script.DEFAULT, script.EQ2, "LRP, preset epsilon", "LRP, preset epsilon_plus"]
OURS += [script.SEVERAL, "explain, Shapley propagation"]
TWIN, PEERS = "input gradient, torch.nn twin", {"zennit": "zennit, the same rules", "captum": "captum, the same rules"}


def quick(out, *arguments):
    command = [sys.executable, str(REPRODUCE / "benchmarks" / "lrp_cost.py"), "--quick", "--out", str(out), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(REPRODUCE.parent)}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def measurement(backend):
    """Of ResNet50, as a file holds it."""
    row = {"note": "", "median_seconds": 2.0, "quartiles_seconds": [1.5, 2.5], "base": "input gradient"}
    row |= {"over_base": {"ratio": 1.0, "interval": [1.0, 1.0]}}
    grown = row | {
        "largest_relevance": None,
        "like": "input gradient",
        "over_like": row["over_base"],
        "agreement": None,
    }
    run = {"command": "", "backend": backend, "images": [32, 32, 3], "classes": 10, "parameters": 1, "versions": {}}
    run |= {"settings": {"batch_size": 1, "repeats": 2, "threads": 1, "seed": 0}, "device": "", "cpu": "", "cores": 1}
    return {"run": run, "rows": {"input gradient": row, "LRP, grown": grown}, "head": row | {"paths": 1000}}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A quick run in a directory with earlier measurements: its files and what it printed."""
    out, backend = tmp_path_factory.mktemp("lrp_cost"), keras.backend.backend()
    for name in (backend, "another"):
        (out / f"lrp_cost_{name}.json").write_text(json.dumps({"resnet50": measurement(name)}))
    # one thread: beside other work two wait for each other
    done = quick(out, "--threads", "1", "--seed", "3")
    assert done.returncode == 0, done.stderr
    return json.loads((out / f"lrp_cost_{backend}.json").read_text()), out, done.stdout


@pytest.mark.once
def test_every_row_is_there_and_says_what_it_was_made_with(finished, backend):
    record, out, _ = finished
    run, rows = record["resnet20"]["run"], record["resnet20"]["rows"]
    assert list(rows) == [*OURS, TWIN, *(row for peer, row in PEERS.items() if peer in run["versions"])]
    assert run["settings"]["seed"] == 3 and run["settings"]["threads"] == 1
    assert run["versions"]["keras"] == keras.__version__ and {backend, "numpy", "python"} < set(run["versions"])
    assert run["command"].startswith(
        f"KERAS_BACKEND={backend} python reproduce/benchmarks/lrp_cost.py --model resnet20 --batch"
    )
    assert record["resnet20"]["head"]["paths"] == 1000
    assert str(out) not in json.dumps(record)


@pytest.mark.once
def test_ratios_are_those_of_the_medians(finished):
    rows = finished[0]["resnet20"]["rows"]
    for row in (*rows.values(), finished[0]["resnet20"]["head"]):
        assert len(row["seconds"]) == 3 and min(row["seconds"]) > 0
        low, high = row["quartiles_seconds"]
        assert row["median_seconds"] == sorted(row["seconds"])[1] and low <= row["median_seconds"] <= high
        for reference, over in (("base", "over_base"), ("like", "over_like")):
            if reference in row:
                ratio = row["median_seconds"] / rows[row[reference]]["median_seconds"]
                assert row[over]["ratio"] == pytest.approx(ratio, rel=1e-6)
                low, high = row[over]["interval"]
                assert 0 < low <= high
    assert rows["input gradient"]["over_base"] == {"ratio": 1.0, "interval": [1.0, 1.0]}


@pytest.mark.once
def test_the_attributions_are_those_of_the_peers(finished):
    """The difference of float32 sums in another order, through 22 convolutions."""
    rows = finished[0]["resnet20"]["rows"]
    compared = {name: row["agreement"] for name, row in rows.items() if "agreement" in row}
    assert compared
    for agreement in compared.values():
        assert agreement["difference"]["worst"] < 5e-3 and agreement["correlation"]["worst"] > 0.9999
    assert 0 < rows["LRP, preset epsilon"]["largest_relevance"]


@pytest.mark.once
def test_the_table_holds_every_measurement_of_the_directory(finished, backend):
    record, out, printed = finished
    text = (out / "lrp_cost.md").read_text()
    titles = [line for line in text.splitlines() if line.startswith("## ")]
    assert sorted(titles) == sorted([f"## ResNet-20, {backend}", f"## ResNet50, {backend}", "## ResNet50, another"])
    assert record["resnet50"] == measurement(backend)
    assert lrp_cost.section("resnet20", record["resnet20"]) in text
    assert f"## ResNet-20, {backend}" in printed and "ResNet50" not in printed
    tables = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert {len(line) for line in tables} == {len(lrp_cost.COLUMNS)}
    grown = next(line for line in tables if line[0] == "| LRP, grown")
    assert grown[-2:] == ["not finite", "not finite |"]
    assert "- The softmax by 1000 paths: 2000.0 ms." in text
    assert not list(out.glob("*.new"))


@pytest.mark.once
def test_networks_are_the_same_for_the_same_seed_and_their_activations_of_order_one():
    one, two = (script.network("resnet20", None, None, np.random.default_rng(5)) for _ in range(2))
    for a, b in zip(one.get_weights(), two.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    normalisations = [layer for layer in one.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert {layer.momentum for layer in normalisations} == {0.99}
    assert all(np.std(np.array(layer.moving_variance)) > 0 for layer in normalisations)
    linear, head = script.below_softmax(one)
    x = script.images(4, 32, np.random.default_rng(6))
    logits = linear.predict_on_batch(x)
    assert 0.1 < logits.std() < 10
    features = keras.Model(one.input, one.layers[-1].input).predict_on_batch(x)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(one.predict_on_batch(x), expected, rtol=1e-4)
    np.testing.assert_allclose(head.predict_on_batch(features), expected, rtol=1e-4)


def test_the_gradient_is_that_of_the_chosen_logits(rng, numpy):
    """Of a dense layer: the column of its kernel; and after new weights the new one."""
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)])
    forward, gradient = script.compiled(model)
    x = keras.ops.convert_to_tensor(rng.standard_normal((2, 5)).astype("float32"))
    chosen = keras.ops.one_hot([2, 0], 3)
    for _ in range(2):
        kernel = rng.standard_normal((5, 3)).astype("float32")
        model.set_weights([kernel, np.ones(3, "float32")])
        np.testing.assert_allclose(numpy(gradient(x, chosen)), kernel.T[[2, 0]], rtol=1e-6)
        np.testing.assert_allclose(numpy(forward(x)), numpy(x) @ kernel + 1, rtol=1e-5)


@pytest.fixture
def residual(rng):
    """The layers of ResNet50 and Lite0 that ResNet-20 has not, with a fork before a ReLU; its images and targets."""
    layers = keras.layers
    x = inputs = keras.Input((11, 11, 3))
    x = layers.Conv2D(4, 3, strides=2)(layers.ZeroPadding2D(((1, 2), (2, 1)))(x))
    x = layers.Activation("relu")(layers.BatchNormalization(epsilon=1e-5)(x))
    x = layers.DepthwiseConv2D(3, strides=2, padding="same", use_bias=False)(x)
    x = layers.ReLU(6.0)(layers.BatchNormalization(epsilon=1e-3)(x))
    x = layers.MaxPooling2D(3, strides=2)(layers.ZeroPadding2D(1)(x))
    x = layers.Add()([x, layers.Conv2D(4, 3, padding="same")(x)])
    x = layers.Add()([x, layers.Conv2D(4, 1)(layers.ReLU()(x))])
    model = keras.Model(inputs, layers.Dense(5)(layers.GlobalAveragePooling2D()(x)))
    for weight in model.weights:
        offset = 1 if weight.name in ("gamma", "moving_variance") else 0
        weight.assign(offset + 0.2 * rng.standard_normal(weight.shape))
    images = keras.ops.convert_to_tensor(rng.standard_normal((2, 11, 11, 3)).astype("float32"))
    return model, images, np.array([3, 1], "int32")


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="the peers run on PyTorch")
def test_twins_are_right_for_every_layer(residual, numpy):
    model, x, target = residual
    chosen = keras.ops.one_hot(target, 5)
    found = script.peers(model, x, target, chosen)
    like = {
        "input gradient": numpy(script.compiled(model)[1](x, chosen)),
        "LRP, preset epsilon": numpy(ks.LRP(model, rules=ks.presets.epsilon(script.EPSILON))(x, target)),
    }
    for candidate in found.values():
        expected = like[candidate.like]
        for _ in range(2):
            np.testing.assert_allclose(
                candidate.to_keras(candidate.call()), expected, atol=1e-5 * np.abs(expected).max()
            )


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="the peers run on PyTorch")
def test_without_the_peers_the_twin_is_left(residual, monkeypatch):
    for peer in PEERS:
        monkeypatch.setitem(sys.modules, peer, None)
    model, x, target = residual
    assert list(script.peers(model, x, target, keras.ops.one_hot(target, 5))) == [TWIN]


def test_what_has_infinities_agrees_with_nothing():
    assert script.agreement(np.array([np.inf, 1]), np.ones(2)) is None
    ours = np.array([[1.0, 2.0, 4.0], [1.0, 0.0, -1.0], [3.0, 1.0, 2.0]])
    found = script.agreement(ours + [[0, 1.0, 0], [0, 0, 0], [0, 0, 0.3]], ours)
    assert found["difference"] == {"median": pytest.approx(0.1), "worst": 0.25}
    assert found["correlation"]["worst"] == pytest.approx(np.corrcoef([1, 3, 4], [1, 2, 4])[0, 1])


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--model", "resnet18"), "invalid choice: 'resnet18'"),
        (("--repeats", "1"), "argument --repeats: must be at least 2, and is 1"),
        (("--image-size", "16"), "argument --image-size: must be at least 32, and is 16"),
        (("--threads", "4096"), "--threads 4096 is more than the"),
    ],
)
def test_a_bad_option_is_one_clear_line(arguments, message, capsys, tmp_path):
    with pytest.raises(SystemExit):
        script.main(["--out", str(tmp_path), *arguments])
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_a_directory_with_other_files_is_one_clear_line(tmp_path, capsys):
    (tmp_path / f"lrp_cost_{keras.backend.backend()}.json").write_text("{")
    with pytest.raises(SystemExit):
        script.main(["--out", str(tmp_path)])
    assert "is no JSON file" in capsys.readouterr().err.splitlines()[-1]
    with pytest.raises(SystemExit):
        script.main(["--out", str(tmp_path / f"lrp_cost_{keras.backend.backend()}.json")])
    assert "error: [Errno 17] File exists" in capsys.readouterr().err.splitlines()[-1]
