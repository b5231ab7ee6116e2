"""Starts the worker, gives it cases, and compares what runs leave behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runtime_tests.support.board.shared_files import REPOSITORY

SOURCE = Path(__file__).with_name("faults.c")
NOTHING, KILL, TEAR, FAIL, FAIL_ON = range(5)
KILLED = -signal.SIGKILL
# Wall times, and what the process weighs, differ from run to run.
VARYING = ("pictures_per_s", "rss_bytes", "peak_bytes", "seconds", "crc")


@dataclass(frozen=True)
class Fault:
    """What happens to the `at`-th call that changes files below `below`.

    With `reads`, calls that open a file to read count as well.
    """

    below: Path
    mode: int = NOTHING
    at: int = -1
    errno: int = 0
    reads: bool = False


@dataclass(frozen=True)
class Ended:
    """How a command ended: its code (negative for a signal), what it printed, which calls came."""

    code: int
    out: str
    err: str
    count: int
    calls: list[str]


class Worker:
    """A process with everything imported, that forks a child for each command."""

    def __init__(self, library: Path, cwd: Path) -> None:
        self._library, self._cwd = library, cwd
        environment = {
            **os.environ,
            "LD_PRELOAD": str(library),
            "OPENBLAS_NUM_THREADS": "1",
            "OMP_NUM_THREADS": "1",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "runtime_tests.attacks.worker", str(library)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            cwd=REPOSITORY,
            text=True,
        )

    def run(self, argv: Sequence[str], fault: Fault) -> Ended:
        """Run `mobiletl argv` with `fault`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        job: dict[str, Any] = {
            **vars(fault),
            "below": str(fault.below),
            "argv": list(argv),
            "cwd": str(self._cwd),
        }
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return Ended(**json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()


@contextmanager
def worker(folder: Path) -> Iterator[Worker]:
    """Compile the faults into `folder` and start a worker there; skips where that can't be."""
    if not sys.platform.startswith("linux"):
        pytest.skip("faults are preloaded and found through /proc, so they need Linux")
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        pytest.skip("faults need a C compiler (cc, or CC in the environment)")
    library = folder / "faults.so"
    flags = ["-O2", "-Wall", "-Wextra", "-shared", "-fPIC"]
    subprocess.run([compiler, *flags, "-o", str(library), str(SOURCE), "-ldl"], check=True)
    started = Worker(library, folder)
    try:
        yield started
    finally:
        started.close()


def outcome(run: Path) -> dict[str, Any]:
    """Return what has to be the same however often a run was cut off: both states byte by byte,
    and the metrics without times.
    """
    found: dict[str, Any] = {
        name: (run / name).read_bytes() for name in ("state.safetensors", "last.safetensors")
    }
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    found["metrics"] = [{k: v for k, v in row.items() if k not in VARYING} for row in rows]
    found["replay"] = [file.read_bytes() for file in sorted(run.glob("replay-*.store"))]
    return found
