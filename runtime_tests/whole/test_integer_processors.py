"""A step on bytes on another x86-64 processor than this one: AVX2 and no dot product of bytes.

QEMU's user mode stands in for it. There a product of all values of u8 and s8 saturates, and one
whose right side has 7 bits does not.
"""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from runtime_tests.support.board.shared_files import REPOSITORY
from runtime_tests.support.exported_bundles import Case, exported

EMULATOR = "qemu-x86_64-static"
# Haswell without what the emulator has not; it would say so line by line.
PROCESSOR = "Haswell,-invpcid,-rtm,-pcid,-x2apic,-tsc-deadline,-hle"
PROGRAM = """
import json, sys
from pathlib import Path
import numpy as np
from onnx import helper
from bench.graphs import bytes_like, session_of
from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.sessions.runtimes import open_session

def wrong(most):
    a, b = bytes_like((160, 960), np.uint8, 255), bytes_like((960, 64), np.int8, most)
    node = helper.make_node("MatMulInteger", ["a", "b"], ["y"])
    found = session_of([node], {"a": a, "b": b}, "y", 1).run(None, {"a": a, "b": b})[0]
    return int((found != a.astype(np.int64) @ b.astype(np.int64)).sum())

bundle = open_bundle(Path(sys.argv[1]))
shape = bundle.manifest.feature.shape
h = np.random.default_rng(0).standard_normal((8, *shape)).astype(np.float32)
with open_session(bundle, 10, bundle.initial_state(10, 0), 1) as session:
    losses = [session.train_step(h, np.arange(8) % 10, 0.05).loss for _ in range(4)]
print(json.dumps({"wrong": {most: wrong(most) for most in (127, 63)}, "losses": losses}))
"""


def run(bundle: Path, *emulator: str) -> dict[str, object]:
    command = [*emulator, sys.executable, "-c", PROGRAM, str(bundle)]
    done = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the emulator runs x86-64 programs")
@pytest.mark.skipif(shutil.which(EMULATOR) is None, reason=f"no {EMULATOR} here")
def test_losses_are_the_same_without_a_dot_product_of_bytes(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    bundle = exported(tmp_path_factory, Case("mobiletl", 3, step="int8"))
    here, there = run(bundle), run(bundle, EMULATOR, "-cpu", PROCESSOR)
    assert there["wrong"]["127"] > 10_000  # type: ignore[index]  # it is such a processor
    assert there["wrong"]["63"] == here["wrong"]["63"] == 0  # type: ignore[index]
    assert there["losses"] == pytest.approx(here["losses"], rel=1e-6)
