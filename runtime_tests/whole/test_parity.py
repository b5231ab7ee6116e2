"""The command that compares runtimes, on a small network: it tells right from wrong."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from parity.__main__ import Row, relative_error
from runtime_tests.support.board.shared_files import REPOSITORY
from runtime_tests.support.training_env import PYTHON


@pytest.mark.slow
def test_runtimes_agree_on_a_small_network() -> None:
    runtimes = ["onnxruntime", "torchscript", *["onnxruntime-training"] * PYTHON.exists()]
    line = [sys.executable, "-m", "parity", "--small", "--runtimes"]
    sizes = ["--steps", "3", "--train", "24", "--val", "20", "--runs", "1"]
    done = subprocess.run(
        [*line, ",".join(runtimes), *sizes],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(f"\n{name} " in done.stdout for name in runtimes)
    assert "out of bounds: none" in done.stdout


@pytest.mark.parametrize(
    ("worst", "accuracy", "holds"),
    [(9e-6, 0.5, True), (1.1e-5, 0.5, False), (0.0, 0.506, False), (0.0, 0.495, True)],
)
def test_a_row_is_held_to_both_bounds(worst: float, accuracy: float, holds: bool) -> None:
    assert Row("x", 0.0, 0.0, 0.0, worst, "w", accuracy, 0.0).holds(0.5) == holds


def test_relative_error() -> None:
    assert relative_error(np.array([3.0, 4.4]), np.array([3.0, 4.0])) == pytest.approx(0.08)
