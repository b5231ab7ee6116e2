"""What a process holds before it trains, by the release of the runtime that is installed here.

A bundle's `memory.runtime` was measured with the onnxruntime of the host that exported it. A board
has another release, or trains on another runtime: the plan puts one import in place of the other.
What an import takes is in the runtimes' rows. Where code that has run stays in memory (freed.py),
that is added.
"""

from __future__ import annotations

import re

from mobiletl.device.bundle.manifest import Manifest
from mobiletl.device.installed import installed_release
from mobiletl.device.sessions.freed import GIVEN_BACK_BYTES, returns_code
from mobiletl.device.sessions.table import STOCK, Import, Runtime, known_runtime


def runtime_bytes(manifest: Manifest, runtime: str) -> int:
    """Return what a process that trains on `runtime` holds at rest, by what is installed here.

    A release between two measured ones counts as the later; one that is not installed, or a
    runtime whose import nobody measured, as the exporting host's own.
    """
    row = known_runtime(runtime)
    exported = _imported(known_runtime(STOCK), manifest.memory.runtime_release)
    installed = installed_release(row.distribution)
    here = _imported(row, installed) if installed else None
    kept = 0
    if not returns_code():
        kept = GIVEN_BACK_BYTES if here is None else here.code
    if exported is None or here is None:
        return manifest.memory.runtime + kept
    return max(0, manifest.memory.runtime - exported.bytes + here.bytes) + kept


def _imported(runtime: Runtime, release: str) -> Import | None:
    later = [row for row in runtime.imports if row.release >= _numbers(release)]
    chosen = later[:1] or list(runtime.imports[-1:])
    return chosen[0] if chosen else None


def _numbers(release: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: 2.13.0+cpu is (2, 13, 0)."""
    found = re.match(r"\d+(\.\d+)*", release)
    return tuple(int(part) for part in found.group().split(".")) if found else ()
