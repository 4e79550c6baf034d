"""`studies/where_sa_helps.py`: its images, networks and units, a quick run, and what the tables say of rows."""

import keras
import numpy as np
import pytest

import keras_shapley as ks
from lab import experiment, hard_training, rows, training
from lab.analysis import where_sa_helps as analysis
from lab.hard_training import Setting
from lab.networks import deep_mlp
from studies import where_sa_helps as script

torch_only = pytest.mark.skipif(keras.backend.backend() != "torch", reason="once, where nothing is compiled")
STUDY = script.WHERE_SA_HELPS


@pytest.fixture
def mnist(rng):
    return rng.random((300, 28, 28)).astype("float32"), rng.integers(0, 10, 300).astype("int32")


def planned_runs():
    return STUDY.runs(list(STUDY.models), STUDY.activations, STUDY.seeds, STUDY.epochs, STUDY.limit)


def test_every_activation_has_the_same_rates():
    ladders: dict = {}
    for run in planned_runs():
        by_activation = ladders.setdefault(run["model"], {})
        by_activation.setdefault(run["activation"], []).append((run["optimizer"], run["learning_rate"]))
    assert set(ladders) == set(script.SETTINGS)
    for model, by_activation in ladders.items():
        assert len({tuple(rates) for rates in by_activation.values()}) == 1, model
        assert set(by_activation) >= {"relu_he"}, model
    assert set(ladders["rates"]["relu_he"]) == {*analysis.SGD, *analysis.ADAM}
    assert set(ladders["depth10"]) == {*script.ACTIVATIONS, *script.FROM_HE}
    assert set(ladders["depth10_norm"]) == set(script.ACTIVATIONS)
    assert set(ladders["converted"]) == set(script.CONVERTED)


def test_every_setting_is_in_a_table():
    shown = {model + end for _, model, _ in analysis.SETTINGS for end in analysis.NORMS}
    assert shown | set(analysis.CONVERTED.values()) == set(script.SETTINGS)
    assert {model for _, model, _ in analysis.UNITS} <= set(script.SETTINGS)


def test_a_seed_draws_images_and_all_activations_have_the_same(mnist):
    setting = script.SETTINGS["images50"]
    x, y = hard_training.training_images(setting, mnist, 200, 3, 2.0)
    assert x.shape == (200, 28, 28) and len(np.unique(x[:, 0, 0])) == 50
    np.testing.assert_array_equal(x, hard_training.training_images(setting, mnist, 200, 3, 2.0)[0])
    other, _ = hard_training.training_images(setting, mnist, 200, 4, 2.0)
    assert not np.array_equal(x, other)
    # with their labels
    for image, label in zip(x[:60], y[:60]):
        (place,) = np.flatnonzero((mnist[0] * np.float32(2) == image).all(axis=(1, 2)))
        assert mnist[1][place] == label


@pytest.mark.parametrize("name", ["rates", "sparse", "spikes", "exceptions", "noise40", "converted_turned"])
def test_test_images_have_a_mean_square_of_1(name, mnist):
    (x, y), _ = hard_training.test_images(script.SETTINGS[name], mnist)
    assert np.mean(np.square(x, dtype="float64")) == pytest.approx(1, rel=1e-5)
    assert x.dtype == np.float32 and y.dtype == np.int32 and x.shape == mnist[0].shape


def test_wrong_labels_are_in_training_alone(mnist):
    setting = script.SETTINGS["noise40"]
    (_, y), _ = hard_training.test_images(setting, mnist)
    np.testing.assert_array_equal(y, mnist[1])
    x, noisy = hard_training.training_images(setting, mnist, 300, 0, 1.0)
    clean = {image.tobytes(): label for image, label in zip(*mnist)}
    wrong = np.mean([clean[image.tobytes()] != label for image, label in zip(x, noisy)])
    assert wrong == pytest.approx(0.4, abs=3 * np.sqrt(0.24 / 300))


