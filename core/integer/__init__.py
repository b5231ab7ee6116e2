"""A training step whose products are of bytes: operators, layers, and the same in NumPy."""
