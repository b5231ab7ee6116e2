"""Shows live answers: a line that is rewritten on a terminal, a line per change elsewhere."""

from __future__ import annotations

import contextlib
import shutil
import time
from typing import Callable, TextIO

from mobiletl.device.prediction.live import Answer, Hearer
from mobiletl.device.printable import printable

# Nobody reads faster, and a slow serial console should cost no frames.
REFRESH_S = 0.1
CLEAR_LINE = "\r\x1b[K"


class Text(Hearer):
    """Writes to `stream`; a stream that breaks raises BrokenPipeError, which ends the command."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        """Write nothing yet."""
        self._stream, self._clock = stream, clock
        self._live = stream.isatty()
        self._shown_at = float("-inf")

    def hear(self, answer: Answer) -> None:
        """Show `answer`, if it is time or something new."""
        shown = seen(answer, self._stream.encoding)
        if not self._live:
            if answer.changed:
                stamp = time.strftime("%H:%M:%S", time.localtime(answer.time_s))
                self._write(f"{stamp}  {shown}\n")
            return
        now = self._clock()
        if now - self._shown_at < REFRESH_S and not answer.changed:
            return
        self._shown_at = now
        line = f"{shown}  {answer.frames_per_s:.1f} frames/s" if answer.frames_per_s else shown
        self._write(CLEAR_LINE + line[: shutil.get_terminal_size().columns - 1])

    def close(self) -> None:
        """Leave the last line standing."""
        if self._live and self._shown_at > float("-inf"):
            self._shown_at = float("-inf")
            with contextlib.suppress(OSError, ValueError):
                self._write("\n")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def seen(answer: Answer, encoding: str | None = "utf-8") -> str:
    """Return label and share, safe to show."""
    like = "unknown, most like " if answer.unknown else ""
    return f"{like}{printable(answer.label, encoding)} {answer.probability:.1%}"
