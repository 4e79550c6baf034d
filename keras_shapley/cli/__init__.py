"""The command line, `keras-shapley` or `python -m keras_shapley`. Its help is shown before Keras is imported."""

from keras_shapley.cli.command import main

__all__ = ["main"]
