"""Relevance by zennit and captum, on a `torch.nn` twin of a network with the weights of the Keras model."""

import functools
import importlib.util
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import torch
from keras import tree
from torch import nn


def twin(model: keras.Model, add: Callable, fork: type[nn.Module] | None = None) -> nn.Module:
    """The twin of a Functional model, channels first, in inference mode.

    Args:
        model: a Keras model that calls each layer once, with the layers of a ResNet or of EfficientNet-Lite0.
        add: function that adds two tensors, or a type of module that does, with an instance for each addition.
        fork: type of module to put between a ReLU and its input where other layers share that input; None for nothing.
    """
    readers = [id(tensor) for layer in model.layers for tensor in tree.flatten(layer.input)]

    def translated(layer: keras.layers.Layer) -> Callable:
        is_a = functools.partial(isinstance, layer)
        weights = [torch.tensor(weight) for weight in layer.get_weights()]
        if is_a((keras.layers.Conv2D, keras.layers.DepthwiseConv2D)):
            is_depthwise = is_a(keras.layers.DepthwiseConv2D)
            kernel = weights[0].permute(*((2, 3) if is_depthwise else (3, 2)), 0, 1)
            n_inputs = layer.input.shape[-1]
            options = {"bias": layer.use_bias, "groups": n_inputs if is_depthwise else 1}
            padding = [before for before, after in same_padding(layer)]
            module = nn.Conv2d(n_inputs, kernel.shape[0], layer.kernel_size, layer.strides, padding, **options)
            return loaded(module, kernel, *weights[1:])
        if is_a(keras.layers.Dense):
            return loaded(nn.Linear(*weights[0].shape), weights[0].T, weights[1])
        if is_a(keras.layers.BatchNormalization):
            return loaded(nn.BatchNorm2d(len(weights[0]), eps=layer.epsilon), *weights)
        if is_a(keras.layers.MaxPooling2D):
            return nn.MaxPool2d(layer.pool_size, layer.strides)
        if is_a(keras.layers.AveragePooling2D):
            return nn.AvgPool2d(layer.pool_size, layer.strides)
        if is_a(keras.layers.GlobalAveragePooling2D):
            return nn.AdaptiveAvgPool2d(1)
        if is_a(keras.layers.ZeroPadding2D):
            return padded(layer.padding)
        if is_a(keras.layers.Add):
            return add() if isinstance(add, type) else add
        if is_a(keras.layers.Flatten):
            return lambda x: x
        forked = readers.count(id(layer.input)) > 1
        relu = nn.ReLU6() if getattr(layer, "max_value", None) == 6 else nn.ReLU()
        return nn.Sequential(fork(), relu) if fork and forked else relu

    def padded(sides: Sequence[tuple[int, int]]) -> Callable:
        # a function, because captum knows no rule for such a module
        return functools.partial(nn.functional.pad, pad=[side for pair in sides[::-1] for side in pair])

    def loaded(module: nn.Module, *values: Any) -> nn.Module:
        names = [name for name in module.state_dict() if name != "num_batches_tracked"]
        module.load_state_dict(dict(zip(names, values, strict=True)), strict=False)
        return module

    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.steps = []
            for layer in model.layers:
                if isinstance(layer, keras.layers.InputLayer):
                    continue
                sources = [id(tensor) for tensor in tree.flatten(layer.input)]
                # what a module cannot add: a zero more behind than before
                more = [(0, after - before) for before, after in same_padding(layer)]
                if np.any(more):
                    self.steps.append((padded(more), sources, ("padded", layer.name)))
                    sources = [("padded", layer.name)]
                self.steps.append((translated(layer), sources, id(layer.output)))
            self.parts = nn.ModuleList(step for step, *_ in self.steps if isinstance(step, nn.Module))

        def forward(self, x):
            values = {id(model.input): x}
            for step, sources, result in self.steps:
                inputs = [values[source] for source in sources]
                # as a Flatten in front would do: after the pooling only channels are left
                inputs = [inputs[0].flatten(1)] if isinstance(step, nn.Linear) else inputs
                values[result] = step(*inputs)
            return values[id(model.output)]

    return Twin().eval().to(model.variables[0].value.device)


