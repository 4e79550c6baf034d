"""Models converted: ReLU layers to layers with Shapley activations, and back."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_shapley import layers as shapley_layers
from keras_shapley.layers.base import ShapleyLayer
from keras_shapley.layers.initializers import SANormal
from keras_shapley.layers.linear_maps import LINEAR_TYPES
from keras_shapley.layers.sa import ShapleyActivation
from keras_shapley.models.batch_norm import merged_weights
from keras_shapley.models.conversion_plan import Plan, Planner, Uses, is_time_distributed, keep_only
from keras_shapley.models.keras_internals import build_activations, is_transparent
from keras_shapley.models.tracing import trace
from keras_shapley.utils.typing import Operation, Structure
from keras_shapley.utils.validation import one_of

_PREFIXES = {"sa": "SA", "shaplu": "ShapLU"}
_OWN_OPTIONS = {"second_moment", "moment_gradient", "gradient"}
_SA_NORMAL = keras.saving.get_registered_name(SANormal)
_REPLACEABLE = ("relu", "relu6", "gelu")


@dataclasses.dataclass
class Conversion:
    """What a conversion did, by name of the layer. Its `str` is a table.

    Attributes:
        changed: what a layer was and what it is now.
        left: why a layer with weights, or an activation, is as it was.
        difference: `(mean, maximum)` of the absolute difference of the outputs on the sample data; None without data.

    Examples:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "relu", name="hidden")])
        >>> converted, report = ks.to_shapley(model)
        >>> print(report)
        1 layer changed, 0 left
          changed  hidden: Dense with relu -> SADense
    """

    changed: dict[str, str]
    left: dict[str, str]
    difference: tuple[float, float] | None = None

    def __str__(self) -> str:
        noun = "layer" if len(self.changed) == 1 else "layers"
        lines = [f"{len(self.changed)} {noun} changed, {len(self.left)} left"]
        for title, words_by_name in (("changed", self.changed), ("left", self.left)):
            lines += [f"  {title:8} {name}: {words}" for name, words in words_by_name.items()]
        if self.difference is not None:
            lines.append("outputs differ by {:.3g} on average and {:.3g} at most".format(*self.difference))
        return "\n".join(lines)


def to_shapley(
    model: keras.Model,
    activation: str = "sa",
    *,
    second_moment: str = "exact",
    only: str | Iterable[str] | None = None,
    replaces: str | Iterable[str] = "relu",
    merge_batch_norm: bool = True,
) -> tuple[keras.Model, Conversion]:
    """A model with Shapley activations, eqs. (4) and (5), in place of ReLU, and the same weights.

    Dense, EinsumDense and convolutions of every kind are converted if their activation is ReLU, or if a separate ReLU
    is all that follows them. A BatchNormalization in between is merged into the layer, because the Shapley activation
    is a function of all weighted inputs of the sum that ReLU sees. Its statistics are then frozen. Nested models, and
    layers and models inside TimeDistributed, are converted, too. The report has every layer with weights.

    `"shaplu"` leaves the outputs as they were. `"sa"` changes them, and the new model needs some training.

    Args:
        model: a built Sequential or Functional model, which is left as it is.
        activation: `"sa"` or `"shaplu"`.
        second_moment: of the new layers, `"exact"` or `"pooled"`.
        only: names of the layers to convert, `outer/inner` in nested models and in TimeDistributed. None converts all
            that can be.
        replaces: the activation that is replaced, or several: `"relu"`, `"relu6"` (which loses its upper bound) and
            `"gelu"`. The last two change the outputs with `"shaplu"` as well.
        merge_batch_norm: False leaves layers that are followed by a BatchNormalization as they are.

    Returns:
        `(model, Conversion)`. The new model has the compile settings of the old one, and a new optimizer.

    Raises:
        ValueError: on an unknown option, a name in `only` that is no layer or cannot be converted, or a model that is
            not built or subclassed.

    Examples:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "relu"), keras.layers.Dense(2)])
        >>> converted, report = ks.to_shapley(model, "shaplu")
        >>> [type(layer).__name__ for layer in converted.layers]
        ['ShapLUDense', 'Dense']
        >>> x = np.ones((1, 4))
        >>> bool(np.allclose(model.predict(x, verbose=0), converted.predict(x, verbose=0), atol=1e-6))
        True
    """
    one_of("activation", activation, tuple(_PREFIXES))
    one_of("second_moment", second_moment, ("exact", "pooled"))
    one_of("merge_batch_norm", merge_batch_norm, (True, False))
    replaces = (replaces,) if isinstance(replaces, str) else tuple(replaces)
    for name in replaces:
        one_of("replaces", name, _REPLACEABLE)
    uses = _uses(model)
    plans, left = Planner(uses, replaces, merge_batch_norm).plans()
    if only is not None:
        keep_only({only} if isinstance(only, str) else set(only), plans, left, uses)

    replacements: dict[Operation, _Replacement] = {}
    changed = {}
    for op, plan in plans.items():
        new = _shapley_layer(op, _PREFIXES[activation], second_moment, plan)
        weights = None if plan.norm is None else merged_weights(plan.norm, op)
        replacements[op] = _Replacement(new, weights)
        replacements |= {absorbed: _Replacement(None) for absorbed in plan.absorbed}
        parts = [type(op).__name__, *map(uses.described, plan.absorbed)]
        old = ", ".join(parts) + ("" if plan.activation is not None else f" with {plan.function}")
        changed[uses.names[op]] = f"{old} -> {type(new).__name__}"
    report = Conversion(changed, {uses.names[op]: reason for op, reason in left.items()})
    return _Rebuilder(replacements).rebuild(model), report


def to_relu(model: keras.Model, *, approximate: bool = False, x: Structure = None) -> tuple[keras.Model, Conversion]:
    """A model in plain Keras: its Shapley layers become their parents with ReLU, and the weights stay.

    A ShapLU layer computes ReLU, so its replacement gives the same outputs, bit by bit where the parent's layer
    computes in float32. SA, eq. (5), is another function, and its replacement an approximation.

    Args:
        model: a built Sequential or Functional model, which is left as it is.
        approximate: whether SA layers may be replaced.
        x: sample data on which to compare the outputs, or None.

    Returns:
        `(model, Conversion)`. The new model does not depend on this package. It has the compile settings of the old
        one, and a new optimizer.

    Raises:
        ValueError: if the model has SA layers and `approximate` is False, is not built, or is subclassed.

    Examples:
        >>> model = keras.Sequential([keras.Input((4,)), ks.ShapLUDense(3, name="hidden")])
        >>> plain, report = ks.to_relu(model)
        >>> report.changed
        {'hidden': 'ShapLUDense -> Dense with relu'}
    """
    one_of("approximate", approximate, (True, False))
    names = {op: name for op, name in _uses(model).names.items() if isinstance(op, ShapleyLayer)}
    inexact = [name for op, name in names.items() if isinstance(op, ShapleyActivation)]
    if inexact and not approximate:
        raise ValueError(
            f"Model '{model.name}' has SA layers, which are not ReLU: {', '.join(sorted(inexact))}. With "
            "approximate=True they are replaced all the same, and the outputs change: pass x= to see how much."
        )
    replacements = {op: _Replacement(_relu_layer(op)) for op in names}
    changed = {
        name: f"{type(op).__name__} -> {type(replacements[op].layer).__name__} with relu" for op, name in names.items()
    }
    plain = _Rebuilder(replacements).rebuild(model)
    return plain, Conversion(changed, {}, None if x is None else _difference(model, plain, x))


def _uses(model: Any) -> Uses:
    if not isinstance(model, keras.Model):
        raise ValueError(f"`model` must be a keras.Model. Received: {model!r}")
    return Uses(trace(model))


def _difference(model: keras.Model, other: keras.Model, x: Structure) -> tuple[float, float]:
    """Mean and maximum of the absolute difference of two models' outputs."""
    pairs = zip(*(keras.tree.flatten(each.predict(x, verbose=0)) for each in (model, other)))
    sizes = np.concatenate([np.abs(a - b).ravel() for a, b in pairs])
    return float(sizes.mean()), float(sizes.max())


