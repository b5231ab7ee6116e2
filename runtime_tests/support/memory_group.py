"""A memory limit that the kernel enforces: a control group for one command, version 1 or 2."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

UNIFIED = Path("/sys/fs/cgroup")
VERSION_1 = UNIFIED / "memory"
LIBRARIES = ("numpy", "onnxruntime", "pillow", "safetensors")

Ended = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Files:
    """What a version of control groups calls its files; swap is forbidden where it is counted."""

    limit: str
    peak: str
    swap: str
    swap_limit: str
    """For `swap`: bytes of swap alone in version 2, of memory and swap together in version 1."""


@dataclass(frozen=True)
class MemoryGroup:
    """An empty group with a limit."""

    folder: Path
    files: Files

    def run(self, command: Sequence[str], environment: Mapping[str, str], cwd: Path) -> Ended:
        """Run `command` inside; at the limit the kernel drops file pages first, then kills it."""
        enter = ["sh", "-c", f'echo $$ >"{self.folder}/cgroup.procs" && exec "$@"', "enter"]
        return subprocess.run(
            [*enter, *command],
            env=dict(environment),
            cwd=cwd,
            capture_output=True,
            text=True,
            check=False,
        )

    def peak_bytes(self) -> int | None:
        """The most that was charged to the group, or None where the kernel does not say."""
        peak = self.folder / self.files.peak
        return int(peak.read_text("ascii")) if peak.exists() else None


class NoMemoryGroups(Exception):
    """This machine lets us make none; the message says why."""


@contextlib.contextmanager
def memory_group(limit_bytes: int) -> Iterator[MemoryGroup]:
    """Make a group that holds at most `limit_bytes`, and remove it; raises NoMemoryGroups."""
    parent, files = _hierarchy(limit_bytes)
    folder = parent / f"mobiletl-{uuid.uuid4().hex[:8]}"
    try:
        folder.mkdir()
    except OSError as error:
        raise NoMemoryGroups(f"{parent}: {error.strerror}") from error
    try:
        (folder / files.limit).write_text(str(limit_bytes), "ascii")
        if (folder / files.swap).exists():
            (folder / files.swap).write_text(files.swap_limit, "ascii")
        yield MemoryGroup(folder, files)
    except PermissionError as error:
        raise NoMemoryGroups(f"{folder}: {error.strerror}") from error
    finally:
        folder.rmdir()


def _hierarchy(limit_bytes: int) -> tuple[Path, Files]:
    """Where a group can be made, and what its files are called."""
    if (VERSION_1 / "memory.limit_in_bytes").exists():
        names = ("memory.limit_in_bytes", "memory.max_usage_in_bytes")
        return VERSION_1, Files(*names, "memory.memsw.limit_in_bytes", str(limit_bytes))
    control = UNIFIED / "cgroup.subtree_control"
    if not control.exists():
        raise NoMemoryGroups(f"no control groups at {UNIFIED}")
    if "memory" not in control.read_text("ascii").split():
        try:
            control.write_text("+memory", "ascii")
        except OSError as error:
            raise NoMemoryGroups(f"{control}: {error.strerror}") from error
    return UNIFIED, Files("memory.max", "memory.peak", "memory.swap.max", "0")


def copied_libraries(folder: Path) -> Path:
    """Copy what a board's process maps from files to `folder`, besides the interpreter itself.

    No other process has that copy in memory, so that all of it is charged to the group.
    """
    for name in LIBRARIES:
        for file in metadata.files(name) or []:
            # Scripts lie outside, at ../../bin.
            if ".." not in file.parts:
                target = folder / str(file)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(str(file.locate()), target)
    return folder


def train_inside(group: MemoryGroup, libraries: Path, arguments: Sequence[str], cwd: Path) -> Ended:
    """Train as a board does, on `libraries` that are copied; `arguments` are runner and flags."""
    forget_pages(libraries)
    environment = {**os.environ, "PYTHONPATH": str(libraries), "PYTHONDONTWRITEBYTECODE": "1"}
    return group.run([sys.executable, *arguments, "--threads", "1", "--json"], environment, cwd)


def forget_pages(folder: Path) -> None:
    """Drop the files of `folder` from the page cache: who reads them next is charged for them."""
    for file in folder.rglob("*"):
        if file.is_file():
            descriptor = os.open(file, os.O_RDONLY)
            try:
                os.fsync(descriptor)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)
