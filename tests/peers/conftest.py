"""A fixture: the same conv net in Keras and in PyTorch."""

import keras
import pytest
from keras import layers


@pytest.fixture
def twins(rng):
    """A conv net in Keras and in PyTorch, without biases, and a batch for each."""
    torch = pytest.importorskip("torch")
    model = keras.Sequential(
        [
            keras.Input((10, 10, 3)),
            layers.Conv2D(6, 3, activation="relu", use_bias=False, name="conv1"),
            layers.MaxPooling2D(2),
            layers.Conv2D(8, 3, activation="relu", use_bias=False, name="conv2"),
            layers.GlobalAveragePooling2D(keepdims=True),
            layers.Flatten(),
            layers.Dense(12, "relu", use_bias=False),
            layers.Dense(4, use_bias=False),
        ]
    )
    twin = torch.nn.Sequential(
        torch.nn.Conv2d(3, 6, 3, bias=False),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(6, 8, 3, bias=False),
        torch.nn.ReLU(),
        torch.nn.AvgPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(8, 12, bias=False),
        torch.nn.ReLU(),
        torch.nn.Linear(12, 4, bias=False),
    )
    twin = twin.to(torch.empty(()).device)
    with torch.no_grad():
        for parameter, weight in zip(twin.parameters(), model.get_weights(), strict=True):
            order = (3, 2, 0, 1) if weight.ndim == 4 else (1, 0)
            parameter.copy_(torch.tensor(weight.transpose(order)))
    x = rng.uniform(-1, 2, size=(3, 10, 10, 3)).astype("float32")
    return model, twin, x, torch.tensor(x.transpose(0, 3, 1, 2).copy())
