"""ft-bn: every norm and the last layer, everything else frozen; the norms use batch statistics."""

from __future__ import annotations

from mobiletl.core.methods.exact import train_exactly
from mobiletl.core.transfer import Transfer, trained_norms


def train_norms(transfer: Transfer) -> None:
    """Train the norms of the top (scale, shift, statistics) and the layer that gives the logits."""
    train_exactly(transfer)
    transfer.top.requires_grad_(False)
    transfer.top.get_submodule(transfer.top.classes_layer).requires_grad_(True)
    for _, norm in trained_norms(transfer.top):
        norm.requires_grad_(True)