def test_the_class_of_an_exception_is_the_tenth_of_the_largest_feature(mnist, rng):
    x, y = hard_training.exceptions(*mnist, rng)
    features = np.abs(x.reshape(len(x), -1))
    assert not features[:, 40:].any()
    np.testing.assert_array_equal(features.argmax(axis=1) // 4, y)
    assert set(y) == set(range(10))


def test_sparse_and_spiked_images(mnist, rng):
    x, _ = hard_training.sparse(*mnist, rng)
    assert np.mean(x != 0) == pytest.approx(0.1, abs=0.005)
    kept = x != 0
    np.testing.assert_array_equal(x[kept], mnist[0][kept])
    x, _ = hard_training.spikes(*mnist, rng)
    assert np.mean(x == 10) == pytest.approx(0.01, abs=0.002) and np.mean(x == mnist[0]) > 0.98


@pytest.mark.parametrize(("activation", "norm"), [("relu_he", False), ("sa_normal", True), ("gelu_normal", False)])
def test_silent_units_by_their_definition(activation, norm, mnist, numpy):
    model = deep_mlp(activation, 2, 6, norm)
    x = mnist[0][:20]
    hidden = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)][:-1]
    # some units must be silent
    for layer in hidden:
        layer.bias.assign(np.array([-99, 0, 0, -99, 0, 99], "float32"))
    found = numpy(hard_training.silent(model, keras.ops.convert_to_tensor(x)))
    inner = keras.Model(model.inputs, [layer.input for layer in hidden])
    expected = []
    for layer, inputs in zip(hidden, inner.predict(x, verbose=0)):
        sums = inputs.astype("float64") @ numpy(layer.kernel) + numpy(layer.bias)
        expected.append(sums.max(axis=0) <= 0)
    np.testing.assert_array_equal(found, np.concatenate(expected))
    assert found[[0, 3]].all() and not found[5]


def test_revived_units_are_those_that_were_silent():
    def seen(*silent):
        return {"silent": np.array(silent, bool), "closed": None}

    result = hard_training.summary({"loss": [1.0], "observed": [seen(1, 1, 0, 0), seen(0, 1, 1, 1)]})
    assert result == {"loss": [1.0], "silent": [0.5, 0.75], "revived": 0.5}
    assert hard_training.summary({"observed": [seen(0, 0), seen(1, 0)]})["revived"] is None


def test_a_converted_network_begins_with_the_trained_weights(numpy):
    setting = Setting(converted=True)
    weights = [np.full(w.shape, 0.01 * i) for i, w in enumerate(setting.network("relu_he").get_weights(), 1)]
    kinds = {"relu_he": keras.layers.Dense, "shaplu": ks.ShapLUDense, "sa": ks.SADense}
    for activation, kind in kinds.items():
        model = hard_training.build(setting, {7: weights}, {"activation": activation, "seed": 7})
        assert [type(layer) for layer in model.layers if isinstance(layer, keras.layers.Dense)][:3] == 3 * [kind]
        for weight, expected in zip(model.get_weights(), weights, strict=True):
            np.testing.assert_allclose(weight, expected, rtol=1e-6)


def row(activation, seed, value, rate=0.002, model="rates", optimizer="Adam", silent=(0.0, 0.0), **more):
    run = {"model": model, "activation": activation, "optimizer": optimizer, "learning_rate": rate, "seed": seed}
    run |= {"epochs": 10, "limit": 1000}
    result = {"val_accuracy": [0.0, value], "silent": list(silent), "revived": None, **more}
    where = {"data": "somewhere", "backend": "torch", "device": "cpu", "versions": {"keras": "3"}, "commit": "c0ffee"}
    return {"run": run, "result": result, **where}


def test_no_seed_chooses_its_own_rate():
    """The other seeds of each are better at the rate at which it is worse itself."""
    found = [row("sa_normal", 0, 0.9, 0.002), row("sa_normal", 0, 0.5, 0.008)]
    found += [row("sa_normal", 1, 0.4, 0.002), row("sa_normal", 1, 0.8, 0.008)]
    found.append(row("sa_normal", 2, 0.7, 0.002))  # lacks a rate
    assert analysis.accuracies(found, "rates", analysis.USUAL) == {"sa_normal": {0: 0.5, 1: 0.4}}
    # one seed alone has no others
    assert analysis.accuracies(found[:2], "rates", analysis.USUAL) == {"sa_normal": {0: 0.9}}


