"""Layer-wise relevance propagation through a whole Keras model, eq. (2)."""

import warnings

import keras
import numpy as np
from keras import ops, tree

from keras_shapley.backend import compiled
from keras_shapley.lrp.explanation import ConservationGap, Explanation
from keras_shapley.lrp.head import Head
from keras_shapley.lrp.requests import as_tensor, of_batch
from keras_shapley.lrp.rule_table import RuleTable
from keras_shapley.lrp.rules.linear import LinearRule
from keras_shapley.lrp.walk import Walk
from keras_shapley.models.batch_norm import merges
from keras_shapley.models.graph import ancestors
from keras_shapley.models.tracing import in_order, trace
from keras_shapley.utils.data import batches
from keras_shapley.utils.validation import finite, integer, one_of


class LRP:
    """Explains the predictions of a Sequential or Functional model by relevance propagation, eq. (2).

    An explainer is compiled once for each shape of input, and sees the model's present weights at every call. It runs
    the model in inference mode and changes nothing in it.

    Args:
        model: a built Sequential or Functional model; what is explained has the shape `(batch, classes)`.
        rules: the name of a preset without arguments, or a table, a list of `(key, rule)` as in
            `keras_shapley.presets`: a key is a layer type, a tuple of them, `presets.First(types)`, or a layer's name;
            a rule is one of `keras_shapley.rules`, its name, or a function `rule(call, inputs, relevance)`. The first
            entry that fits counts; after yours come those of `presets.paper()`.
        output: of a model with several outputs, the one to explain: its name or its place.
        head: what is explained. `"auto"`: the probability, for a model that ends in a softmax or sigmoid; otherwise its
            output. `"softmax"` or `"sigmoid"`: the probability, for a model that ends in logits. `"linear"`: the logit
            below a softmax or sigmoid. Or a callable `head(logits, target)` that returns the relevance of the logits.
        head_players: who shares a probability by Shapley values: `"features"`, the inputs of the last linear layer, or
            `"logits"`. The logits also where that layer is no Dense on vectors and no 1x1 convolution of 1x1.
        head_method: of these Shapley values. `"exact"`: all coalitions, of up to 16 players. `"sampled"`: random paths.
            `"quadrature"`: the logits of those present are taken to be normal, without any orders; for the largest
            heads; good to a few percent, and the conservation gap of the last layer says what its sum misses. `"auto"`:
            exact where that can be, else sampled.
        merge_batch_norm: whether a BatchNormalization right behind or before a linear layer is merged into it, so that
            rules see the product of both. Otherwise relevance passes it unchanged (n = 1), as it does where no linear
            layer is beside it.
        n_paths: even number of random paths, half of them the reverse of the other half; the same ones at every call.
            For very large heads an upper bound (see `head_paths` of the `Explanation`).
        seed: of the paths, and of the quadrature's normal draws, an int.

    Attributes:
        n_classes: number of classes that a target can name.
        rules: by call, `(layer or operation, rule)`, of all calls that relevance can reach.

    Raises:
        ValueError: if the model is not built, of another kind, or has a layer without a rule, several outputs, or
            layers of float64 beside others; on an odd `n_paths`, an unknown option, or a malformed table of rules; if a
            BatchNormalization cannot be merged.
    """

    def __init__(
        self,
        model,
        *,
        rules=None,
        output=None,
        head="auto",
        head_players="features",
        head_method="auto",
        merge_batch_norm=False,
        n_paths=1000,
        seed=0,
    ):
        one_of("head_players", head_players, ("features", "logits"))
        one_of("head_method", head_method, ("auto", "exact", "sampled", "quadrature"))
        one_of("merge_batch_norm", merge_batch_norm, (True, False))
        if integer("n_paths", n_paths, 2) % 2:
            raise ValueError(f"`n_paths` must be even. Received: n_paths={n_paths!r}")
        integer("seed", seed, 0)
        if not isinstance(model, keras.Model):
            raise ValueError(f"`model` must be a keras.Model. Received: {model!r}")
        self.model = model
        self._graph = trace(model)
        place = self._place(output)
        explained = self._graph.outputs[place]
        table = RuleTable(rules, self._graph.calls)
        needed = ancestors([explained])
        self._calls = [call for call in self._graph.calls if call in needed]
        dtype = _dtype(self._calls)
        head = Head(explained, head, head_players, head_method, n_paths, seed)
        met = {call: table.rule(call) for call in self._calls if call in head.walked and call.data_inputs}
        if head.linear_call is not None:
            met[head.linear_call] = table.rule(head.linear_call, head=True)
        linear = {call for call, rule in met.items() if isinstance(rule, LinearRule)}
        beside = merges(met, linear) if merge_batch_norm else {}
        self._walk = Walk(self._graph.inputs, self._calls, head, met, beside, dtype)
        self.n_classes = head.n_targets(model.outputs[place].shape[-1])
        self.rules = {call.name: (call.op, met[call]) for call in self._calls if call in met}
        self._variables = None

    def __call__(self, x, target=None, versus=None):
        """Relevance of the input, as fast as it goes: only `explain` warns of relevance beyond the range of its dtype.

        Args:
            x: a batch, as the model takes it.
            target: the class to explain: None for the predicted one, an int for all images, ints of shape `(batch,)`,
                or of shape `(batch, k)` or `(1, k)` for `k` classes one by one. A single unit has the classes 0 and 1:
                it speaks for 1, which None means, and against 0.
            versus: a class to compare with, as `target`: what speaks for the target rather than for this one. The
                difference of their probabilities or logits is explained.

        Returns:
            Backend tensor, or structure of tensors, shaped as `x`; for `k` targets with an axis for them after the
            batch.

        Raises:
            ValueError: if `x` has another structure or shape than the model's input, or NaN or infinity; if `target` or
                `versus` is out of range.
        """
        tensors = self._inputs(x)
        pairs, several = self._pairs(len(tensors[0]), target, versus)
        self._compile()
        found = [self._relevance(tensors, *pair) for pair in pairs]
        return self._as_input(x, [ops.stack(parts, axis=1) for parts in zip(*found)] if several else found[0])

    def explain(self, x, target=None, versus=None):
        """Relevance of the input and of every layer, and what was lost on the way.

        Args:
            x, target, versus: as in a call.

        Returns:
            An `Explanation`.

        Warns:
            RuntimeWarning: if relevance grew beyond the range of its dtype; it says where.
        """
        tensors = self._inputs(x)
        return self._explanation(x, tensors, *self._pairs(len(tensors[0]), target, versus))

    def explain_batches(self, data, target=None, versus=None, *, batch_size=32, progress=True):
        """Explanations of a data set of any size, a batch at a time.

        Args:
            data: arrays in the structure of the model's input; or a `tf.data.Dataset`, `keras.utils.PyDataset` or other
                iterable of batches, each `x` or a tuple `(x, y)` or `(x, y, sample_weight)`.
            target: as in a call; beside arrays also one for each image of them; beside a data set also `"true"`, for
                its labels `y`, class numbers or one-hot rows.
            versus: as in a call; beside arrays also one for each image of them.
            batch_size: of arrays. Other data come in batches of their own.
            progress: whether to show a progress bar.

        Yields:
            An `Explanation` of each batch, in order.

        Raises:
            ValueError: as a call; if there is no batch, or no label where they are asked for.
        """
        length, parts = batches(data, batch_size)
        bar = keras.utils.Progbar(length, unit_name="batch") if progress else None
        size = 0
        for number, (x, y, place) in enumerate(parts, 1):
            tensors = self._inputs(x)
            n_images = len(tensors[0])
            pairs, several = self._pairs(
                n_images, *(of_batch(value, data, y, place, n_images) for value in (target, versus))
            )
            # a shorter batch would be compiled anew: it is filled up with its last image
            size = max(size, n_images)
            tensors, pairs = tree.map_structure(lambda tensor: _filled(tensor, size), (tensors, pairs))
            yield self._explanation(x, tensors, pairs, several, n_images)
            if bar is not None:
                bar.update(number, finalize=number == length)
        if not size:
            raise ValueError("`data` has no batch.")

    def _explanation(self, x, tensors, pairs, several, n_images=None):
        """The `Explanation` of the first `n_images` of `tensors`."""
        self._compile()
        founds = [tree.map_structure(ops.convert_to_numpy, self._report(tensors, *pair)) for pair in pairs]
        paths = max(int(found.pop("head_paths")) for found in founds)
        founds = [tree.map_structure(lambda array: array[:n_images], found) for found in founds]
        found = founds[0]
        if several:
            stacked = tree.map_structure(lambda *arrays: np.stack(arrays, axis=1), *founds)
            # these two know nothing of a target
            found = {**stacked, "output": found["output"], "probability": found["probability"]}
        order = [call.name for call in self._calls]
        by_call = {}
        for key in ("layers", "signed", "relative", "amplification"):
            values = found.pop(key)
            by_call[key] = {name: values[name] for name in order if name in values}
        explanation = Explanation(
            input=self._as_input(x, found.pop("input")),
            layers=by_call["layers"],
            head_paths=paths,
            conservation_gap=ConservationGap(by_call["signed"], by_call["relative"]),
            amplification=by_call["amplification"],
            versus=found.pop("versus", None),
            **found,
        )
        lost = explanation.overflow
        if lost is not None:
            warnings.warn(
                f"The relevance left the range of {self._walk.dtype} at {lost!r}. Eq. (2) has no bound where "
                "denominators come near zero (see `Explanation.amplification`). Where there is BatchNormalization, "
                "LRP(model, merge_batch_norm=True) may keep it finite; rules='epsilon_plus' keeps it small.",
                RuntimeWarning,
                stacklevel=3,
            )
        return explanation

    def _compile(self):
        """Compiles anew when the model has other variables than before, as after `enable_lora`."""
        variables = self.model.variables
        if self._variables is None or list(map(id, variables)) != list(map(id, self._variables)):
            self._variables = variables
            self._relevance = compiled(self._walk.relevance, variables)
            self._report = compiled(self._walk.report, variables)

    def _place(self, output):
        """Which of the model's outputs to explain."""
        outputs = self.model.outputs
        names = getattr(self.model, "output_names", None) or [self.model.layers[-1].name]
        if output is None and len(outputs) > 1:
            raise ValueError(f"`output` must say which output of model '{self.model.name}' to explain: one of {names}.")
        place = 0 if output is None else output
        if isinstance(place, str):
            place = names.index(one_of("output", place, names))
        elif integer("output", place, 0) >= len(outputs):
            raise ValueError(f"`output` must be below {len(outputs)}, the number of outputs. Received: {place}")
        if len(outputs[place].shape) != 2:
            raise ValueError(
                f"`model` must have an output of shape (batch, classes). Received: model '{self.model.name}' with "
                f"output '{names[place]}' of shape {outputs[place].shape}"
            )
        return place

    def _inputs(self, x):
        """The batch as a flat list of finite tensors that fit the model."""
        expected = self.model.inputs
        arrays = in_order(self.model, x)
        if len(arrays) != len(expected):
            raise ValueError(f"`x` must have {len(expected)} arrays, one for each input. Received: {len(arrays)}")
        tensors = [as_tensor(array, reference.dtype) for array, reference in zip(arrays, expected)]
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

    def _pairs(self, n_images, target, versus):
        """The targets one by one, each beside what it is compared with; and whether there is an axis of them."""
        columns = [self._columns(*given, n_images) for given in (("target", target), ("versus", versus))]
        numbers = {len(column) for column, _ in columns}
        if len(numbers - {1}) > 1:
            raise ValueError(
                "`target` and `versus` must be as many an image. Received: "
                f"{len(columns[0][0])} and {len(columns[1][0])}"
            )
        k = max(numbers)
        targets, others = (column * (k // len(column)) for column, _ in columns)
        return list(zip(targets, others)), any(several for _, several in columns)

    def _columns(self, name, value, n_images):
        """`([class of each image as an int tensor, or None] of each target, whether there is an axis of them)`."""
        if value is None:
            return [None], False
        array = np.asarray(ops.convert_to_numpy(value) if ops.is_tensor(value) else value)
        shapes = [(), (n_images,)] + [(n, *array.shape[1:2]) for n in (n_images, 1)]
        if not np.issubdtype(array.dtype, np.integer) or array.shape not in shapes or not array.size:
            raise ValueError(
                f"`{name}` must be None, an int, or ints of shape ({n_images},), ({n_images}, k) or (1, k). Received: "
                f"{array.dtype} of shape {array.shape}"
            )
        if array.min() < 0 or array.max() >= self.n_classes:
            raise ValueError(f"`{name}` must be in [0, {self.n_classes}). Received: {array.min()} to {array.max()}")
        rows = np.broadcast_to(
            array if array.ndim == 2 else array.reshape(-1, 1), (n_images, max(array.shape[1:] or [1]))
        )
        return [ops.convert_to_tensor(column.astype("int32")) for column in rows.T], array.ndim == 2


def _dtype(calls):
    """Of the relevance: float32, or float64 for a model of that.

    Raises:
        ValueError: if the model has layers of float64 and of another dtype.
    """
    dtypes = {call.op.compute_dtype: call for call in calls if isinstance(call.op, keras.layers.Layer)}
    if "float64" not in dtypes:
        return "float32"
    for dtype, call in dtypes.items():
        if dtype != "float64":
            raise ValueError(
                f"Layers of float64 cannot be walked beside others. Received: {dtypes['float64'].description} of "
                f"float64 and {call.description} of {dtype}."
            )
    return "float64"


def _filled(tensor, size):
    if tensor is None or len(tensor) == size:
        return tensor
    return ops.concatenate([tensor, ops.repeat(tensor[-1:], size - len(tensor), axis=0)], axis=0)
