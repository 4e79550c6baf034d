"""Which output is explained, and what it is called."""

import keras
import numpy as np
import pytest
from keras import layers

from command_line.saved import constant, save
from keras_shapley.cli import main


def run(capsys, *options):
    """The line of the picture that the command prints."""
    assert main(["explain", *map(str, options)]) == 0
    return capsys.readouterr().out.splitlines()[-2]


@pytest.mark.once
def test_a_single_sigmoid_is_explained_by_its_unit(pictures, tmp_path, capsys):
    """By the unit's number, by the label 1 and by the name of class 1; titles name class 1 and what is predicted."""
    path = constant(tmp_path / "sigmoid.keras", "sigmoid", np.log(0.46 / 0.54))
    names = tmp_path / "names.txt"
    names.write_text("well\nill\n")
    out = tmp_path / "out"
    options = [path, pictures[0], "--out", out, "--results", "npz", "--overwrite"]
    for target in ([], ["--target", "0"], ["--target", "1"]):
        assert run(capsys, *options, *target) == f"{out / 'cat.png'}  class 1 (46 %), predicted: class 0 (54 %)"
        with np.load(out / "cat.npz") as arrays:
            assert sorted(arrays) == ["output", "probability", "relevance", "target"]
            assert arrays["target"] == 0
    line = run(capsys, *options, "--classes", names, "--target", "ill")
    assert line.endswith("  ill (46 %), predicted: well (54 %)")
    assert main(["explain", *map(str, options), "--classes", str(names), "--target", "well"]) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert "the probability of ill, and the blue pixels of its map speak for well" in printed


@pytest.mark.once
@pytest.mark.parametrize("target", [[], ["--target", "0"], ["--target", "1"]])
def test_a_single_sigmoid_is_never_negated(target, pictures, tmp_path, capsys):
    """Bright pixels lower the probability, and all targets say so."""
    unit = layers.Dense(1, "sigmoid", kernel_initializer=keras.initializers.Constant(-0.02))
    path = save(keras.Sequential([keras.Input((8, 8)), layers.Flatten(), unit]), tmp_path / "sigmoid.keras")
    run(capsys, path, pictures[0], "--out", tmp_path / "out", "--results", "npz", *target)
    with np.load(tmp_path / "out" / "cat.npz") as arrays:
        assert (arrays["relevance"] < 0).all()


@pytest.mark.once
def test_a_regression_has_no_class_and_no_percentage(pictures, tmp_path, capsys):
    path = constant(tmp_path / "price.keras", None, 3.2)
    out = tmp_path / "out"
    for target in ([], ["--target", "0"]):
        line = run(capsys, path, pictures[0], "--out", out, "--results", "npz", "--overwrite", *target)
        assert line == f"{out / 'cat.png'}  output 0: 3.2"
        with np.load(out / "cat.npz") as arrays:
            assert sorted(arrays) == ["output", "relevance", "target"]
            # what is the same for every image comes from no pixel
            np.testing.assert_array_equal(arrays["relevance"], 0)
    (tmp_path / "names.txt").write_text("price\n")
    line = run(capsys, path, pictures[0], "--out", out, "--classes", tmp_path / "names.txt", "--target", "price")
    assert line.endswith("  price: 3.2")


@pytest.mark.once
def test_logits_have_classes_if_these_have_names(pictures, tmp_path, capsys):
    path = constant(tmp_path / "logits.keras", None, 1.0, 6.1, 4.2)
    options = [path, pictures[0], "--out", tmp_path / "out", "--target", "2"]
    assert run(capsys, *options).endswith("  output 2: 4.2")
    (tmp_path / "names.txt").write_text("ant\ncat\ndog\n")
    assert run(capsys, *options, "--classes", tmp_path / "names.txt").endswith("  dog: 4.2, predicted: cat (6.1)")


@pytest.mark.once
def test_one_of_several_outputs_is_explained_by_its_name_or_number(pictures, tmp_path, capsys):
    image = keras.Input((8, 8))
    flat = layers.Flatten()(image)
    price = layers.Dense(1, bias_initializer="ones", kernel_initializer="zeros", name="price")(flat)
    kind = layers.Dense(4, "softmax", kernel_initializer="zeros", name="kind")(flat)
    path = save(keras.Model(image, [price, kind]), tmp_path / "two.keras")
    options = [path, pictures[0], "--out", tmp_path / "out"]
    for output in ("price", "0"):
        assert run(capsys, *options, "--output", output).endswith("  output 0: 1")
    for output in ("kind", "1"):
        line = run(capsys, *options, "--output", output, "--target", "3")
        assert line.endswith("  class 3 (25 %), predicted: class 0 (25 %)")
    for refused in ([], ["--output", "size"], ["--output", "2"]):
        assert main(["explain", *map(str, options), *refused]) == 2
        printed = capsys.readouterr().err
        assert printed.startswith("keras_shapley: error: --output must ") and printed.count("\n") == 1
