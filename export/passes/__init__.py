"""Rewrites of the traced training step, and the order in which they run."""
