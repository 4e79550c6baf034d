"""Layer-wise relevance propagation through a whole Keras model, eq. (2)."""

import dataclasses

import keras
import numpy as np
from keras import ops, tree

from keras_shapley import presets
from keras_shapley import rules as lrp_rules
from keras_shapley._backend import compiled
from keras_shapley._graph import in_order, trace
from keras_shapley._validation import finite, one_of
from keras_shapley.head import Head
from keras_shapley.linear import LINEAR_TYPES

_ELEMENTWISE_FUNCTIONS = {
    getattr(module, name, None)
    for module in (keras.activations, ops)
    for name in (
        "celu elu exponential gelu hard_shrink hard_sigmoid hard_silu hard_tanh leaky_relu linear log_sigmoid mish "
        "relu relu6 selu sigmoid silu soft_shrink softplus softsign sparse_plus sparse_sigmoid squareplus tanh "
        "tanh_shrink threshold"
    ).split()
}


@dataclasses.dataclass
class ConservationGap:
    """What each call lost or made of the relevance that it dealt with, per image.

    The signed gaps of a walk add up to `head_total` less the sum of the input's relevance.

    Attributes:
        signed: by call, relevance of its output less that of its inputs, shape `(batch,)`.
        relative: by call, the absolute gap over the sum of the absolute relevance of its output, shape `(batch,)`; at
            the head over `|head_total|`.
    """

    signed: dict
    relative: dict

    @property
    def absolute(self):
        """By call, the absolute gap, shape `(batch,)`."""
        return {name: np.abs(gap) for name, gap in self.signed.items()}

    def summary(self):
        """By call, `(median, maximum)` of the absolute gap and of the relative one over the images."""
        return {
            name: tuple((float(np.median(gap)), float(np.max(gap))) for gap in (self.absolute[name], relative))
            for name, relative in self.relative.items()
        }


@dataclasses.dataclass
class Explanation:
    """Relevance of everything in a model for a batch, in NumPy.

    Attributes:
        input: relevance of the input, in its structure and shape.
        layers: by call, relevance of its output, in its shape; of the calls below the head's players.
        output: the model's output, shape `(batch, classes)`.
        probability: the same as probabilities: for a model that ends in logits their softmax (sigmoid for one unit).
        target: the explained class, shape `(batch,)`.
        head: relevance of the head's players, in their shape.
        head_stderr: standard error of `head`; 0 where it is exact.
        head_total: what was dealt out, shape `(batch,)`: for a softmax or sigmoid the target's probability less
            `head_baseline`; for a linear head the output; for a ReLU head what eq. (1) sums to.
        head_baseline: the target's probability with no player present, shape `(batch,)`; 0 for other heads.
        head_paths: number of random paths behind `head`, 0 where it is exact.
        conservation_gap: `ConservationGap` of every call.
    """

    input: object
    layers: dict
    output: np.ndarray
    probability: np.ndarray
    target: np.ndarray
    head: np.ndarray
    head_stderr: np.ndarray
    head_total: np.ndarray
    head_baseline: np.ndarray
    head_paths: int
    conservation_gap: ConservationGap


