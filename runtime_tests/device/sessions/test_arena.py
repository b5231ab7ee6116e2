"""The region that stock onnxruntime's tensors lie in, and what its lists really take."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from mobiletl.device.sessions import arena
from mobiletl.device.sessions.arena import lists_bytes, region_bytes, share_arena
from runtime_tests.support.board.tiny_bundle import write_tiny_bundle

# The process opens a bundle and predicts with it; then it says what it holds, files left out.
HOLDS = """
import sys
from pathlib import Path

import numpy as np

from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.sessions.runtimes import open_session

bundle = open_bundle(Path(sys.argv[1]))
state = bundle.initial_state(3, 0)
with open_session(bundle, 3, state, 1, "onnxruntime", int(sys.argv[2])) as session:
    session.predict(np.zeros((2, 6, 2, 2), np.float32))
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
print(next(line.split()[1] for line in lines if line.startswith("RssAnon:")))
"""
SMALL, LARGE = 10_000_000, 500_000_000


def test_a_region_holds_what_is_planned_twice() -> None:
    for activations in (1, 10**6, 10**9):
        assert region_bytes(activations) >= 2 * activations


@pytest.mark.parametrize("activations", [0, -5])
def test_without_a_plan_there_is_a_usual_region(activations: int) -> None:
    assert region_bytes(activations) == arena.UNPLANNED_BYTES


def test_a_region_is_no_larger_than_the_runtime_can_be_told() -> None:
    """A manifest comes from outside, and may say anything."""
    assert region_bytes(10**400) < 2**31


def test_a_process_has_one_arena_and_the_first_caller_says_how_large() -> None:
    told: list[tuple[int, ...]] = []
    runtime = ModuleType("runtime")
    vars(runtime).update(
        OrtMemoryInfo=lambda *_: "cpu",
        OrtAllocatorType=SimpleNamespace(ORT_ARENA_ALLOCATOR=0),
        OrtMemType=SimpleNamespace(DEFAULT=0),
        OrtArenaCfg=lambda *growth: growth,
        create_and_register_allocator=lambda place, growth: told.append(growth),
    )
    share_arena(runtime, SMALL)
    share_arena(runtime, LARGE)
    assert [growth[2] for growth in told] == [region_bytes(SMALL)]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what is no file's")
def test_the_lists_take_what_is_planned_on_the_release_that_is_here(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="the tiny bundle's graphs are written with onnx")
    pytest.importorskip("onnxruntime")
    bundle = write_tiny_bundle(tmp_path / "tiny")
    small, large = (_holds(bundle, activations) for activations in (SMALL, LARGE))
    planned = lists_bytes(region_bytes(LARGE)) - lists_bytes(region_bytes(SMALL))
    assert large - small == pytest.approx(planned, rel=0.05)


def _holds(bundle: Path, activations: int) -> int:
    command = [sys.executable, "-c", HOLDS, str(bundle), str(activations)]
    said = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return int(said.stdout) * 1024