def test_an_activation_that_lacks_a_rate_is_not_compared():
    found = [row("sa_normal", 0, 0.9, 0.002), row("relu_he", 0, 0.5, 0.002), row("relu_he", 0, 0.6, 0.008)]
    assert set(analysis.accuracies(found, "rates", analysis.USUAL)) == {"relu_he"}


def test_tables(tmp_path):
    accuracy = {"relu_he": 0.5, "leaky_relu_normal": 0.605, "gelu_normal": 0.6, "silu_normal": 0.4, "sa_normal": 0.6}
    found = []
    for model in ("rates", "sparse_norm"):
        for activation, value in accuracy.items():
            for seed in range(3):
                noise = 0.01 * seed * (activation == "sa_normal")
                silent = (0.5, 0.25) if activation == "relu_he" else (0.25, 0.125)
                found.append(
                    row(activation, seed, value + noise, model=model, silent=silent, revived=0.5, closed=[0, 1])
                )
                found.append(row(activation, seed, 0.1, 0.032, model, silent=silent))
    found += [row("gelu_he", seed, 0.3, model="depth20") for seed in range(2)]
    found += [row("sa_normal", seed, 0.4, model="depth20") for seed in range(2)]
    for activation, value in {"relu_he": 0.7, "shaplu": 0.8}.items():
        found += [row(activation, seed, value, model="converted") for seed in range(2)]
    text = STUDY.write(found, tmp_path)

    half = 4.30265 * 0.01 / np.sqrt(3)
    gains = [f"{mean:+.4f} ({mean - half:+.4f} to {mean + half:+.4f})" for mean in (0.11, 0.005, 0.01)]
    cells = f"0.500 | 0.605 | 0.600 | 0.610 | {' | '.join(gains)} |"
    assert f"| 1,000 images, Adam | no | SA (level: leaky ReLU, GELU) | {cells}" in text
    assert f"| sparse inputs | yes | SA (level: leaky ReLU, GELU) | {cells}" in text
    # of one setting each
    assert f"| mean of those with 3 layers | yes |  | {cells}" in text
    # the two over ReLU leave out zero; of six intervals, 0.05/6 has the quantile 10.8859 of two degrees of freedom
    assert "Of 6 intervals, 2 are above zero and 0 below. If no two activations differed, about 0.3 would" in text
    assert 0.11 > 10.8859 * half / 4.30265 and "(Bonferroni), 2 are above zero and 0 below." in text
    assert "| 20 layers | GELU | `he_normal` | 0.300 | +0.1000 (+0.1000 to +0.1000) |" in text
    assert "| Adam, BN: no | 0.002 | 0.032 | fails from |" in text
    assert "| SA | 0.610 | 0.100 | 0.032 |" in text
    less = "-0.1250 (-0.1250 to -0.1250)"
    # at the rate of 0.032, all fail
    assert f"| 1,000 images, Adam | 0.002 to 0.002 | no | SA | 0.250 | 0.125 | {less} | 0.50 | 1.00 |" in text
    assert "| the same kind of images | ShapLU | 0.800 | +0.1000 (+0.1000 to +0.1000) |" in text
    assert (tmp_path / "where_sa_helps.md").read_text() == text
    assert (tmp_path / "where_sa_helps.png").stat().st_size > 10_000


def test_the_mean_of_settings_is_of_seeds_that_all_of_them_have():
    found = [
        row("sa_normal", seed, 0.2 * seed + 0.1 * (model == "sparse"), model=model)
        for model in ("rates", "sparse")
        for seed in range(3)
    ]
    found += [row("relu_he", seed, 0.1, model=model) for model in ("rates", "sparse") for seed in (1, 2)]
    (line,) = (line for line in analysis.comparisons(found) if line.startswith("| mean of those with 3 layers"))
    # SA's mean of three seeds, its difference of two: 0.15 and 0.35 more
    half = 12.7062 * 0.1
    assert f"| no |  | 0.100 |  |  | 0.250 | +0.2500 ({0.25 - half:+.4f} to {0.25 + half:+.4f}) |  |  |" in line


