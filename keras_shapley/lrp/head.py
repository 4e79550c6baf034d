"""The head of a model: what is explained, and the relevance with which the walk starts.

- Softmax and sigmoid: the weighted sum of the probabilities, by Shapley values (`probability_head.py`).
- A linear output: the weighted logits, which are then their relevance.
- ReLU: the weighted `Phi(z) (u + b)`, the sums of eq. (1) over the inputs.
- A callable: the relevance of the logits that it returns.

The weights are the target: 1 for the output that is explained, or those that the user gave. An average of several
softmaxes or sigmoids has an end for each of them, and the walk starts at all of them.
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import TypeAlias

from keras import ops

from keras_shapley.layers.activations import shapley_activation
from keras_shapley.layers.linear_maps import linear_map
from keras_shapley.lrp.probability_head import ProbabilityHead, ShapleyOptions
from keras_shapley.lrp.start import Start, as_weights, flat, logits_tensor
from keras_shapley.models.graph import Value, ancestors
from keras_shapley.models.model_end import MASKED_SOFTMAX, ModelEnd, model_ends
from keras_shapley.utils.typing import Tensor
from keras_shapley.utils.validation import one_of

HeadFunction: TypeAlias = Callable[[Tensor, Tensor], Tensor]


class Head:
    """Starts the relevance of an output at the model's ends.

    Args:
        output: the output that is explained.
        head: `"auto"`, `"softmax"`, `"sigmoid"`, `"linear"`, or a callable `head(logits, target)` that returns the
            relevance of the logits.
        options: how Shapley values of probabilities are computed.
        from_baseline: whether `starts` is given the tensors at a baseline. A ReLU at the end is then a neuron like any
            other.

    Attributes:
        kind: what is explained, `"softmax"`, `"sigmoid"`, `"relu"`, `"linear"`, or the callable.
        linear_calls: the calls of the last linear layers, whose outputs before their activation are the logits.
        calls_below: the calls that relevance can reach from the head, without the last linear layers.
        values_below: the places in the graph that it can reach.
        link: `"softmax"` or `"sigmoid"` if the head makes probabilities of an output that is none, else None.
    """

    def __init__(
        self, output: Value, head: str | HeadFunction, options: ShapleyOptions, *, from_baseline: bool = False
    ) -> None:
        ends = model_ends(output)
        if from_baseline and ends[0].link == "relu":
            ends = [ModelEnd(output)]
        self.output = output
        self.kind = _kind(head, ends[0].link)
        self.linear_calls = [end.linear_call for end in ends if end.linear_call is not None]
        below = [value for end in ends for value in (end.linear_call.data_inputs if end.linear_call else [end.logits])]
        below = [value for value in below if not value.constant]
        self.calls_below = ancestors(below, through_data=True)
        self.values_below = {*below, *(value for call in self.calls_below for value in call.data_inputs)}
        self.link = self.kind if self.kind in ("softmax", "sigmoid") and not ends[0].is_probability else None
        self._parts = [(self._part(end, options), end.share) for end in ends]

    def probability(self, output: Tensor) -> Tensor:
        """The probabilities that the head makes of an output that is none."""
        return ops.softmax(output, axis=-1) if self.link == "softmax" else ops.sigmoid(output)

    def starts(
        self, tensors: dict[Value, Tensor], target: Tensor, dtype: str, baselines: dict[Value, Tensor] | None = None
    ) -> list[Start]:
        """The `Start` of each end.

        Args:
            tensors: every tensor of the model.
            target: what is explained, indices `(batch,)` or weights `(batch, *output)`.
            dtype: dtype of the relevance.
            baselines: every tensor at the baseline; None if relevance is not measured from one.
        """
        return [part.start(tensors, target, dtype, baselines).times(share) for part, share in self._parts]

    def _part(self, end: ModelEnd, options: ShapleyOptions) -> "ProbabilityHead | _LogitHead":
        if callable(self.kind):
            return _FunctionHead(end, self.kind)
        if self.kind in ("softmax", "sigmoid"):
            return ProbabilityHead(end, self.output, self.kind, options)
        return _ReluHead(end) if self.kind == "relu" else _LinearHead(end)


class _LogitHead(abc.ABC):
    """A head whose relevance is what it explains, so that its sum is exact."""

    def __init__(self, end: ModelEnd) -> None:
        self.end = end

    def start(
        self, tensors: dict[Value, Tensor], target: Tensor, dtype: str, baselines: dict[Value, Tensor] | None = None
    ) -> Start:
        """The `Start` at the logits."""
        relevance = self._relevance(tensors, target, dtype, baselines)
        total = ops.sum(flat(relevance), axis=1)
        return Start(
            value=self.end.logits,
            relevance=relevance,
            stderr=ops.zeros_like(relevance),
            total=total,
            baseline=ops.zeros_like(total),
            missed=ops.zeros_like(total),
            n_paths=ops.zeros((), "int32"),
            gap_call=None,
        )

    @abc.abstractmethod
    def _relevance(
        self, tensors: dict[Value, Tensor], target: Tensor, dtype: str, baselines: dict[Value, Tensor] | None
    ) -> Tensor:
        """Relevance of the logits."""


class _LinearHead(_LogitHead):
    """The weighted logits, or their differences from those at the baseline."""

    def start(
        self, tensors: dict[Value, Tensor], target: Tensor, dtype: str, baselines: dict[Value, Tensor] | None = None
    ) -> Start:
        start = super().start(tensors, target, dtype, baselines)
        if baselines is None:
            return start
        absent = logits_tensor(self.end, baselines, dtype)
        weights = _weights(start.relevance, target)
        return dataclasses.replace(start, baseline=ops.sum(flat(weights * absent), axis=1), multiplier=weights)

    def _relevance(
        self, tensors: dict[Value, Tensor], target: Tensor, dtype: str, baselines: dict[Value, Tensor] | None
    ) -> Tensor:
        logits = logits_tensor(self.end, tensors, dtype)
        if baselines is not None:
            logits = logits - logits_tensor(self.end, baselines, dtype)
        return _weights(logits, target) * logits


class _ReluHead(_LogitHead):
    """The weighted `Phi(z) (u + b)`, the sums of eq. (1) over the inputs."""

    def _relevance(
        self, tensors: dict[Value, Tensor], target: Tensor, dtype: str, baselines: dict[Value, Tensor] | None
    ) -> Tensor:
        call = self.end.linear_call
        assert call is not None, "a ReLU without a linear layer is no end"
        linear = linear_map(call.op)
        x = ops.cast(tensors[call.inputs[0]], dtype)
        kernels = [ops.cast(kernel, dtype) for kernel in linear.kernels]
        scales = linear.scales(x, kernels)
        u, q = linear.power_sums(x, kernels, 1), linear.power_sums(x, kernels, 2, scales)
        sums = shapley_activation(u, q, linear.bias_or_zero(dtype), scales.sums)
        return _weights(sums, target) * sums


class _FunctionHead(_LogitHead):
    """What a user's function returns for the logits, or for their differences from those at the baseline."""

    def __init__(self, end: ModelEnd, function: HeadFunction) -> None:
        super().__init__(end)
        self.function = function

    def _relevance(
        self, tensors: dict[Value, Tensor], target: Tensor, dtype: str, baselines: dict[Value, Tensor] | None
    ) -> Tensor:
        logits = logits_tensor(self.end, tensors, dtype)
        if baselines is not None:
            logits = logits - logits_tensor(self.end, baselines, dtype)
        relevance = ops.cast(self.function(logits, target), dtype)
        if tuple(relevance.shape) != tuple(logits.shape):
            raise ValueError(
                f"`head` must return relevance in the shape of the logits, {tuple(logits.shape)}. "
                f"Received: {tuple(relevance.shape)}"
            )
        return relevance


def _weights(logits: Tensor, target: Tensor) -> Tensor:
    """Weights of the outputs, in the shape of the logits."""
    weights = as_weights(target, flat(logits).shape[1], logits.dtype)
    return ops.reshape(weights, logits.shape)


def _kind(head: str | HeadFunction, link: str) -> str | HeadFunction:
    """What is explained of a model that ends in `link`."""
    if callable(head):
        return head
    one_of("head", head, ("auto", "softmax", "sigmoid", "linear"))
    if link == MASKED_SOFTMAX:
        if head != "auto":
            raise ValueError(
                f"`head` must be 'auto' for a model that ends in a softmax with a mask. Received: {head!r}"
            )
        return "linear"
    if head == "auto":
        return link
    if head == "linear" or link in (head, "linear"):
        return head
    raise ValueError(
        f"head={head!r} explains a model that ends in logits or in {head}. Received: one that ends in {link}."
    )
