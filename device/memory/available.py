"""What this machine could give another process now, in bytes."""

from __future__ import annotations

import re
from pathlib import Path


def available_bytes(root: Path = Path("/")) -> int | None:
    """Return what the kernel expects to be available, or what a container's limit leaves of it.

    None where the system does not tell.
    """
    found = []
    text = _text(root / "proc/meminfo")
    said = re.search(r"^MemAvailable:\s+(\d+) kB$", text, re.MULTILINE)
    if said:
        found.append(int(said[1]) * 1024)
    own = re.search(r"^0::/(\S*)$", _text(root / "proc/self/cgroup"), re.MULTILINE)
    # Inside a container the second is its own group.
    for group in {root / "sys/fs/cgroup" / (own[1] if own else ""), root / "sys/fs/cgroup"}:
        most, used = (_text(group / name).strip() for name in ("memory.max", "memory.current"))
        if most.isdigit() and used.isdigit():
            found.append(max(0, int(most) - int(used)))
    return min(found) if found else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
