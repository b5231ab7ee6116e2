"""Ctrl-C and its relatives: the first asks to stop after the step, the second stops at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

NOTICE = b"\nmobiletl: stopping after this step; once more stops at once\n"
STDERR = 2


class StopRequested(Exception):
    """Work that can be left at any point was left because a stop is requested."""


class StopFlag:
    """Turns SIGINT, SIGTERM and SIGHUP into a flag while the context is open.

    A signal that the parent had ignored stays ignored: `nohup` means it.
    """

    def __init__(self, notice: bytes = NOTICE) -> None:
        """Change nothing yet; `notice` is written at the first signal."""
        self._notice = notice
        self._requested = False
        self._former: dict[signal.Signals, Any] = {}

    def __bool__(self) -> bool:
        """Whether a stop is requested."""
        return self._requested

    def request(self) -> None:
        """Ask to stop, as the first signal does."""
        self._requested = True

    def raise_if_requested(self) -> None:
        """Raise StopRequested from inside long work that nothing is lost with."""
        if self._requested:
            raise StopRequested

    def __enter__(self) -> StopFlag:
        # Elsewhere Python refuses handlers, and signals do not arrive either.
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGINT", "SIGTERM", "SIGHUP"):
                number = getattr(signal, name, None)
                if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                    self._former[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
        self._former.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._requested:
            raise KeyboardInterrupt
        self._requested = True
        # Not print(): the signal may have come in the middle of a print.
        with contextlib.suppress(OSError):
            os.write(STDERR, self._notice)
