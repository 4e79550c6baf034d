"""`reproduce/cifar10_resnet20.py`: the paper's protocol, and a run that is killed and goes on."""

import functools
import json
import math
import os
import signal
import subprocess
import sys
import time

import cifar10_resnet20 as script
import keras
import matplotlib.image
import numpy as np
import pytest
from reference.paths import REPRODUCE

import keras_shapley as ks
from lab import experiment, rows, runs
from lab.analysis import figure5
from lab.checkpoint import CHECKPOINT, HISTORY, Checkpoint


def test_learning_rate_is_that_of_the_keras_example():
    def example(epoch):
        factors = {180: 0.5e-3, 160: 1e-3, 120: 1e-2, 80: 1e-1}
        return next((1e-3 * factor for after, factor in factors.items() if epoch > after), 1e-3)

    rate = script.paper_rate(7)
    for epoch in range(200):
        steps = range(7 * epoch, 7 * (epoch + 1))
        assert [float(rate(step)) for step in (steps[0], steps[-1])] == pytest.approx([example(epoch)] * 2)


@pytest.mark.once
def test_short_schedule_has_one_cycle_of_the_learning_rate():
    """Up in a line in the first quarter of all steps, then down to 0 as half a cosine."""
    steps = 40
    rate = script.short_rate(steps)
    expected = [0.004 * step / 10 for step in range(10)]
    expected += [0.002 * (1 + math.cos(math.pi * (step - 10) / 30)) for step in range(10, steps + 1)]
    assert [float(rate(step)) for step in range(steps + 1)] == pytest.approx(expected, abs=1e-9)
    assert (expected[10], expected[40]) == (0.004, 0.0)


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


RUN = {"model": "resnet20", "activation": "sa", "seed": 0, "batch_size": 4, "data": "random"}
SCHEDULES = {"paper": RUN, "short": RUN | {"schedule": "short", "epochs": 3}}


def run(directory, data, epochs, initial=0, heatmaps=False, settings=RUN):
    """A run of the small model; gives its result and the values of all its variables."""
    directory.mkdir(exist_ok=True)
    model = small(initial)
    result = script.train(model, data, Checkpoint(directory, settings), epochs, heatmaps)
    return result, [keras.ops.convert_to_numpy(v) for v in (*model.variables, *model.optimizer.variables)]


def lines(directory):
    return [json.loads(line) for line in (directory / HISTORY).read_text().splitlines()]


def without_times(result):
    return {name: values for name, values in result.items() if name != "seconds"}


@pytest.fixture(scope="module")
def uninterrupted(data, tmp_path_factory):
    """A run of three epochs: its directory, its result, its final values."""
    directory = tmp_path_factory.mktemp("uninterrupted")
    return directory, *run(directory, data, 3)


class Killed(Exception):
    pass


class Killer(Checkpoint):
    """Raises once the checkpoint of the first epoch is there."""

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        raise Killed


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_resumed_run_ends_where_an_uninterrupted_one_does(schedule, uninterrupted, data, tmp_path):
    settings = SCHEDULES[schedule]
    whole, expected = uninterrupted[1:] if schedule == "paper" else run(tmp_path / "whole", data, 3, settings=settings)
    directory = tmp_path / "killed"
    directory.mkdir()
    with pytest.raises(Killed):
        script.train(small(), data, Killer(directory, settings), 3, heatmaps=False)
    # killed after the checkpoint, before the line; and the new process starts from other values
    (directory / HISTORY).write_text("half a li")
    resumed, values = run(directory, data, 3, initial=1, settings=settings)
    for value, other in zip(values, expected, strict=True):
        np.testing.assert_array_equal(value, other)
    assert without_times(resumed) == without_times(whole)
    assert resumed["epoch"] == [line["epoch"] for line in lines(directory)] == [1, 2, 3]
    # of the first of three steps in each epoch; two of nine are a quarter
    first_steps = [0.0, 0.002 * (1 + math.cos(math.pi / 7)), 0.002 * (1 + math.cos(math.pi * 4 / 7))]
    rates = {"paper": [1e-3] * 3, "short": first_steps}
    assert resumed["learning_rate"] == pytest.approx(rates[schedule], rel=1e-5)


def test_paper_run_is_trained_on_and_ends_as_a_longer_one_does(uninterrupted, data, tmp_path):
    _, whole, expected = uninterrupted
    run(tmp_path, data, 1)
    longer, values = run(tmp_path, data, 3, initial=1)
    assert without_times(longer) == without_times(whole)
    for value, other in zip(values, expected, strict=True):
        np.testing.assert_array_equal(value, other)


