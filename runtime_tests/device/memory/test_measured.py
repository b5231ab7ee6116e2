"""The meters: what the operating system says of this process."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from mobiletl.device.memory import measured as memory


def test_the_meters_follow_an_allocation() -> None:
    before = memory.resident_bytes()
    block = np.ones(8_000_000, np.float32)
    after, peak = memory.resident_bytes(), memory.peak_bytes()
    assert after - before > 0.8 * block.nbytes
    assert peak >= after - 1_000_000  # the kernel counts per thread and adds up late


def test_without_proc_the_peak_comes_from_rusage(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from_proc = memory.peak_bytes()
    monkeypatch.setattr(memory, "PROCESS_STATUS", tmp_path / "none")
    assert memory.peak_bytes() == pytest.approx(from_proc, rel=0.2)
    assert memory.resident_bytes() == memory.peak_bytes()


def test_macos_counts_in_bytes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "PROCESS_STATUS", tmp_path / "none")
    kilobytes = memory.peak_bytes()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert memory.peak_bytes() == pytest.approx(kilobytes / 1024, rel=0.01)