def same_padding(layer: keras.layers.Layer) -> list[tuple[int, int]]:
    """Zeros before and behind both axes of the images of a convolution; of other layers none."""
    if not hasattr(layer, "kernel_size"):
        return []
    if layer.padding != "same":
        return [(0, 0), (0, 0)]
    sizes = zip(layer.input.shape[1:3], layer.kernel_size, layer.strides)
    totals = [max(size - (n % stride or stride), 0) for n, size, stride in sizes]
    return [(total // 2, total - total // 2) for total in totals]


def zennit(model: keras.Model, x: torch.Tensor, weights: torch.Tensor, epsilon: float) -> Callable[[], torch.Tensor]:
    """A function without arguments that computes LRP-epsilon of `x` by zennit.

    Args:
        weights: of the outputs, in the sum that is explained.
    """
    if "torchvision" not in sys.modules and not importlib.util.find_spec("torchvision"):
        # zennit imports torchvision for networks of its own
        stub = {"__getattr__": lambda self, name: type(name, (torch.nn.Module,), {}), "__path__": []}
        for path in ("", ".models", ".models.resnet", ".models.vgg", ".ops", ".ops.misc"):
            name = f"torchvision{path}"
            sys.modules[name] = type("Stub", (types.ModuleType,), stub)(name)
    from zennit import rules
    from zennit import types as kinds
    from zennit.attribution import Gradient
    from zennit.composites import LayerMapComposite
    from zennit.layer import Sum

    class Addition(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.sum = Sum()

        def forward(self, *addends):
            return self.sum(torch.stack(addends, dim=-1))

    table = [
        (kinds.Linear, rules.Epsilon(epsilon)),
        ((Sum, kinds.AvgPool), rules.Norm(epsilon)),
        ((kinds.Activation, kinds.BatchNorm), rules.Pass()),
    ]
    attributor = Gradient(twin(model, Addition), LayerMapComposite(table))
    attributor.__enter__()  # the hooks stay for all calls
    return lambda: attributor(x.detach(), lambda output: weights * output.detach())[1]


def captum(model: keras.Model, x: torch.Tensor, target: np.ndarray, epsilon: float) -> Callable[[], torch.Tensor]:
    """A function without arguments that computes LRP-epsilon of `x` by captum."""
    from captum.attr import LRP
    from captum.attr._utils.custom_modules import Addition_Module
    from captum.attr._utils.lrp_rules import EpsilonRule, IdentityRule

    class Pass(IdentityRule):
        """IdentityRule that also passes relevance on to a ReLU in front."""

        def _create_backward_hook_input(self, inputs):
            def hook(gradient):
                gradient.replace_out = self.relevance_output[gradient.device]
                return gradient.replace_out

            return hook

    class Copy(torch.nn.Module):
        def forward(self, x):
            return x.clone()

    attributed = twin(model, Addition_Module, fork=Copy)
    with_epsilon = (torch.nn.Conv2d, torch.nn.Linear, torch.nn.AvgPool2d, torch.nn.AdaptiveAvgPool2d, Addition_Module)
    classes = torch.tensor(target, device=x.device)

    def attribute():
        # captum removes the rules after each call
        for module in attributed.modules():
            # captum has no rule for ReLU6
            if isinstance(module, (torch.nn.BatchNorm2d, torch.nn.ReLU6)):
                module.rule = Pass()
            elif isinstance(module, Copy):
                module.rule = EpsilonRule(1e-9)
            elif isinstance(module, with_epsilon):
                module.rule = EpsilonRule(epsilon)
        return LRP(attributed).attribute(x.detach().requires_grad_(), target=classes)

    return attribute
