"""Writes all tables and pictures again, and README.md of reproduce/: `python reproduce/report/report.py`."""
