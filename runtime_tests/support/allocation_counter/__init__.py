"""Counts what one call of a session allocates, by replacing malloc in a process of its own.

`counter.c` is compiled with the system's compiler and preloaded into `worker.py`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from runtime_tests.support.board.shared_files import REPOSITORY

SOURCE = Path(__file__).parent / "counter.c"


@dataclass(frozen=True)
class Peak:
    """Bytes above the level before one call."""

    measured: int
    planned: int

    @property
    def ratio(self) -> float:
        return self.measured / self.planned


def build(folder: Path) -> Path:
    """Compile the counter into `folder`; skips the test where that is not possible."""
    if not sys.platform.startswith("linux"):
        pytest.skip("the allocation counter is preloaded and asks glibc, so it needs Linux")
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        pytest.skip("the allocation counter needs a C compiler (cc, or CC in the environment)")
    library = folder / "counter.so"
    command = [compiler, "-O2", "-Wall", "-Wextra", "-shared", "-fPIC"]
    subprocess.run([*command, "-o", str(library), str(SOURCE)], check=True)
    return library


def peaks(
    library: Path, bundle: Path, batch: int, classes: int, runtime: str = "onnxruntime"
) -> dict[str, Peak]:
    """What each function of `bundle` allocates: the step and predict with N = `batch`, features
    with one picture.
    """
    command = [sys.executable, "-m", "runtime_tests.support.allocation_counter.worker", str(bundle)]
    result = subprocess.run(
        [*command, str(batch), str(classes), runtime],
        env={**os.environ, "LD_PRELOAD": str(library)},
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return {name: Peak(**values) for name, values in json.loads(result.stdout).items()}
