"""A run of 50,000 steps holds as much memory at its end as early on.

pytest -s -m long runtime_tests/whole/test_training_growth.py
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from runtime_tests.support.board.picture_folders import write_pictures
from runtime_tests.support.board.tiny_bundle import write_tiny_bundle

STEPS = 50_000
# The first tenth is warm-up: caches fill, every kind of event has happened.
WARM_UP = 0.1
GROWTH_BYTES = 1_000_000

# In a process of its own: what other tests have left is no part of it.
SCRIPT = """
import json, os, sys
import mobiletl
from mobiletl.device.memory.measured import resident_bytes

bundle, photos, run, steps = sys.argv[1:]
seen = []

class Watch(mobiletl.Listener):
    def hear(self, event):
        if isinstance(event, mobiletl.Step) and event.step % 500 == 0:
            seen.append((event.step, resident_bytes(), len(os.listdir("/proc/self/fd"))))

outcome = mobiletl.train(
    bundle, photos, run, batch=2, epochs=int(steps) // 48, threads=1, save_every=1000,
    max_load=1000.0, listeners=[Watch()],
)
print(json.dumps({"seen": seen, "steps": outcome.position.step, "written": outcome.wear.bytes}))
"""


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="this system lists no open files")
def test_a_long_run_does_not_grow(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle")
    photos = write_pictures(tmp_path / "photos", {"ant": 60, "bee": 60})
    arguments = [str(path) for path in (bundle, photos, tmp_path / "run")]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments, str(STEPS)],
        stdout=subprocess.PIPE,
        check=True,
    )
    found = json.loads(done.stdout)
    assert found["steps"] > 0.99 * STEPS
    warm = [row for row in found["seen"] if row[0] > WARM_UP * STEPS]
    memory = [row[1] for row in warm]
    early, late = (sorted(part)[len(part) // 2] for part in (memory[:10], memory[-10:]))
    print(
        f"{found['steps']} steps: {early / 1e6:.2f} MB after {warm[0][0]}, {late / 1e6:.2f} MB at "
        f"the end, {(max(memory) - early) / 1e6:+.2f} MB at most; open files: "
        f"{sorted({row[2] for row in warm})}; written {found['written'] / 1e6:.1f} MB"
    )
    assert late - early < GROWTH_BYTES
    # One more while a best state is held.
    assert max(row[2] for row in warm) - min(row[2] for row in warm) <= 1
    assert max(memory) - early < GROWTH_BYTES
