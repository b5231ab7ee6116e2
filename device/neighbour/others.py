"""How many processor cores other programs keep busy.

All processor time that the kernel has given out (/proc/stat), without what this process has had of
it. The load average would not do: it counts this process's own threads, which cannot be told apart
in it. Nor would /proc/pressure/cpu: this process's threads wait as soon as anybody else works, and
wait no more once it pauses; and Raspberry Pi OS has it switched off (CONFIG_PSI_DEFAULT_DISABLED,
raspberrypi/linux#4683), a Jetson Nano's kernel does not have it.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Callable

STAT = "proc/stat"
# The figure is a mean over so many seconds.
MEAN_S = 10.0
# What the kernel adds up has steps of a hundredth of a second.
LEAST_S = 0.5
_CPU = re.compile(r"cpu ((?:\s+\d+){7,})")
# Of user, nice, system, idle, iowait, irq, softirq, and what follows.
_WORKING = (0, 1, 2, 5, 6)


def own_seconds() -> float:
    """Return the processor time that this process and its ended children have had."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


class Others:
    """Follows the sums; the mean is 0 at first."""

    def __init__(
        self,
        root: Path = Path("/"),
        own: Callable[[], float] = own_seconds,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the first look."""
        self._file = root / STAT
        self._own, self._clock = own, clock
        self._before: tuple[float, float] | None = None
        self._before = self._sums()
        self._age = 0.0
        self.cores = 0.0

    @property
    def found(self) -> bool:
        """Whether the system says what is asked of it."""
        return self._before is not None

    def look(self) -> float | None:
        """Return the mean number of cores; None where the system does not say it any more."""
        now = self._sums()
        if now is None or self._before is None:
            self._before = now
            return None
        passed = now[0] - self._before[0]
        if passed < LEAST_S:
            return self.cores
        busy = max(0.0, (now[1] - self._before[1]) / passed)
        self._age += passed
        # At first the mean of all there is.
        self.cores += min(1.0, passed / min(self._age, MEAN_S)) * (busy - self.cores)
        self._before = now
        return self.cores

    def _sums(self) -> tuple[float, float] | None:
        """Return the time, and the seconds that all processors have worked for others."""
        try:
            with self._file.open("r", encoding="ascii", errors="replace") as file:
                line = file.readline(4096)
        except OSError:
            return None
        found = _CPU.match(line)
        if found is None:
            return None
        ticks = [int(word) for word in found[1].split()]
        worked = sum(ticks[place] for place in _WORKING) / os.sysconf("SC_CLK_TCK")
        return self._clock(), worked - self._own()
