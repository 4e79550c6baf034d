"""Checks of arguments, files and data."""