@pytest.mark.parametrize(
    ("accuracies", "words"),
    [([0.5, 0.1, 0.1], "2"), ([0.1, 0.5, 0.1], "3"), ([0.1, 0.1, 0.3], "none"), ([0.1, 0.1, 0.1], "1")],
)
def test_rates_fail_from_the_least_that_no_greater_one_survives(accuracies, words):
    ladder = [("SGD", 1.0), ("SGD", 2.0), ("SGD", 3.0)]
    # one seed of three may be an exception
    assert analysis._fails_from(ladder, [[value, value, 0.6 - value] for value in accuracies]) == words


def test_rows_of_other_settings_make_no_tables(tmp_path):
    text = STUDY.write([row("relu_he", 0, 0.5, model="another")], tmp_path)
    assert "|" not in text
    assert not (tmp_path / "where_sa_helps.png").exists()


@pytest.fixture
def file(tmp_path, rng):
    path = tmp_path / "data.npz"
    arrays = {f"x_{split}": rng.integers(0, 256, (40, 28, 28), dtype=np.uint8) for split in ("train", "test")}
    np.savez(path, **arrays, **{f"y_{split}": rng.integers(0, 10, 40) for split in ("train", "test")})
    return str(path)


@torch_only
def test_quick_run(tmp_path, file):
    command = ["--quick", "--data", file, "--out", str(tmp_path)]
    assert experiment.main(STUDY, script.__doc__, script.EXAMPLES, command) == 0
    found = rows.read(tmp_path / "where_sa_helps.jsonl")
    assert {row["run"]["activation"] for row in found} == set(script.ACTIVATIONS) and len(found) == 10
    assert all(len(row["result"]["silent"]) == 1 for row in found)


@torch_only
@pytest.mark.parametrize(
    ("pattern", "runs"), [("rates/gelu_normal/Adam_0.002/*", 1), ("converted_turned/*_0.002/*", 3)]
)
def test_gates_are_monitored_and_networks_converted(pattern, runs, tmp_path, file):
    command = ["--only", pattern, "--seeds", "1", "--epochs", "2", "--data", file, "--out", str(tmp_path)]
    assert experiment.main(STUDY, script.__doc__, script.EXAMPLES, command) == 0
    found = rows.read(tmp_path / "where_sa_helps.jsonl")
    assert len(found) == runs
    for row in found:
        assert ("closed" in row["result"]) == (row["run"]["model"] == "rates")
        assert all(len(row["result"][key]) == 2 for key in ("accuracy", "val_accuracy", "silent"))


def test_a_name_that_is_no_run(tmp_path, file, capsys):
    with pytest.raises(SystemExit):
        command = ["--only", "depth10_norm/gelu_he/*", "--data", file, "--out", str(tmp_path)]
        experiment.main(STUDY, script.__doc__, script.EXAMPLES, command)
    assert "--only depth10_norm/gelu_he/* fits none of" in capsys.readouterr().err


def test_training_does_not_depend_on_what_is_observed(mnist):
    """And observes after the epochs that it is told."""
    x, y = mnist
    run = {"activation": "gelu_normal", "optimizer": "Adam", "learning_rate": 0.01, "batch_size": 32}
    run |= {"epochs": 3, "seed": 0}
    seen = []

    def observe(model, index):
        seen.append(index)
        return hard_training.silent(model, keras.ops.convert_to_tensor(x)) is not None

    def build(run):
        return deep_mlp(run["activation"], 1, 4)

    (plain,) = training.train([run], build, (mnist, mnist))
    (watched,) = training.train([run], build, (mnist, mnist), after=[1, 3], observe=observe)
    assert watched.pop("observed") == [True, True] and seen == [0, 0]
    assert watched["loss"] == plain["loss"]
    assert watched["val_accuracy"] == [plain["val_accuracy"][0], plain["val_accuracy"][2]]
