"""Accuracy against time beside PyTorch's: `make bench-learning`, or `python -m bench.learning`."""
