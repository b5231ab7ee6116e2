"""Lowering a traced graph to what a runtime reads: one module per format."""
