"""Each head that docs/targets.md lists, against each function that it names.

The truth is the Shapley values of the same target by their definition, over a black baseline. Behind open hidden units
without biases all functions should agree with it: exactly where logits are explained, and in every sign where a
probability is.
"""

import numpy as np
import pytest
from PIL import Image
from reference.heads import HEADS, IMAGES, outputs, shapley_values
from reference.marks import MASKS_OF_FEW_PLAYERS
from reference.paths import ROOT

import keras_shapley as ks
from keras_shapley.cli import main

PAGE = (ROOT / "docs" / "targets.md").read_text()
FUNCTIONS = (
    "`LRP`",
    "`exact_shapley_values`",
    "`sampled_shapley_values`",
    "`fast_shapley_values`, moments",
    "`fast_shapley_values`, masks",
    "`metrics`",
    "`LRPHeatmaps`",
    "command line",
)
every_head = pytest.mark.parametrize("head", HEADS)


class Case:
    """A model, its outputs for the images, and the true Shapley values of a target: of the largest output or a region.

    Attributes:
        target: indices of the outputs, or weights.
        truth: shape `(batch, pixels)`.
        total: value of the target less that without pixels, `(batch,)`.
    """

    def __init__(self, head):
        build, self.output, self.link = HEADS[head]
        self.model = build()
        self.y = outputs(self.model, self.output, IMAGES)
        rows = self.y.reshape(len(self.y), -1)
        self.target = rows.argmax(axis=1)
        values = np.stack([shapley_values(self.fn, image).reshape(4, -1) for image in IMAGES])
        self.values = values.reshape(*values.shape[:2], *self.y.shape[1:])
        self.truth = np.stack([value[:, k] for value, k in zip(values, self.target)])
        self.total = self.truth.sum(axis=1)

    def fn(self, x):
        return outputs(self.model, self.output, x)

    def weights(self):
        """Weights of one output: a contrast, or a region of a map."""
        shape = self.y.shape[1:]
        return np.linspace(-1, 1, np.prod(shape) + 1)[1:].reshape(shape)

    def weighted_truth(self):
        n = np.prod(self.y.shape[1:])
        return self.values.reshape(*self.values.shape[:2], n) @ self.weights().reshape(n)


def assert_same_signs(values, truth):
    values = values.reshape(truth.shape)
    clear = np.abs(truth) > 0.05 * np.abs(truth).max(axis=1, keepdims=True)
    assert clear.sum() > truth.size / 2
    np.testing.assert_array_equal(np.sign(values)[clear], np.sign(truth)[clear])


@every_head
def test_lrp(head):
    case = Case(head)
    explainer = ks.LRP(case.model, output=case.output)
    explanation = explainer.explain(IMAGES)
    np.testing.assert_array_equal(explanation.target, case.target)
    assert_same_signs(explanation.input, case.truth)
    np.testing.assert_allclose(explanation.head_total, case.total, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        explanation.input.reshape(case.truth.shape).sum(axis=1), case.total, rtol=1e-4, atol=1e-6
    )
    if case.link is None:
        # eq. (2) is exact on linear functions
        classic = ks.LRP(case.model, rules="paper", output=case.output).explain(IMAGES)
        np.testing.assert_allclose(classic.input.reshape(case.truth.shape), case.truth, rtol=1e-4, atol=1e-5)
        assert explanation.probability is None
    else:
        np.testing.assert_allclose(explanation.probability, case.y, rtol=1e-5)

    explanation = explainer.explain(IMAGES, case.weights())
    truth = case.weighted_truth()
    np.testing.assert_allclose(explanation.head_total, truth.sum(axis=1), rtol=1e-4, atol=1e-5)
    assert_same_signs(explanation.input, truth)


@every_head
def test_exact(head):
    case = Case(head)
    every = ks.exact_shapley_values(case.model, IMAGES, output=case.output)
    np.testing.assert_allclose(every.values, case.values, rtol=1e-4, atol=1e-5)
    largest = ks.exact_shapley_values(case.model, IMAGES, target=None, output=case.output)
    np.testing.assert_allclose(largest.values, case.truth, rtol=1e-4, atol=1e-5)
    weighted = ks.exact_shapley_values(case.model, IMAGES, target=case.weights(), output=case.output)
    np.testing.assert_allclose(weighted.values, case.weighted_truth(), rtol=1e-4, atol=1e-5)


@every_head
def test_sampled(head):
    case = Case(head)
    options = {"output": case.output, "n_paths": 400}
    largest = ks.sampled_shapley_values(case.model, IMAGES, target=None, **options)
    assert (np.abs(largest.values - case.truth) < 5 * largest.stderr + 1e-5).all()
    assert_same_signs(largest.values, case.truth)
    weighted = ks.sampled_shapley_values(case.model, IMAGES, target=case.weights(), **options)
    assert (np.abs(weighted.values - case.weighted_truth()) < 5 * weighted.stderr + 1e-5).all()


