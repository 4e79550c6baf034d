"""`studies/one_pass.py`: the truth, the methods and the measures, what the table says of rows, and a quick run."""

import keras
import matplotlib.image
import numpy as np
import pytest

import keras_shapley as ks
from lab import faithfulness, rows, statistics
from lab.analysis import one_pass as analysis
from studies import one_pass as script


def row(seed, correlations):
    """A finished run with two images, whose methods have the same correlation for both quantities."""
    run = {"model": "mnist_mlp", "activation": "relu", "optimizer": "Adam", "learning_rate": 0.001, "seed": seed}
    run |= {"epochs": 3, "batch_size": 128, "limit": None, "images": 2, "orders": 80}
    measures = {
        name: {"correlation": [value, value], "error": [0.5, 0.5], "arrives": [1.0, 1.0]}
        for name, value in correlations.items()
    }
    of_quantities = {quantity: measures for quantity in analysis.QUANTITIES}
    result = {"accuracy": 0.9, "noise": dict.fromkeys(analysis.QUANTITIES, [0.6, 0.6]), "methods": of_quantities}
    where = {"data": "somewhere", "backend": "torch", "device": "cpu", "versions": {"keras": "3"}, "commit": "c0ffee"}
    return {"run": run, "result": result, **where}


def test_measures_of_each_image_by_hand():
    """Absent players do not count for nearness; relevance that is not finite has no measure."""
    values = np.array([[1.0, 2.0, 3.0, 0.0]] * 3)
    attributions = np.array([[2.0, 4.0, 6.0, 0.0], [1.0, 2.0, 3.0, 9.0], [np.inf, 0.0, 0.0, 0.0]])
    present = np.array([[True, True, True, False]] * 3)
    measures = analysis.measured(attributions, values, present)
    assert measures["correlation"] == [1.0, 1.0, None]
    assert measures["error"] == [1.0, 0.0, None]
    assert measures["arrives"] == [2.0, 2.5, None]


@pytest.mark.parametrize("best, verdict", [(0.72, "yes, best is rival"), (0.76, "no, best is rival")])
def test_verdict_is_about_methods_of_one_pass(best, verdict, tmp_path, monkeypatch):
    """Integrated gradients and measured gates may be nearer, and do not count."""
    monkeypatch.setattr(statistics, "DRAWS", 20)
    integrated = analysis.INTEGRATED.format(32)
    correlations = {"default": 0.7, "rival": best, "broken": None, analysis.GATES: 0.8, integrated: 0.9}
    text = analysis.write([row(seed, correlations) for seed in range(2)], tmp_path)
    line = next(line for line in text.splitlines() if line.startswith("| MNIST, MLP | logit |"))
    assert f"| {verdict} | 0.800 | 0.900 |" in line
    assert "| 0.800 | 0.700 (0.700 to 0.700) |" in line  # a ceiling of sqrt(1 - 0.6**2)
    assert f"| rival {best:.3f} | {0.7 - best:+.3f} (" in line
    n_within = 2 if verdict.startswith("yes") else 0
    assert f"The default is the best, or within 0.03 of the best, in {n_within} of 2 comparisons." in text
    assert "| broken | 0.000 (0.000 to 0.000) | -0.700 (" in text
    assert matplotlib.image.imread(tmp_path / "one_pass.png")[..., :3].std() > 0.05


def test_seeds_that_share_their_settings_are_read_together():
    others = [row(seed, {"default": 0.7}) for seed in (2, 0, 1)]
    short = row(0, {"default": 0.1})
    short["run"] = {**short["run"], "images": 1}
    (group,) = analysis.by_network([short, *others]).values()
    assert [row["run"]["seed"] for row in group] == [0, 1, 2]


def test_logits_and_probabilities_are_those_of_the_network(rng):
    model = script.cifar10_max_pool_net()
    x = rng.normal(size=(3, 32, 32, 3)).astype("float32")
    logits, both = (part.predict(x, verbose=0) for part in script.with_logits(model))
    probabilities = model.predict(x, verbose=0)
    np.testing.assert_allclose(both, np.concatenate([logits, probabilities], axis=1), rtol=1e-5, atol=1e-6)
    powers = np.exp(logits)
    np.testing.assert_allclose(powers / powers.sum(axis=1, keepdims=True), probabilities, rtol=1e-4, atol=1e-6)


