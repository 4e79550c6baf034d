"""Keras models as graphs of calls, and what is known of their layers."""
