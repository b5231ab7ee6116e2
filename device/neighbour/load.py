"""Whether a run is in the way of other programs: it waits while they keep too many cores busy."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

from mobiletl.device.errors import UsageError
from mobiletl.device.neighbour.changes import LOAD, Continued, Paused
from mobiletl.device.neighbour.others import Others

# A run that waits goes on once others need less than this share of the limit.
RELEASE = 0.8


class Load:
    """Follows the work of others; `limit` is in processor cores."""

    def __init__(self, limit: float, root: Path, clock: Callable[[], float]) -> None:
        """Take the first look; raises UsageError where the system does not tell."""
        self.limit = limit
        self._clock = clock
        self._others = Others(root, clock=clock)
        if not self._others.found:
            raise UsageError(
                "what other programs do is read from /proc/stat, and this system has none that "
                "can be read; leave --max-load and --pause-when-busy out"
            )
        self._since: float | None = None
        self.lost = False

    @property
    def waits(self) -> bool:
        """Whether the run is to wait."""
        return self._since is not None and not self.lost

    def look(self) -> Paused | Continued | None:
        """Look at what others do now, and return what there is to say of it."""
        cores = self._others.look()
        if cores is None:
            self.lost = True
            return None
        if self._since is None and cores > self.limit:
            self._since = self._clock()
            text = (
                f"other programs keep {cores:.1f} processor cores busy, the limit is "
                f"{self.limit:g}: the run waits"
            )
            return Paused(LOAD, cores, self.limit, text)
        if self._since is not None and cores < RELEASE * self.limit:
            return self.over()
        return None

    def over(self) -> Continued | None:
        """End the waiting, whatever others do; None where the run does not wait."""
        if self._since is None:
            return None
        seconds = self._clock() - self._since
        self._since = None
        text = (
            f"other programs keep {self._others.cores:.1f} processor cores busy: the run goes on "
            f"after {seconds:.0f} s"
        )
        return Continued(LOAD, seconds, 0.0, text)
