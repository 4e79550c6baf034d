"""Models converted: ReLU layers to layers with Shapley activations, and back."""

import collections
import dataclasses

import keras
import numpy as np
from keras import layers, ops

from keras_shapley import layers as keras_shapley_layers
from keras_shapley.layers.base import ShapleyLayer
from keras_shapley.layers.initializers import SANormal
from keras_shapley.layers.linear_maps import LINEAR_TYPES, linear_map
from keras_shapley.layers.sa import ShapleyActivation
from keras_shapley.models.batch_norm import Merge, along_the_channels
from keras_shapley.models.graph import Call
from keras_shapley.models.keras_internals import RELU_OPERATIONS
from keras_shapley.models.layer_types import activation_name
from keras_shapley.models.tracing import is_open, trace
from keras_shapley.utils.validation import one_of

_PARENTS = (
    layers.Dense,
    layers.EinsumDense,
    layers.Conv1D,
    layers.Conv2D,
    layers.Conv3D,
    layers.DepthwiseConv2D,
)
_PREFIXES = {"sa": "SA", "shaplu": "ShapLU"}
_OWN_OPTIONS = {"second_moment", "moment_gradient", "gradient"}
_SA_NORMAL = keras.saving.get_registered_name(SANormal)
_REPLACEABLE = ("relu", "relu6", "gelu")


@dataclasses.dataclass
class Conversion:
    """What a conversion did, by name of the layer; in print, a table.

    Attributes:
        changed: what a layer was and what it is now.
        left: why a layer with weights, or an activation, is as it was.
        difference: of the outputs on the sample data, `(mean, maximum)` of the absolute value; None without data.
    """

    changed: dict
    left: dict
    difference: tuple | None = None

    def __str__(self):
        lines = [f"{len(self.changed)} layers changed, {len(self.left)} left"]
        for title, found in (("changed", self.changed), ("left", self.left)):
            lines += [f"  {title:8} {name}: {words}" for name, words in found.items()]
        if self.difference is not None:
            lines.append("outputs differ by {:.3g} on average and {:.3g} at most".format(*self.difference))
        return "\n".join(lines)


@dataclasses.dataclass
class _Plan:
    """What becomes of a linear layer: which normalisation and activation behind it go into the new one."""

    function: str
    norm: Call | None = None
    activation: Call | None = None

    @property
    def absorbed(self):
        return [call for call in (self.norm, self.activation) if call is not None]


def to_shapley(model, activation="sa", *, second_moment="exact", only=None, replaces="relu", merge_batch_norm=True):
    """A model with Shapley activations in place of ReLU, and the same weights.

    Dense, EinsumDense, Conv1D, Conv2D, Conv3D and DepthwiseConv2D layers are converted where their activation is ReLU,
    or a separate ReLU is all that follows them. A BatchNormalization in between is merged into the layer: the Shapley
    activation is a function of the weighted inputs of the sum that ReLU sees, of which the normalisation is a part. Its
    statistics stay what they are, as if it were frozen. `"shaplu"` leaves the model's outputs as they were, `"sa"` does
    not: the model wants some training.

    Args:
        model: a built Sequential or Functional model, which is left as it is. Nested models are converted too.
        activation: `"sa"` or `"shaplu"`.
        second_moment: of the new layers, `"exact"` or `"pooled"`.
        only: names of the layers to convert, `outer/inner` in nested models; None for all that can be.
        replaces: the activation that is replaced, or a tuple of several: `"relu"`, `"relu6"`, which loses its upper
            bound, and `"gelu"`. With the last two `"shaplu"` changes the outputs as well.
        merge_batch_norm: False to leave layers that are followed by a BatchNormalization as they are.

    Returns:
        `(model, Conversion)`. The new model has the compile settings of the old one, and a new optimizer.

    Raises:
        ValueError: on an unknown option, a name in `only` that is no layer or cannot be converted, or a model that is
            not built or subclassed.
    """
    one_of("activation", activation, tuple(_PREFIXES))
    one_of("second_moment", second_moment, ("exact", "pooled"))
    one_of("merge_batch_norm", merge_batch_norm, (True, False))
    replaces = (replaces,) if isinstance(replaces, str) else tuple(replaces)
    for name in replaces:
        one_of("replaces", name, _REPLACEABLE)
    graph = _trace(model)
    plans, left = _plans(graph, replaces, merge_batch_norm)
    names = {id(call.op): call.name.partition(":")[0] for call in reversed(graph.calls)}
    if only is not None:
        _choose(only, plans, left, names, graph)
    made, dropped, weights, changed = {}, set(), {}, {}
    for call, plan in plans.items():
        made[id(call.op)] = _shapley(call.op, _PREFIXES[activation], second_moment, plan)
        dropped |= {id(part.op) for part in plan.absorbed}
        if plan.norm is not None:
            weights[id(call.op)] = _merged(call.op, plan.norm)
        was = [type(call.op).__name__, *(f"'{part.name}' ({type(part.op).__name__})" for part in plan.absorbed)]
        was = ", ".join(was) + f" with {plan.function}" * (plan.activation is None)
        changed[names[id(call.op)]] = f"{was} -> {type(made[id(call.op)]).__name__}"
    left = {names[id(call.op)]: why for call, why in left.items()}
    return _Rebuilt(made, dropped, weights).of(model), Conversion(changed, left)


