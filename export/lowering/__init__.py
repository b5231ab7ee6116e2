"""Lowering a traced graph to what a runtime reads: one folder per format."""
