# ruff: noqa: F403, F405
"""What Keras has no common function for: derivatives, and compiled functions of a model's weights.

Each backend has a module here, and this one takes the module of the backend that Keras runs on (`KERAS_BACKEND`). What
a module does not define is that of `common`. Nothing else in the package names a backend, TensorBoard output excepted.

- `COMPILES`: whether `compiled` compiles, anew for each size of a batch.
- `COMPILES_ANY_SIZE`: whether a function compiled for any batch size is compiled once for all, or runs as it is.
- `RETURNS_INITIAL_STATE`: whether a recurrent layer returns its initial state, and not zeros, at masked first steps.
- `vjp(fn, *primals)`: the value of `fn` and its vector-Jacobian product.
- `with_derivative(function, pushforward, pullback)`: a function with a derivative of its own.
- `compiled(fn, variables, any_batch=False)`: a compiled function that reads the present values of variables.
- `each(fn, arguments)`: what `fn` returns for each of several tuples of arguments, partly in a compiled loop.
- `erfc_is_best(exportable)`: whether `erfc` is better than a polynomial, whose operations would not be fused.
- `is_compiling()`: whether `torch.compile` traces this, which reads no context variables.
- `is_traced(x)`: whether a tensor has no values yet, as inside of `jax.jit` or `tf.function`.
- `signed(magnitude, x)`: a number with the sign of each element of a tensor.
- `largest_magnitude(x, axes)`: the largest absolute value along axes.
- `at_least(x, bound)`: the larger of a tensor and a number, with a derivative of 0 where that is the number.
- `product(x, *factors)`, `square_of_product(x, scale)`: on PyTorch with one tensor of memory.
- `in_blocks(fn, *tensors)`: what `fn` returns; on PyTorch for few samples at once, so that they stay in the cache.
- `erfc`: the complementary error function, which Keras has from 3.15 on.
- `exp`: as in `keras.ops`. On PyTorch, numbers that are no normal ones are 0, because they take long.
- `clip(x, low, high)`: as in `keras.ops`, between two numbers. On PyTorch, Keras's has no ONNX.
- `cumsum`, `matmul`, `maximum`, `minimum`: as in `keras.ops`, in the dtype of their operands. On PyTorch those of
  Keras make float32 of float64.
"""

import keras

# what several backends share, then what the backend has of its own
from keras_shapley.backend.common import *

if keras.backend.backend() == "jax":
    from keras_shapley.backend.jax import *
elif keras.backend.backend() == "tensorflow":
    from keras_shapley.backend.tensorflow import *
else:
    from keras_shapley.backend.torch import *

__all__ = [
    "COMPILES",
    "COMPILES_ANY_SIZE",
    "RETURNS_INITIAL_STATE",
    "at_least",
    "clip",
    "compiled",
    "cumsum",
    "each",
    "erfc",
    "erfc_is_best",
    "exp",
    "in_blocks",
    "is_compiling",
    "is_traced",
    "largest_magnitude",
    "matmul",
    "maximum",
    "minimum",
    "product",
    "signed",
    "square_of_product",
    "vjp",
    "with_derivative",
]
