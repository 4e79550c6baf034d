"""Fixtures: a seeded generator, and derivatives of a function of tensors on whichever backend Keras runs.

`KERAS_BACKEND` chooses the backend; only that one has to be installed.
"""

import contextlib
import functools
import os
import zlib

# without oneDNN, which TensorFlow leaves out on some processors, it has no dilated transposed convolutions on a CPU
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

if os.environ.get("KERAS_BACKEND") == "torch":
    # before TensorFlow, which Keras may import for its own ends: in the other order PyTorch can crash
    import torch  # noqa: F401

import hypothesis
import keras
import numpy as np
import pytest

# few examples, the same in every run; `pytest --hypothesis-profile=thorough` looks for new ones
hypothesis.settings.register_profile("few", max_examples=15, deadline=None, derandomize=True, database=None)
hypothesis.settings.register_profile("thorough", max_examples=500, deadline=None)
hypothesis.settings.load_profile("few")


def pytest_addoption(parser):
    parser.addoption(
        "--one-in",
        type=int,
        choices=range(1, 101),
        default=1,
        metavar="N",
        help="run the first test of each file, those that are for some backends or systems alone, and about one in N "
        "(1 to 100) of the others, always the same ones on a backend",
    )


# after `-m`
@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    n = config.getoption("--one-in")
    if n == 1:
        return
    backend, files, chosen, left_out = keras.backend.backend(), set(), [], []
    for item in items:
        if _is_elsewhere(item):
            left_out.append(item)
            continue
        is_first = item.path not in files
        files.add(item.path)
        is_particular = item.get_closest_marker("skipif") is not None
        is_sampled = zlib.crc32(f"{backend} {item.nodeid}".encode()) % n == 0
        (chosen if is_first or is_particular or is_sampled else left_out).append(item)
    items[:] = chosen
    config.hook.pytest_deselected(items=left_out)


# before the fixtures
@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    if _is_elsewhere(item):
        pytest.skip("once, on PyTorch")
    # the same initial weights whichever tests ran before
    keras.utils.set_random_seed(0)


def _is_elsewhere(item):
    """Whether a test is marked `once`, for PyTorch alone, where nothing is compiled, and this is another backend."""
    return item.get_closest_marker("once") is not None and keras.backend.backend() != "torch"


@pytest.fixture
def backend():
    return keras.backend.backend()


@pytest.fixture
def rng():
    keras.utils.set_random_seed(0)
    return np.random.default_rng(0)


@pytest.fixture
def float64():
    """Lets the test use float64, which JAX does not by default."""
    with contextlib.ExitStack() as stack:
        if keras.backend.backend() == "jax":
            import jax.experimental

            # where it was before JAX 0.8
            home = jax if hasattr(jax, "enable_x64") else jax.experimental
            stack.enter_context(home.enable_x64())
        yield


@pytest.fixture
def numpy():
    """Function that turns a tensor of any backend into a NumPy array, low-precision ones into float32."""
    return _numpy


@pytest.fixture
def apply():
    """Function `(layer, x, *weights)` that calls the layer with other weights, differentiable in them."""

    def apply(layer, x, *weights):
        mapping = list(zip(layer.trainable_variables, weights, strict=True))
        with keras.StatelessScope(state_mapping=mapping):
            return layer(x)

    return apply


@pytest.fixture
def gradients(backend):
    """Function `(fn, *arrays)`: derivatives of the scalar `fn(*tensors)` with respect to each, as NumPy arrays."""

    def gradients(fn, *arrays):
        tensors = _leaves[backend](arrays)
        return [_numpy(g) for g in _gradient[backend](fn, tensors)]

    return gradients


@pytest.fixture
def pullbacks(backend):
    """Function `(fns, arrays, upstream)`: of each, the value and the derivatives of its product with `upstream`."""

    def pullbacks(fns, arrays, upstream):
        pairs = _pullbacks[backend](fns, _leaves[backend](arrays), keras.ops.convert_to_tensor(upstream))
        return [(_numpy(y), [_numpy(g) for g in slopes]) for y, slopes in pairs]

    return pullbacks


