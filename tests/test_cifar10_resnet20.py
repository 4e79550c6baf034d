"""`reproduce/cifar10_resnet20.py`: the paper's network, its protocol, and a run that is killed and goes on."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

import keras_shapley as ks

REPRODUCE = pathlib.Path(__file__).parents[1] / "reproduce"
sys.path.insert(0, str(REPRODUCE))

import cifar10_resnet20 as script
import files

tensorflow_only = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the same on every backend")

ARMS = {"relu": keras.layers.Conv2D, "sa": ks.SAConv2D, "shaplu": ks.ShapLUConv2D}


def before(model):
    """Type of the layer in front of each layer, by name of the layer."""
    tensors = {id(layer.output): layer for layer in model.layers}
    inner = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    return {layer.name: type(tensors[id(x)]) for layer in inner for x in keras.tree.flatten(layer.input)[:1]}


def count(model, cls):
    return sum(type(layer) is cls for layer in model.layers)


@pytest.mark.parametrize("order", ["original", "paper"])
def test_parameters_are_those_of_the_keras_example(order):
    model = script.resnet20("relu", order=order)
    assert model.count_params() == 574_090
    trainable = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    # 19 normalisations, two moving statistics a channel: 16 + (16 + 16) + 3 (64, 128) ... summed by hand
    channels = 16 + (2 * 16 + 64 + 2 * 16) + (64 + 2 * 64 + 128 + 2 * 64) + (128 + 2 * 128 + 256 + 2 * 128) + 256
    assert 574_090 - trainable == 2 * channels
    assert [layer.output.shape[1:] for layer in model.layers if isinstance(layer, keras.layers.Add)] == [
        (32, 32, 64),
        (32, 32, 64),
        (16, 16, 128),
        (16, 16, 128),
        (8, 8, 256),
        (8, 8, 256),
    ]


@pytest.mark.parametrize("activation", ARMS)
def test_13_activations_behind_a_convolution_and_6_behind_an_addition(activation):
    """In the paper's order BN is behind each of the 19, and in front of none."""
    model = script.resnet20(activation)
    in_front = before(model)
    relus = [in_front[layer.name] for layer in model.layers if isinstance(layer, keras.layers.ReLU)]
    normalised = [in_front[layer.name] for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert relus.count(keras.layers.Add) == 6
    assert len(normalised) == 19
    if activation == "relu":
        assert relus.count(keras.layers.Conv2D) == 13
        assert set(normalised) == {keras.layers.ReLU}
        assert count(model, keras.layers.Conv2D) == 22
    else:
        assert len(relus) == 6
        assert count(model, ARMS[activation]) == 13
        assert count(model, keras.layers.Conv2D) == 9
        assert normalised.count(ARMS[activation]) == 13


def test_original_order_has_normalisation_in_front_of_each_activation():
    model = script.resnet20("relu", order="original")
    in_front = before(model)
    relus = [in_front[layer.name] for layer in model.layers if isinstance(layer, keras.layers.ReLU)]
    normalised = [in_front[layer.name] for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert relus == [keras.layers.BatchNormalization] * 19
    assert normalised.count(keras.layers.Conv2D) == 13
    assert normalised.count(keras.layers.Add) == 6
    with pytest.raises(ValueError, match="BN between convolution and activation"):
        script.resnet20("sa", order="original")


def test_first_block_and_skips_take_the_raw_sum():
    """The first unit has no activation of its own, and a projection sees what the addition gave, before any ReLU."""
    in_front = before(script.resnet20("relu"))
    assert in_front["stage1_block1_conv1"] is keras.layers.BatchNormalization
    assert in_front["stage1_block1_skip"] is keras.layers.BatchNormalization  # the stem's
    assert in_front["stage2_block1_skip"] is in_front["stage3_block1_skip"] is keras.layers.Add


def test_options_of_the_layers():
    model = script.resnet20("sa", second_moment="pooled")
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    for layer in convolutions:
        assert layer.padding == "same"
        assert layer.use_bias
        assert isinstance(layer.kernel_initializer, keras.initializers.HeNormal)
        assert float(layer.kernel_regularizer.l2) == pytest.approx(1e-4)
    assert len(model.losses) == 22
    assert {layer.second_moment for layer in convolutions if isinstance(layer, ks.SAConv2D)} == {"pooled"}
    strided = {layer.name for layer in convolutions if layer.strides == (2, 2)}
    assert strided == {f"stage{stage}_block1_{name}" for stage in (2, 3) for name in ("conv1", "skip")}


def test_arms_start_from_the_same_values():
    values = []
    for activation in ARMS:
        keras.utils.set_random_seed(7)
        weights = script.resnet20(activation).weights
        values.append({weight.path: keras.ops.convert_to_numpy(weight) for weight in weights})
    for other in values[1:]:
        assert other.keys() == values[0].keys()
        for path, value in other.items():
            np.testing.assert_array_equal(value, values[0][path])
    kernels = [value for path, value in values[0].items() if path.endswith("conv2/kernel")]
    assert len({kernel.tobytes() for kernel in kernels}) == 6


def test_learning_rate_is_that_of_the_keras_example():
    def example(epoch):
        factors = {180: 0.5e-3, 160: 1e-3, 120: 1e-2, 80: 1e-1}
        return next((1e-3 * factor for after, factor in factors.items() if epoch > after), 1e-3)

    for epoch in range(200):
        assert script.learning_rate(epoch) == pytest.approx(example(epoch))


@pytest.fixture(scope="module")
def data():
    """Ten training images and three test images, 8 by 8."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (13, 8, 8, 3), dtype="uint8"), rng.integers(0, 10, 13).astype("int32")
    return (images[:10], labels[:10]), (images[10:], labels[10:])


def small(seed=0):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((8, 8, 3))
    x = ks.SAConv2D(4, 3, padding="same")(inputs)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(10, activation="softmax")(x))


SETTINGS = {"activation": "sa", "second_moment": "exact", "order": "paper", "batch_size": 4, "seed": 0, "limit": None}
SETTINGS |= {"note": "a test.", "backend": keras.backend.backend(), "source": "random"}


def run(directory, data, epochs, initial=0, heatmaps=False):
    """A run of the small model; gives its result and the values of all its variables."""
    directory.mkdir(exist_ok=True)
    model = small(initial)
    checkpoint = script.Checkpoint(directory, script.describe(model, SETTINGS))
    result = script.train(model, data, checkpoint, epochs=epochs, heatmaps=heatmaps)
    values = [keras.ops.convert_to_numpy(v) for v in (*model.variables, *model.optimizer.variables)]
    return result, values


def lines(directory):
    return [json.loads(line) for line in (directory / script.HISTORY).read_text().splitlines()]


def without_times(history):
    return [{key: value for key, value in line.items() if not key.endswith("seconds")} for line in history]


@pytest.fixture(scope="module")
def uninterrupted(data, tmp_path_factory):
    """A run of three epochs: its directory, its result, its final values."""
    directory = tmp_path_factory.mktemp("uninterrupted")
    return directory, *run(directory, data, 3)


def test_resumed_run_ends_where_an_uninterrupted_one_does(uninterrupted, data, tmp_path):
    _, whole, expected = uninterrupted
    run(tmp_path, data, 1)
    # killed after the checkpoint, before the line; and the new process starts from other values
    (tmp_path / script.HISTORY).write_text("half a li")
    resumed, values = run(tmp_path, data, 3, initial=1)
    for value, other in zip(values, expected, strict=True):
        np.testing.assert_array_equal(value, other)
    assert without_times(resumed["history"]) == without_times(whole["history"])
    assert [line["epoch"] for line in resumed["history"]] == [1, 2, 3]
    assert [entry["after_epoch"] for entry in resumed["run"]["resumed"]] == [1]
    assert lines(tmp_path) == [{"run": resumed["run"]}, *resumed["history"]]


def test_finished_run_stays_as_it_is(uninterrupted, data):
    directory, whole, expected = uninterrupted
    again, values = run(directory, data, 2, initial=1)
    assert again == whole
    for value, other in zip(values, expected, strict=True):
        np.testing.assert_array_equal(value, other)


def test_training_changes_the_model_and_is_recorded(uninterrupted):
    directory, result, values = uninterrupted
    assert any(np.any(value != start) for value, start in zip(values, small().get_weights(), strict=False))
    record = result["run"]
    assert record["settings"] == SETTINGS
    assert record["layers"]["SAConv2D"] == 1
    assert set(record["versions"]) == {"python", "keras", "keras_shapley", "numpy", SETTINGS["backend"]}
    assert record["device"]
    assert str(directory) not in json.dumps(result)
    names = {"epoch", "learning_rate", "accuracy", "val_accuracy", "loss", "val_loss"}
    assert set(result["history"][0]) == names | set(script.TIMES)
    assert result["history"][2]["learning_rate"] == 1e-3


@pytest.mark.parametrize(("name", "value"), [("seed", 1), ("activation", "relu"), ("source", "x.npz"), ("note", "")])
def test_other_settings_are_refused_by_name(name, value, uninterrupted):
    directory, result, _ = uninterrupted
    other = {**result["run"], "settings": {**SETTINGS, name: value}}
    with pytest.raises(ValueError, match=f"{name} = {SETTINGS[name]!r}, not {value!r}.*another --out"):
        script.Checkpoint(directory, other)


def test_heatmaps_are_drawn_and_change_nothing(uninterrupted, data, tmp_path):
    _, whole, expected = uninterrupted
    result, values = run(tmp_path, data, 3, heatmaps=True)
    assert without_times(result["history"]) == without_times(whole["history"])
    for value, other in zip(values, expected, strict=True):
        np.testing.assert_array_equal(value, other)
    pictures = sorted(path.name for path in (tmp_path / "heatmaps").glob("*.png"))
    assert pictures == ["epoch_0001.png", "epoch_0002.png", "epoch_0003.png"]


def test_checkpoint_is_whole_or_old(tmp_path):
    """A process that dies while it writes leaves the file that was there."""
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write(content, fail):
        with files.replaced(path) as file:
            file.write(content)
            assert path.read_bytes() == b"old"
            if fail:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(b"half", fail=True)
    assert path.read_bytes() == b"old"
    write(b"new", fail=False)
    assert path.read_bytes() == b"new"


def test_table(uninterrupted, tmp_path):
    _, result, _ = uninterrupted
    (tmp_path / "sa.json").write_text(json.dumps(result))
    settings = {**SETTINGS, "activation": "relu", "second_moment": None}
    relu = {"run": {**result["run"], "settings": settings}, "history": result["history"][:1]}
    (tmp_path / "relu.json").write_text(json.dumps(relu))

    text = script.table([tmp_path / "sa.json", tmp_path / "relu.json"])
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith(("| sa", "| relu"))]
    runs = [(row[0], row[1], row[4]) for row in rows]
    assert runs == [("sa", "exact", "1"), ("sa", "exact", "2"), ("sa", "exact", "3"), ("relu", "", "1")]
    assert rows[2][6] == f"{result['history'][2]['val_accuracy']:.4f}"
    assert text.count("- Data: random. a test.\n") == 1


def test_results_in_the_repository_belong_together():
    """The table was made from the files beside it, by the script as it is, and they name no path."""
    results = REPRODUCE / "results"
    paths = sorted(results.glob("cifar10_resnet20_*.json"))
    assert (results / "cifar10_resnet20.md").read_text().endswith("\n\n" + script.table(paths))
    for path in paths:
        run = json.loads(path.read_text())["run"]
        assert run["parameters"] == 574_090
        assert "/" not in run["settings"]["source"].replace("cifar10/", "")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--activation", "gelu"], "--activation: invalid choice: 'gelu'"),
        (["--activ", "sa"], "--activ sa"),
        (["--second-moment", "pooled"], "--second-moment is for --activation sa and shaplu"),
        (["--activation", "sa", "--order", "original"], "--order original has BN between convolution and activation"),
        (["--epochs", "0"], "--epochs: must be at least 1, and is 0"),
        (["--limit", "many"], "--limit: invalid integer value: 'many'"),
        (["--seed", "-1"], "--seed: must be at least 0"),
    ],
)
def test_bad_arguments_are_named(arguments, says, capsys):
    with pytest.raises(SystemExit) as stopped:
        script.main(arguments)
    assert stopped.value.code == 2
    _, error = capsys.readouterr()
    assert says in error


@pytest.mark.parametrize("arguments", [["--data", "none.npz"], ["--table", "none.json"]])
def test_missing_file_is_one_line_and_exit_code_2(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert script.main(arguments) == 2
    output, error = capsys.readouterr()
    assert output == ""
    assert error.count("\n") == 1
    assert arguments[1] in error
    assert list(tmp_path.iterdir()) == []


def start(data, out, *arguments):
    env = {**os.environ, "PYTHONPATH": str(REPRODUCE.parent)}
    command = [sys.executable, REPRODUCE / "cifar10_resnet20.py", "--data", data, "--out", out, *arguments]
    return subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


@tensorflow_only
def test_killed_run_ends_with_the_weights_of_an_uninterrupted_one(rng, tmp_path):
    """The whole script, in processes of its own, one of them killed while it trains its second epoch."""
    images, labels = rng.integers(0, 256, (72, 32, 32, 3), dtype="uint8"), rng.integers(0, 10, 72)
    np.savez(tmp_path / "data.npz", x_train=images[:64], y_train=labels[:64], x_test=images[64:], y_test=labels[64:])
    arguments = ("--epochs", "3", "--limit", "48", "--batch-size", "8", "--seed", "2")

    whole = start(tmp_path / "data.npz", tmp_path / "whole", *arguments)
    killed = start(tmp_path / "data.npz", tmp_path / "killed", *arguments)
    history = tmp_path / "killed" / script.HISTORY
    while killed.poll() is None and not (history.exists() and history.read_text().count("\n") > 1):
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert len(lines(tmp_path / "killed")) == 2

    resumed = start(tmp_path / "data.npz", tmp_path / "killed", *arguments)
    for process in (whole, resumed):
        _, error = process.communicate()
        assert process.returncode == 0, error
    with (
        np.load(tmp_path / "killed" / script.CHECKPOINT) as ours,
        np.load(tmp_path / "whole" / script.CHECKPOINT) as theirs,
    ):
        assert ours.files == theirs.files
        for name in ours.files:
            if name != "record":
                np.testing.assert_array_equal(ours[name], theirs[name])
    results = [json.loads((tmp_path / name / script.RESULT).read_text()) for name in ("killed", "whole")]
    assert without_times(results[0]["history"]) == without_times(results[1]["history"])
    assert [entry["after_epoch"] for entry in results[0]["run"]["resumed"]] == [1]
    assert results[1]["run"]["resumed"] == []

    saved = keras.models.load_model(tmp_path / "killed" / script.MODEL)
    with np.load(tmp_path / "whole" / script.CHECKPOINT) as theirs:
        for index, variable in enumerate(saved.variables):
            np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), theirs[f"variable_{index}"])
