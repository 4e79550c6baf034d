"""Scripts that measure costs. Run them by path, as in `python reproduce/benchmarks/training_cost.py --help`."""