def to_relu(model, *, approximate=False, x=None):
    """The model in plain Keras: its Shapley layers become their parents with ReLU, the weights stay.

    A ShapLU layer computes what ReLU does, so such a model gives the same outputs, bit by bit where the parent's layer
    computes in float32. SA is another function, and its replacement an approximation.

    Args:
        model: a built Sequential or Functional model, which is left as it is.
        approximate: whether SA layers may be replaced.
        x: sample data on which to compare the outputs, or None.

    Returns:
        `(model, Conversion)`. The new model does not depend on this package; it has the compile settings of the old
        one, and a new optimizer.

    Raises:
        ValueError: if the model has SA layers and `approximate` is False, is not built, or is subclassed.
    """
    one_of("approximate", approximate, (True, False))
    graph = _trace(model)
    calls = {id(call.op): call for call in reversed(graph.calls) if isinstance(call.op, ShapleyLayer)}
    inexact = [call.name for call in calls.values() if isinstance(call.op, ShapleyActivation)]
    if inexact and not approximate:
        raise ValueError(
            f"Model '{model.name}' has SA layers, which are not ReLU: {', '.join(sorted(inexact))}. With "
            "approximate=True they are replaced all the same, and the outputs change: pass x= to see how much."
        )
    made = {key: _plain(call.op) for key, call in calls.items()}
    changed = {
        call.name.partition(":")[0]: f"{type(call.op).__name__} -> {type(made[key]).__name__} with relu"
        for key, call in calls.items()
    }
    plain = _Rebuilt(made, set(), {}).of(model)
    return plain, Conversion(changed, {}, None if x is None else _difference(model, plain, x))


def _trace(model):
    if not isinstance(model, keras.Model):
        raise ValueError(f"`model` must be a keras.Model. Received: {model!r}")
    return trace(model)


def _difference(model, other, x):
    """Mean and maximum of the absolute difference of two models' outputs."""
    found = [keras.tree.flatten(one.predict(x, verbose=0)) for one in (model, other)]
    sizes = np.concatenate([np.abs(a - b).ravel() for a, b in zip(*found)])
    return float(sizes.mean()), float(sizes.max())


def _plans(graph, replaces, merge_batch_norm):
    """`({call: _Plan}, {call: reason})`: of the layers that can be converted, and of those that cannot."""
    users = collections.defaultdict(list)
    for call in graph.calls:
        for value in call.inputs:
            users[value].append(call)
    for value in graph.outputs:
        users[value].append(None)
    by_op = collections.defaultdict(list)
    for call in graph.calls:
        by_op[id(call.op)].append(call)

    plans, left = {}, {}
    for calls in by_op.values():
        op = calls[0].op
        if isinstance(op, ShapleyLayer):
            left[calls[0]] = "it is a Shapley layer already"
        elif isinstance(op, LINEAR_TYPES):
            found = [_plan(call, users, replaces, merge_batch_norm) for call in calls]
            ops_behind = {tuple(id(part.op) for part in plan.absorbed) for plan in found if isinstance(plan, _Plan)}
            if isinstance(found[0], str) or len(ops_behind) != 1 or any(isinstance(plan, str) for plan in found):
                left[calls[0]] = next((why for why in found if isinstance(why, str)), "what follows it differs by call")
            else:
                plans[calls[0]] = found[0]
    _drop_shared(plans, left, by_op)
    absorbed = {id(part.op) for plan in plans.values() for part in plan.absorbed}
    for calls in by_op.values():
        op = calls[0].op
        alone = isinstance(op, (layers.ReLU, layers.Activation, *RELU_OPERATIONS))
        if alone and activation_name(op) in replaces and id(op) not in absorbed:
            left[calls[0]] = "no layer of its own is in front of it that can be converted"
    return plans, left


def _plan(call, users, replaces, merge_batch_norm):
    """The `_Plan` of a linear call, or the reason why there is none."""
    op = call.op
    if type(op) not in _PARENTS:
        return f"there is no Shapley layer for {type(op).__name__}"
    if op.quantization_mode is not None:
        return "it is quantized"
    function = activation_name(op)
    if function in replaces:
        return _Plan(function)
    if function != "linear":
        return f"its activation is {function}"
    norm, follower = None, _only_user(users, call)
    if follower is not None and type(follower.op) is layers.BatchNormalization:
        norm, follower = follower, _only_user(users, follower)
    alone = follower is not None and len(follower.inputs) == 1 and not isinstance(follower.op, LINEAR_TYPES)
    function = activation_name(follower.op) if alone else ""
    if function not in replaces:
        return f"{function or 'no activation'} follows it"
    if norm is None:
        return _Plan(function, activation=follower)
    if not merge_batch_norm:
        return f"'{norm.name}' (BatchNormalization) follows it"
    if op.bias is None and type(op) is layers.EinsumDense or not along_the_channels(norm, call):
        return f"'{norm.name}' (BatchNormalization) cannot be merged into it"
    return _Plan(function, norm, follower)


