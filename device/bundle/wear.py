"""How much a thread has written to files, and how often it has forced it to the disk.

Flash cards wear out by what is written to them, so the writers of a run all write through here.
The sums are a thread's own: a run is one thread, and two runs of a program do not mix.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass


@dataclass(frozen=True)
class Wear:
    """`bytes` given to the system, and `fsyncs` of files and folders."""

    bytes: int = 0
    fsyncs: int = 0

    def since(self, before: Wear) -> Wear:
        """Return what has come since `before`, an earlier count of the same thread."""
        return Wear(self.bytes - before.bytes, self.fsyncs - before.fsyncs)


NO_WEAR = Wear()


class _Sums(threading.local):
    wear = NO_WEAR


_SUMS = _Sums()


def wear() -> Wear:
    """Return what this thread has written so far."""
    return _SUMS.wear


def count(written: int) -> None:
    """Note that so many bytes were given to the system."""
    now = _SUMS.wear
    _SUMS.wear = Wear(now.bytes + written, now.fsyncs)


def write_all(descriptor: int, content: bytes) -> None:
    """Write all of `content`: a full disk may take the beginning of it first. Raises OSError."""
    while content:
        written = os.write(descriptor, content)
        count(written)
        content = content[written:]


def sync(descriptor: int) -> None:
    """Have an open file or folder reach the disk; raises OSError."""
    os.fsync(descriptor)
    now = _SUMS.wear
    _SUMS.wear = Wear(now.bytes, now.fsyncs + 1)
