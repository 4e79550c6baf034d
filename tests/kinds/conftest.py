"""Kinds of models are tried where little is compiled, and on TensorFlow; on JAX they take as long as all else."""

import keras

collect_ignore_glob = ["test_*.py"] if keras.backend.backend() == "jax" else []
