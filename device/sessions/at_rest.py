"""What importing a runtime adds to a process, release by release.

A bundle's `memory.runtime` was measured with the onnxruntime of the host that exported it. A board
has another release, or trains on another runtime: the plan puts one import in place of the other.
Figures: resident memory before and after the import, NumPy, Pillow and safetensors already there;
x86-64 Linux, CPU builds, the same in three processes of three to 0.1 MB.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import metadata

from mobiletl.device.bundle.manifest import Manifest

STOCK = "onnxruntime"


@dataclass(frozen=True)
class Import:
    """The growth in bytes by importing `runtime`, as measured with `release`."""

    runtime: str
    release: tuple[int, ...]
    bytes: int


# By rising release.
IMPORTS: tuple[Import, ...] = (
    Import(STOCK, (1, 16, 3), 10_900_000),
    Import(STOCK, (1, 17, 0), 11_200_000),
    Import(STOCK, (1, 19, 2), 12_200_000),
    Import(STOCK, (1, 20, 0), 12_800_000),
    Import(STOCK, (1, 31, 1), 19_700_000),
    Import("onnxruntime-training", (1, 19, 2), 265_600_000),
    Import("executorch", (1, 5, 1), 200_400_000),
    Import("torchscript", (2, 13, 0), 197_900_000),
)
# The package index' name where it is not the runtime's.
DISTRIBUTIONS = {"onnxruntime-training": "onnxruntime-training-cpu", "torchscript": "torch"}


def runtime_bytes(manifest: Manifest, runtime: str) -> int:
    """Return what a process that trains on `runtime` holds at rest, by what is installed here.

    A release between two measured ones counts as the later; one that is not installed, or a
    runtime without a row, as the exporting host's own.
    """
    exported = _imported(STOCK, manifest.memory.runtime_release)
    installed = installed_release(runtime)
    here = _imported(runtime, installed) if installed else None
    if exported is None or here is None:
        return manifest.memory.runtime
    return max(0, manifest.memory.runtime - exported + here)


def installed_release(runtime: str) -> str:
    """Return the version of the package that `runtime` needs, empty if it is not installed."""
    try:
        return metadata.version(DISTRIBUTIONS.get(runtime, runtime))
    except metadata.PackageNotFoundError:
        return ""


def _imported(runtime: str, release: str) -> int | None:
    rows = [row for row in IMPORTS if row.runtime == runtime]
    later = [row for row in rows if row.release >= _numbers(release)]
    chosen = later[:1] or rows[-1:]
    return chosen[0].bytes if chosen else None


def _numbers(release: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: 2.13.0+cpu is (2, 13, 0)."""
    found = re.match(r"\d+(\.\d+)*", release)
    return tuple(int(part) for part in found.group().split(".")) if found else ()
