"""LRPHeatmaps: a picture of the present model after each epoch, and no effect on training."""

import os
import pathlib
import sys

import keras
import matplotlib.image
import numpy as np
import pytest
from keras import layers

import keras_shapley as ks

JIT = "auto" if keras.backend.backend() != "tensorflow" else False


def network(end=None):
    return keras.Sequential(
        [
            keras.Input((8, 8)),
            layers.Flatten(),
            ks.SADense(16, name="hidden"),
            layers.Dropout(0.3, seed=3),
            *(end or [layers.Dense(4, activation="softmax")]),
        ]
    )


def compiled(model, loss="sparse_categorical_crossentropy"):
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"], jit_compile=JIT)
    return model


@pytest.fixture
def data(rng):
    return rng.random((24, 8, 8)).astype("float32"), np.arange(24) % 4


def test_one_picture_every_freq_th_epoch_and_nothing_else(data, tmp_path):
    x, y = data
    heatmaps = ks.LRPHeatmaps(x[:3], y[:3], directory=tmp_path / "new" / "maps", freq=2)
    compiled(network()).fit(x, y, epochs=5, verbose=0, callbacks=[heatmaps])
    assert sorted(os.listdir(tmp_path / "new" / "maps")) == ["epoch_0002.png", "epoch_0004.png"]


def test_resumed_training_counts_on(data, tmp_path):
    x, y = data
    heatmaps = ks.LRPHeatmaps(x[:3], directory=tmp_path)
    compiled(network()).fit(x, y, initial_epoch=7, epochs=8, verbose=0, callbacks=[heatmaps])
    assert os.listdir(tmp_path) == ["epoch_0008.png"]


def test_each_epoch_shows_the_model_of_that_epoch(data, tmp_path):
    """The arrays are those of a new explainer with the weights of that epoch, and they change."""
    x, y = data
    model, weights_by_epoch = compiled(network()), []
    heatmaps = ks.LRPHeatmaps(x[:3], y[:3], directory=tmp_path, save_arrays=True)
    keep = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: weights_by_epoch.append(model.get_weights()))
    model.fit(x, y, epochs=2, verbose=0, callbacks=[keep, heatmaps])
    saved = [dict(np.load(tmp_path / f"epoch_000{epoch}.npz")) for epoch in (1, 2)]
    for weights, arrays in zip(weights_by_epoch, saved, strict=True):
        model.set_weights(weights)
        explanation = ks.LRP(model).explain(x[:3], y[:3])
        np.testing.assert_allclose(arrays["relevance"], explanation.input, atol=1e-6)
        np.testing.assert_allclose(arrays["output"], explanation.output, atol=1e-6)
        np.testing.assert_array_equal(arrays["y"], y[:3])
        np.testing.assert_array_equal(arrays["x"], x[:3])
        missing = arrays["head_total"] - arrays["relevance"].sum(axis=(1, 2))
        np.testing.assert_allclose(arrays["conservation_gap"].sum(axis=0), missing, atol=1e-5)
        assert arrays["conservation_gap"].shape == (len(arrays["calls"]), 3)
    assert np.abs(saved[0]["relevance"] - saved[1]["relevance"]).max() > 1e-4


def test_training_is_the_same_with_and_without(data, tmp_path):
    x, y = data
    results = []
    for callbacks in ([], [ks.LRPHeatmaps(x[:3], y[:3], directory=tmp_path)]):
        keras.utils.set_random_seed(5)
        model = compiled(network())
        history = model.fit(x, y, batch_size=8, epochs=3, verbose=0, callbacks=callbacks, validation_split=0.25)
        values = [*model.variables, *model.optimizer.variables]
        results.append((history.history, [keras.ops.convert_to_numpy(value) for value in values]))
    (logs, variables), (logs_with, variables_with) = results
    assert logs == logs_with
    for variable, variable_with in zip(variables, variables_with, strict=True):
        np.testing.assert_array_equal(variable, variable_with)


