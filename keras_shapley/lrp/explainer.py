"""Layer-wise relevance propagation through a whole Keras model, eq. (2)."""

from collections.abc import Iterator, Sequence
from typing import Any

import keras
from keras import ops

from keras_shapley.backend import compiled
from keras_shapley.lrp.explanation import Explanation, assemble, warn_of_overflow
from keras_shapley.lrp.head import Head, HeadFunction
from keras_shapley.lrp.presets import Key
from keras_shapley.lrp.requests import (
    Targets,
    as_structure,
    batch_target,
    fill_up,
    input_tensors,
    output_index,
    parse_targets,
)
from keras_shapley.lrp.rule_table import RuleTable
from keras_shapley.lrp.rules import LinearRule
from keras_shapley.lrp.rules.base import Rule
from keras_shapley.lrp.walk import Walk, relevance_dtype
from keras_shapley.models.batch_norm import merges
from keras_shapley.models.graph import ancestors
from keras_shapley.models.tracing import trace
from keras_shapley.utils.data import batches
from keras_shapley.utils.typing import Operation, Structure, Tensor
from keras_shapley.utils.validation import integer, one_of


class LRP:
    """Explains the predictions of a Sequential or Functional model by layer-wise relevance propagation, eq. (2).

    It is compiled once for each shape of input, and every call sees the model's present weights. It runs the model in
    inference mode and does not change it.

    Args:
        model: a built Sequential or Functional model. The explained output has the shape `(batch, classes)`.
        rules: the name of a preset without arguments, or a table, a list of `(key, rule)`. A key is a layer type, a
            tuple of them, `presets.First(types)`, or a layer's name. A rule is one of `ks.rules`, its name, or a
            function `rule(call, inputs, relevance)`. The first entry that fits counts; the entries of
            `presets.paper()` come after yours.
        output: name or index of the output to explain, for a model with several.
        head: what is explained. `"auto"`: the probability, for a model that ends in a softmax or sigmoid; otherwise the
            output. `"softmax"`, `"sigmoid"`: the probability, for a model that ends in logits. `"linear"`: the logit
            below a softmax or sigmoid. A callable `head(logits, target)`: the relevance of the logits that it returns.
        head_players: the players that share a probability by Shapley values. `"features"`: the inputs of the last
            linear layer, if it is a Dense on vectors or a 1x1 convolution of 1x1. Other layers use the logits.
            `"logits"`: the logits.
        head_method: how these Shapley values are computed. `"exact"`: by all coalitions, up to 16 players. `"sampled"`:
            by random paths. `"quadrature"`: by taking the logits of a random coalition to be normal, for the largest
            heads; it is good to a few percent, and the conservation gap of the last layer reports the error of
            its sum. `"auto"`: exact where that is possible, else sampled.
        merge_batch_norm: whether a BatchNormalization right behind or before a linear layer is merged into it, so that
            a rule sees both as one layer. Otherwise, and where no linear layer is beside it, relevance passes it
            unchanged (n = 1).
        n_paths: even number of random paths, half of them the reverse of the other half. They are the same at every
            call. For very large heads it is an upper bound (see `Explanation.head_paths`).
        seed: seed of the paths, and of the draws of the quadrature.

    Attributes:
        model: the model.
        n_classes: number of classes that a target can name; 2 for a single unit.
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
        index = output_index(model, output)
        explained = graph.outputs[index]
        table = RuleTable(rules, graph.calls)
        needed = ancestors([explained])
        calls = [call for call in graph.calls if call in needed]
        dtype = relevance_dtype(calls)
        model_head = Head(explained, head, head_players, head_method, n_paths, seed)
        reachable = model_head.calls_below
        rule_by_call = {call: table.rule(call) for call in calls if call in reachable and call.data_inputs}
        if model_head.linear_call is not None:
            rule_by_call[model_head.linear_call] = table.rule(model_head.linear_call, at_head=True)
        linear_calls = {call for call, rule in rule_by_call.items() if isinstance(rule, LinearRule)}
        merge_by_call = merges(rule_by_call, linear_calls) if merge_batch_norm else {}

        self.model = model
        self.n_classes = max(model.outputs[index].shape[-1], 2)
        self.rules: dict[str, tuple[Operation, Rule]] = {
            call.name: (call.op, rule_by_call[call]) for call in calls if call in rule_by_call
        }
        self._input_structure = graph.structure
        self._walk = Walk(graph.inputs, calls, model_head, rule_by_call, merge_by_call, dtype)
        self._variables: list[keras.Variable] | None = None

    def __call__(self, x: Structure, target: Any = None, versus: Any = None) -> Structure:
        """Relevance of the input, in the shortest time. Only `explain` warns of relevance that is not finite.

        Args:
            x: a batch, as the model takes it.
            target: the class to explain. None: the predicted class. An int: that class for all images. Ints of shape
                `(batch,)`: one class an image. Ints of shape `(batch, k)` or `(1, k)`: `k` classes an image, each
                explained by itself. A single unit has the classes 0 and 1; its large outputs mean class 1, which
                is the default.
            versus: a class to compare with, in the same forms. What is explained is then the difference between the
                probabilities or logits of the target and of this class.

        Returns:
            Tensor in the shape of `x`, or tensors in its structure. For `k` classes an image there is an axis for them
            after the batch.

        Raises:
            ValueError: if `x` has another structure or shape than the model's input, or values that are not finite; if
                `target` or `versus` is out of range.
        """
        tensors = input_tensors(self.model, x)
        targets = self._targets(target, versus, len(tensors[0]))
        self._compile()
        by_target = [self._relevance(tensors, *pair) for pair in targets.pairs]
        relevance = [ops.stack(parts, axis=1) for parts in zip(*by_target)] if targets.several else by_target[0]
        return self._as_structure(x, relevance)

    def explain(self, x: Structure, target: Any = None, versus: Any = None) -> Explanation:
        """Relevance of the input and of every layer, and the conservation gap of each call.

        Args:
            x: a batch, as the model takes it.
            target: the class to explain, as in a call.
            versus: a class to compare with, as in a call.

        Returns:
            An `Explanation`.

        Raises:
            ValueError: as a call does.

        Warns:
            RuntimeWarning: if relevance left the range of its dtype; the message says at which call.
        """
        tensors = input_tensors(self.model, x)
        explanation = self._explanation(x, tensors, self._targets(target, versus, len(tensors[0])))
        warn_of_overflow(explanation, stacklevel=2)
        return explanation

    def explain_batches(
        self, data: Any, target: Any = None, versus: Any = None, *, batch_size: int = 32, progress: bool = True
    ) -> Iterator[Explanation]:
        """Explanations of a data set of any size, batch by batch.

        Args:
            data: arrays in the structure of the model's input; or a `tf.data.Dataset`, `keras.utils.PyDataset` or other
                iterable of batches, each `x`, `(x, y)` or `(x, y, sample_weight)`.
            target: as in a call. With arrays it may also have one row for each image of them; with a data set it may
                be `"true"`, for the labels `y`: class numbers or one-hot rows.
            versus: as in a call; with arrays it may also have one row for each image of them.
            batch_size: number of images explained at a time, for arrays.
            progress: whether to show a progress bar.

        Yields:
            An `Explanation` of each batch, in order.

        Raises:
            ValueError: as a call does; if there is no batch, or no label where they are asked for.

        Warns:
            RuntimeWarning: as `explain` does.
        """
        n_batches, parts = batches(data, batch_size)
        bar = keras.utils.Progbar(n_batches, unit_name="batch") if progress else None
        size = 0
        for number, (x, y, place) in enumerate(parts, 1):
            tensors = input_tensors(self.model, x)
            n_images = len(tensors[0])
            targets = self._targets(
                batch_target(target, data, y, place, n_images),
                batch_target(versus, data, y, place, n_images),
                n_images,
            )
            # every other size of batch would be compiled anew
            size = max(size, n_images)
            filled = Targets(fill_up(targets.pairs, size), targets.several)
            explanation = self._explanation(x, fill_up(tensors, size), filled, n_images)
            warn_of_overflow(explanation, stacklevel=2)
            yield explanation
            if bar is not None:
                bar.update(number, finalize=number == n_batches)
        if not size:
            raise ValueError("`data` has no batch.")

    def _targets(self, target: Any, versus: Any, n_images: int) -> Targets:
        return parse_targets(target, versus, n_images, self.n_classes)

    def _explanation(
        self, x: Structure, tensors: list[Tensor], targets: Targets, n_images: int | None = None
    ) -> Explanation:
        """The `Explanation` of the first `n_images` of a batch `x`, whose tensors may be filled up."""
        self._compile()
        reports = [self._report(tensors, *pair) for pair in targets.pairs]
        reports = [{**report, "input": self._as_structure(x, report["input"])} for report in reports]
        order = [call.name for call in self._walk.calls]
        return assemble(reports, order, several=targets.several, n_images=n_images)

    def _as_structure(self, x: Structure, relevance: list[Tensor]) -> Structure:
        return as_structure(self.model, self._input_structure, x, relevance)

    def _compile(self) -> None:
        """Compiles the walk again if the model has other variables than before, as after `enable_lora`."""
        variables = self.model.variables
        if self._variables is None or list(map(id, variables)) != list(map(id, self._variables)):
            self._variables = variables
            self._relevance = compiled(self._walk.relevance, variables)
            self._report = compiled(self._walk.report, variables)
