"""Memory that is needed no longer, back to the system."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path
from typing import Iterator

# Numbers of malloc.h.
_ARENA_MAX, _MMAP_THRESHOLD = -8, -3
_HEAPS = 2
# Buffers from here on are mapped by themselves; a frame of 320 x 240 pixels has 230 kB.
_LARGE_BYTES = 1 << 18
_MAPPINGS = Path("/proc/self/smaps")
# Of Python, NumPy, Pillow and onnxruntime 1.31.1, when all three functions are loaded (x86-64). It
# is what at_rest.py measures with MOBILETL_KEEP_CODE and without: 19.0 to 20.1 MB for five bundles.
GIVEN_BACK_BYTES = 19_500_000


def return_all() -> None:
    """Give back what something large and rare has left behind, such as a session being loaded."""
    return_freed()
    return_code()


def return_freed() -> None:
    """Give memory that is free inside the C library's heap back to the system, where it can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's own
    if trim is not None:
        trim(0)


def return_code() -> None:
    """Give back the pages of libraries that hold what their files hold, where Linux lists them.

    Code that runs again is mapped again, from the system's cache of files. But most of it has run
    once, to import a library or to prepare a session, and counts as this process's memory until
    the system is short of some.
    """
    if not returns_code():
        return
    madvise = ctypes.CDLL(None).madvise
    for start, size in _untouched_files():
        # One that may not be given back, because it is locked, is left as it is.
        madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), ctypes.c_int(mmap.MADV_DONTNEED))


def returns_code() -> bool:
    """Whether this system can give code back, and is to do so.

    MOBILETL_KEEP_CODE=1 keeps it. That is for emulators: they read code once, to translate it, so
    that what is given back stays away, however often it runs.
    """
    return _MAPPINGS.exists() and not os.environ.get("MOBILETL_KEEP_CODE")


def _untouched_files() -> Iterator[tuple[int, int]]:
    """Address and size of each mapping of a file that cannot be written and never was."""
    try:
        lines = _MAPPINGS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    start = end = 0
    for line in lines:
        key, _, rest = line.partition(" ")
        if not key.endswith(":"):
            # "7f00-7f80 r-xp 00000000 08:01 4711 /usr/lib/libc.so.6", and then its figures.
            fields = rest.split(None, 4)
            file = len(fields) == 5 and fields[4].startswith("/")
            start, end = (int(each, 16) for each in key.split("-")) if file else (0, 0)
            if "w" in fields[0]:
                end = start
        elif key == "Anonymous:" and end > start and int(rest.split()[0]) == 0:
            yield start, end - start


def return_early() -> None:
    """Let the C library keep little of what is freed from now on; for a process of many threads.

    Each thread would get a heap of its own, and large buffers would be kept for later ones
    (mallopt(3)). Call it before threads are started. Another C library than glibc does as it likes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in ((_ARENA_MAX, _HEAPS), (_MMAP_THRESHOLD, _LARGE_BYTES)):
            mallopt(parameter, value)