class Recorder:
    """An explainer that keeps the targets that it was asked for."""

    def __init__(self, model):
        self.explainer, self.targets = ks.LRP(model), []
        self.output = self.explainer.output

    def explain(self, x, target=None):
        self.targets.append(target)
        return self.explainer.explain(x, target)


@pytest.mark.once
@pytest.mark.parametrize(
    "y, target, expected",
    [([2, 0], None, [2, 0]), (None, None, None), ([2, 0], "predicted", None), ([2, 0], 3, 3), (None, 1, 1)],
)
def test_what_is_explained(y, target, expected, data, tmp_path):
    x, labels = data
    model = compiled(network())
    recorder = Recorder(model)
    heatmaps = ks.LRPHeatmaps(x[:2], y, target=target, directory=tmp_path, explainer=recorder)
    model.fit(x, labels, verbose=0, callbacks=[heatmaps])
    assert recorder.targets
    for received in recorder.targets:
        np.testing.assert_array_equal(received, expected)


@pytest.mark.once
@pytest.mark.parametrize("target", ["true", "predicted", 1, np.array([1.0])], ids=str)
@pytest.mark.parametrize("units", [4, 1])
def test_a_picture_is_as_large_whether_predictions_are_right_or_not(units, target, data, tmp_path):
    """A wrong one has further lines in its title. In an animation the images must not move."""
    x, _ = data
    end, loss = ("softmax", "sparse_categorical_crossentropy") if units > 1 else ("sigmoid", "binary_crossentropy")
    model = compiled(network([layers.Dense(units, activation=end)]), loss)
    model.optimizer.learning_rate = 0.0
    outputs = model.predict(x, verbose=0)
    right = outputs.argmax(axis=1) if units > 1 else (outputs[:, 0] > 0.5).astype(int)
    weights = np.resize(target, units) if isinstance(target, np.ndarray) else target
    sizes = set()
    for name, shown in (("right", right), ("wrong", (right + 1) % max(units, 2))):
        heatmaps = ks.LRPHeatmaps(x[:3], shown[:3], target=weights, directory=tmp_path / name)
        model.fit(x, shown, verbose=0, callbacks=[heatmaps])
        sizes.add(matplotlib.image.imread(tmp_path / name / "epoch_0001.png").shape)
    assert len(sizes) == 1


def test_flat_inputs_are_drawn_in_the_layout_of_their_images(data, tmp_path):
    x, y = data
    model = compiled(keras.Sequential([keras.Input((64,)), layers.Dense(4, activation="softmax")]))
    heatmaps = ks.LRPHeatmaps(x[:2].reshape(2, 64), y[:2], images=x[:2], directory=tmp_path)
    model.fit(x.reshape(24, 64), y, verbose=0, callbacks=[heatmaps])
    assert os.listdir(tmp_path) == ["epoch_0001.png"]


def test_images_of_five_channels_are_drawn_beside_the_images_given_for_them(rng, tmp_path):
    x, y = rng.random((6, 8, 8, 5)).astype("float32"), np.arange(6) % 2
    model = keras.Sequential([keras.Input((8, 8, 5)), layers.Flatten(), layers.Dense(2, activation="softmax")])
    heatmaps = ks.LRPHeatmaps(x[:2], y[:2], images=x[:2, ..., :3], directory=tmp_path, save_arrays=True)
    compiled(model).fit(x, y, verbose=0, callbacks=[heatmaps])
    assert sorted(os.listdir(tmp_path)) == ["epoch_0001.npz", "epoch_0001.png"]
    assert np.load(tmp_path / "epoch_0001.npz")["relevance"].shape == (2, 8, 8, 5)


def test_one_callback_serves_one_model_after_another(data, tmp_path):
    """The second picture is of the second model, not of the one that the callback met first."""
    x, y = data
    heatmaps = ks.LRPHeatmaps(x[:2], y[:2], directory=tmp_path, save_arrays=True)
    for model in (network(), network()):
        compiled(model).fit(x, y, verbose=0, callbacks=[heatmaps])
        saved = np.load(tmp_path / "epoch_0001.npz")["relevance"]
        np.testing.assert_allclose(saved, ks.LRP(model).explain(x[:2], y[:2]).input, atol=1e-6)


