"""What a training process needs, planned from the manifest, and what it uses, measured.

Bytes throughout; MB in the table is 1e6 bytes. Planned and measured figures never share a column.
Letters: N pictures in a batch, K classes, n pictures in a micro-batch, C x h x w the feature map.
"""

from __future__ import annotations

import ctypes
import math
import sys
from dataclasses import dataclass
from pathlib import Path

from mobiletl.device.bundle.manifest import Manifest
from mobiletl.device.sessions.at_rest import STOCK, runtime_bytes

PROCESS_STATUS = Path("/proc/self/status")
FLOAT_BYTES = 4
# While onnxruntime optimises `features` it holds the weights as parsed and as reordered, too: 1.6
# times their bytes more than afterwards (1.31.1, x86-64). It loads the other functions as they are.
COPIES_WHILE_LOADING = 2
PLANNED, MEASURED = "planned", "measured"


@dataclass(frozen=True)
class MemoryRow:
    """One part of the process; `kind` is "planned" or "measured"."""

    name: str
    bytes: int
    kind: str = PLANNED


@dataclass(frozen=True)
class MemoryPlan:
    """The parts of a process that trains; their sum is the promise."""

    rows: tuple[MemoryRow, ...]

    @property
    def total_bytes(self) -> int:
        """The peak the process is to stay under."""
        return sum(row.bytes for row in self.rows)


def plan(
    manifest: Manifest, batch: int, classes: int, micro_batch: int = 1, runtime: str = STOCK
) -> MemoryPlan:
    """Plan training with N = `batch`, K = `classes`, n = `micro_batch` (docs/bundle.md, memory)."""
    memory = manifest.memory
    side = manifest.input.resolution
    moments = {
        "features": memory.features.peak_bytes(micro_batch, classes)
        + micro_batch * 3 * side * side * FLOAT_BYTES,
        "train_step": memory.train_step.peak_bytes(batch, classes),
        "predict": memory.predict.peak_bytes(batch, classes),
    }
    largest = max(moments, key=lambda name: moments[name])
    moment = MemoryRow(f"activations, largest in {largest}", moments[largest])
    copies = COPIES_WHILE_LOADING if runtime == STOCK else 0
    loading = MemoryRow("while features load", copies * memory.features.weights)
    weights = (memory.features.weights, memory.train_step.weights, memory.predict.weights)
    feature_maps = batch * math.prod(manifest.feature.shape) * FLOAT_BYTES
    return MemoryPlan(
        (
            MemoryRow("runtime and libraries at rest", runtime_bytes(manifest, runtime), MEASURED),
            MemoryRow("frozen weights", sum(weights)),
            MemoryRow("state: parameters and statistics", memory.state.at(classes)),
            MemoryRow("state: optimizer slots", memory.slots.at(classes)),
            MemoryRow(f"feature maps of {batch} pictures", feature_maps),
            max(moment, loading, key=lambda row: row.bytes),
        )
    )


def table(memory_plan: MemoryPlan, measured_peak: int | None = None) -> str:
    """Return the plan as text; with `measured_peak` (bytes) the two stand side by side.

    The runtime's row is measured, but not in this process; it counts in the planned sum.
    """
    lines = [_line("memory", f"{PLANNED} MB", f"{MEASURED} MB")]
    for row in memory_plan.rows:
        figure = _megabytes(row.bytes)
        lines.append(_line(row.name, *((figure, "") if row.kind == PLANNED else ("", figure))))
    peak = "" if measured_peak is None else _megabytes(measured_peak)
    lines.append(_line("whole process, peak", _megabytes(memory_plan.total_bytes), peak))
    return "\n".join(lines)


def resident_bytes() -> int:
    """Return the memory this process holds now, or its peak where the system tells only that."""
    return _from_status("VmRSS") or peak_bytes()


def peak_bytes() -> int:
    """Return the most memory this process ever held, or 0 where the system does not tell."""
    return _from_status("VmHWM") or _from_rusage()


def return_freed() -> None:
    """Give memory that is free inside the C library's heap back to the system, where it can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's own
    if trim is not None:
        trim(0)


def _from_status(key: str) -> int:
    """Return a line of Linux' process status in bytes (the file says kB and means 1024)."""
    try:
        lines: list[str] = PROCESS_STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return 0
    for line in lines:
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    return 0


def _from_rusage() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # macOS counts in bytes, the BSDs and Linux in kB.
    return peak if sys.platform == "darwin" else peak * 1024


def _line(name: str, planned: str, measured: str) -> str:
    return f"{name:<34}{planned:>12}{measured:>13}".rstrip()


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f}"