class LRP:
    """Explains the predictions of a Sequential or Functional model by relevance propagation, eq. (2).

    An explainer is compiled once for each shape of input, and sees the model's present weights at every call. It runs
    the model in inference mode and changes nothing in it.

    Args:
        model: a built Sequential or Functional model with one output of shape `(batch, classes)`.
        rules: the name of a preset without arguments, or a table, a list of `(key, rule)` as in
            `keras_shapley.presets`: a key is a layer type, a tuple of them, `presets.First(types)`, or a layer's name;
            a rule is one of `keras_shapley.rules`, its name, or a function `rule(call, inputs, relevance)`. The first
            entry that fits counts; after yours come those of `presets.paper()`.
        head: what is explained. `"auto"`: the probability, for a model that ends in a softmax or sigmoid; otherwise its
            output. `"softmax"` or `"sigmoid"`: the probability, for a model that ends in logits. `"linear"`: the logit
            below a softmax or sigmoid. Or a callable `head(logits, target)` that returns the relevance of the logits.
        head_players: who shares a probability by Shapley values: `"features"`, the inputs of the last linear layer, or
            `"logits"`. The logits also where that layer is no Dense on vectors and no 1x1 convolution of 1x1.
        n_paths: even number of random paths for these Shapley values, half of them the reverse of the other half; the
            same ones at every call. For very large heads an upper bound (see `head_paths` of the `Explanation`).
        seed: of the paths.

    Raises:
        ValueError: if the model is not built, of another kind, or has a layer without a rule; on an odd `n_paths`, an
            unknown option, or a malformed table of rules.
    """

    def __init__(self, model, *, rules=None, head="auto", head_players="features", n_paths=1000, seed=0):
        one_of("head_players", head_players, ("features", "logits"))
        if isinstance(n_paths, bool) or not isinstance(n_paths, (int, np.integer)) or n_paths < 2 or n_paths % 2:
            raise ValueError(f"`n_paths` must be an even number, 2 or more. Received: n_paths={n_paths!r}")
        self.model = model
        self.rules = [*_table(rules), *presets.paper()]
        if not isinstance(model, keras.Model):
            raise ValueError(f"`model` must be a keras.Model. Received: {model!r}")
        self._graph = trace(model)
        names = {name for call in self._graph.calls for name in (call.name, call.op.name)}
        for key, _ in self.rules:
            if isinstance(key, str):
                one_of("rules", key, sorted(names))
        if len(self._graph.outputs) != 1 or len(model.output_shape) != 2:
            raise ValueError(
                f"`model` must have one output of shape (batch, classes). Received: model '{model.name}' with output "
                f"shape {model.output_shape}"
            )
        self._head = Head(self._graph, head, head_players, n_paths, seed)
        self._rules = {call: self._rule(call) for call in self._graph.calls if call in self._head.walked}
        if self._head.linear_call is not None:
            self._rules[self._head.linear_call] = self._rule(self._head.linear_call, head=True)
        wide = any(getattr(call.op, "compute_dtype", None) == "float64" for call in self._graph.calls)
        self._dtype = "float64" if wide else "float32"
        self._variables = None

    def __call__(self, x, target=None):
        """Relevance of the input.

        Args:
            x: a batch, as the model takes it.
            target: the class to explain: None for the predicted one, an int for all images, or ints of shape
                `(batch,)`. A single unit has the classes 0 and 1: it speaks for 1, which None means, and against 0.

        Returns:
            Backend tensor, or structure of tensors, shaped as `x`.

        Raises:
            ValueError: if `x` has another structure or shape than the model's input, or NaN or infinity; if `target` is
                out of range.
        """
        tensors = self._inputs(x)
        self._compile()
        return self._as_input(x, self._relevance(tensors, self._targets(len(tensors[0]), target)))

    def explain(self, x, target=None):
        """Relevance of the input and of every layer, with the gaps of conservation: an `Explanation`. As `__call__`."""
        tensors = self._inputs(x)
        self._compile()
        found = self._everything(tensors, self._targets(len(tensors[0]), target))
        found = tree.map_structure(ops.convert_to_numpy, found)
        order = [call.name for call in self._graph.calls]
        in_order = {
            key: {n: found[key][n] for n in order if n in found[key]} for key in ("layers", "signed", "relative")
        }
        return Explanation(
            input=self._as_input(x, found["input"]),
            layers=in_order["layers"],
            output=found["output"],
            probability=found["probability"],
            target=found["target"],
            head=found["head"],
            head_stderr=found["head_stderr"],
            head_total=found["head_total"],
            head_baseline=found["head_baseline"],
            head_paths=int(found["head_paths"]),
            conservation_gap=ConservationGap(in_order["signed"], in_order["relative"]),
        )

    def _compile(self):
        """Compiles anew when the model has other variables than before, as after `enable_lora`."""
        variables = self.model.variables
        if self._variables is None or list(map(id, variables)) != list(map(id, self._variables)):
            self._variables = variables
            self._relevance = compiled(lambda *args: self._walk(*args)["input"], variables)
            self._everything = compiled(self._walk, variables)

    def _walk(self, tensors, target):
        values = self._graph.run(tensors)
        start = self._head.start(values, target, self._dtype)
        relevance = {start.players: start.relevance}
        signed, scale = {}, {}
        if start.call is not None:
            signed[start.call.name] = start.total - _total(start.relevance)
            scale[start.call.name] = ops.abs(start.total)

        for call in reversed(self._graph.calls):
            outputs = [relevance.get(value) for value in call.outputs]
            if all(output is None for output in outputs):
                continue
            outputs = [ops.zeros_like(values[v]) if r is None else r for v, r in zip(call.outputs, outputs)]
            inputs = [ops.cast(values[value], self._dtype) for value in call.inputs]
            parts = self._rules[call](call, inputs, outputs[0] if len(outputs) == 1 else outputs)
            _check_parts(call, inputs, parts)
            for value, part in zip(call.inputs, parts):
                relevance[value] = relevance[value] + part if value in relevance else part
            gap = sum(map(_total, outputs)) - sum(map(_total, parts))
            signed[call.name] = signed.get(call.name, 0) + gap
            scale.setdefault(call.name, sum(_total(ops.abs(output)) for output in outputs))

        found = {call.name: [relevance[v] for v in call.outputs if v in relevance] for call in self._graph.calls}
        return {
            "input": [
                relevance.get(value, ops.zeros(tensor.shape, self._dtype))
                for value, tensor in zip(self._graph.inputs, tensors)
            ],
            "layers": {name: parts[0] if len(parts) == 1 else parts for name, parts in found.items() if parts},
            "output": ops.cast(values[self._head.output], self._dtype),
            "probability": self._head.probability(values[self._head.output]),
            "target": start.target,
            "head": start.relevance,
            "head_stderr": start.stderr,
            "head_total": start.total,
            "head_baseline": start.baseline,
            "head_paths": start.n_paths,
            "signed": signed,
            "relative": {n: ops.abs(gap) / ops.where(scale[n] > 0, scale[n], 1) for n, gap in signed.items()},
        }

    def _rule(self, call, head=False):
        """The rule of a call; at the head, the activation is the head's business."""
        rule = next((rule for key, rule in self.rules if _fits(key, call)), None)
        name = type(call.op).__name__
        if getattr(call.op, "quantization_mode", None) is not None:
            raise ValueError(
                f"Layer {call.description} is quantized ({call.op.quantization_mode}), and relevance needs its float "
                "kernel: explain the model as it was before."
            )
        if rule is None:
            types = {cls for key, _ in self.rules for cls in _types(key)}
            raise ValueError(
                f"Layer {call.description} has no LRP rule. Give it one: LRP(model, rules=[(({name},), rule)]), or "
                f"explain a model that begins above it. Types with rules: "
                f"{', '.join(sorted(cls.__name__ for cls in types))}."
            )
        if isinstance(rule, lrp_rules.LinearRule) and not isinstance(call.op, LINEAR_TYPES):
            raise ValueError(
                f"Rule {type(rule).__name__} is for layers with a linear map, and {call.description} has none. Types "
                f"with one: {', '.join(cls.__name__ for cls in LINEAR_TYPES)}."
            )
        function = getattr(call.op, "activation", None)
        passes = isinstance(rule, (lrp_rules.LinearRule, lrp_rules.Pass))
        if passes and not head and function is not None and not _is_elementwise(function):
            raise ValueError(
                f"Layer {call.description} has the activation {getattr(function, '__name__', function)!r}, which is "
                f"not known to act on each element alone, so relevance cannot pass it unchanged. Give the layer a rule "
                f"of its own, a function: LRP(model, rules=[(({name},), rule)])."
            )
        return rule

    def _inputs(self, x):
        """The batch as a flat list of finite tensors that fit the model."""
        expected = self.model.inputs
        arrays = in_order(self.model, x)
        if len(arrays) != len(expected):
            raise ValueError(f"`x` must have {len(expected)} arrays, one for each input. Received: {len(arrays)}")
        arrays = [array if ops.is_tensor(array) else np.asarray(array) for array in arrays]
        tensors = [ops.convert_to_tensor(array, dtype=tensor.dtype) for array, tensor in zip(arrays, expected)]
        for tensor, reference in zip(tensors, expected):
            fits = len(tensor.shape) == len(reference.shape) and all(
                want is None or want == size for size, want in zip(tensor.shape[1:], reference.shape[1:])
            )
            if not fits or tensor.shape[0] == 0 or tensor.shape[0] != tensors[0].shape[0]:
                raise ValueError(
                    f"`x` must be a batch of shape {(None, *reference.shape[1:])}, of one image or more. Received: "
                    f"{tuple(tensor.shape)}"
                )
            if keras.backend.is_float_dtype(reference.dtype):
                finite("x", tensor)
        return tensors

    def _as_input(self, x, parts):
        """The relevance of the inputs in the structure of `x`."""
        if isinstance(x, dict) and not isinstance(self._graph.structure, dict):
            return dict(zip([tensor.name for tensor in self.model.inputs], parts))
        nested = isinstance(self._graph.structure, (dict, list, tuple))
        return tree.pack_sequence_as(x, parts) if nested else parts[0]

    def _targets(self, n_images, target):
        """The targets as an int tensor of shape `(batch,)`, or None."""
        if target is None:
            return None
        n_targets = self._head.n_targets(self.model.output_shape[-1])
        array = np.asarray(ops.convert_to_numpy(target) if keras.ops.is_tensor(target) else target)
        if not np.issubdtype(array.dtype, np.integer) or array.shape not in ((), (n_images,)):
            raise ValueError(
                f"`target` must be None, an int, or ints of shape ({n_images},). Received: {array.dtype} of shape "
                f"{array.shape}"
            )
        if array.min() < 0 or array.max() >= n_targets:
            raise ValueError(f"`target` must be in [0, {n_targets}). Received: {array.min()} to {array.max()}")
        return ops.convert_to_tensor(np.broadcast_to(array, (n_images,)).astype("int32"))