def test_a_part_of_a_subclassed_model_can_be_explained(data, tmp_path):
    """`LRP` refuses the model itself when training begins; its classifier is a model of its own."""

    class Wrapped(keras.Model):
        def __init__(self):
            super().__init__()
            self.classifier = network()

        def call(self, x, training=False):
            return self.classifier(x, training=training)

    x, y = data
    model = compiled(Wrapped())
    with pytest.raises(ValueError, match="Sequential and Functional"):
        model.fit(x, y, verbose=0, callbacks=[ks.LRPHeatmaps(x[:2], directory=tmp_path)])
    heatmaps = ks.LRPHeatmaps(x[:2], y[:2], directory=tmp_path, explainer=ks.LRP(model.classifier))
    model.fit(x, y, verbose=0, callbacks=[heatmaps])
    assert os.listdir(tmp_path) == ["epoch_0001.png"]


def test_training_that_diverges_is_not_stopped_by_its_pictures(data, tmp_path):
    x, y = data
    model = compiled(network())
    diverge = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: model.set_weights([w * np.nan for w in model.get_weights()]) if epoch else None
    )
    heatmaps = ks.LRPHeatmaps(x[:2], y[:2], directory=tmp_path)
    with pytest.warns(
        UserWarning, match="epoch 2, whose relevance is not finite: The output .* weights of it: .*kernel"
    ):
        history = model.fit(x, y, epochs=2, verbose=0, callbacks=[diverge, heatmaps])
    assert len(history.history["loss"]) == 2
    assert os.listdir(tmp_path) == ["epoch_0001.png"]


def test_relevance_that_is_lost_is_warned_of_once_in_a_training(data, tmp_path):
    x, y = data
    model = compiled(network())
    model.layers[1].bias.assign(np.full(model.layers[1].bias.shape, 50.0))
    explainer = ks.LRP(model, rules="epsilon")
    heatmaps = ks.LRPHeatmaps(x[:2], y[:2], directory=tmp_path, explainer=explainer)
    for _ in range(2):
        with pytest.warns(RuntimeWarning, match="epoch 1: Of the relevance .* arrives.*rules='auto'") as caught:
            model.fit(x, y, epochs=2, verbose=0, callbacks=[heatmaps])
        assert len([w for w in caught if w.category is RuntimeWarning]) == 1
    assert len(os.listdir(tmp_path)) == 2


@pytest.mark.once
def test_the_headline_names_the_rules_if_the_explainer_has_any(data, show):
    class Other:
        def __init__(self, explainer):
            self.explain, self.output = explainer.explain, explainer.output

    x, y = data
    model = network()
    for explainer, rules in [
        (ks.LRP(model, rules="paper"), ", rules paper"),
        (ks.LRP(model, rules=[(layers.Dense, "shapley")]), ", rules table"),
        (Other(ks.LRP(model)), ""),
    ]:
        headline = show(model, x[:2], y[:2], explainer=explainer).headline
        assert headline == f"Relevance of the true class{rules}, epoch 1"


def test_tensorboard_images(data, tmp_path):
    pytest.importorskip("tensorboard")
    pytest.importorskip("tensorflow")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    x, y = data
    heatmaps = ks.LRPHeatmaps(x[:2], y[:2], directory=tmp_path / "png", tensorboard_dir=tmp_path / "board")
    compiled(network()).fit(x, y, epochs=2, verbose=0, callbacks=[heatmaps])
    events = EventAccumulator(str(tmp_path / "board"), size_guidance={"tensors": 0}).Reload()
    images = events.Tensors("lrp_heatmaps")
    assert [event.step for event in images] == [1, 2]
    assert images[0].tensor_proto.string_val[2].startswith(b"\x89PNG")


def begin(model, *arguments, **options):
    heatmaps = ks.LRPHeatmaps(*arguments, **options)
    heatmaps.set_model(model)
    heatmaps.on_train_begin()


