"""ft-blocks and ft-last: whatever is in the top is trained, with its exact backward pass."""

from __future__ import annotations

from mobiletl.core.transfer import Transfer, count_no_batches


def train_exactly(transfer: Transfer) -> None:
    """Put the top in training mode: batch statistics forward, running statistics updated."""
    transfer.top.train().requires_grad_(True)
    count_no_batches(transfer.top)