def _shapley_layer(layer: Operation, prefix: str, second_moment: str, plan: Plan) -> ShapleyLayer:
    """The Shapley layer with the configuration of a Keras layer."""
    config = {**layer.get_config(), "second_moment": second_moment}
    del config["activation"]
    if plan.norm is not None and "use_bias" in config:
        config["use_bias"] = True
    return getattr(shapley_layers, prefix + type(layer).__name__).from_config(config)


def _relu_layer(layer: ShapleyLayer) -> layers.Layer:
    """The Keras layer with ReLU and the configuration of a Shapley layer, without initializers of this package."""
    config = {key: value for key, value in layer.get_config().items() if key not in _OWN_OPTIONS}
    for key, value in config.items():
        if isinstance(value, dict) and value.get("registered_name") == _SA_NORMAL:
            # the same for ReLU; the weights are kept anyway
            config[key] = keras.initializers.serialize(keras.initializers.HeNormal())
    parent = next(cls for cls in LINEAR_TYPES if isinstance(layer, cls))
    return parent.from_config({**config, "activation": "relu"})


@dataclasses.dataclass
class _Replacement:
    """What stands in the new model for an operation of the old one.

    Attributes:
        layer: the layer or operation; None if it is left out.
        weights: of the layer, None to take the old one's.
    """

    layer: Operation | None
    weights: list[np.ndarray] | None = None