def test_a_directory_that_cannot_be_written_fails_when_training_begins(data, tmp_path):
    (tmp_path / "file").write_text("not a directory")
    for directory in (tmp_path / "file" / "maps", tmp_path / "file"):
        with pytest.raises(OSError, match="`directory` must be .*file"):
            begin(network(), data[0][:2], directory=directory)


def test_what_does_not_fit_the_model_fails_when_training_begins(data, tmp_path):
    x, y = data
    with pytest.raises(ValueError, match=r"`x`.*\(2, 8, 7\)"):
        begin(network(), x[:2, :, :7], directory=tmp_path)
    with pytest.raises(ValueError, match=r"`y`.*\[0, 4\).*7"):
        begin(network(), x[:2], [0, 7], directory=tmp_path)
    with pytest.raises(ValueError, match=r"`target`.*\[0, 4\).*9"):
        begin(network(), x[:2], target=9, directory=tmp_path)
    with pytest.raises(ValueError, match="`class_names` must have length 4"):
        begin(network(), x[:2], class_names=["a", "b"], directory=tmp_path)
    with pytest.raises(ValueError, match="'memory'"):
        cells = [layers.LSTMCell(3), layers.LSTMCell(3)]
        memory = keras.Sequential([keras.Input((8, 8)), layers.RNN(cells, name="memory"), layers.Dense(2)])
        begin(memory, x[:2], directory=tmp_path)


def test_tensorboard_that_is_not_installed_fails_when_training_begins(data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)  # as if it were not installed
    with pytest.raises(ValueError, match="`tensorboard_dir` needs TensorFlow"):
        begin(network(), data[0][:2], directory=tmp_path, tensorboard_dir=tmp_path)


