"""Callbacks for training."""
