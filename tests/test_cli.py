"""`python -m keras_shapley explain`: pictures of the relevance of LRP, and one line for an error."""

import pathlib
import re

import keras
import matplotlib.image
import numpy as np
import pytest
from keras import layers, ops
from PIL import Image

import keras_shapley as ks
from keras_shapley.cli import main


def save(model, path):
    model.save(path)
    return str(path)


@pytest.fixture
def grey(tmp_path):
    """A model of grey images without an axis of channels."""
    keras.utils.set_random_seed(0)
    end = [layers.Flatten(), ks.SADense(8), layers.Dense(3, "softmax")]
    return save(keras.Sequential([keras.Input((8, 8)), *end]), tmp_path / "grey.keras")


@pytest.fixture
def colour(tmp_path):
    """A model of coloured images of any size that rescales their pixels itself."""
    keras.utils.set_random_seed(0)
    body = [layers.Rescaling(1 / 255), layers.Conv2D(4, 3, activation="relu"), layers.GlobalAveragePooling2D()]
    return save(keras.Sequential([keras.Input((None, None, 3)), *body, layers.Dense(1)]), tmp_path / "colour.keras")


@pytest.fixture
def pictures(tmp_path, rng):
    """Two image files of the same name and of the grey model's size."""
    paths = [tmp_path / "cat.png", tmp_path / "more" / "cat.png"]
    paths[1].parent.mkdir()
    for path in paths:
        matplotlib.image.imsave(path, rng.uniform(size=(8, 8, 3)))
    return [str(path) for path in paths]


def test_nothing_of_the_user_is_overwritten(grey, pictures, tmp_path):
    """Neither an image, nor an earlier picture unless it is asked for."""
    before = [pathlib.Path(path).read_bytes() for path in pictures]
    assert main(["explain", grey, pictures[0], "--out", str(tmp_path)]) == 0
    assert main(["explain", grey, *pictures, "--out", str(tmp_path), "--overwrite"]) == 0
    assert [pathlib.Path(path).read_bytes() for path in pictures] == before
    first = (tmp_path / "cat_2.png").read_bytes()
    assert main(["explain", grey, pictures[1], "--out", str(tmp_path)]) == 0
    assert (tmp_path / "cat_2.png").read_bytes() == first and (tmp_path / "cat_4.png").exists()

    out = tmp_path / "out"
    for options, names in [
        ([], ["cat.npz", "cat.png"]),
        (["--overwrite"], ["cat.npz", "cat.png"]),
        ([], ["cat.npz", "cat.png", "cat_2.npz", "cat_2.png"]),
    ]:
        assert main(["explain", grey, pictures[0], "--out", str(out), "--arrays", *options]) == 0
        assert sorted(path.name for path in out.iterdir()) == names


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--target", "²"], "--target must be a number below 3, and is ²"),
        (["--range", "1", "1"], "--range must be two numbers, the lower first, and is 1 1"),
        (["--range", "2", "1"], "--range must be two numbers"),
        (["--range", "0", "1e39"], "--range must be two numbers"),
        (["--output", "²"], "--output: "),
    ],
)
def test_odd_numbers_are_named(options, message, grey, pictures, capsys):
    assert main(["explain", grey, pictures[0], *options]) == 2
    assert message in capsys.readouterr().err


def test_a_long_error_is_cut(tmp_path, pictures, capsys, monkeypatch):
    def load_model(*arguments, **options):
        raise ValueError("a" * 10_000)

    monkeypatch.setattr(keras.models, "load_model", load_model)
    assert main(["explain", pictures[0], pictures[0]]) == 2
    assert len(capsys.readouterr().err) < 600


def test_what_was_done_to_an_image_is_said(grey, tmp_path, capsys):
    path = tmp_path / "clear.png"
    Image.fromarray(np.zeros((8, 8, 4), "uint8")).save(path)
    assert main(["explain", grey, str(path), "--out", str(tmp_path / "out")]) == 0
    assert "clear.png: transparent pixels are white" in capsys.readouterr().out


