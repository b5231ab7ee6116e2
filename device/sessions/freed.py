"""Memory that a runtime has given up, back to the system."""

from __future__ import annotations

import ctypes


def return_freed() -> None:
    """Give memory that is free inside the C library's heap back to the system, where it can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's own
    if trim is not None:
        trim(0)