@pytest.mark.once
def test_a_picture_is_never_half_written(data, tmp_path, monkeypatch):
    """If the disk is full in the middle of a file, the old picture stays whole, and training goes on."""
    x, y = data
    heatmaps = ks.LRPHeatmaps(x[:2], y[:2], directory=tmp_path)
    heatmaps.set_model(network())
    heatmaps.on_train_begin()
    heatmaps.on_epoch_end(0)
    before = (tmp_path / "epoch_0001.png").read_bytes()

    def write_half(path, content):
        with open(path, "wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError("No space left on device")

    monkeypatch.setattr(pathlib.Path, "write_bytes", write_half)
    with pytest.warns(RuntimeWarning, match="LRPHeatmaps could not write .*epoch_0001.png: No space left"):
        heatmaps.on_epoch_end(0)
    assert (tmp_path / "epoch_0001.png").read_bytes() == before
    assert os.listdir(tmp_path) == ["epoch_0001.png"]


@pytest.mark.parametrize(
    "arguments, word",
    [
        (dict(x=np.full((2, 8, 8), np.nan)), "`x`.*finite"),
        (dict(x=np.zeros((2, 8, 8)), y=[0]), r"`y`.*\(2, \.\.\.\)"),
        (dict(x=np.zeros((2, 8, 8)), y=["a", "b"]), "`y` must be numbers"),
        (dict(x=np.zeros((2, 8, 8)), y=[0, np.nan]), "`y`.*finite"),
        (dict(x=np.zeros((2, 8, 8)), target="true"), "`y`"),
        (dict(x=np.zeros((2, 8, 8)), target="best"), "`target`.*'best'"),
        (dict(x=np.zeros((2, 8, 8)), target=True), "`target`.*True"),
        (dict(x=np.zeros((2, 8, 8)), target=0.5), "`target`.*0.5"),
        (dict(x=np.zeros((2, 8, 8)), target=[0, 1]), "`target`.*weights"),
        (dict(x=np.zeros((2, 8, 8)), freq=0), "`freq`"),
        (dict(x=np.zeros((2, 8, 8)), freq=1.5), "`freq`"),
        (dict(x=np.zeros((2, 8, 8)), images=np.zeros((3, 8, 8))), "`images`"),
        (dict(x=np.zeros((2, 8, 8)), images=np.zeros((2, 8, 7))), "images"),
        (dict(x=np.zeros((2, 64))), "`x`.*images="),
        (dict(x=np.zeros((2, 8, 8, 5))), "`x`.*images="),
        (dict(x=np.zeros((2, 8, 8)), class_names="abcd"), "`class_names`"),
    ],
)
def test_bad_options_fail_at_once(arguments, word):
    with pytest.raises(ValueError, match=word):
        ks.LRPHeatmaps(**arguments)


def test_class_means_are_the_means_of_the_explanations(data, tmp_path):
    """For given and for predicted classes, in blocks of which the last is not full."""
    x, y = data
    x = np.concatenate([x] * 4)
    labels = np.concatenate([y] * 4) % 3
    for class_means, target in ((x, None), ((x, labels), labels)):
        model = compiled(network())
        heatmaps = ks.LRPHeatmaps(x[:3], y[:3], directory=tmp_path, save_arrays=True, class_means=class_means)
        model.fit(*data, verbose=0, callbacks=[heatmaps])
        explanation = ks.LRP(model).explain(x, target)
        with np.load(tmp_path / "epoch_0001.npz") as file:
            means = file["class_means"]
        assert means.shape == (4, 8, 8)
        for k in range(4):
            rows = explanation.target == k
            if rows.any():
                np.testing.assert_allclose(means[k], explanation.input[rows].mean(axis=0), atol=1e-6)
            else:
                assert np.isnan(means[k]).all()
        assert np.isnan(means[3]).all() == (target is not None or not (explanation.target == 3).any())
    assert (tmp_path / "epoch_0001_classes.png").stat().st_size > 5000


def one_unit(activation):
    return network([layers.Dense(1, activation=activation)])


@pytest.mark.once
@pytest.mark.parametrize("activation", [None, "softmax"])
def test_class_means_take_labels_as_numbers_columns_or_one_hot_rows(activation, data, show):
    x, y = data
    model = network([layers.Dense(4, activation=activation)])
    forms = (y, y[:, None], np.eye(4)[y])
    means = [show(model, x[:2], class_means=(x, labels)).arrays["class_means"] for labels in forms]
    np.testing.assert_array_equal(means[0], means[1])
    np.testing.assert_array_equal(means[0], means[2])


@pytest.mark.once
@pytest.mark.parametrize("labelled", [True, False])
def test_class_means_of_a_single_sigmoid_are_those_of_its_unit(labelled, data, show):
    """The images of both classes have the relevance of the unit; without labels p > 1/2 is class 1."""
    x, y = data
    model, labels = one_unit("sigmoid"), y % 2
    explanation = ks.LRP(model).explain(x)
    # as many images on either side of 1/2
    logits = np.log(explanation.output / (1 - explanation.output))
    model.layers[-1].bias.assign(model.layers[-1].bias - np.median(logits))
    explanation = ks.LRP(model).explain(x)
    classes = labels if labelled else (explanation.output[:, 0] > 0.5).astype(int)
    assert sorted(set(classes)) == [0, 1]
    shown = show(model, x[:2], class_means=(x, labels) if labelled else x, class_names=["well", "ill"])
    assert shown.arrays["class_means"].shape == (2, 8, 8)
    for k in (0, 1):
        expected = explanation.input[classes == k].mean(axis=0)
        np.testing.assert_allclose(shown.arrays["class_means"][k], expected, atol=1e-6)
    assert shown.class_titles == ["well", "ill"]
    assert shown.class_headline == "Mean relevance of ill, by class, rules auto, epoch 1"


@pytest.mark.once
def test_class_means_need_classes(data, show):
    x, _ = data
    maps = keras.Sequential([keras.Input((8, 8)), layers.Reshape((8, 8, 1)), layers.Conv2D(2, 1, activation="softmax")])
    for model, shape in ((one_unit(None), r"\(1,\)"), (maps, r"\(8, 8, 2\)")):
        with pytest.raises(ValueError, match=f"`class_means` needs an output with classes.*{shape}.*head='sigmoid'"):
            show(model, x[:2], class_means=x)
    logit = one_unit(None)
    shown = show(logit, x[:2], class_means=(x, np.arange(24) % 2), explainer=ks.LRP(logit, head="sigmoid"))
    assert shown.class_titles == ["class 0", "class 1"]


@pytest.mark.once
def test_class_means_of_flat_inputs_are_drawn_without_images_that_have_colours(data, tmp_path):
    """The mean image of inputs without colours cannot be shown; their mean relevance has the images' layout."""
    x, y = data
    model = compiled(keras.Sequential([keras.Input((64,)), layers.Dense(4, activation="softmax")]))
    flat, colours = x.reshape(24, 64), np.repeat(x[..., None], 3, axis=3)
    heatmaps = ks.LRPHeatmaps(flat[:2], images=colours[:2], directory=tmp_path, class_means=flat)
    model.fit(flat, y, verbose=0, callbacks=[heatmaps])
    assert sorted(os.listdir(tmp_path)) == ["epoch_0001.png", "epoch_0001_classes.png"]


@pytest.mark.once
def test_the_animation_has_a_frame_for_each_picture_of_the_training(data, tmp_path):
    from PIL import Image

    x, y = data
    heatmaps = ks.LRPHeatmaps(x[:3], y[:3], directory=tmp_path, class_means=x, animation=True, freq=2)
    model = compiled(network())
    model.fit(x, y, epochs=4, verbose=0, callbacks=[heatmaps])
    for suffix in ("", "_classes"):
        with Image.open(tmp_path / f"lrp_heatmaps{suffix}.gif") as gif:
            assert gif.n_frames == 2
            for frame, epoch in enumerate((2, 4)):
                gif.seek(frame)
                shown = np.asarray(gif.convert("RGB"), "float64")
                drawn = np.asarray(Image.open(tmp_path / f"epoch_{epoch:04d}{suffix}.png").convert("RGB"))
                assert np.abs(shown[: len(drawn), : drawn.shape[1]] - drawn).mean() < 3
                np.testing.assert_array_equal(shown[0, 0], 255)
    # one that was interrupted behind its last epoch makes its animation when it goes on
    (tmp_path / "lrp_heatmaps.gif").unlink()
    model.fit(x, y, epochs=4, initial_epoch=4, verbose=0, callbacks=[heatmaps])
    with Image.open(tmp_path / "lrp_heatmaps.gif") as gif:
        assert gif.n_frames == 2
    # a training that goes on has the pictures of its first part, and another training makes another animation
    for first, last, frames in ((4, 6, 3), (0, 2, 1)):
        model.fit(x, y, epochs=last, initial_epoch=first, verbose=0, callbacks=[heatmaps])
        with Image.open(tmp_path / "lrp_heatmaps.gif") as gif:
            assert getattr(gif, "n_frames", 1) == frames


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_means": np.zeros((5, 8, 7))}, r"`class_means` must be images of shape \(8, 8\), as `x`.*\(5, 8, 7\)"),
        ({"class_means": (np.zeros((5, 8, 8)), np.zeros(4))}, r"`class_means` must be class numbers of shape \(5,\)"),
        ({"class_means": np.full((5, 8, 8), np.nan)}, "`class_means` must be finite"),
        ({"animation": "gif"}, "`animation` must be one of True, False"),
    ],
)
def test_bad_class_means_are_named(options, message, data):
    with pytest.raises(ValueError, match=message):
        ks.LRPHeatmaps(data[0][:3], **options)


def test_a_class_that_the_model_lacks_is_named_before_training(data, tmp_path):
    heatmaps = ks.LRPHeatmaps(data[0][:3], directory=tmp_path, class_means=(data[0], np.full(24, 4)))
    with pytest.raises(ValueError, match=r"`class_means` must be in \[0, 4\), the model's classes. Received: 4"):
        compiled(network()).fit(*data, verbose=0, callbacks=[heatmaps])
