"""Memory that a runtime has given up, back to the system."""

from __future__ import annotations

import ctypes

# Numbers of malloc.h.
_ARENA_MAX, _MMAP_THRESHOLD = -8, -3
_HEAPS = 2
# Buffers from here on are mapped by themselves; a frame of 320 x 240 pixels has 230 kB.
_LARGE_BYTES = 1 << 18


def return_freed() -> None:
    """Give memory that is free inside the C library's heap back to the system, where it can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's own
    if trim is not None:
        trim(0)


def return_early() -> None:
    """Let the C library keep little of what is freed from now on; for a process of many threads.

    Each thread would get a heap of its own, and large buffers would be kept for later ones
    (mallopt(3)). Call it before threads are started. Another C library than glibc does as it likes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in ((_ARENA_MAX, _HEAPS), (_MMAP_THRESHOLD, _LARGE_BYTES)):
            mallopt(parameter, value)
