"""Accuracy against measured memory and time: `make bench-accuracy` (docs/accuracy.md).

Each run is the board's own loop in a process of its own, on a bundle exported for it.
"""