def test_finished_run_stays_as_it_is(uninterrupted, data):
    directory, whole, expected = uninterrupted
    again, values = run(directory, data, 2, initial=1)
    assert again == {name: numbers[:2] for name, numbers in whole.items()}
    for value, other in zip(values, expected, strict=True):
        np.testing.assert_array_equal(value, other)


def test_training_changes_the_model_and_is_recorded(uninterrupted):
    _, result, values = uninterrupted
    model = small()
    is_kernel = [variable.name == "kernel" for variable in model.weights]
    pairs = zip(values, model.get_weights(), is_kernel)
    assert any(is_kernel) and all(np.any(value != start) for value, start, one in pairs if one)
    names = {"epoch", "learning_rate", "accuracy", "val_accuracy", "loss", "val_loss", "seconds"}
    assert set(result) == names
    assert result["learning_rate"] == [1e-3] * 3


@pytest.mark.parametrize(("name", "value"), [("seed", 1), ("activation", "relu"), ("data", "x.npz")])
def test_another_run_is_refused_by_name(name, value, uninterrupted):
    directory, *_ = uninterrupted
    with pytest.raises(ValueError, match=f"{name} = {RUN[name]!r}, not {value!r}.*another --out"):
        Checkpoint(directory, {**RUN, name: value})


def test_heatmaps_are_drawn_and_change_nothing(uninterrupted, data, tmp_path):
    _, whole, expected = uninterrupted
    result, values = run(tmp_path, data, 3, heatmaps=True)
    assert without_times(result) == without_times(whole)
    for value, other in zip(values, expected, strict=True):
        np.testing.assert_array_equal(value, other)
    pictures = sorted(path.name for path in (tmp_path / "heatmaps").glob("*.png"))
    assert pictures == ["epoch_0001.png", "epoch_0002.png", "epoch_0003.png"]


def test_runs_of_two_schedules_are_told_apart():
    paper, short = (
        each.runs(["resnet20"], ["relu"], seeds=1, epochs=8, limit=None)[0] for each in (script.PAPER, script.SHORT)
    )
    longer = script.SHORT.runs(["resnet20"], ["relu"], seeds=1, epochs=9, limit=None)[0]
    assert "schedule" not in paper and short["schedule"] == "short"
    settings = ("Adam_0.001", "Adam_0.004/short_8", "Adam_0.004/short_9")
    assert [rows.name(run) for run in (paper, short, longer)] == [f"resnet20/relu/{name}/seed0" for name in settings]
    where = {"data": "somewhere", "backend": "torch"}
    assert len({rows.key(run, where) for run in (paper, {**paper, "schedule": "short"})}) == 2


def test_short_schedule_compares_all_activations_of_a_seed_before_the_next_seed(tmp_path):
    short = script.SHORT
    wanted = short.runs(list(short.models), short.activations, short.seeds, short.epochs, None)
    performed = []
    runs.carry_out(
        wanted,
        lambda group: performed.extend(group) or [{"accuracy": [0.5]} for _ in group],
        tmp_path / "figure5.jsonl",
        {"data": "none", "backend": "torch"},
    )
    arms = [(run["seed"], run["activation"]) for run in performed]
    assert arms == [(seed, name) for seed in range(3) for name in ("relu", "sa", "sa_pooled", "gelu")]


def row(activation, seed, last, model="resnet20", epochs=2):
    settings = {"model": model, "activation": activation, "optimizer": "Adam", "learning_rate": 0.001, "seed": seed}
    result = {"accuracy": [0.1, last - 0.1], "val_accuracy": [0.1, last], "seconds": [30.0, 10.0]}
    where = {"data": "somewhere", "backend": "torch", "device": "cpu", "versions": {"keras": "3"}, "commit": "c0ffee"}
    return {"run": settings | {"epochs": epochs}, "result": result, **where}


def test_table_compares_within_a_network(tmp_path):
    found = [row("relu", seed, 0.5) for seed in range(2)] + [row("sa", seed, 0.6 + 0.02 * seed) for seed in range(2)]
    found += [row("sa", 0, 0.9, model="resnet20_units"), row("relu", 0, 0.7, epochs=3)]
    text = figure5.write(found, tmp_path)
    short, long = text.split("## 3 epochs")
    half = 12.7062 * 0.01
    interval = f"({0.11 - half:+.4f} to {0.11 + half:+.4f})"
    assert f"| 0.6100 ± 0.0141 (2) | +0.1100 {interval} |\n" in short
    assert "| resnet20_units | sa | 0.8000 |  | 0.9000 |  |\n" in short
    assert "| resnet20 | relu | 0.6000 |  | 0.7000 |  |\n" in long
    assert (tmp_path / "figure5.md").read_text() == text
    assert matplotlib.image.imread(tmp_path / "figure5.png")[..., :3].std() > 0.05