@pytest.fixture
def hessian_vector(backend):
    """Function `(fn, arrays, vectors)`: Hessian of the scalar `fn(*tensors)` times `vectors`, reverse over reverse."""

    def hessian_vector(fn, arrays, vectors):
        def slope(*tensors):
            slopes = _gradient[backend](fn, tensors, again=True)
            return sum(keras.ops.sum(g * v) for g, v in zip(slopes, _convert(vectors), strict=True))

        tensors = _leaves[backend](arrays)
        return [_numpy(g) for g in _gradient[backend](slope, tensors)]

    return hessian_vector


@pytest.fixture
def directional(backend):
    """Function `(fn, arrays, vectors)`: derivative of `fn(*tensors)` along `vectors`, in forward mode."""

    def directional(fn, arrays, vectors):
        return _numpy(_forward_mode[backend](fn, _convert(arrays), _convert(vectors)))

    return directional


def _numpy(tensor):
    array = keras.ops.convert_to_numpy(tensor)
    return array if array.dtype in ("float32", "float64") else array.astype("float32")


def _jit(fn):
    """Compiles in a hurry: each function here runs once."""
    import jax

    return jax.jit(
        fn, compiler_options={"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    )


def _jax_gradient(fn, tensors, again=False):
    import jax

    gradient = jax.grad(fn, argnums=tuple(range(len(tensors))))
    return (gradient if again else _jit(gradient))(*tensors)


def _tensorflow_gradient(fn, tensors, again=False):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(tensors)
        y = fn(*tensors)
    return tape.gradient(y, tensors, unconnected_gradients="zero")


def _torch_gradient(fn, tensors, again=False):
    import torch

    gradients = torch.autograd.grad(fn(*tensors), tensors, create_graph=again, allow_unused=True)
    return [torch.zeros_like(t) if g is None else g for g, t in zip(gradients, tensors, strict=True)]


def _jax_pullbacks(fns, tensors, upstream):
    return _jax_pullback(tuple(fns))(tensors, upstream)


@functools.lru_cache(maxsize=64)
def _jax_pullback(fns):
    """Compiled once for the same functions; together they compile in less than half the time."""
    import jax

    def run(tensors, upstream):
        pairs = [jax.vjp(fn, *tensors) for fn in fns]
        return [(y, back(upstream)) for y, back in pairs]

    return _jit(run)


def _tensorflow_pullbacks(fns, tensors, upstream):
    import tensorflow as tf

    with tf.GradientTape(persistent=True) as tape:
        tape.watch(tensors)
        outputs = [fn(*tensors) for fn in fns]
    return [(y, tape.gradient(y, tensors, upstream)) for y in outputs]


def _torch_pullbacks(fns, tensors, upstream):
    import torch

    outputs = [fn(*tensors) for fn in fns]
    return [(y, torch.autograd.grad(y, tensors, upstream)) for y in outputs]


def _jax_forward_mode(fn, tensors, vectors):
    import jax

    return _jit(lambda *vectors: jax.jvp(fn, tensors, vectors)[1])(*vectors)


def _tensorflow_forward_mode(fn, tensors, vectors):
    import tensorflow as tf

    with tf.autodiff.ForwardAccumulator(tensors, vectors) as accumulator:
        y = fn(*tensors)
    return accumulator.jvp(y)


def _torch_forward_mode(fn, tensors, vectors):
    import torch

    return torch.func.jvp(fn, tensors, vectors)[1]


def _convert(arrays):
    return tuple(keras.ops.convert_to_tensor(array) for array in arrays)


def _torch_leaves(arrays):
    return tuple(keras.ops.convert_to_tensor(array).detach().requires_grad_() for array in arrays)


_leaves = {"jax": _convert, "tensorflow": _convert, "torch": _torch_leaves}
_gradient = {"jax": _jax_gradient, "tensorflow": _tensorflow_gradient, "torch": _torch_gradient}
_pullbacks = {"jax": _jax_pullbacks, "tensorflow": _tensorflow_pullbacks, "torch": _torch_pullbacks}
_forward_mode = {"jax": _jax_forward_mode, "tensorflow": _tensorflow_forward_mode, "torch": _torch_forward_mode}
