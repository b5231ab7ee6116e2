"""What all tests share: how many threads there are, signals that arrive, markers."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator

import pytest

from runtime_tests.support.board.signals import signals_arrive

# Two in all, for every library that asks the environment; set before any is imported. Under
# pytest-xdist each of its processes gets a share.
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
THREADS = str(max(1, 2 // WORKERS))

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, THREADS)

# What this machine knows of bundles (device/bundle/records.py) is the tests' own, in one place for
# all their processes.
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="mobiletl-tests-")
    atexit.register(shutil.rmtree, os.environ["XDG_STATE_HOME"], ignore_errors=True)


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
    """See `signals_arrive`."""
    with signals_arrive():
        yield
