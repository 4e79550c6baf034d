"""`reproduce/figure6_interpretation.py`: maps of Figs. 6 and 7, image by image, and the pictures from their file."""

import figure6_interpretation as script
import keras
import matplotlib.image
import numpy as np
import pytest

import keras_shapley as ks
from lab.analysis import figure6
from lab.gradients import input_gradients
from lab.networks import mnist_mlp


@pytest.fixture
def images(rng):
    x = rng.uniform(0.1, 1, (3, 28, 28)).astype("float32")
    x[rng.random(x.shape) < 0.8] = 0
    return x


def test_maps_are_means_of_relevance_per_grey_where_there_is_grey(images, monkeypatch):
    monkeypatch.setattr(script, "BLOCK", 2)
    keras.utils.set_random_seed(0)
    model = mnist_mlp("relu")
    found = script.maps(model, images, seed=1)
    for players in ("features", "logits"):
        options = {"head_method": "sampled", "n_paths": figure6.PATHS, "seed": 1}
        explainer = ks.LRP(model, rules="paper", head_players=players, **options)
        for digit in (0, 7):
            approve, reject = np.zeros((28, 28)), np.zeros((28, 28))
            for image in images:
                relevance = keras.ops.convert_to_numpy(explainer(image[None], digit))[0]
                for place in zip(*np.nonzero(image)):
                    value = float(relevance[place]) / float(image[place]) / len(images)
                    (approve if value > 0 else reject)[place] += abs(value)
            for sign, expected in enumerate((approve, reject)):
                np.testing.assert_allclose(found[players][sign, digit], expected, rtol=2e-3, atol=1e-5)
                assert expected.max() > 1e-3


def test_sensitivity_is_the_slope_of_the_probability(images):
    keras.utils.set_random_seed(0)
    model = mnist_mlp("gelu")
    slopes = script.sensitivity(input_gradients(model), images)
    direction = np.random.default_rng(0).normal(size=images.shape).astype("float32")
    step = np.float32(1e-2)
    ahead, behind = (keras.ops.convert_to_numpy(model(images + sign * step * direction)) for sign in (1, -1))
    along = np.sum(slopes * direction[:, None], axis=(2, 3))
    np.testing.assert_allclose(along, (ahead - behind) / (2 * step), rtol=2e-2, atol=1e-3)
    assert np.abs(along).max() > 0.02


def test_the_gradient_without_black_pixels_is_that_of_each_image_where_it_is_grey(images):
    keras.utils.set_random_seed(0)
    model = mnist_mlp("gelu")
    found = script.maps(model, images, seed=1)
    parts = script.sensitivity(input_gradients(model), images) * (images > 0)[:, None]
    np.testing.assert_allclose(found["ink"][0], np.maximum(parts, 0).mean(axis=0), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(found["ink"][0] - found["ink"][1], parts.mean(axis=0), rtol=1e-3, atol=1e-6)
    assert found["ink"].max() > 0 and not np.array_equal(found["ink"], found["sensitivity"])


def test_a_map_of_the_expected_shape_correlates_fully():
    rng = np.random.default_rng(0)
    x, y = rng.random((40, 28, 28)), np.arange(40) % 10
    expected = np.array([x[y == digit].mean(axis=0) - x[y != digit].mean(axis=0) for digit in range(10)])
    found = script.nearness({"logits": np.array([np.maximum(expected, 0), np.maximum(-expected, 0)])}, x, y)
    np.testing.assert_allclose(found["logits"], 1)


@pytest.mark.once
def test_quick_run_and_table_again(tmp_path, rng, capsys):
    path = tmp_path / "data.npz"
    arrays = {f"x_{split}": rng.integers(0, 256, (40, 28, 28), dtype=np.uint8) for split in ("train", "test")}
    np.savez(path, **arrays, **{f"y_{split}": np.arange(40) % 10 for split in ("train", "test")})
    assert script.main(["--quick", "--images", "4", "--data", str(path), "--out", str(tmp_path)]) == 0
    text = (tmp_path / "figure6.md").read_text()
    assert all(name in text for name in figure6.READINGS.values()) and "4 images, 1000 paths" in text
    for name in ("figure6.png", "figure7.png"):
        assert matplotlib.image.imread(tmp_path / name)[..., :3].std() > 0.05
        (tmp_path / name).unlink()
    assert script.main(["--table", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "figure6.md").read_text() == text
    assert (tmp_path / "figure6.png").exists() and (tmp_path / "figure7.png").exists()


def test_no_maps_is_an_error(tmp_path, capsys):
    with pytest.raises(SystemExit):
        script.main(["--table", "--out", str(tmp_path)])
    assert "figure6.npz" in capsys.readouterr().err
