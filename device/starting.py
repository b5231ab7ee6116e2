"""Processes are started while no thread of this one multiplies matrices.

A Python before 3.10 forks to start a process, and OpenBLAS, which NumPy multiplies with, ends its
threads before a fork. A product that waits for their results then waits for ever.
"""

from __future__ import annotations

import contextlib
import subprocess
import threading
from typing import Any, Iterator, Sequence


class _Turns:
    """Any number of products at a time, or one start of a process, which comes first."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._products, self._starts = 0, 0
        self._here = threading.local()

    @contextlib.contextmanager
    def product(self) -> Iterator[None]:
        """Wait for starts; a product within another one of this thread does not."""
        within = getattr(self._here, "within", False)
        if within:
            yield
            return
        with self._changed:
            self._changed.wait_for(lambda: not self._starts)
            self._products += 1
        self._here.within = True
        try:
            yield
        finally:
            self._here.within = False
            with self._changed:
                self._products -= 1
                self._changed.notify_all()

    @contextlib.contextmanager
    def start(self) -> Iterator[None]:
        """Wait for products, and let none begin meanwhile."""
        with self._changed:
            self._starts += 1
            try:
                self._changed.wait_for(lambda: not self._products)
                yield
            finally:
                self._starts -= 1
                self._changed.notify_all()


_TURNS = _Turns()


def multiplying() -> contextlib.AbstractContextManager[None]:
    """Let no process be started meanwhile; whoever waits to start one comes first."""
    return _TURNS.product()


def started(words: Sequence[str | bytes], **options: Any) -> subprocess.Popen[bytes]:
    """Start a process, with what subprocess.Popen takes; raises OSError, ValueError."""
    with _TURNS.start():
        return subprocess.Popen(list(words), **options)
