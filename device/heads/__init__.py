"""Heads that are solved for, not trained: linear classifiers on embeddings, in closed form."""
