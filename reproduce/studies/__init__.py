"""Scripts that answer further questions. Run them by path, as in `python reproduce/studies/faithfulness.py --help`."""
