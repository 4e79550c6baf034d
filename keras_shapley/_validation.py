"""Checks of arguments: an error names the argument, what came and what is allowed."""

from keras import ops


def one_of(name, value, allowed):
    """Returns `value` if it is in `allowed`, else raises a `ValueError`."""
    if value not in allowed:
        choices = ", ".join(repr(choice) for choice in allowed)
        raise ValueError(f"`{name}` must be one of {choices}. Received: {name}={value!r}")
    return value


def finite(name, x):
    """Returns the tensor `x` if all of it is finite, else raises a `ValueError`."""
    if not bool(ops.all(ops.isfinite(x))):
        raise ValueError(f"`{name}` must be finite. Received NaN or infinity in `{name}` of shape {tuple(x.shape)}.")
    return x
