import logging

import pytest


@pytest.fixture
def traced(backend, monkeypatch):
    """A list that gets the name of a function of the package each time that JAX or TensorFlow traces it.

    Nothing is traced on PyTorch.
    """
    names = []

    def counting(compile):
        def compiled(*fns, **options):
            # Keras's own, and decorators with options
            if not fns or not getattr(fns[0], "__module__", "").startswith("keras_shapley"):
                return compile(*fns, **options)
            (fn,) = fns

            def counted(*args):
                names.append(fn.__qualname__)
                return fn(*args)

            return compile(counted, **options)

        return compiled

    if backend == "jax":
        import jax

        monkeypatch.setattr(jax, "jit", counting(jax.jit))
    elif backend == "tensorflow":
        import tensorflow as tf

        monkeypatch.setattr(tf, "function", counting(tf.function))
    return names


@pytest.fixture
def tensorflow_log(backend):
    """What TensorFlow logs while the test runs, as texts; empty on other backends."""
    if backend != "tensorflow":
        yield []
        return
    import tensorflow as tf

    texts = []

    class Handler(logging.Handler):
        def emit(self, record):
            texts.append(record.getMessage())

    handler = Handler()
    tf.get_logger().addHandler(handler)
    yield texts
    tf.get_logger().removeHandler(handler)