@MASKS_OF_FEW_PLAYERS
@pytest.mark.parametrize("method", ["moments", "masks"])
@every_head
def test_fast(head, method):
    case = Case(head)
    options = {"output": case.output, "method": method}
    largest = ks.fast_shapley_values(case.model, IMAGES, **options)
    assert_same_signs(largest.values, case.truth)
    np.testing.assert_allclose(largest.total, case.total, rtol=1e-4, atol=1e-6)
    weighted = ks.fast_shapley_values(case.model, IMAGES, case.weights(), **options)
    np.testing.assert_allclose(weighted.total, case.weighted_truth().sum(axis=1), rtol=1e-4, atol=1e-5)
    assert_same_signs(weighted.values, case.weighted_truth())


@every_head
def test_metrics(head):
    case = Case(head)
    explanation = ks.LRP(case.model, output=case.output).explain(IMAGES)
    options = {"output": case.output, "steps": 4}
    for target in (None, explanation.target):
        curve = ks.metrics.perturbation_curve(case.model, IMAGES, explanation, target, **options)
        rows = case.y.reshape(len(case.y), -1)
        np.testing.assert_allclose(curve[:, 0], rows[np.arange(len(rows)), case.target], rtol=1e-5)
        np.testing.assert_allclose(curve[:, 0] - curve[:, -1], case.total, rtol=1e-4, atol=1e-6)
    curve = ks.metrics.perturbation_curve(case.model, IMAGES, explanation, case.weights(), **options)
    np.testing.assert_allclose(curve[:, 0] - curve[:, -1], case.weighted_truth().sum(axis=1), rtol=1e-4, atol=1e-5)


def expected_label(case, i):
    """What a picture of image i has to say, by the model's output alone."""
    y, k = case.y[i], int(case.target[i])
    if y.ndim > 1:
        place = ", ".join(str(int(part)) for part in np.unravel_index(k, y.shape))
        name = f"output ({place})"
    else:
        name = f"class {1 if y.size == 1 else k}" if case.link else f"output {k}"
    value = y.reshape(-1)[k]
    return f"{name} ({100 * value:.0f} %)" if case.link else f"{name}: {value:.3g}"


@every_head
def test_callback(head, tmp_path, monkeypatch):
    case = Case(head)
    titles = []
    draw = ks.callbacks.heatmaps.plot_heatmaps

    def recorded(*args, **options):
        titles[:] = options["titles"]
        return draw(*args, **options)

    monkeypatch.setattr(ks.callbacks.heatmaps, "plot_heatmaps", recorded)
    callback = ks.LRPHeatmaps(IMAGES, output=case.output, directory=tmp_path, save_arrays=True)
    callback.set_model(case.model)
    callback.on_train_begin()
    callback.on_epoch_end(0)
    assert len(titles) == len(IMAGES)
    for i, title in enumerate(titles):
        assert title.splitlines()[0] == expected_label(case, i)
        assert case.link or "%" not in title and "class" not in title
    with np.load(tmp_path / "epoch_0001.npz") as arrays:
        assert_same_signs(arrays["relevance"], case.truth)


@every_head
def test_command_line(head, tmp_path, capsys):
    case = Case(head)
    case.model.save(tmp_path / "model.keras")
    files = [str(tmp_path / f"{i}.png") for i in range(len(IMAGES))]
    for file, image in zip(files, IMAGES):
        Image.fromarray(np.round(255 * image[..., 0]).astype("uint8")).save(file)
    options = ["--out", str(tmp_path / "out"), "--results", "npz"]
    options += ["--output", case.output] if case.output else []
    assert main(["explain", str(tmp_path / "model.keras"), *files, *options]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if ".png" in line]
    for i, line in enumerate(lines):
        # pixels of eight bits change the value of a logit by a little
        assert expected_label(case, i).rpartition(":" if case.link is None else "(")[0] in line
        with np.load(tmp_path / "out" / f"{i}.npz") as arrays:
            assert_same_signs(arrays["relevance"][None], case.truth[i : i + 1])
    assert len(lines) == len(IMAGES)


def test_the_docs_name_what_is_tested():
    section = PAGE.partition("## Heads and functions")[2].partition("\n## ")[0]
    text = " ".join(section.split())
    named = [name for head in HEADS for name in head.split(", ")] + [name for f in FUNCTIONS for name in f.split(", ")]
    assert not [name for name in named if name not in text]
