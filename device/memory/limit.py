"""A limit that a person sets on a run's memory, held against the plan before anything starts."""

from __future__ import annotations

import re
from typing import Callable

from mobiletl.device.errors import UsageError
from mobiletl.device.memory.plan import MemoryPlan

UNITS = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def parse_bytes(text: str) -> int:
    """Return the bytes that `text` names, such as 120MB, 1.5GiB or 120000000.

    Raises ValueError, as argparse expects of a type.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", text.lower())
    if found is None or found[2] not in UNITS:
        raise ValueError(text)
    return int(float(found[1]) * UNITS[found[2]])


def check_limit(
    limit: int,
    batch: int,
    planned: Callable[[int], MemoryPlan],
    any_batch: bool = True,
    level: str = "",
) -> None:
    """Raise UsageError if the plan of `batch` pictures in a step takes more than `limit` bytes.

    `planned` makes a plan for a number of pictures; the line names the largest number that fits,
    where a step takes `any_batch`, and says at which `level` it is planned.
    """
    found = planned(batch).total_bytes
    if found <= limit:
        return
    smaller = range(batch - 1, 0, -1) if any_batch else range(0)
    fitting = [size for size in smaller if planned(size).total_bytes <= limit][:1]
    way = (
        f"--batch {fitting[0]} is planned with {needed(planned(fitting[0]).total_bytes)}"
        if fitting
        else "export fewer --blocks or a lower --resolution, which take less"
    )
    raise UsageError(
        f"{needed(found)} are planned{level}, more than the {megabytes(limit)} of --max-memory; "
        f"{way}"
    )


def megabytes(size: int) -> str:
    """Return `size` bytes as a message names them."""
    return f"{size / 1e6:.1f} MB"


def needed(size: int) -> str:
    """Return `size` bytes as a message names what is needed: never less than it is."""
    return megabytes(-(-size // 100_000) * 100_000)
