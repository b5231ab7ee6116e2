"""Layers that are trained or frozen in ways of their own, and the one-bit masks under them."""
