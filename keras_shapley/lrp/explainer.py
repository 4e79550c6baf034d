"""Layer-wise relevance propagation through a whole Keras model, eq. (2)."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import keras
from keras import ops

from keras_shapley.backend import compiled
from keras_shapley.lrp.explanation import Explanation, assemble, warn_of_overflow
from keras_shapley.lrp.head import Head, HeadFunction
from keras_shapley.lrp.presets import Key
from keras_shapley.lrp.probability_head import ShapleyOptions
from keras_shapley.lrp.requests import (
    TargetPairs,
    as_structure,
    batch_target,
    fill_up,
    input_tensors,
    output_shape,
    target_pairs,
)
from keras_shapley.lrp.rule_table import RuleTable
from keras_shapley.lrp.rules import LinearRule
from keras_shapley.lrp.rules.base import Rule
from keras_shapley.lrp.walk import Walk, relevance_dtype
from keras_shapley.models.batch_norm import merges
from keras_shapley.models.graph import ancestors
from keras_shapley.models.outputs import ModelOutput, model_output
from keras_shapley.models.tracing import trace
from keras_shapley.utils.data import batches
from keras_shapley.utils.progress import Progress
from keras_shapley.utils.typing import Operation, Structure, Tensor
from keras_shapley.utils.validation import integer, one_of


class LRP:
    """Explains the predictions of a Sequential or Functional model by layer-wise relevance propagation, eq. (2).

    It is compiled once for each shape of input, and every call sees the model's present weights. It runs the model in
    inference mode and does not change it.

    Args:
        model: a built Sequential or Functional model. The explained output may have any shape.
        rules: the name of a preset without arguments, or a table, a list of `(key, rule)`. A key is a layer type, a
            tuple of them, `presets.First(types)`, or a layer's name. A rule is one of `ks.rules`, its name, or a
            function `rule(call, inputs, relevance)`. The first entry that fits counts; the entries of
            `presets.paper()` come after yours.
        output: name or index of the output to explain, for a model with several.
        head: what is explained. `"auto"`: the probability, for a model that ends in a softmax or sigmoid, or in the
            average of several; otherwise the output. `"softmax"`, `"sigmoid"`: the probability, for a model that ends
            in logits. `"linear"`: the logit below a softmax or sigmoid. A callable `head(logits, target)`: the
            relevance of the logits that it returns; `target` holds indices `(batch,)` or weights `(batch, *output)`.
        head_players: the players that share a probability by Shapley values. `"features"`: the inputs of the last
            linear layer, if it is a Dense or a 1x1 convolution. Other layers use the logits. `"logits"`: the logits.
            A softmax over one axis of several, as at each pixel of a segmentation map, is shared position by position.
        head_method: how these Shapley values are computed. `"exact"`: by all coalitions, up to 16 players. `"sampled"`:
            by random paths. `"quadrature"`: by taking the logits of a random coalition to be normal, for the largest
            heads; it is good to a few percent, and the conservation gap of the last layer reports the error of
            its sum. `"auto"`: exact where that takes little time, else sampled for a single position, and by quadrature
            for an output of several positions.
        merge_batch_norm: whether a BatchNormalization right behind or before a linear layer is merged into it, so that
            a rule sees both as one layer. Otherwise, and where no linear layer is beside it, relevance passes it
            unchanged (n = 1).
        n_paths: even number of random paths, half of them the reverse of the other half. They are the same at every
            call. For very large heads it is an upper bound (see `Explanation.head_paths`).
        seed: seed of the paths, and of the draws of the quadrature.

    Attributes:
        model: the model.
        output: the `ModelOutput` that is explained. With `head="softmax"` or `"sigmoid"` it is a probability.
        rules: by call, `(layer or operation, rule)` of every call that relevance can reach.

    Raises:
        ValueError: if the model is of another kind or not built, has a layer without a rule, several outputs without
            `output`, or layers of float64 beside others; on an unknown option, an odd `n_paths` or a malformed table
            of rules; if a BatchNormalization cannot be merged.

    Example:
        >>> model = keras.Sequential([keras.Input((8, 8, 1)), ks.SAConv2D(4, 3, name="conv")])
        >>> model.add(keras.layers.Flatten(name="flat"))
        >>> model.add(keras.layers.Dense(10, "softmax"))
        >>> explainer = ks.LRP(model)
        >>> x = np.random.default_rng(0).uniform(size=(5, 8, 8, 1))
        >>> tuple(explainer(x).shape)
        (5, 8, 8, 1)
        >>> explanation = explainer.explain(x, target=3)
        >>> {name: relevance.shape for name, relevance in explanation.layers.items()}
        {'conv': (5, 6, 6, 4), 'flat': (5, 144)}
    """

    def __init__(
        self,
        model: keras.Model,
        *,
        rules: str | Sequence[tuple[Key, str | Rule]] | None = None,
        output: str | int | None = None,
        head: str | HeadFunction = "auto",
        head_players: str = "features",
        head_method: str = "auto",
        merge_batch_norm: bool = False,
        n_paths: int = 1000,
        seed: int = 0,
    ) -> None:
        one_of("head_players", head_players, ("features", "logits"))
        one_of("head_method", head_method, ("auto", "exact", "sampled", "quadrature"))
        one_of("merge_batch_norm", merge_batch_norm, (True, False))
        if integer("n_paths", n_paths, 2) % 2:
            raise ValueError(f"`n_paths` must be even. Received: n_paths={n_paths!r}")
        integer("seed", seed, 0)
        if not isinstance(model, keras.Model):
            raise ValueError(f"`model` must be a keras.Model. Received: {model!r}")

        graph = trace(model)
        described = model_output(model, output)
        explained = graph.outputs[described.index]
        table = RuleTable(rules, graph.calls)
        needed = ancestors([explained])
        calls = [call for call in graph.calls if call in needed]
        dtype = relevance_dtype(calls)
        model_head = Head(explained, head, ShapleyOptions(head_players, head_method, n_paths, seed))
        reachable = model_head.calls_below
        rule_by_call = {call: table.rule(call) for call in calls if call in reachable and call.data_inputs}
        for call in model_head.linear_calls:
            if call not in reachable:
                rule_by_call[call] = table.rule(call, at_head=True)
        linear_calls = {call for call, rule in rule_by_call.items() if isinstance(rule, LinearRule)}
        merge_by_call = merges(rule_by_call, linear_calls) if merge_batch_norm else {}

        self.model = model
        self.output: ModelOutput = dataclasses.replace(described, link=described.link or model_head.link)
        self.rules: dict[str, tuple[Operation, Rule]] = {
            call.name: (call.op, rule_by_call[call]) for call in calls if call in rule_by_call
        }
        self._has_probability = described.is_probability
        self._description = _description(rules, model_head.kind)
        self._input_structure = graph.structure
        self._walk = Walk(graph.inputs, calls, model_head, rule_by_call, merge_by_call, dtype)
        self._variables: list[keras.Variable] | None = None

    def __repr__(self) -> str:
        return f"LRP({self.model.name!r}, {self._description}, output={self.output.name!r})"

    def __call__(self, x: Structure, target: Any = None, versus: Any = None) -> Structure:
        """Relevance of the input, in the shortest time. Only `explain` warns of relevance that is not finite.

        Args:
            x: a batch, as the model takes it.
            target: what is explained. None: the largest output of each sample, which for a single unit is that unit. An
                int: that output, for all samples. Ints of shape `(batch,)` or `(batch, 1)`: an output for each sample.
                Ints of shape `(batch, k)` or `(1, k)`: `k` outputs for each sample, each explained by itself. Outputs
                of several axes are numbered as `np.ravel_multi_index` does. Bools or floats of the shape of one output,
                or of `(batch, *output)`: the sum of the outputs with these weights.
            versus: what the target is compared with, in the same forms. What is explained is then the difference
                between both.

        Returns:
            Tensor in the shape of `x`, or tensors in its structure. Positive relevance raises what is explained. For
            `k` targets there is an axis for them after the batch.

        Raises:
            ValueError: if `x` has another structure or shape than the model's input, or values that are not finite; if
                `target` or `versus` is none of these forms, or out of range.
        """
        tensors = input_tensors(self.model, x)
        targets = self._targets(target, versus, tensors)
        self._compile()
        by_target = [self._relevance(tensors, *pair) for pair in targets.pairs]
        relevance = [ops.stack(parts, axis=1) for parts in zip(*by_target)] if targets.has_axis else by_target[0]
        return self._as_structure(x, relevance)

    def explain(self, x: Structure, target: Any = None, versus: Any = None) -> Explanation:
        """Relevance of the input and of every layer, and the conservation gap of each call.

        Args:
            x: a batch, as the model takes it.
            target: what is explained, as in a call.
            versus: what it is compared with, as in a call.

        Returns:
            An `Explanation`.

        Raises:
            ValueError: as a call does.

        Warns:
            RuntimeWarning: if relevance left the range of its dtype; the message says at which call.
        """
        tensors = input_tensors(self.model, x)
        explanation = self._explanation(x, tensors, self._targets(target, versus, tensors))
        warn_of_overflow(explanation, stacklevel=2)
        return explanation

    def explain_batches(
        self, data: Any, target: Any = None, versus: Any = None, *, batch_size: int = 32, progress: bool = True
    ) -> Iterator[Explanation]:
        """Explanations of a data set of any size, batch by batch.

        Args:
            data: arrays in the structure of the model's input; or a `tf.data.Dataset`, `keras.utils.PyDataset` or other
                iterable of batches, each `x`, `(x, y)` or `(x, y, sample_weight)`.
            target: as in a call. Beside arrays it has a row for each of their samples, or is the same for all. Beside a
                data set it is the same for all, or `"true"` for the labels `y`: class numbers or one-hot rows. The
                labels 0 and 1 of a single unit both explain that unit.
            versus: in the same forms.
            batch_size: number of samples explained at a time, for arrays.
            progress: whether to show a progress bar.

        Yields:
            An `Explanation` of each batch, in order.

        Raises:
            ValueError: as a call does; if there is no batch, or no label where they are asked for.

        Warns:
            RuntimeWarning: as `explain` does.
        """
        n_batches, parts = batches(data, batch_size)
        bar = Progress(n_batches, "batch", progress)
        size = 0
        for batch in parts:
            x = batch[0]
            tensors = input_tensors(self.model, x)
            shape = self._output_shape(tensors)
            targets = self._targets(
                batch_target("target", target, data, batch, self.output, shape),
                batch_target("versus", versus, data, batch, self.output, shape),
                tensors,
            )
            # every other size of batch would be compiled anew
            n_images = len(tensors[0])
            size = max(size, n_images)
            filled = TargetPairs(fill_up(targets.pairs, size), targets.has_axis)
            explanation = self._explanation(x, fill_up(tensors, size), filled, n_images)
            warn_of_overflow(explanation, stacklevel=2)
            yield explanation
            bar.add()
        if not size:
            raise ValueError("`data` has no batch.")

    def _targets(self, target: Any, versus: Any, tensors: list[Tensor]) -> TargetPairs:
        return target_pairs(target, versus, len(tensors[0]), self._output_shape(tensors), self._walk.dtype)

    def _output_shape(self, tensors: list[Tensor]) -> tuple[int, ...]:
        return output_shape(self.model, self.output, self._input_structure, tensors)

    def _explanation(
        self, x: Structure, tensors: list[Tensor], targets: TargetPairs, n_images: int | None = None
    ) -> Explanation:
        """The `Explanation` of the first `n_images` of a batch `x`, whose tensors may be filled up."""
        self._compile()
        reports = [self._report(tensors, *pair) for pair in targets.pairs]
        reports = [{**report, "input": self._as_structure(x, report["input"])} for report in reports]
        order = [call.name for call in self._walk.calls]
        return assemble(
            reports, order, has_axis=targets.has_axis, is_probability=self._has_probability, n_images=n_images
        )

    def _as_structure(self, x: Structure, relevance: list[Tensor]) -> Structure:
        return as_structure(self.model, self._input_structure, x, relevance)

    def _compile(self) -> None:
        """Compiles the walk again if the model has other variables than before, as after `enable_lora`."""
        variables = self.model.variables
        if self._variables is None or list(map(id, variables)) != list(map(id, self._variables)):
            self._variables = variables
            self._relevance = compiled(self._walk.relevance, variables)
            self._report = compiled(self._walk.report, variables)


def _description(rules: str | Sequence[tuple[Key, str | Rule]] | None, kind: str | HeadFunction) -> str:
    """The rules and the head of an explainer, in a few words."""
    if rules is None:
        rules = "paper"
    table = repr(rules) if isinstance(rules, str) else f"<table of {len(rules)}>"
    head = repr(kind) if isinstance(kind, str) else getattr(kind, "__name__", type(kind).__name__)
    return f"rules={table}, head={head}"