def test_longer_runs_are_compared_by_the_epochs_that_shorter_ones_had(tmp_path):
    long = row("relu", 0, 0.7, epochs=3)
    long["result"] = {"accuracy": [0.1, 0.2, 0.3], "val_accuracy": [0.4, 0.5, 0.6]}
    other = row("relu", 0, 0.8, epochs=3)
    other["run"]["limit"] = 640
    short = row("sa", 0, 0.55)
    assert [found["result"]["val_accuracy"][-1] for found in figure5.until([long, short], 2)] == [0.55, 0.5]
    assert len(figure5.until([long, other], 2)) == 2
    # a run that was trained on is there once
    assert figure5.until([long, row("relu", 0, 0.51)], 2) == [row("relu", 0, 0.51)]
    assert figure5.until([long, short], 3) == [long]
    text = figure5.write([long, short], tmp_path)
    assert "| resnet20 | relu | 0.2000 |  | 0.5000 |  |\n" in text.split("## 3 epochs")[0]
    assert "| resnet20 | sa | 0.4500 | +0.2500 (1 seed) | 0.5500 | +0.0500 (1 seed) |\n" in text


def short_row(activation, seed, curve, epochs=2):
    found = row(activation, seed, 0.5, epochs=epochs)
    found["run"] |= {"schedule": "short", "batch_size": 128, "learning_rate": 0.004}
    seconds = [10.0, 30.0] if activation == "relu" else [50.0, 13.0]
    found["result"] = {"accuracy": curve, "val_accuracy": curve, "seconds": seconds}
    return found


def test_short_runs_are_compared_with_short_ones_of_the_same_length(tmp_path):
    paper = [row("relu", 0, 0.7), row("sa", 0, 0.8)]
    short = [short_row("relu", seed, [0.3, 0.5]) for seed in range(2)]
    short += [short_row("sa", 0, [0.5, 0.6]), short_row("sa", 1, [0.2, 0.4])]
    longer = short_row("sa", 0, [0.1, 0.9, 0.9], epochs=3)
    found = [*paper, *short, longer]
    # their rates depend on their length, so that they cannot be cut
    assert figure5.until(found, 2) == [*paper, *short]
    assert figure5.longest(found) == paper and figure5.short(found) == short

    ours, theirs, other = figure5.write(found, tmp_path).split("## ")[1:]
    ours, theirs = sorted((ours, theirs), key=lambda text: "short" not in text)
    assert theirs.startswith("2 epochs, all images") and "+0.1000 (1 seed)" in theirs and "time" not in theirs
    assert ours.startswith("2 epochs, short schedule, all images, torch")
    assert "2 epochs in batches of 128 with one cycle of Adam's learning rate, up to 0.004 and down to 0." in ours
    half = 12.7062 * 0.1
    assert f"| 0.5000 ± 0.1414 (2) | +0.0000 ({-half:+.4f} to {half:+.4f}) |\n" in ours
    # SA's first epochs are 0.2 above and 0.1 below
    first = f"+0.0500 ({0.05 - 1.5 * half:+.4f} to {0.05 + 1.5 * half:+.4f})"
    assert "| resnet20 | relu |  | 2, 2 | 2, 2 | 1.00 |\n" in ours
    assert f"| resnet20 | sa | {first} | 1, never | 1, never | 1.30 |\n" in ours
    assert other.startswith("3 epochs, short schedule")


