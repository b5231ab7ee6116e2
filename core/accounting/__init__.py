"""The papers' sums on paper: stored activations, FLOPs and training memory."""
