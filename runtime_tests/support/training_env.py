"""The environment of onnxruntime-training, where `make ort-training` has built it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from runtime_tests.support.board.shared_files import REPOSITORY

PYTHON = REPOSITORY / ".venv-ort-training" / "bin" / "python"
OFFICIAL = REPOSITORY / "runtime_tests" / "support" / "official_api"

needs_training_env = pytest.mark.skipif(
    not PYTHON.exists(),
    reason="onnxruntime-training is not set up (make ort-training; Linux x86-64, Python 3.11)",
)


def run_in_training_env(
    *arguments: str | Path, **variables: str | Path
) -> subprocess.CompletedProcess[str]:
    """Run Python there on the repository's own sources, at most two threads."""
    environment = {**os.environ, **{name: str(value) for name, value in variables.items()}}
    return subprocess.run(
        [str(PYTHON), *map(str, arguments)],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
