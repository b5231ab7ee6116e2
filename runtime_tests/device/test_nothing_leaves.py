"""Nothing of a run goes to anybody: a runtime that would send events is told not to."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runtime_tests.support.board.picture_folders import write_pictures
from runtime_tests.support.board.tiny_bundle import write_tiny_bundle

TRAIN = """
import os, sys
import mobiletl
mobiletl.train(*sys.argv[1:], epochs=1, threads=1)
print(len(os.listdir("/proc/self/task")))
"""
# onnxruntime sends nothing from a machine that tests; this one is to look like a board.
TELLTALES = ("CI", "TF_BUILD", "GITHUB_ACTIONS", "ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS")
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="this system lists no threads")
def test_the_runtime_has_no_sender_and_keeps_no_number_of_the_machine(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle")
    photos = write_pictures(tmp_path / "photos", {"ant": 4, "bee": 4})
    home = tmp_path / "home"
    home.mkdir()
    environment = {name: os.environ[name] for name in os.environ if name not in TELLTALES}
    environment.update(dict.fromkeys(ONE_THREAD, "1"), HOME=str(home))
    environment.pop("XDG_CACHE_HOME", None)
    done = subprocess.run(
        [sys.executable, "-c", TRAIN, *map(str, (bundle, photos, tmp_path / "run"))],
        stdout=subprocess.PIPE,
        env=environment,
        check=True,
        text=True,
    )
    assert done.stdout.split() == ["1"]
    assert [path for path in home.rglob("*") if path.is_file()] == []