main = functools.partial(experiment.main, script.FIGURE5, script.__doc__, script.EXAMPLES)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--activations", "tanh"], "--activations: invalid choice: 'tanh'"),
        (["--models", "resnet50"], "--models: invalid choice: 'resnet50'"),
        (["--schedule", "long"], "--schedule: invalid choice: 'long'"),
        (["--epochs", "0"], "--epochs: must be at least 1, and is 0"),
        (["--data", "none.npz"], "none.npz: no such file"),
    ],
)
def test_bad_arguments_are_named(arguments, says, capsys, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--out", str(tmp_path)])
    assert stopped.value.code == 2
    assert says in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.once
def test_quick_run(rng, tmp_path, capsys):
    path = tmp_path / "data.npz"
    arrays = {f"x_{split}": rng.integers(0, 256, (40, 32, 32, 3), dtype="uint8") for split in ("train", "test")}
    np.savez(path, **arrays, **{f"y_{split}": rng.integers(0, 10, 40) for split in ("train", "test")})
    command = ["--quick", "--activations", "relu", "sa_pooled", "--data", str(path), "--out", str(tmp_path)]
    assert main(command) == 0
    found = rows.read(tmp_path / "figure5.jsonl")
    assert [(row["run"]["activation"], row["run"]["limit"], row["result"]["epoch"]) for row in found] == [
        ("relu", 640, [1]),
        ("sa_pooled", 640, [1]),
    ]
    assert "| resnet20 | sa_pooled |" in capsys.readouterr().out
    directory = tmp_path / "runs" / "resnet20_sa_pooled_Adam_0.001_seed0"
    assert (directory / script.MODEL).exists() and (directory / "heatmaps" / "epoch_0001.png").exists()


@pytest.mark.once
def test_short_run_of_another_length_is_another_run(rng, tmp_path):
    path = tmp_path / "data.npz"
    arrays = {f"x_{split}": rng.integers(0, 256, (8, 32, 32, 3), dtype="uint8") for split in ("train", "test")}
    np.savez(path, **arrays, **{f"y_{split}": rng.integers(0, 10, 8) for split in ("train", "test")})
    command = ["--schedule", "short", "--seeds", "1", "--activations", "relu", "--models", "resnet20_joint"]
    command += ["--data", str(path), "--out", str(tmp_path)]
    for epochs in ("1", "2"):
        assert main([*command, "--epochs", epochs]) == 0
    found = rows.read(tmp_path / "figure5.jsonl")
    assert [row["result"]["learning_rate"] for row in found] == [[0.004], [0.004, 0.002]]
    assert {row["run"]["batch_size"] for row in found} == {128}
    directories = [f"resnet20_joint_relu_Adam_0.004_short_{epochs}_seed0" for epochs in (1, 2)]
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == directories


@pytest.mark.parametrize(("arguments", "defaults"), [([], "default: 200"), (["--schedule", "short"], "default: 8)")])
def test_help_shows_the_defaults_of_a_schedule_and_says_whose_it_is(arguments, defaults, capsys):
    with pytest.raises(SystemExit):
        main([*arguments, "--help"])
    text = capsys.readouterr().out
    assert defaults in text and "--schedule short is ours, and not the paper's" in text


def start(data, out):
    env = {**os.environ, "PYTHONPATH": str(REPRODUCE.parent)}
    command = [sys.executable, REPRODUCE / "cifar10_resnet20.py", "--data", data, "--out", out, "--activations", "sa"]
    command += ["--seeds", "1", "--epochs", "3", "--limit", "96"]
    return subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


@pytest.mark.once
def test_killed_run_ends_with_the_weights_of_an_uninterrupted_one(rng, tmp_path):
    """The whole script, in processes of its own, one of them killed while it trains its second epoch."""
    images, labels = rng.integers(0, 256, (104, 32, 32, 3), dtype="uint8"), rng.integers(0, 10, 104)
    np.savez(tmp_path / "data.npz", x_train=images[:96], y_train=labels[:96], x_test=images[96:], y_test=labels[96:])
    directories = {name: tmp_path / name / "runs" / "resnet20_sa_Adam_0.001_seed0" for name in ("whole", "killed")}

    whole, killed = (start(tmp_path / "data.npz", tmp_path / name) for name in ("whole", "killed"))
    history = directories["killed"] / HISTORY
    while killed.poll() is None and not (history.exists() and history.read_text().count("\n") > 0):
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert len(lines(directories["killed"])) == 1 and not (tmp_path / "killed" / "figure5.jsonl").exists()

    resumed = start(tmp_path / "data.npz", tmp_path / "killed")
    for process in (whole, resumed):
        _, error = process.communicate()
        assert process.returncode == 0, error
    with (
        np.load(directories["killed"] / CHECKPOINT) as ours,
        np.load(directories["whole"] / CHECKPOINT) as theirs,
    ):
        assert ours.files == theirs.files
        for name in ours.files:
            if name != "record":
                np.testing.assert_array_equal(ours[name], theirs[name])
    (ours,), (theirs,) = (rows.read(tmp_path / name / "figure5.jsonl") for name in ("killed", "whole"))
    assert without_times(ours["result"]) == without_times(theirs["result"])

    saved = keras.models.load_model(directories["killed"] / script.MODEL)
    with np.load(directories["whole"] / CHECKPOINT) as theirs:
        for index, variable in enumerate(saved.variables):
            np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), theirs[f"variable_{index}"])