def test_rules_are_those_that_the_names_of_the_methods_say(rng):
    """Every neuron follows them, also where BatchNormalization stands between its sum and its ReLU."""
    model = script.cifar10_max_pool_net()
    players = faithfulness.patches(4, (32, 32, 3))
    options = script.methods(model, players, -np.ones((32, 32, 3)), np.ones((32, 32, 3)))
    for name, kind in (("default", "shapley"), ("first order", "first_order"), ("rescale", "rescale")):
        found = ks.LRP(model, head="linear", **options[name]).rules.values()
        assert {rule.kind for _, rule in found if hasattr(rule, "kind")} == {kind}
    assert {name.removesuffix(", from the baseline") for name in options} == {
        *("default", "first order", "rescale", "eq. (2)", "epsilon", "epsilon_plus", "epsilon_plus_flat"),
        *("epsilon_gamma_box", "epsilon_alpha2_beta1", "default, gates=8"),
    }


@pytest.mark.once
@pytest.mark.parametrize("build", [script.mnist_max_pool_net, script.CONV, script.cifar10_max_pool_net])
def test_every_method_explains_every_kind_of_network(build, rng):
    """Both quantities; what starts from the baseline, presets whose bias absorbs relevance apart, arrives."""
    model = build()
    x = rng.uniform(-0.5, 0.5, (2, *model.input_shape[1:])).astype("float32")
    bounds = np.full((2, *x.shape[1:]), 0.5) * np.array([-1, 1]).reshape(2, *[1] * (x.ndim - 1))
    target = np.array([3, 8])
    options = script.methods(model, faithfulness.patches(4, x.shape[1:]), *bounds)
    logits, both = script.with_logits(model)
    added = (both.predict(x, verbose=0) - both.predict(0 * x, verbose=0)).reshape(2, 2, -1)[[0, 1], :, target]
    for index, quantity in enumerate(analysis.QUANTITIES):
        for name, attribution in script.attributions(model, logits, quantity, x, target, options).items():
            assert attribution.shape == x.shape
            if name in ("default", "rescale", analysis.GATES):
                sums = attribution.reshape(2, -1).sum(axis=1)
                np.testing.assert_allclose(sums, added[:, index], rtol=1e-2, atol=1e-4, err_msg=name)


@pytest.mark.once
def test_whatever_conserves_is_exact_for_a_linear_logit(rng):
    """The terms of a linear model are its Shapley values, by every method that starts from the baseline."""
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3, "softmax")])
    model.set_weights([rng.normal(size=(5, 3)), rng.normal(size=3)])
    x = rng.normal(size=(4, 5)).astype("float32")
    target = np.array([0, 1, 2, 0])
    logits, _ = script.with_logits(model)
    options = script.methods(model, np.arange(5), -np.ones(5), np.ones(5))
    terms = x * model.get_weights()[0][:, target].T
    for name, attribution in script.attributions(model, logits, "logit", x, target, options).items():
        if name != "eq. (2)" and "flat" not in name:
            np.testing.assert_allclose(attribution, terms, rtol=1e-3, atol=1e-4, err_msg=name)


@pytest.mark.once
@pytest.mark.filterwarnings("ignore")
def test_quick_run(tmp_path, rng, capsys, monkeypatch):
    monkeypatch.setattr(statistics, "DRAWS", 20)
    path = tmp_path / "data.npz"
    arrays = {f"x_{split}": rng.integers(0, 256, (40, 28, 28), dtype=np.uint8) for split in ("train", "test")}
    np.savez(path, **arrays, **{f"y_{split}": rng.integers(0, 10, 40) for split in ("train", "test")})
    command = ["--quick", "--mnist", str(path), "--out", str(tmp_path), "--images", "2", "--orders", "16"]
    assert script.main(command) == 0
    finished = rows.read(tmp_path / "one_pass.jsonl")
    assert [row["run"]["model"] for row in finished] == ["breast_cancer_mlp", "mnist_mlp"]
    for row in finished:
        for quantity in analysis.QUANTITIES:
            measures = row["result"]["methods"][quantity]["default"]
            assert len(measures["correlation"]) == 2 and min(measures["correlation"]) > 0.8
            np.testing.assert_allclose(measures["arrives"], 1, atol=1e-2)
    text = capsys.readouterr().out
    assert text == (tmp_path / "one_pass.md").read_text() + "\n" and "## Breast cancer, MLP" in text
    before = (tmp_path / "one_pass.jsonl").read_text()
    assert script.main(command) == 0  # everything is finished
    assert (tmp_path / "one_pass.jsonl").read_text() == before


def test_a_checkpoint_that_is_missing_is_one_line(tmp_path, capsys):
    for command in (["--networks", "resnet20"], ["--networks", "resnet20", "--resnet20", str(tmp_path)]):
        with pytest.raises(SystemExit):
            script.main([*command, "--out", str(tmp_path)])
        assert "error: " in capsys.readouterr().err.splitlines()[-1]
