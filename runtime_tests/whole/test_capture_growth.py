"""Thousands of frames taken: the process grows by next to nothing. `bench.capture` plays 50,000."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.capture.long_run import long_capture
from bench.live.long_run import sample
from mobiletl.device.pictures.dataset import files_below
from runtime_tests.support.board.scenes import write_scenes


@pytest.mark.slow
def test_thousands_of_frames_take_no_more_memory(tmp_path: Path) -> None:
    files = files_below(write_scenes(tmp_path / "scenes", list(range(12))))
    growth = long_capture(files, 4000, every_s=0.1)
    assert growth.exit_code == 0
    assert growth.end["frames"] == 4000
    assert growth.end["kept"] > 10
    assert growth.grown_bytes < 2e6
    # The picture being read has one.
    assert growth.last.descriptors - growth.first.descriptors <= 1


def test_a_process_that_has_ended_is_not_looked_at() -> None:
    with subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read()
        # Until it is waited for, it is listed, and has no memory.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert sample(process.pid, 0) is None
