"""Starts the worker, gives it cases, and compares what runs leave behind."""

from __future__ import annotations

import hashlib
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

from mobiletl.device.run.metrics import MetricsFile
from runtime_tests.support.board.shared_files import REPOSITORY

SOURCE = Path(__file__).with_name("faults.c")
NOTHING, KILL, TEAR, FAIL, FAIL_ON = range(5)
KILLED = -signal.SIGKILL


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
    pid: int
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
    """Return what has to be the same however often a run was cut off: both states byte by byte but
    for a wall time, the metrics without times, and the maps that are kept for the next run.
    """
    found: dict[str, Any] = {}
    for name in ("state.safetensors", "last.safetensors"):
        content = (run / name).read_bytes()
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        info = json.loads(header["__metadata__"].pop("info"))
        del header["__metadata__"]["sha256"], info["settings"]["position"]["seconds"]
        found[name] = header, info, content[8 + length :]
    rows = MetricsFile(run / "metrics.jsonl").rows()
    times = ("pictures_per_s", "rss_bytes", "peak_bytes", "seconds")
    found["metrics"] = [{k: v for k, v in vars(row).items() if k not in times} for row in rows]
    stores = sorted(run.glob("replay-*.store"))
    found["replay"] = [hashlib.sha256(store.read_bytes()).hexdigest() for store in stores]
    return found


def remains(run: Path) -> list[str]:
    """Return what a run should not leave in its folder: locks, temporaries, its own cache."""
    patterns = (".*", "maps-*")
    return sorted(file.name for pattern in patterns for file in run.glob(pattern))