def _total(relevance):
    """Sum over everything but the batch."""
    return ops.sum(ops.reshape(relevance, (relevance.shape[0], -1)), axis=1)


def _table(rules):
    """The user's table: a preset's, or entries with checked keys and with rules for their names."""
    if rules is None:
        return []
    if isinstance(rules, str):
        return presets.PRESETS[one_of("rules", rules, tuple(presets.PRESETS))]()
    table = []
    for entry in rules:
        if not isinstance(entry, (tuple, list)) or len(entry) != 2:
            raise ValueError(f"`rules` must be entries (key, rule). Received: {entry!r}")
        key, rule = entry
        if not isinstance(key, str) and (not _types(key) or not all(isinstance(cls, type) for cls in _types(key))):
            raise ValueError(
                "A key in `rules` must be a layer type, a tuple of them, presets.First(types) or a layer's name. "
                f"Received: {key!r}"
            )
        table.append((key, lrp_rules.get(rule)))
    return table


def _types(key):
    """The layer types of a key, none for a name."""
    if isinstance(key, str):
        return ()
    types = key.types if isinstance(key, presets.First) else key
    return tuple(types) if isinstance(types, (tuple, list)) else (types,)


def _fits(key, call):
    if isinstance(key, str):
        return key in (call.name, call.op.name)
    if not call.is_a(_types(key)):
        return False
    return not isinstance(key, presets.First) or not any(c.is_a(LINEAR_TYPES) for c in call.ancestors())


def _is_elementwise(function):
    if isinstance(function, keras.layers.Layer):
        return isinstance(function, presets.ELEMENTWISE)
    return function in _ELEMENTWISE_FUNCTIONS


def _check_parts(call, inputs, parts):
    """What a rule returns must fit: a part too few would be lost without a word."""
    if not isinstance(parts, (list, tuple)) or [tuple(part.shape) for part in parts] != [
        tuple(x.shape) for x in inputs
    ]:
        received = [tuple(part.shape) for part in parts] if isinstance(parts, (list, tuple)) else type(parts).__name__
        raise ValueError(
            f"The rule of {call.description} must return a list with the relevance of each input, of shapes "
            f"{[tuple(x.shape) for x in inputs]}. Received: {received}"
        )
