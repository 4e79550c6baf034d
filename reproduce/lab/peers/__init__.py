"""Explanations by other libraries, for comparison. Each library is optional."""
