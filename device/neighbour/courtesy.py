"""Pauses between the steps of a run, as long as the machine or its other users need them.

A pause is nothing but waiting: what a step computes does not depend on when it is taken. What is
going on is said once when it begins and once when it ends.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Callable, Union

from mobiletl.device.neighbour.changes import NO_STAY, Continued, Paused, Stay
from mobiletl.device.neighbour.firmware import names_now, throttled
from mobiletl.device.neighbour.heat import Heat
from mobiletl.device.neighbour.limits import MachineLimits
from mobiletl.device.neighbour.load import Load

# After so much work the machine is looked at, and while the run waits, so often.
LOOK_S, WAITING_LOOK_S = 0.25, 1.0
# A stop is heard within this time.
SLICE_S = 0.1
# What is left of a pause below this is none: a clock has steps of its own.
LEAST_S = 0.001
# The temperature is looked at again after a pause of this length at the latest.
LONGEST_S = 60.0
# Asking the firmware may start a program.
FIRMWARE_S = 30.0

Change = Union[Paused, Continued]


class Courtesy:
    """Keeps the limits of one run; `clock` counts seconds and `sleep` waits for some."""

    def __init__(
        self,
        limits: MachineLimits,
        root: Path = Path("/"),
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Open what is needed below `root`; raises UsageError where the machine lacks it.

        Changes and remarks go to `tell` and `remark`, which may be set later.
        """
        self.tell: Callable[[Change], None] = lambda change: None
        self.remark: Callable[[str], None] = lambda text: None
        self._root, self._clock, self._sleep = root, clock, sleep
        self._heat: Heat | None = None
        self._load: Load | None = None
        if limits.max_temp_c is not None:
            self._heat = Heat(limits.max_temp_c, root, clock)
        if limits.most_cores is not None:
            self._load = Load(limits.most_cores, root, clock)
        self._highest = None if self._heat is None else self._heat.highest
        self._began = clock()
        self._asked_at = -FIRMWARE_S
        self._reported: tuple[str, ...] = ()
        self._ever: tuple[str, ...] = ()
        self.waited_s = 0.0

    def rest(self, stopped: Callable[[], bool]) -> float:
        """Wait as long as is needed after the work since the last call; return the seconds.

        Called between two pieces of work that take seconds at most. Once `stopped` says so, there
        is no waiting.
        """
        if self._heat is None and self._load is None:
            return 0.0
        worked = self._clock() - self._began
        if worked < LOOK_S:
            return 0.0
        self._look()
        pause = 0.0
        if self._heat is not None:
            pause = min(self._heat.pause(worked), LONGEST_S)
            self._say(self._heat.change())
        waited = self._wait(pause, stopped)
        if self._heat is not None:
            self._heat.waited(waited)
        self.waited_s += waited
        self._began = self._clock()
        return waited

    def finish(self) -> Stay:
        """Say that what goes on is over, and return what was seen."""
        for follower in (self._heat, self._load):
            if follower is not None:
                self._say(follower.over())
        if self._heat is None and self._load is None:
            return NO_STAY
        return Stay(self.waited_s, self._highest, self._ever)

    def _wait(self, pause: float, stopped: Callable[[], bool]) -> float:
        began = looked_at = self._clock()
        while not stopped():
            now = self._clock()
            if now - looked_at >= WAITING_LOOK_S:
                self._look()
                looked_at = now
            left = pause - (now - began)
            if self._held():
                left = max(left, SLICE_S)
            if left < LEAST_S:
                break
            self._sleep(min(left, SLICE_S))
        return self._clock() - began

    def _held(self) -> bool:
        """Whether the run is to wait until something changes."""
        too_hot = self._heat is not None and self._heat.degrees >= self._heat.limit
        return too_hot or (self._load is not None and self._load.waits)

    def _look(self) -> None:
        """Read the sensors; one that is gone is said once, and the run goes on without it."""
        if self._heat is not None:
            self._heat.look()
            self._highest = self._heat.highest
            self._ask_firmware()
            if self._heat.lost:
                self._say(self._heat.over())
                zone, self._heat = self._heat.zone, None
                self.remark(
                    f"the temperature of {zone} cannot be read any more: the run goes on without "
                    "a limit of it"
                )
        if self._load is not None:
            self._say(self._load.look())
            if self._load.lost:
                self._say(self._load.over())
                self._load = None
                self.remark(
                    "what other programs do cannot be read any more: the run goes on without a "
                    "limit of it"
                )

    def _ask_firmware(self) -> None:
        """Say what the firmware reports, where that has changed."""
        now = self._clock()
        if now - self._asked_at < FIRMWARE_S:
            return
        self._asked_at = now
        bits = throttled(self._root)
        names = () if bits is None else names_now(bits)
        if names != self._reported:
            listed = ", ".join(names) or "nothing any more"
            self.remark(f"the board's firmware reports: {listed}")
        self._reported = names
        self._ever += tuple(name for name in names if name not in self._ever)

    def _say(self, change: Change | None) -> None:
        if change is not None:
            self.tell(change)
