"""Shapley propagation: the paper's neuron measured from a baseline, and the rules for everything between neurons."""
