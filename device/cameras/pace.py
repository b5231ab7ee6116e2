"""Plays what is on disk in time, as a camera would give it."""

from __future__ import annotations

import time
from typing import Callable


class Pace:
    """Lets `rate` frames a second pass; a rate of None lets them pass as fast as they are read."""

    def __init__(
        self,
        rate: float | None,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        """Let the first frame pass at once."""
        self._rate, self._clock, self._wait = rate, clock, wait
        self._due = clock()

    def keep(self) -> None:
        """Wait until the time of the next frame has come; a late one does not hurry the others."""
        if self._rate is None:
            return
        now = self._clock()
        if now < self._due:
            self._wait(self._due - now)
        self._due = max(now, self._due) + 1 / self._rate
