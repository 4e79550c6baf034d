"""Relevance propagation through a whole Keras model."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
from keras import ops, tree
from numpy.typing import ArrayLike

from keras_shapley.lrp.compiled_walk import CompiledWalk, compiled_walk
from keras_shapley.lrp.diagnosis import diagnosis, fault
from keras_shapley.lrp.explanation import Explanation, assemble, growth
from keras_shapley.lrp.head import HeadFunction
from keras_shapley.lrp.masked_passes import MaskedPasses
from keras_shapley.lrp.plan import classic_walk, propagation
from keras_shapley.lrp.presets import Key
from keras_shapley.lrp.probability_head import ShapleyOptions
from keras_shapley.lrp.propagation.rule import DifferenceRule
from keras_shapley.lrp.requests import (
    TargetPairs,
    added,
    as_structure,
    baseline_tensors,
    batch_target,
    divided,
    filled_up,
    first_rows,
    input_tensors,
    masked_at_baseline,
    output_shape,
    shapes_or_number,
    target_pairs,
)
from keras_shapley.lrp.rule_table import RuleTable
from keras_shapley.lrp.rules.base import Rule
from keras_shapley.models.given_inputs import columns_of, inputs_and_labels, inputs_of, is_frame
from keras_shapley.models.kept import are_same, parts_of
from keras_shapley.models.outputs import ModelOutput, model_output
from keras_shapley.models.tokens import behind_text, tokens_of
from keras_shapley.models.tracing import trace
from keras_shapley.utils.data import batches, is_data_set
from keras_shapley.utils.progress import Progress
from keras_shapley.utils.quiet import warn
from keras_shapley.utils.typing import Operation, Structure, Tensor
from keras_shapley.utils.validation import integer, one_of


class LRP:
    """Explains the predictions of a Sequential or Functional model by relevance propagation.

    Without options it is Shapley propagation: the paper's neuron, eq. (1), measured from a baseline. Relevance sums to
    what the input adds to the output at the baseline. `rules="paper"` is eq. (2) on every layer; tables of other rules
    are layer-wise relevance propagation (Bach et al. 2015).

    Every call sees the model's present weights. It runs the model in inference mode and does not change it. Several
    targets share the forward passes. The first call compiles; so does the first with inputs of another shape, or with
    more targets. Batches are padded to a few sizes, and explainers of a model with the same arguments share what is
    compiled.

    Args:
        model: a built Sequential or Functional model. The explained output may have any shape.
        rules: `"auto"`: Shapley propagation from the baseline (see `rules.ShapleyPropagation`). `"paper"`: eq. (2) on
            every layer. The name of another preset; or a table, a list of `(key, rule)`. A key is a layer type, a
            tuple of them, `presets.First(types)`, or a layer's name. A rule is one of `ks.rules`, its name, or a
            function `rule(call, inputs, relevance)`. The first entry that fits counts; the entries of
            `presets.paper()` come after yours.
        baseline: the input from which relevance is measured, so that it sums to `f(x) - f(baseline)`: a number, an
            array of the shape of one input, or a background `(n, ...)`, over which relevance is averaged; for a model
            of several inputs in their structure. Rules then apply to differences, the bias cancels, and calls without
            an entry of yours follow `rules.ShapleyPropagation`. None: 0 for `rules="auto"`, for tables with
            `ShapleyPropagation` and for those of `Elementwise` alone; no baseline for other rules, as they were
            published.
        gates: from a baseline, where the mean slope of a neuron's activation comes from. `"normal"`: the moments of eq.
            (1), which take a neuron's inputs to be independent. An even number: also that many passes of inputs in
            which random players are masked by the baseline. It is nearer to Shapley values; each such pass takes
            about three times as long as a forward pass.
        players: what is masked together, as in `exact_shapley_values`. None: patches of an image with channels, 7 x 7,
            and single elements of other inputs.
        output: name or index of the output to explain, for a model with several.
        head: what is explained. `"auto"`: the probability, for a model that ends in a softmax or sigmoid, or in the
            average of several; otherwise the output. `"softmax"`, `"sigmoid"`: the probability, for a model that ends
            in logits. `"linear"`: the logit below a softmax or sigmoid. A callable `head(logits, target)`: the
            relevance that it returns. It is given the logits, less those at the baseline if there is one, and indices
            `(batch,)` or weights `(batch, *output)` as the target.
        head_players: the players that share a probability by Shapley values. `"features"`: the inputs of the last
            linear layer, if it is a Dense or a 1x1 convolution. Other layers use the logits. `"logits"`: the logits.
            A softmax over one axis of several, as at each pixel of a segmentation map, is shared position by position.
        head_method: how these Shapley values are computed. `"exact"`: by all coalitions, up to 16 players.
            `"quadrature"`: by taking the logits of a random coalition to be normal, at a fraction of the walk's cost.
            It is good to a few percent where logits differ by a few units, and to some tens of percent where they
            differ by tens. `Explanation.head_missed` reports the error of its sum. Without a baseline it is a
            conservation gap of the last layer; from a baseline it is distributed in proportion. `"sampled"`: by
            random paths, which sum to the total, with standard errors. `"auto"`: exact up to 16 players, unless many
            classes or positions make that long, else by quadrature.
        merge_batch_norm: for rules without a baseline, whether a BatchNormalization right behind or before a linear
            layer is merged into it, so that a rule sees both as one layer. Otherwise, and where no linear layer is
            beside it, relevance passes it unchanged (n = 1).
        n_paths: even number of random paths, half of them the reverse of the other half. They are the same at every
            call. For very large heads it is an upper bound (see `Explanation.head_paths`).
        seed: seed of the paths, and of the draws of the quadrature.

    Attributes:
        model: the model.
        output: the `ModelOutput` that is explained. With `head="softmax"` or `"sigmoid"` it is a probability.
        rules: by call, `(layer or operation, rule)` of every call that relevance can reach.
        preset: the name of the rules, `"table"` for a table.
        baseline: the input from which relevance is measured, None without one.

    Raises:
        ValueError: if the model is of another kind or not built, has a layer without a rule, several outputs without
            `output`, or layers of float64 beside others; if every path from the output to the input is cut, as by
            `argmax`; on an unknown option, an odd `n_paths` or a malformed table of rules; if a BatchNormalization
            cannot be merged.

    Examples:
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
        rules: str | Sequence[tuple[Key, str | Rule]] | None = "auto",
        baseline: Structure | None = None,
        gates: str | int = "normal",
        players: ArrayLike | None = None,
        output: str | int | None = None,
        head: str | HeadFunction = "auto",
        head_players: str = "features",
        head_method: str = "auto",
        merge_batch_norm: bool = False,
        n_paths: int = 1000,
        seed: int = 0,
    ) -> None:
        # a copy is made anew, as compiled functions cannot be copied
        self._arguments = {name: given for name, given in locals().items() if name != "self"}
        one_of("head_players", head_players, ("features", "logits"))
        one_of("head_method", head_method, ("auto", "exact", "sampled", "quadrature"))
        one_of("merge_batch_norm", merge_batch_norm, (True, False))
        if integer("n_paths", n_paths, 2) % 2:
            raise ValueError(f"`n_paths` must be even. Received: n_paths={n_paths!r}")
        integer("seed", seed, 0)
        rules = "auto" if rules is None else rules
        if not isinstance(model, keras.Model):
            raise ValueError(f"`model` must be a keras.Model. Received: {model!r}")

        # a model that begins with texts is explained from its tokens on
        self._text, model = behind_text(model) or (None, model)
        graph = trace(model)
        table = RuleTable(None if rules == "auto" else rules, graph.calls)
        is_measured = rules == "auto" or baseline is not None or table.needs_baseline
        if merge_batch_norm and is_measured:
            raise ValueError(
                "`merge_batch_norm` is for rules without a baseline, such as rules='paper'. From a baseline a "
                "BatchNormalization is one more linear map, and needs no merging."
            )
        if players is not None and gates == "normal":
            raise ValueError("`players` are what is masked to measure gates: give a number of passes, as gates=8.")
        if gates != "normal" and not is_measured:
            raise ValueError("`gates` are measured from a baseline: give one, or rules='auto'.")

        described = model_output(model, output, graph)
        explained = graph.outputs[described.index]
        options = ShapleyOptions(head_players, head_method, n_paths, seed)
        if is_measured:
            self._walk, rule_by_call = propagation(graph, explained, table, head, options)
        else:
            self._walk, rule_by_call = classic_walk(graph, explained, table, head, options, merge_batch_norm)

        self.model = model
        self.output: ModelOutput = dataclasses.replace(described, link=described.link or self._walk.head.link)
        self.rules: dict[str, tuple[Operation, Rule | DifferenceRule]] = {
            call.name: (call.op, rule_by_call[call]) for call in self._walk.calls if call in rule_by_call
        }
        self._passes = None if gates == "normal" else MaskedPasses(gates, players, seed)
        if self._passes is not None and len(model.inputs) > 1:
            raise ValueError(f"`gates` can be measured for models of one input. Received: {len(model.inputs)} inputs")
        self._columns = columns_of(baseline)
        self.baseline = inputs_of(model, 0.0 if baseline is None else baseline) if is_measured else None
        if isinstance(baseline, str):
            raise ValueError(f"`baseline` must be numbers, such as x.mean(axis=0). Received: baseline={baseline!r}")
        if masked := masked_at_baseline(graph, self.baseline):
            warn(masked, stacklevel=2)
        self._has_probability = described.is_probability
        self.preset = rules if isinstance(rules, str) else "table"
        self._n_entries = None if isinstance(rules, str) else len(rules)
        self._kind = self._walk.head.kind
        self._input_structure = graph.structure
        # what the walk depends on
        self._parts = parts_of(model)
        entries = rules if isinstance(rules, str) else table.entries
        self._options = [entries, is_measured, described.index, head, options, merge_batch_norm]
        # the kinds of faults that were warned of
        self._warned: set[str] = set()

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Copies and pickles an explainer as its arguments."""
        return _made, (type(self), self._arguments)

    def __repr__(self) -> str:
        rules = repr(self.preset) if self._n_entries is None else f"<table of {self._n_entries}>"
        head = repr(self._kind) if isinstance(self._kind, str) else getattr(self._kind, "__name__", type(self._kind))
        parts = [
            repr(self.model.name),
            f"rules={rules}",
            f"baseline={shapes_or_number(self.baseline)}",
            f"head={head}",
            f"output={self.output.name!r}",
        ]
        return f"LRP({', '.join(parts)})"

    def __call__(self, x: Structure, target: Any = None, versus: Any = None) -> Structure:
        """Relevance of the input, in the shortest time.

        Args:
            x: a batch, as the model takes it, or a data frame; of a data set all batches at once.
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

        Warns:
            RuntimeWarning: as `explain` does. To name the layer, the batch is then explained once more.
        """
        x = self._inputs(x)
        tensors = input_tensors(self.model, x)
        targets = self._targets(target, versus, tensors)
        n_images = len(tensors[0])
        walk = self._compiled()
        results = self._averaged(walk.relevance, *filled_up(tensors, targets, walk.size(n_images)))
        by_target, ends = zip(*tree.map_structure(lambda part: first_rows(part, n_images), results))
        sums = [growth(tree.map_structure(ops.convert_to_numpy, part)) for part in ends]
        faults = {kind for of_target in sums if (kind := fault(**of_target, preset=self.preset))}
        if faults - self._warned:
            self._warn(self._explanation(x, tensors, targets))
            # those that came with a worse one
            self._warned |= faults
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
            RuntimeWarning: if the output is not finite; if relevance left the range of its dtype; if it grew more than
                100 times on its way to the input (`Explanation.amplified`); if less than half of it arrives
                (`Explanation.arrived`), or with `rules="auto"` less than 90 % or more than 110 %. An explainer warns of
                each of these once. The message names the call that has the largest part in it, or the weights that are
                not finite, and what helps. Errors of the head's sampling or quadrature are no cause.
        """
        x = self._inputs(x)
        tensors = input_tensors(self.model, x)
        explanation = self._explanation(x, tensors, self._targets(target, versus, tensors))
        self._warn(explanation)
        return explanation

    def explain_batches(
        self, data: Any, target: Any = None, versus: Any = None, *, batch_size: int = 32, progress: bool = True
    ) -> Iterator[Explanation]:
        """Explanations of a data set of any size, batch by batch.

        Args:
            data: arrays in the structure of the model's input, a data frame, or a tuple of these and their labels,
                `(x, y)`; or a `tf.data.Dataset`, `keras.utils.PyDataset`, PyTorch `DataLoader` or other iterable of
                batches, each `x`, `(x, y)` or `(x, y, sample_weight)`.
            target: as in a call. Beside arrays it has a row for each of their samples, or is the same for all. Beside a
                data set it is the same for all. With labels it may be `"true"`: the class numbers or one-hot rows in
                `y`. The labels 0 and 1 of a single unit both explain that unit.
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
        labels = None
        if not is_data_set(data):
            data, labels = inputs_and_labels(self.model, data)
        n_batches, parts = batches(data, batch_size, labels)
        bar = Progress(n_batches, "batch", progress)
        largest = 0
        for batch in parts:
            x = self._inputs(batch[0])
            tensors = input_tensors(self.model, x)
            shape = self._output_shape(tensors)
            targets = self._targets(
                batch_target("target", target, data, batch, self.output, shape),
                batch_target("versus", versus, data, batch, self.output, shape),
                tensors,
            )
            # the last batch, a smaller one, as if it were like the others
            largest = max(largest, len(tensors[0]))
            explanation = self._explanation(x, tensors, targets, largest)
            self._warn(explanation)
            yield explanation
            bar.add()
        if not largest:
            raise ValueError("`data` has no batch.")

    def _inputs(self, x: Any) -> Structure:
        """Inputs as the model takes them, of whatever holds them; of texts their tokens.

        An explainer of a model that has other layers or settings by now is made anew first.
        """
        if not are_same(self._parts, parts_of(self.model)):
            LRP.__init__(self, **self._arguments)
        if is_frame(x) and self._columns is not None and list(x.columns) != self._columns:
            raise ValueError(
                f"`x` must have the columns of `baseline` in their order, {self._columns}. Received: {list(x.columns)}"
            )
        return tokens_of(self._text, inputs_of(self.model, x))

    def _targets(self, target: Any, versus: Any, tensors: list[Tensor]) -> TargetPairs:
        return target_pairs(target, versus, len(tensors[0]), self._output_shape(tensors), self._walk.dtype)

    def _output_shape(self, tensors: list[Tensor]) -> tuple[int, ...]:
        return output_shape(self.model, self.output, self._input_structure, tensors)

    def _explanation(self, x: Structure, tensors: list[Tensor], targets: TargetPairs, size: int = 0) -> Explanation:
        """The `Explanation` of a batch `x`, padded to `size` at least."""
        n_images = len(tensors[0])
        walk = self._compiled()
        reports = self._averaged(walk.report, *filled_up(tensors, targets, walk.size(max(size, n_images))))
        reports = [{**report, "input": self._as_structure(x, report["input"])} for report in reports]
        order = [call.name for call in self._walk.calls]
        return assemble(
            reports, order, has_axis=targets.has_axis, is_probability=self._has_probability, n_images=n_images
        )

    def _warn(self, explanation: Explanation) -> None:
        """Warns of what is wrong with an explanation, of each kind of fault once."""
        for kind, message in diagnosis(explanation, self.model, self.preset).items():
            if kind not in self._warned:
                self._warned.add(kind)
                warn(message, stacklevel=3)

    def _averaged(self, walk: Callable[..., Structure], tensors: list[Tensor], targets: TargetPairs) -> list[Structure]:
        """For each target the mean of what a walk returns over the inputs of the background."""
        n, sums = 0, []
        for inputs in self._walk_inputs(tensors):
            results = walk(inputs, targets.pairs)
            sums = [added(a, b) for a, b in zip(sums, results)] if sums else results
            n += 1
        return sums if n == 1 else [divided(total, n) for total in sums]

    def _walk_inputs(self, tensors: list[Tensor]) -> Iterator[list[Tensor]]:
        """Yields the inputs of each walk whose results are averaged, one for each input of the background."""
        if self.baseline is None:
            yield tensors
            return
        for baseline in baseline_tensors(self.model, self.baseline, tensors):
            yield [*tensors, *baseline, *self._measured(tensors, baseline)]

    def _measured(self, tensors: list[Tensor], baseline: list[Tensor]) -> list[Tensor]:
        """What masked passes say of each neuron: mean, mean square, and number of passes."""
        if self._passes is None:
            return []
        (x,), (absent,) = tensors, baseline
        masks = self._passes.masks(tuple(x.shape[1:]))
        measured = self._compiled().deviations
        assert measured is not None, "gates are measured from a baseline"
        means, squares = [], []
        for mask in masks:
            masked = ops.where(ops.convert_to_tensor(mask[None]), x, absent)
            deviations = measured([masked, absent])
            squared = [ops.square(deviation) for deviation in deviations]
            means = added(means, deviations) if means else deviations
            squares = added(squares, squared) if squares else squared
        n = len(masks)
        return [part for sums in zip(means, squares) for part in (sums[0] / n, sums[1] / n, ops.cast(n, sums[0].dtype))]

    def _as_structure(self, x: Structure, relevance: list[Tensor]) -> Structure:
        return as_structure(self.model, self._input_structure, x, relevance)

    def _compiled(self) -> CompiledWalk:
        return compiled_walk(self.model, self._walk, self._options, self._parts, self)


def _made(cls: type[LRP], arguments: dict[str, Any]) -> LRP:
    return cls(**arguments)
