"""What a process uses, as the operating system counts it, in bytes."""

from __future__ import annotations

import sys
from pathlib import Path

PROCESS_STATUS = Path("/proc/self/status")


def resident_bytes() -> int:
    """Return the memory this process holds now, or its peak where the system tells only that."""
    return _from_status("VmRSS") or peak_bytes()


def peak_bytes() -> int:
    """Return the most memory this process ever held, or 0 where the system does not tell."""
    return _from_status("VmHWM") or _from_rusage()


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
