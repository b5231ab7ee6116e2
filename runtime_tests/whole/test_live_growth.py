"""Thousands of live frames: the process grows by next to nothing. `bench.live` plays 50,000."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.live.long_run import long_run
from mobiletl.device import train_on_board
from runtime_tests.support.board.picture_folders import write_pictures
from runtime_tests.support.board.tiny_bundle import write_tiny_bundle


@pytest.mark.slow
def test_thousands_of_frames_take_no_more_memory(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle")
    photos = write_pictures(tmp_path / "photos", {"ant": 8, "bee": 8})
    given = ["--bundle", str(bundle), "--data", str(photos), "--epochs", "5", "--no-augment"]
    assert train_on_board.main([*given, "--out", str(tmp_path / "run")]) == 0
    state = tmp_path / "run" / "state.safetensors"
    command = "true"
    growth = long_run(
        bundle, state, photos, 5000, "--threads", "1", "--on-change", command, every_s=0.1
    )
    assert growth.exit_code == 0
    assert growth.end["frames"] == 5000
    assert growth.grown_bytes < 2e6
    # The command that runs on a change has a descriptor or two while it starts.
    assert growth.last.descriptors == growth.first.descriptors
