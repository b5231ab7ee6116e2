"""Pretrained weights: where they come from and under which names."""
