"""Peak memory of whole processes that train on real JPEGs: ours and eager PyTorch's.

Both report the high-water mark of their own address space (VmHWM). What a parent reads of a child
(`ru_maxrss`) would count what the parent itself held when it forked.
"""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

from runtime_tests.support.board.shared_files import REPOSITORY

BATCH, THREADS = 8, 2
BOARD = REPOSITORY / "device" / "train_on_board.py"


def unpacked(archive: Path, folder: Path) -> Path:
    """Unpack `<name>.zip` of `<name>/split/class/file.jpg` and return the folder of splits."""
    with zipfile.ZipFile(archive) as pictures:
        pictures.extractall(folder)
    (split,) = folder.rglob("train")
    return split.parent


def board_memory(
    bundle: Path,
    data: Path,
    out: Path,
    *flags: str,
    batch: int = BATCH,
    python: str = sys.executable,
) -> tuple[int, int]:
    """(measured, planned) bytes of one epoch of `train_on_board.py` on batches of `batch`."""
    command = [python, str(BOARD), "--bundle", str(bundle), "--data", str(data)]
    command += ["--out", str(out), "--epochs", "1", "--batch", str(batch)]
    memory = _json([*command, "--threads", str(THREADS), "--json", *flags])["memory"]
    return memory["measured_peak_bytes"], memory["planned_bytes"]


def eager_memory(weights: str, data: Path, blocks: int) -> int:
    """Bytes of one epoch of eager PyTorch on the same blocks, pictures and batch."""
    command = [sys.executable, "-m", "bench.eager_worker", weights, str(data)]
    return int(_json([*command, str(BATCH), str(THREADS), str(blocks)])["peak_bytes"])


def _json(command: list[str]) -> dict[str, Any]:
    result = subprocess.run(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True
    )
    found: dict[str, Any] = json.loads(result.stdout)
    return found
