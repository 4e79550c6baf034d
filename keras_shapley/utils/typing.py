"""Types of the package's annotations."""

from collections.abc import Callable
from typing import Any, TypeAlias

# A tensor of the backend that Keras runs on. No type of Keras names it.
Tensor: TypeAlias = Any
# Nested lists, tuples and dicts of arrays or tensors, as models take and give them.
Structure: TypeAlias = Any
# A layer or an operation of `keras.ops`; operations have no public class.
Operation: TypeAlias = Any
# A Keras model, or a function of a NumPy batch.
Function: TypeAlias = Callable[..., Structure]
TensorFunction: TypeAlias = Callable[..., Tensor]