def _only_user(users, call):
    found = users[call.outputs[0]]
    return found[0] if len(found) == 1 else None


def _drop_shared(plans, left, by_op):
    """Takes out the plans whose normalisation or activation serves other layers as well, until none does."""
    while True:
        planned = {id(call.op) for call in plans}
        absorbed = {id(part.op) for plan in plans.values() for part in plan.absorbed}

        def serves_others(part):
            in_front = (call.inputs[0].producer for call in by_op[id(part.op)])
            return any(call is None or id(call.op) not in planned | absorbed for call in in_front)

        shared = {call: part for call, plan in plans.items() for part in plan.absorbed if serves_others(part)}
        if not shared:
            return
        for call, part in shared.items():
            left[call] = f"'{part.name}' ({type(part.op).__name__}) behind it serves other layers as well"
            del plans[call]


def _choose(only, plans, left, names, graph):
    """Takes out the plans that are not wanted."""
    only = {only} if isinstance(only, str) else set(only)
    unknown = sorted(only - set(names.values()))
    if unknown:
        possible = ", ".join(names[id(call.op)] for call in plans) or "none"
        raise ValueError(f"`only` names layers that the model has not: {', '.join(unknown)}. Convertible: {possible}")
    by_name = {names[id(call.op)]: call for call in graph.calls}
    for name in sorted(only):
        if name not in {names[id(call.op)] for call in plans}:
            why = next((why for call, why in left.items() if names[id(call.op)] == name), "it has no weights")
            raise ValueError(f"`only` names {by_name[name].description}, which cannot be converted: {why}.")
    for call in [call for call in plans if names[id(call.op)] not in only]:
        left[call] = "it was not asked for"
        del plans[call]


def _shapley(layer, prefix, second_moment, plan):
    """The Shapley layer with the configuration of a Keras layer."""
    config = {**layer.get_config(), "second_moment": second_moment}
    del config["activation"]
    if plan.norm is not None and "use_bias" in config:
        config["use_bias"] = True
    return getattr(keras_shapley_layers, prefix + type(layer).__name__).from_config(config)


def _plain(layer):
    """The Keras layer with the configuration of a Shapley layer, and ReLU; no initializer is of this package."""
    config = {key: value for key, value in layer.get_config().items() if key not in _OWN_OPTIONS}
    for key, value in config.items():
        if isinstance(value, dict) and value.get("registered_name") == _SA_NORMAL:
            # what it is to ReLU; the weights are kept
            config[key] = keras.initializers.serialize(keras.initializers.HeNormal())
    parent = next(cls for cls in _PARENTS if isinstance(layer, cls))
    return parent.from_config({**config, "activation": "relu"})


def _merged(layer, norm):
    """Weights of a layer with the normalisation behind it merged in."""
    merged = Merge(behind=norm)(linear_map(layer), ops.zeros((1,), "float32"))
    return [ops.convert_to_numpy(merged.kernel), ops.convert_to_numpy(merged.bias).reshape(-1)]


class _Rebuilt:
    """Models anew, with some layers replaced and some left out.

    Args:
        made: new layers by the identity of the old one.
        dropped: identities of operations that are left out.
        weights: of new layers, by the identity of the old one, where they are not the old one's.
    """

    def __init__(self, made, dropped, weights):
        self.made, self.dropped, self.weights = made, dropped, weights
        # `(old, new)` by the identity of the old one; of what is left out, new is None
        self.pairs = {}

    def of(self, model):
        found = self._new(model)
        for old, new in self.pairs.values():
            if isinstance(new, layers.Layer) and not isinstance(new, keras.Model) and old.weights:
                new.set_weights(self.weights.get(id(old), old.get_weights()))
                if isinstance(new, layers.Normalization):
                    new.finalize_state()
        return found

    def _new(self, op):
        if id(op) not in self.pairs:
            self.pairs[id(op)] = op, self._made(op)
        return self.pairs[id(op)][1]

    def _made(self, op):
        if id(op) in self.dropped:
            return None
        if id(op) in self.made:
            return self.made[id(op)]
        if isinstance(op, keras.Sequential):
            return self._sequential(op)
        if is_open(op):
            return keras.models.clone_model(op, clone_function=self._new, call_function=_called)
        return type(op).from_config(op.get_config())

    def _sequential(self, model):
        (reference,) = model.inputs
        kept = [layer for layer in map(self._new, model.layers) if layer is not None]
        start = keras.Input(batch_shape=reference.shape, dtype=reference.dtype, name=reference.name)
        new = keras.Sequential([start, *(kept or [layers.Identity()])], name=model.name, trainable=model.trainable)
        if model.compiled:
            new.compile_from_config(model.get_compile_config())
        return new


def _called(op, *args, **kwargs):
    return args[0] if op is None else op(*args, **kwargs)
