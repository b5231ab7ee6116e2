"""Two threads at most, for every library that asks the environment; set before any is imported."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

THREADS = "2"

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, THREADS)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """On a busy machine PyTorch's threads spend their time waiting for one another."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
