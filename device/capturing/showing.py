"""Counts on one line that is rewritten, and lasting lines above it."""

from __future__ import annotations

import contextlib
import shutil
import time
from typing import Mapping, TextIO

from mobiletl.device.capturing.selection import BLACK, BLURRED, SAME, Judgement
from mobiletl.device.printable import printable

# A slow serial console should not hold up the camera.
REFRESH_S = 0.1
CLEAR_LINE = "\r\x1b[K"
HINTS = {
    BLACK: "black: take the cover off the lens, or give it light",
    BLURRED: "not sharp: move more slowly, or give more light",
    SAME: "like a kept one: turn it, come closer, change what is behind it",
}


class Showing:
    """Writes to `stream`, standard error as a rule; one that breaks ends the showing alone."""

    def __init__(self, stream: TextIO) -> None:
        """Write nothing yet."""
        self._stream, self._live = stream, stream.isatty()
        self._shown_at, self._open = 0.0, False

    def note(self, text: str) -> None:
        """Write a lasting line."""
        self._write(f"{CLEAR_LINE if self._live else ''}{self._safe(text)}\n")
        self._open = False

    def live(self, text: str) -> None:
        """Rewrite the line, where there is a terminal and it is time."""
        now = time.monotonic()
        if not self._live or now - self._shown_at < REFRESH_S:
            return
        self._shown_at, self._open = now, True
        self._write(CLEAR_LINE + self._safe(text)[: shutil.get_terminal_size().columns - 1])

    def close(self) -> None:
        """Leave the cursor on a line of its own."""
        if self._open:
            self._write("\n")
            self._open = False

    def _safe(self, text: str) -> str:
        return printable(text, self._stream.encoding)

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
            self._stream.flush()


def counts_line(counts: Mapping[str, int], goal: int | None) -> str:
    """Return how many pictures each class has, and how many it is to have."""
    of = "" if goal is None else f"/{goal}"
    return "  ".join(f"{name} {count}{of}" for name, count in counts.items())


def judged(judgement: Judgement | None) -> str:
    """Return what became of a frame, for the end of the line."""
    if judgement is None:
        return ""
    return "kept" if judgement.kept else HINTS[judgement.reason]


def pictures(count: int) -> str:
    """Return so many pictures, in words."""
    return "1 picture" if count == 1 else f"{count} pictures"
