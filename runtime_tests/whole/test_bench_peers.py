"""Contenders of `make bench-peers` are processes that run what they are told, and say so."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench.peers.protocol import MEMORY, STEP, WHOLE, Worker
from mobiletl.export.parts import Request
from mobiletl.export.writing.export_bundle import export_bundle

pytestmark = pytest.mark.slow


def test_ours_trains_and_knows_its_memory(tmp_path: Path) -> None:
    request = Request("mbv2-0.35", "none", "mobiletl", 1, 224, "sgd", tmp_path / "bundle")
    bundle = export_bundle(request)
    with Worker(Path(sys.executable), "bench.peers.ours", str(bundle)) as worker:
        losses = [worker.call(STEP) for _ in range(10)]
        whole = worker.call(WHOLE)
        most = worker.call(MEMORY)
    assert losses[0] is not None
    assert losses[-1] is not None
    assert losses[-1] < losses[0]
    # The same pictures through the frozen layers as before, and one more step.
    assert whole is not None
    assert whole == pytest.approx(losses[-1], abs=losses[0] - losses[-1])
    assert most is not None
    assert 50e6 < most < 500e6


def test_one_that_cannot_start_is_no_endless_wait() -> None:
    worker = Worker(Path(sys.executable), "bench.peers.ours", "no/such/bundle")
    with pytest.raises(RuntimeError, match=r"bench\.peers\.ours ended with"), worker:
        worker.call(STEP)
