"""What all tests share: how many threads there are, signals that arrive, markers."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

# Two in all, for every library that asks the environment; set before any is imported. Under
# pytest-xdist each of its processes gets a share.
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
THREADS = str(max(1, 2 // WORKERS))

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


@pytest.fixture
def heard_signals() -> Iterator[None]:
    """Ctrl-C and a closed terminal as an interactive shell has them, for this test's children, too.

    A test command under `nohup`, or in the background of a script, starts with both ignored; what
    is ignored is inherited by children, and Python then installs no handler for Ctrl-C.
    """
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
