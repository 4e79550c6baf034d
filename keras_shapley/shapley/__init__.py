"""Shapley values of functions, networks and neurons."""
