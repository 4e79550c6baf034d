"""What the backends share, written in Keras alone."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras


def as_tensors(operands: Sequence[Any]) -> tuple[Any, ...]:
    """The operands as tensors; numbers get the dtype of the first operand."""
    first, *others = operands
    first = keras.ops.convert_to_tensor(first)
    return first, *(keras.ops.convert_to_tensor(x, None if hasattr(x, "dtype") else first.dtype) for x in others)


def without_side_effects(fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn` in a scope that swallows what it does to variables (seeds, statistics) and the losses that it adds."""

    # it keeps the name of `fn`, by which TensorFlow counts how often it has to compile, and warns
    @functools.wraps(fn)
    def stateless(*args: Any) -> Any:
        with keras.StatelessScope():
            return fn(*args)

    return stateless


def each(fn: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
    """What `fn` returns for each of several tuples of arguments, one after the other or in a compiled loop.

    Args:
        fn: function of tensors, or None, that returns a structure of tensors, or None.
        arguments: tuples, each with tensors of the same shapes and dtypes.
    """
    return [fn(*given) for given in arguments]


def signed(magnitude: float, x: Any) -> Any:
    """The number `magnitude` with the sign of each element of `x`, positive at 0."""
    negative = keras.ops.cast(-magnitude, x.dtype)
    positive = keras.ops.cast(magnitude, x.dtype)
    return keras.ops.where(x < 0, negative, positive)


def erfc_is_best(exportable: bool) -> bool:
    """Whether `erfc` is better than a polynomial: where the backend would not fuse that into one pass over memory.

    Args:
        exportable: whether what is traced may be exported, to formats of which some have no `erfc`.
    """
    return False


def is_compiling() -> bool:
    """Whether `torch.compile` traces this. What it traces cannot read context variables."""
    return False


# on PyTorch these, and the two above, have functions of their own
cumsum = keras.ops.cumsum
exp = keras.ops.exp
matmul = keras.ops.matmul
maximum = keras.ops.maximum
minimum = keras.ops.minimum


def at_least(x: Any, bound: float) -> Any:
    """The larger of `x` and a number; where that is the number the derivative is 0, whatever comes from above."""
    return keras.ops.maximum(x, bound)


def product(x: Any, *factors: Any) -> Any:
    """The product of tensors that broadcast to the shape of `x`."""
    for factor in factors:
        x = x * factor
    return x


def square_of_product(x: Any, scale: Any) -> Any:
    """`(scale * x)**2`; `scale` broadcasts against `x`."""
    return keras.ops.square(x * scale)


def in_blocks(fn: Callable[..., Sequence[Any]], *tensors: Any) -> Sequence[Any]:
    """What `fn` returns for a batch; where each operation is a pass over memory, for few samples at once.

    Args:
        fn: function of `tensors` that returns tensors, and treats each sample by itself.
        tensors: shape `(n, ...)`, some perhaps `(1, ...)`, or None. The first has n samples.
    """
    return fn(*tensors)


def clip(x: Any, low: float, high: float) -> Any:
    """As `keras.ops.clip`, also of a number."""
    return keras.ops.clip(keras.ops.convert_to_tensor(x), low, high)
