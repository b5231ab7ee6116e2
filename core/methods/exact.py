"""ft-blocks and ft-last: whatever is in the top is trained, with its exact backward pass."""

from __future__ import annotations

from mobiletl.core.transfer import Transfer, trained_norms


def train_exactly(transfer: Transfer) -> None:
    """Put the top in training mode: batch statistics forward, running statistics updated."""
    transfer.top.train().requires_grad_(True)
    for _, norm in trained_norms(transfer.top):
        # The count of batches only serves momentum=None, and is no part of our state.
        norm.num_batches_tracked = None