class _Rebuilder:
    """Builds a model anew, with some operations replaced and some left out.

    Args:
        replacements: by operation of the old model. All others are made anew from their configuration.
    """

    def __init__(self, replacements: dict[Operation, _Replacement]) -> None:
        self._replacements = dict(replacements)

    def rebuild(self, model: keras.Model) -> keras.Model:
        rebuilt = self._new(model)
        build_activations(rebuilt)
        for old, replacement in self._replacements.items():
            new: Any = replacement.layer
            # the weights of a container are those of the layers in it
            is_container = is_transparent(old) or is_time_distributed(old)
            if isinstance(new, layers.Layer) and not is_container and old.weights:
                new.set_weights(old.get_weights() if replacement.weights is None else replacement.weights)
                if isinstance(new, layers.Normalization):
                    new.finalize_state()
        return rebuilt

    def _new(self, op: Operation) -> Any:
        """What stands for `op`, made once."""
        if op not in self._replacements:
            self._replacements[op] = _Replacement(self._copy(op))
        return self._replacements[op].layer

    def _copy(self, op: Operation) -> Operation | None:
        if isinstance(op, keras.Sequential) and is_transparent(op):
            return self._sequential(op)
        if is_transparent(op):
            return keras.models.clone_model(op, clone_function=self._new, call_function=_called)
        if is_time_distributed(op):
            layer = self._new(op.layer)
            return None if layer is None else layers.TimeDistributed(**{**op.get_config(), "layer": layer})
        return type(op).from_config(op.get_config())

    def _sequential(self, model: keras.Sequential) -> keras.Sequential:
        (reference,) = model.inputs
        kept = [layer for layer in map(self._new, model.layers) if layer is not None]
        start = keras.Input(batch_shape=reference.shape, dtype=reference.dtype, name=reference.name)
        new = keras.Sequential([start, *(kept or [layers.Identity()])], name=model.name, trainable=model.trainable)
        if model.compiled:
            new.compile_from_config(model.get_compile_config())
        return new


def _called(op: Operation | None, *args: Any, **kwargs: Any) -> Any:
    """What `op` gives; an operation that is left out gives its input."""
    return args[0] if op is None else op(*args, **kwargs)
