"""Shapley values of a whole network at the price of a few gradients, from its multilinear extension (Owen 1972).

With `F(p)` the expected output when input k is present with probability `p_k`, independently of the others,
`phi_k = integral over t in [0, 1] of dF/dp_k at p = (t, ..., t)`.
"""

import math

import numpy as np
from keras import ops

from keras_shapley.backend import compiled, vjp
from keras_shapley.layers.linear_maps import LINEAR_TYPES
from keras_shapley.models.graph import ancestors
from keras_shapley.models.tracing import output_sizes, trace
from keras_shapley.shapley import moment_rules


class MomentPropagation:
    """`(values, None)` of a batch, by mean and variance of every value in the network."""

    def __init__(self, model, players, n, n_samples, seed):
        self.graph = trace(model)
        needed = ancestors(self.graph.outputs)
        self.calls = [call for call in self.graph.calls if call in needed]
        moment_rules.check(self.calls)
        # of the calls whose addends may depend on each other
        self.axes = {
            call: axis
            for call, axis in moment_rules.channel_axes(self.calls).items()
            if any(before.is_a(LINEAR_TYPES) for before in call.ancestors())
        }
        nodes, weights = np.polynomial.legendre.leggauss(n)
        self.t, self.weights = (nodes + 1) / 2, weights[:, None] / 2
        draws = np.random.default_rng(seed).uniform(size=(n_samples, 1, n, *players.shape))
        self.players, self.present = players, players.spread(draws < self._at_nodes(players.shape))
        # nobody, and each group alone; elements have no need of it
        self.alone = np.empty((0, *players.shape), bool)
        if players.are_groups:
            self.alone = players.spread(np.eye(players.n + 1, dtype=bool)[:, 1:])
        self.gradient = compiled(self._gradient, model.variables)

    def __call__(self, x, baseline, chosen):
        # every image at every node, in one batch; of samples there are so many batches
        shape, nodes = x.shape[1:], (len(x), len(self.t))
        difference = np.broadcast_to((x - baseline)[:, None], (*nodes, *shape))
        p = np.broadcast_to(self._at_nodes(self.players.shape), (*nodes, *self.players.shape))
        samples = baseline + self.present * difference
        alone = np.where(self.alone, x[:, None], baseline)
        cotangent = (chosen[:, None] * self.weights).reshape(-1, chosen.shape[1])
        flat = [array.reshape(-1, *shape) for array in (difference, samples, alone)]
        arrays = p.reshape(-1, *self.players.shape), *flat, baseline, cotangent
        gradient = self.gradient(*(ops.convert_to_tensor(array, x.dtype) for array in arrays))
        return ops.convert_to_numpy(gradient).astype("float64").reshape(p.shape).sum(axis=1), None

    def values_of_image(self, shape, dtype):
        """How many one takes at once: all that have a gradient, and of the samples the largest layer's.

        Groups go together only as far as the first kink; that they are counted behind it makes batches smaller.
        """
        sizes, n, of_input = output_sizes(self.graph, shape, dtype), len(self.t), math.prod(shape)
        differentiated = n * (of_input + sum(sizes[call] * moment_rules.evaluations(call) for call in self.calls))
        largest = max([of_input, *(sizes[call] for call in self.calls)])
        return differentiated + largest * max(len(self.present) * n, len(self.alone))

    def _at_nodes(self, shape):
        return self.t.reshape(-1, *(1 for _ in shape))

    def _gradient(self, p, difference, samples, alone, baseline, cotangent):
        def expected(p):
            (value,) = self.graph.inputs
            chance = p
            if self.players.are_groups:
                chance = ops.reshape(ops.take(p, self.players.numbers.ravel(), axis=1), difference.shape)
            found = {value: (baseline + chance * difference, chance * (1 - chance) * ops.square(difference))}
            sampled = {value: samples} if samples.shape[0] else None
            affine = {value: alone} if alone.shape[0] else {}
            for call in self.calls:
                inputs = [found[value] for value in call.inputs]
                beside = [sampled[value] for value in call.inputs] if sampled else None
                variances = self._of_groups(call, affine, p)
                outputs, beside = moment_rules.carry(call, inputs, beside, self.axes.get(call), variances)
                found.update(zip(call.outputs, outputs))
                if sampled:
                    sampled.update(zip(call.outputs, beside))
            return found[self.graph.outputs[0]][0]

        _, pullback = vjp(expected, p)
        return pullback(cotangent)[0]

    def _of_groups(self, call, affine, p):
        """Exact variances of what is affine in the input, whose elements come in groups; None behind the first kink.

        Args:
            call: of the graph.
            affine: by value of the graph, as far as it is affine, what it is for `alone`; the call's outputs are added.
            p: shape `(batch * nodes, groups)`.
        """
        found = moment_rules.affine_sums(call, [affine.get(value) for value in call.inputs])
        if found is None:
            return None
        sums, is_all = found
        chance, variances = ops.reshape(p * (1 - p), (-1, len(self.t), self.players.n)), []
        for part in sums:
            by_group = ops.reshape(ops.cast(part, p.dtype), (-1, self.players.n + 1, math.prod(part.shape[1:])))
            variance = ops.matmul(chance, ops.square(by_group[:, 1:] - by_group[:, :1]))
            variances.append(ops.reshape(variance, (-1, *part.shape[1:])))
        if is_all:
            affine.update(zip(call.outputs, sums))
        return variances