def test_the_relevance_is_that_of_the_resized_grey_image(grey, pictures, tmp_path, capsys):
    out = tmp_path / "out"
    names = tmp_path / "names.txt"
    names.write_text("cat\ndog\nowl\n")
    options = ["--out", str(out), "--arrays", "--classes", str(names), "--target", "dog"]
    assert main(["explain", grey, *pictures, *options]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["cat.npz", "cat.png", "cat_2.npz", "cat_2.png"]
    assert matplotlib.image.imread(out / "cat_2.png").shape[2] == 4
    printed = capsys.readouterr().out
    assert "pixels are scaled to the range 0 to 1\n" in printed and "cat_2.png" in printed and "dog (" in printed

    red, green, blue = np.moveaxis(np.round(255 * matplotlib.image.imread(pictures[1])[..., :3]), -1, 0)
    x = (np.floor(0.299 * red + 0.587 * green + 0.114 * blue + 0.5) / 255).astype("float32")
    expected = ks.LRP(keras.models.load_model(grey)).explain(x[None], 1)
    with np.load(out / "cat_2.npz") as arrays:
        np.testing.assert_allclose(arrays["relevance"], expected.input[0], atol=1e-4)
        np.testing.assert_allclose(arrays["probability"], expected.probability[0], atol=1e-3)
        np.testing.assert_allclose(arrays["output"], expected.output[0], atol=1e-3)
        assert arrays["target"] == 1


def test_options_of_range_size_rules_and_target(colour, pictures, tmp_path, capsys):
    out = tmp_path / "out"
    sized = ["explain", colour, pictures[0], "--out", str(out), "--arrays", "--overwrite", "--size", "6", "9"]
    relevance = {}
    for name, options in {
        "own": [],
        "same": ["--range", "0", "255"],
        "small": ["--range", "0", "1"],
        "unit": ["--target", "0"],
        "rules": ["--rules", "epsilon_plus"],
        "paper": ["--rules", "paper"],
        "merged": ["--rules", "paper", "--merge-batch-norm"],
        "bright": ["--baseline", "255"],
        "preprocess": ["--preprocess", "efficientnet"],
    }.items():
        assert main([*sized, *options]) == 0
        with np.load(out / "cat.npz") as file:
            relevance[name] = file["relevance"]
    assert relevance["own"].shape == (6, 9, 3)
    for name in ("same", "unit", "preprocess"):
        np.testing.assert_allclose(relevance[name], relevance["own"], atol=1e-6)
    np.testing.assert_allclose(relevance["merged"], relevance["paper"], atol=1e-6)
    assert np.abs(relevance["bright"] - relevance["own"]).max() > 1e-6
    assert np.abs(relevance["small"] - relevance["own"]).max() > 1e-6
    assert np.abs(relevance["rules"] - relevance["own"]).max() > 1e-6
    assert "0 to 255" in capsys.readouterr().out


def constant(path, activation, *outputs):
    """A saved model of grey images whose logits are these numbers for every image."""
    model = keras.Sequential([keras.Input((8, 8)), layers.Flatten(), layers.Dense(len(outputs), activation)])
    model.layers[-1].set_weights([np.zeros((64, len(outputs))), np.array(outputs)])
    return save(model, path)


def run(capsys, *options):
    """The last line that the command prints."""
    assert main(["explain", *map(str, options)]) == 0
    return capsys.readouterr().out.splitlines()[-1]


def test_a_single_sigmoid_is_explained_by_its_unit(pictures, tmp_path, capsys):
    """By the unit's number, by the label 1 and by the name of class 1; titles name class 1 and what is predicted."""
    path = constant(tmp_path / "sigmoid.keras", "sigmoid", np.log(0.46 / 0.54))
    names = tmp_path / "names.txt"
    names.write_text("well\nill\n")
    out = tmp_path / "out"
    options = [path, pictures[0], "--out", out, "--arrays", "--overwrite"]
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


@pytest.mark.parametrize("target", [[], ["--target", "0"], ["--target", "1"]])
def test_a_single_sigmoid_is_never_negated(target, pictures, tmp_path, capsys):
    """Bright pixels lower the probability, and all targets say so."""
    unit = layers.Dense(1, "sigmoid", kernel_initializer=keras.initializers.Constant(-0.02))
    path = save(keras.Sequential([keras.Input((8, 8)), layers.Flatten(), unit]), tmp_path / "sigmoid.keras")
    run(capsys, path, pictures[0], "--out", tmp_path / "out", "--arrays", *target)
    with np.load(tmp_path / "out" / "cat.npz") as arrays:
        assert (arrays["relevance"] < 0).all()


def test_a_regression_has_no_class_and_no_percentage(pictures, tmp_path, capsys):
    path = constant(tmp_path / "price.keras", None, 3.2)
    out = tmp_path / "out"
    for target in ([], ["--target", "0"]):
        line = run(capsys, path, pictures[0], "--out", out, "--arrays", "--overwrite", *target)
        assert line == f"{out / 'cat.png'}  output 0: 3.2"
        with np.load(out / "cat.npz") as arrays:
            assert sorted(arrays) == ["output", "relevance", "target"]
            # what is the same for every image comes from no pixel
            np.testing.assert_array_equal(arrays["relevance"], 0)
    (tmp_path / "names.txt").write_text("price\n")
    line = run(capsys, path, pictures[0], "--out", out, "--classes", tmp_path / "names.txt", "--target", "price")
    assert line.endswith("  price: 3.2")


def test_logits_have_classes_if_these_have_names(pictures, tmp_path, capsys):
    path = constant(tmp_path / "logits.keras", None, 1.0, 6.1, 4.2)
    options = [path, pictures[0], "--out", tmp_path / "out", "--target", "2"]
    assert run(capsys, *options).endswith("  output 2: 4.2")
    (tmp_path / "names.txt").write_text("ant\ncat\ndog\n")
    assert run(capsys, *options, "--classes", tmp_path / "names.txt").endswith("  dog: 4.2, predicted: cat (6.1)")


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
        assert printed.startswith("keras_shapley: error: --output: ") and printed.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["{grey}", "{tmp}/no.png"], "no such file: .*no.png"),
        (["{tmp}/no.keras", "{cat}"], "no such file: .*no.keras"),
        (["{tmp}/text.txt", "{cat}"], "text.txt cannot be loaded as a Keras model: "),
        (["{grey}", "{cat}", "{tmp}/text.txt"], "text.txt cannot be read as an image"),
        (["{grey}", "{cat}", "--target", "3"], "--target must be a number below 3, and is 3"),
        (["{grey}", "{cat}", "--target", "owl"], "--target must be a number below 3, and is owl"),
        (["{grey}", "{cat}", "--classes", "{tmp}/text.txt"], "text.txt has 1 names, and the model has 3 classes"),
        (["{sigmoid}", "{cat}", "--classes", "{tmp}/text.txt"], "text.txt has 1 names, and the model has 2 classes"),
        (["{sigmoid}", "{cat}", "--target", "2"], "--target must be a number below 2, and is 2"),
        (["{price}", "{cat}", "--target", "1"], "--target must be 0, and is 1"),
        (["{maps}", "{cat}", "--classes", "{tmp}/text.txt"], r"--classes is for outputs of one axis.*\(8, 2\)"),
        (["{maps}", "{cat}", "--target", "16"], "--target must be a number below 16, and is 16"),
        (["{grey}", "{cat}", "--classes", "{cat}"], "cat.png cannot be read as names of classes"),
        (["{grey}", "{cat}", "--size", "9", "9"], r"--size must fit the model's input of shape \(8, 8\)"),
        (["{colour}", "{cat}"], "images of any size: choose one by --size HEIGHT WIDTH"),
        (["{grey}", "{cat}", "--preprocess", "resnet99"], "--preprocess must be one of .*vgg16.*, and is resnet99"),
        (["{grey}", "{cat}", "--batch-size", "0"], "--batch-size must be 1 or more"),
        (["{vector}", "{cat}"], r"must take one batch of images, and takes inputs of shape \[\(8,\)\]"),
        (["{five}", "{cat}"], "must take images of 1 or 3 channels, and takes 5"),
        (["{grey}", "{cat}", "--out", "{tmp}/text.txt"], "--out.* must be a directory that can be made"),
    ],
)
def test_an_error_is_one_line_and_nothing_is_written(options, message, grey, colour, pictures, tmp_path, capsys):
    (tmp_path / "text.txt").write_text("just one line\n")
    places = {"grey": grey, "colour": colour, "cat": pictures[0], "tmp": tmp_path}
    for name, shape, end in (
        ("vector", (8,), [layers.Dense(2)]),
        ("five", (8, 8, 5), [layers.Flatten(), layers.Dense(2)]),
        ("sigmoid", (8, 8), [layers.Flatten(), layers.Dense(1, "sigmoid")]),
        ("price", (8, 8), [layers.Flatten(), layers.Dense(1)]),
        ("maps", (8, 8), [layers.Dense(2, "softmax")]),
    ):
        if f"{{{name}}}" in options:
            places[name] = save(keras.Sequential([keras.Input(shape), *end]), tmp_path / f"{name}.keras")
    before = sorted(tmp_path.rglob("*"))
    out = [] if "--out" in options else ["--out", str(tmp_path / "out")]
    assert main(["explain", *(word.format(**places) for word in options), *out]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("keras_shapley: error: ") and printed.err.count("\n") == 1
    assert re.search(message, printed.err), printed.err
    assert sorted(tmp_path.rglob("*")) == before


def test_weights_that_are_not_finite_are_named(pictures, tmp_path, capsys):
    model = keras.Sequential([keras.Input((8, 8)), layers.Flatten(), layers.Dense(3, name="broken")])
    model.get_layer("broken").bias.assign([0.0, np.nan, 1.0])
    path = save(model, tmp_path / "broken.keras")
    assert main(["explain", path, pictures[0], "--out", str(tmp_path / "out")]) == 2
    assert "NaN or infinite, as are weights of it: broken/bias" in capsys.readouterr().err


def test_relevance_that_overflows_is_an_error_and_is_not_drawn(pictures, tmp_path, capsys, monkeypatch):
    model = keras.Sequential([keras.Input((8, 8)), layers.Flatten(), layers.Dense(3, name="out")])
    model.get_layer("out").set_weights([np.full((64, 3), 1e38, "float32"), np.zeros(3, "float32")])
    path = save(model, tmp_path / "huge.keras")
    assert not np.isfinite(ops.convert_to_numpy(model(np.ones((1, 8, 8), "float32")))).all()
    assert main(["explain", path, pictures[0], "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert pictures[0] in error and re.search("output of model .* is NaN or infinite", error)
    assert not list((tmp_path / "out").iterdir())


def test_relevance_that_is_lost_is_a_warning_with_the_option_that_helps(pictures, tmp_path, capsys):
    model = keras.Sequential([keras.Input((8, 8)), layers.Flatten(), layers.Dense(3, name="out")])
    model.get_layer("out").bias.assign(np.full(3, 50.0))
    path = save(model, tmp_path / "biased.keras")
    options = ["--out", str(tmp_path / "out"), "--rules", "epsilon", "--batch-size", "1"]
    assert main(["explain", path, *pictures, *options]) == 0
    printed = capsys.readouterr().err
    assert printed.count("keras_shapley: warning:") == 1
    assert re.search("Of the relevance .* % arrives .* at 'out'.*--rules auto", printed)
    assert len(list((tmp_path / "out").iterdir())) == 2
    assert main(["explain", path, *pictures, *options[:2]]) == 0
    assert "warning" not in capsys.readouterr().err


def test_the_headline_of_a_picture_names_rules_and_baseline(grey, pictures, tmp_path, monkeypatch):
    headlines = []
    monkeypatch.setattr(
        "keras_shapley.cli.plot_heatmaps",
        lambda *arguments, title, **options: headlines.append(title) or ks.plot_heatmaps(*arguments, **options),
    )
    for options in ([], ["--baseline", "0.5"], ["--rules", "paper"]):
        assert main(["explain", grey, pictures[0], "--out", str(tmp_path / "out"), *options]) == 0
    assert headlines == [
        "Relevance, rules auto, from a baseline of 0",
        "Relevance, rules auto, from a baseline of 0.5",
        "Relevance, rules paper",
    ]
