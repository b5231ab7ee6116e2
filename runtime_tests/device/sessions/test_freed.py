"""Memory given back to the system: what Linux counts, and what goes on working."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mobiletl.device.sessions import freed

IN_A_PROCESS = """
import io, json, sys
import numpy as np
from PIL import Image
from mobiletl.device.sessions.freed import return_all, return_code

def resident():
    lines = open("/proc/self/status").read().splitlines()
    return {key: int(rest.split()[0]) for key, _, rest in (line.partition(":") for line in lines)
            if key in ("RssAnon", "RssFile")}

def work():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    vectors = np.linalg.eigh(np.cov(noise[:, :, 0].astype(float)))[1]
    return [float(np.abs(vectors).sum()), len(file.getvalue())]

before = work()
loaded = resident()
return_code()
returned = resident()
print(json.dumps([before, work(), loaded, returned]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists a process's mappings")
def test_code_that_has_run_is_given_back_and_runs_again() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IN_A_PROCESS], capture_output=True, text=True, check=True
    )
    before, after, loaded, returned = json.loads(done.stdout)
    assert after == before
    assert returned["RssFile"] < loaded["RssFile"] / 2
    # What a library has written to is its own, and stays.
    assert abs(returned["RssAnon"] - loaded["RssAnon"]) < 2_000


MAPPINGS = """\
7f0000000000-7f0000004000 r-xp 00000000 08:01 11 /usr/lib/libone.so
Rss:                  16 kB
Anonymous:             0 kB
7f0000004000-7f0000005000 r--p 00004000 08:01 11 /usr/lib/lib with spaces.so
Anonymous:             0 kB
7f0000005000-7f0000006000 r--p 00005000 08:01 11 /usr/lib/libone.so
Anonymous:             4 kB
7f0000006000-7f0000007000 rw-p 00006000 08:01 11 /usr/lib/libone.so
Anonymous:             0 kB
7f0000007000-7f0000009000 rw-p 00000000 00:00 0
Anonymous:             0 kB
7ffd00000000-7ffd00001000 r-xp 00000000 00:00 0 [vdso]
Anonymous:             0 kB
"""


def test_what_was_written_or_is_no_file_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Giving such a page back would lose what is in it."""
    (tmp_path / "smaps").write_text(MAPPINGS)
    monkeypatch.setattr(freed, "_MAPPINGS", tmp_path / "smaps")
    assert list(freed._untouched_files()) == [(0x7F0000000000, 0x4000), (0x7F0000004000, 0x1000)]


def test_code_is_kept_for_who_wants_it_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    assert freed.returns_code() == (sys.platform == "linux")
    monkeypatch.setenv("MOBILETL_KEEP_CODE", "1")
    monkeypatch.setattr(freed, "_untouched_files", lambda: 1 / 0)
    freed.return_code()


def test_a_system_that_lists_nothing_gives_nothing_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freed, "_MAPPINGS", tmp_path / "missing")
    freed.return_all()
