"""Callbacks for `model.fit`: pictures of relevance, and how gates and gradients develop."""
