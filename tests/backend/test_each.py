"""A function of several tuples of arguments, few and many: many are compiled as a loop."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_shapley.backend import compiled, each


@pytest.mark.parametrize("n", [1, 2, 5, 13])
@pytest.mark.parametrize("wrap", [lambda fn: fn, lambda fn: compiled(fn, [])], ids=["plain", "compiled"])
def test_results_are_those_of_one_after_the_other(wrap, n, rng, numpy):
    """Of structures with None among their tensors, and with a tensor from around the function."""
    x = rng.normal(size=(3, 4)).astype("float32")
    indices = [rng.integers(4, size=3).astype("int32") for _ in range(n)]

    def run(x, pairs):
        squares = ops.square(x)

        def fn(index, other):
            assert other is None
            taken = ops.take_along_axis(squares, index[:, None], axis=1)[:, 0]
            return [taken, None], {"z": ops.sum(taken), "a": index, "nothing": []}

        return each(fn, pairs)

    tensors = [(ops.convert_to_tensor(index), None) for index in indices]
    results = wrap(run)(ops.convert_to_tensor(x), tensors)
    assert len(results) == n
    for ((taken, none), sums), index in zip(results, indices):
        expected = (x**2)[np.arange(3), index]
        assert none is None and sums["nothing"] == [] and keras.backend.standardize_dtype(sums["a"].dtype) == "int32"
        np.testing.assert_allclose(numpy(taken), expected, rtol=1e-6)
        np.testing.assert_allclose(numpy(sums["z"]), expected.sum(), rtol=1e-6)
        np.testing.assert_array_equal(numpy(sums["a"]), index)
