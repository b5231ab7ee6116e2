"""Feature maps on disk, so that later epochs skip decoding and the frozen prefix.

One file per list of pictures and bundle, little-endian:

    f32[P,C,h,w]   the maps, by row; P pictures
    JSON           {"unreadable": {"<row>": "<reason>", ...}}, UTF-8
    u64            length of the JSON
    u32            CRC-32 of everything before it

It is written under another name and renamed when complete, so a file of the right name is a whole
one; the CRC finds what a power cut or a worn SD card made of it since. The name is a hash of all
the content depends on: a changed picture or bundle asks for another file. Rows are read with
ordinary reads, not mapped: mapped pages count as resident memory of the process.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import struct
import zlib
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import BinaryIO, Callable, Sequence

import numpy as np

from mobiletl.device.bundle.arrays import Floats
from mobiletl.device.errors import InternalError, NoSpace
from mobiletl.device.features.live import FeatureSource, OnUnreadable
from mobiletl.device.pictures.dataset import Picture
from mobiletl.device.printable import printable

# Raised when the content of the file, or the preparation of pictures, changes.
CACHE_VERSION = 1
TAIL = struct.Struct("<QI")
CHECKSUM = struct.Struct("<I")
CHECK_BYTES = 1 << 20
# What the list of unreadable pictures and the file system may need beside the maps.
SPARE_BYTES = 1 << 20

# Called while a cache is built with pictures done and pictures in all.
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class CachePlan:
    """What goes into a cache file: P = `count` maps of `shape` (C, h, w), and how to make them."""

    count: int
    shape: tuple[int, int, int]
    live: Callable[[OnUnreadable], FeatureSource]
    """Called only where the file has to be built."""
    on_progress: OnProgress
    group: int = 1
    """Pictures per call of `live`: the micro-batch."""

    @property
    def row_bytes(self) -> int:
        """Bytes of one map."""
        channels, height, width = self.shape
        return 4 * channels * height * width


class CachedFeatures(FeatureSource):
    """Reads rows of a complete cache file; made by `open_cache`."""

    def __init__(self, file: FileIO, row_bytes: int, unreadable: dict[int, str]) -> None:
        """Take over the open file."""
        self._file = file
        self._row_bytes = row_bytes
        self._unreadable = unreadable

    def fill(self, rows: Sequence[int], epoch: int, out: Floats) -> list[int]:
        """Write the maps of the pictures `rows`, see FeatureSource; the same in every epoch."""
        written = [row for row in rows if row not in self._unreadable]
        for place, row in enumerate(written):
            self._file.seek(row * self._row_bytes)
            if self._file.readinto(out[place].data.cast("B")) != self._row_bytes:
                raise InternalError(f"feature cache {self._file.name} has no row {row}; delete it")
        return written

    def close(self) -> None:
        """Close the file; it stays for the next run."""
        self._file.close()


def cache_path(
    folder: Path, part: str, bundle_id: str, runtime: str, pictures: Sequence[Picture]
) -> Path:
    """Name the cache file of `pictures`: it changes with any of them, the bundle or the runtime."""
    digest = hashlib.sha256(f"{CACHE_VERSION} {bundle_id} {runtime}".encode())
    for picture in pictures:
        row = json.dumps([picture.path, picture.bytes, picture.mtime_ns])
        digest.update(row.encode("ascii"))
    return folder / f"features-{part}-{digest.hexdigest()[:16]}.cache"


def open_cache(path: Path, plan: CachePlan, on_unreadable: OnUnreadable) -> CachedFeatures:
    """Open the cache at `path`, built first unless a sound one is there.

    Raises NoSpace, and what `plan.on_progress` raises to stop; neither leaves a file behind.
    """
    if _read_tail(path, plan) is None:
        _build(path, plan)
    unreadable = _read_tail(path, plan)
    if unreadable is None:
        raise NoSpace(f"feature cache {printable(str(path))} does not read back; try --no-cache")
    for row, reason in unreadable.items():
        on_unreadable(row, reason)
    # Unbuffered: a buffer would copy each row once more.
    return CachedFeatures(path.open("rb", buffering=0), plan.row_bytes, unreadable)


def _build(path: Path, plan: CachePlan) -> None:
    needed = plan.count * plan.row_bytes + SPARE_BYTES
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A damaged one makes room for its successor.
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        free = shutil.disk_usage(str(path.parent)).free
        if free < needed:
            raise NoSpace(_no_space(path, needed, f"{free / 1e6:.0f} MB are free"))
        with partial.open("wb") as file:
            _write(file, plan)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise NoSpace(_no_space(path, needed, error.strerror or str(error))) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def _write(file: BinaryIO, plan: CachePlan) -> None:
    unreadable: dict[int, str] = {}
    live = plan.live(unreadable.__setitem__)
    maps = np.empty((plan.group, *plan.shape), np.float32)
    checksum = 0
    for start in range(0, plan.count, plan.group):
        plan.on_progress(start, plan.count)
        rows = range(start, min(start + plan.group, plan.count))
        written = live.fill(rows, 0, maps)
        for row in rows:
            # An unreadable picture keeps its place, so that a row's offset is known.
            content = (
                maps[written.index(row)].tobytes() if row in written else bytes(plan.row_bytes)
            )
            checksum = zlib.crc32(content, checksum)
            file.write(content)
    plan.on_progress(plan.count, plan.count)
    about = json.dumps({"unreadable": unreadable}).encode("ascii")
    about += struct.pack("<Q", len(about))
    file.write(about + struct.pack("<I", zlib.crc32(about, checksum)))


def _read_tail(path: Path, plan: CachePlan) -> dict[int, str] | None:
    """Return the unreadable rows and their reasons; None if there is no sound cache at `path`."""
    try:
        if not _checksum_holds(path):
            return None
        with path.open("rb") as file:
            file.seek(-TAIL.size, os.SEEK_END)
            length, _ = TAIL.unpack(file.read(TAIL.size))
            file.seek(plan.count * plan.row_bytes)
            about = file.read()[: -TAIL.size]
        if len(about) != length:
            return None
        rows = json.loads(about.decode("ascii"))["unreadable"]
        return {int(row): str(reason) for row, reason in rows.items()}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _checksum_holds(path: Path) -> bool:
    left = path.stat().st_size - CHECKSUM.size
    checksum = 0
    with path.open("rb") as file:
        while left > 0:
            chunk = file.read(min(CHECK_BYTES, left))
            if not chunk:
                return False
            checksum = zlib.crc32(chunk, checksum)
            left -= len(chunk)
        return left == 0 and file.read() == CHECKSUM.pack(checksum)


def _no_space(path: Path, needed: int, found: str) -> str:
    where = printable(str(path.parent))
    return (
        f"the feature cache needs {needed / 1e6:.1f} MB in {where} ({found}); "
        "free space, name another folder with --cache DIR, or train with --no-cache"
    )
